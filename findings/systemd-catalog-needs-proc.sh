#!/usr/bin/env bash
# systemd 262-1 (Debian forky): `journalctl --update-catalog` in a chroot without /proc fails, and names a file that is
# there: "Failed to open file /usr/lib/systemd/catalog/systemd.be.catalog: No such file or directory". What is missing is
# /proc: the file is opened again by /proc/self/fd. 252.39 (Debian 12) needs no /proc and exits with 0.
# Expected: it works without /proc as before, or the message names /proc.
# For users: mount /proc in the root of an image before its maintainer scripts run, or run the command after the boot.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
expect() {
    if [ "$2" = "$3" ]; then echo "as described: $1 = $2"; else echo "CHANGED: $1 = $2, described as $3"; exit 1; fi
}
look() { # look SUITE STATUS
    mmdebstrap --quiet --variant=minbase --include=systemd --aptopt='Acquire::Check-Valid-Until "false"' "$1" "$work/$1" 2>"$work/log" ||
        { tail -5 "$work/log" >&2; exit 2; }
    echo "$1: systemd $(dpkg-query --admindir="$work/$1/var/lib/dpkg" -Wf '${Version}' systemd)"
    local status=0
    chroot "$work/$1" journalctl --update-catalog >"$work/said" 2>&1 || status=$?
    head -1 "$work/said"
    expect "exit status without /proc" "$status" "$2"
    ls -d "$work/$1/proc/self" 2>/dev/null || ls "$work/$1/usr/lib/systemd/catalog" | head -1
}
look bookworm 0
look forky 1
