#!/usr/bin/env bash
# systemd 257.13 (Debian 13; 252 of Debian 12 does it otherwise): the process of ExecStop= is created inside the unit's
# own cgroup, so TasksMax counts it. A service that uses all its tasks cannot be stopped by its own ExecStop: the fork is
# refused with EAGAIN ("Resource temporarily unavailable"), the clean stop is skipped and the unit ends as failed.
# Expected: the manager's own commands for a clean stop are not refused by the limit of what they stop.
# For users: leave room in TasksMax for ExecStop, ExecReload and ExecStopPost.
. "$(dirname "$0")/guest.sh"
guest_kernel 6.1um4+b13

try() { # try SUITE SYSTEMD: what a stop of a service with all its tasks in use leaves behind
    rm -rf "$work/root"
    guest_root "$1" "systemd=$2"
    cat >"$work/root/etc/systemd/system/full.service" <<'UNIT'
[Service]
TasksMax=3
ExecStart=/bin/sh -c 'sleep 600 & sleep 600 & wait'
ExecStop=/bin/touch /stopped-by-itself
UNIT
    cat >"$work/script" <<'EOF2'
#!/bin/bash
rm -f /stopped-by-itself
systemctl start full
sleep 1
systemctl stop full
echo "$(systemctl --version | head -1)"
echo "tasks-refused $(systemctl show -p Result --value full) $(test -e /stopped-by-itself && echo ran || echo skipped)"
EOF2
    guest_run 180 "$work/script"
}
expect_stop() { # expect_stop OUTPUT NAME RESULT
    echo "$1"
    expect "$2" "$(awk '$1 == "tasks-refused" {print $2, $3}' <<<"$1")" "$3"
}
expect_stop "$(try bookworm 252.39-1~deb12u2)" "252: result of the stop, ExecStop" "success ran"
expect_stop "$(try trixie 257.13-1~deb13u1)" "257: result of the stop, ExecStop" "resources skipped"
