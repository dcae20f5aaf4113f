#!/usr/bin/env bash
# bash 5.2.15 (Debian 12, 5.2.15-2+b13): `read -d DELIMITER` at a terminal in raw mode turns the processing of output on
# (OPOST, ONLCR) until it returns. What another process writes to that terminal meanwhile gets a carriage return before
# each end of a line: "a\n" arrives as "a\r\n". `read` without -d leaves the terminal alone.
# Expected: reading from a raw terminal changes nothing of what is written to it; the manual says of -d only where the
# line ends.
# For users: where a raw serial line carries data in both directions, read it with dash, or put `cat |` in between.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get -qq -o APT::Sandbox::User=root download bash=5.2.15-2+b13
dpkg-deb -x bash_*.deb root
"$work/root/bin/bash" --version | head -1
cat >at-the-terminal <<END
stty raw -echo
echo go
"$work/root/bin/bash" -c '(sleep 0.5; echo written) & read -r \$1 x; wait' x "\$1"
END
written() { # written OPTIONS: the bytes of a line that another process writes while bash reads
    (sleep 1.5; printf ';\n'; sleep 0.5) | script -qefc "sh $work/at-the-terminal '$1'" /dev/null | tail -n +2 | od -An -c | tr -d ' \n'
}
expect() {
    if [ "$2" = "$3" ]; then
        echo "as described: $1: $2"
    else
        echo "DIFFERENT: $1: $2, and not $3"
        exit 1
    fi
}
expect "read" "$(written -r)" 'written\n'
expect "read -d ';'" "$(written '-d;')" 'written\r\n'
