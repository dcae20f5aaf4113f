#!/usr/bin/env bash
# systemd 262 (Debian forky): `systemctl start good.service absent.service other.service` starts nothing if one of the units
# cannot be started: absent, masked, or in a slice that is full (ConcurrencyHardMax). It says "Failed to enqueue jobs" and
# a word about the first such unit only. `systemctl stop good.service absent.service other.service` stops nothing, too.
# systemd 257.13 (Debian 13) starts and stops the others, as every version before it did.
# Expected: each unit of the call has its own job, as the manual has it: "Start (activate) one or more units".
# For users: start and stop units that do not depend on each other in calls of their own.
. "$(dirname "$0")/guest.sh"
guest_kernel 7.2um1 forky 2.43-7
cat >"$work/script" <<'EOF2'
#!/bin/bash
systemctl start good.service absent.service other.service
echo "exit status $?"
echo "good $(systemctl is-active good.service)"
echo "other $(systemctl is-active other.service)"
systemctl start good.service
systemctl start other.service
systemctl stop good.service absent.service other.service
echo "stop: exit status $?"
echo "stop: good $(systemctl is-active good.service)"
echo "stop: other $(systemctl is-active other.service)"
EOF2
try() { # try SUITE SYSTEMD
    rm -rf "$work/root"
    guest_root "$1" "systemd=$2"
    for name in good other; do
        printf '[Service]\nExecStart=sleep 600\n' >"$work/root/etc/systemd/system/$name.service"
    done
    guest_run 120 "$work/script"
}
new=$(try forky 262-1)
old=$(try trixie 257.13-1~deb13u1)
printf '%s\n' "systemd 262:" "$new" "systemd 257.13:" "$old"
expect "262, exit status" "$(sed -n 's/^exit status //p' <<<"$new")" 5
expect "262, good and other" "$(sed -n 's/^good //p; s/^other //p' <<<"$new" | paste -sd' ')" "inactive inactive"
expect "262, words" "$(grep -c '^Failed to enqueue jobs: Unit absent.service not found' <<<"$new")" 1
expect "257.13, exit status" "$(sed -n 's/^exit status //p' <<<"$old")" 5
expect "257.13, good and other" "$(sed -n 's/^good //p; s/^other //p' <<<"$old" | paste -sd' ')" "active active"
expect "262, after stop, good and other" "$(sed -n 's/^stop: good //p; s/^stop: other //p' <<<"$new" | paste -sd' ')" "active active"
expect "257.13, after stop, good and other" "$(sed -n 's/^stop: good //p; s/^stop: other //p' <<<"$old" | paste -sd' ')" "inactive inactive"
