#!/usr/bin/env bash
# systemd 257.13 (Debian 13) and 262 (Debian forky): PID 1 reads /etc/machine-id once. After the file has changed, `%m` is
# still the old one in a unit that is loaded later, and also after daemon-reload; daemon-reexec makes it the new one.
# Expected: the value of the file, at least after daemon-reload, as systemd.unit(5) has it: "The machine ID of the running
# system, formatted as string".
# For users: a machine that is copied or resumed, and gets a new machine ID while it runs, needs daemon-reexec.
. "$(dirname "$0")/guest.sh"
guest_kernel 7.2um1 forky 2.43-7
cat >"$work/script" <<'EOF2'
#!/bin/bash
shown() { # what a unit that is loaded for the first time has for %m
    systemctl start "id-$1.service"
    cat "/run/id-$1"
}
units() {
    for name in before after reloaded reexecuted; do
        printf '[Service]\nType=oneshot\nExecStart=/bin/sh -c "echo %%m >/run/id-%s"\n' "$name" >"/run/systemd/system/id-$name.service"
    done
    systemctl daemon-reload
}
mkdir -p /run/systemd/system
units
old=$(cat /etc/machine-id)
[ "$(shown before)" = "$old" ] && echo "before: the file's"
umount /etc/machine-id 2>/dev/null
echo 0123456789abcdef0123456789abcdef >/etc/machine-id
told() { [ "$1" = "$(cat /etc/machine-id)" ] && echo "$2: the file's" || echo "$2: the old one"; }
told "$(shown after)" after
systemctl daemon-reload
told "$(shown reloaded)" reloaded
systemctl daemon-reexec
told "$(shown reexecuted)" reexecuted
EOF2
try() { # try SUITE SYSTEMD
    rm -rf "$work/root"
    guest_root "$1" "systemd=$2"
    echo fedcba9876543210fedcba9876543210 >"$work/root/etc/machine-id"
    guest_run 120 "$work/script"
}
new=$(try forky 262-1)
old=$(try trixie 257.13-1~deb13u1)
printf '%s\n' "systemd 262:" "$new" "systemd 257.13:" "$old"
described="before: the file's,after: the old one,reloaded: the old one,reexecuted: the file's"
expect "262" "$(grep -E '^(before|after|reloaded|reexecuted):' <<<"$new" | paste -sd,)" "$described"
expect "257.13" "$(grep -E '^(before|after|reloaded|reexecuted):' <<<"$old" | paste -sd,)" "$described"
