#!/usr/bin/env bash
# systemd 262 (Debian forky) on Linux 7.2.7 and 6.12.113 (user-mode-linux of forky and of Debian 13): after
# `systemctl kill --signal=KILL X` the commands of ExecStopPost= are killed before they do anything: `show` has code=killed.
# systemd writes cgroup.kill for a whole unit, and these kernels then also kill a process that is created in the cgroup later
# (clone3 with CLONE_INTO_CGROUP). With --kill-whom=main, which sends the signal to the main process alone, they run.
# Expected: ExecStopPost= runs after the service was killed, as systemd.service(5) has it: it is for cleaning up.
# For users: do not rely on ExecStopPost= after a kill of the whole unit; use --kill-whom=main, or clean up at the next start.
. "$(dirname "$0")/guest.sh"
guest_root forky systemd=262-1
cat >"$work/root/etc/systemd/system/cleans.service" <<'EOF2'
[Service]
ExecStart=sleep 600
ExecStopPost=sh -c 'echo cleaned >/cleaned'
EOF2
cat >"$work/script" <<'EOF2'
#!/bin/bash
for whom in all main; do
    rm -f /cleaned
    systemctl start cleans.service
    sleep 1
    systemctl kill --kill-whom=$whom --signal=KILL cleans.service
    while [ "$(systemctl is-active cleans.service)" != failed ]; do sleep 0.5; done
    echo "$(uname -r) $whom $(cat /cleaned 2>/dev/null || echo nothing), $(systemctl show -P ExecStopPost cleans.service |
        grep -o 'code=[a-z]*')"
    systemctl reset-failed cleans.service
done
EOF2
guest_kernel 7.2um1 forky 2.43-7
new=$(guest_run 120 "$work/script")
guest_kernel 6.12um1+b22 trixie 2.41-12+deb13u5
old=$(guest_run 120 "$work/script")
printf '%s\n' "$new" "$old"
expect "7.2.7, kill of the whole unit" "$(grep ' all ' <<<"$new")" "7\.2\.7 all nothing, code=killed"
expect "7.2.7, kill of the main process" "$(grep ' main ' <<<"$new")" "7\.2\.7 main cleaned, code=exited"
expect "6.12.113, kill of the whole unit" "$(grep ' all ' <<<"$old")" "6\.12\.113 all nothing, code=killed"
expect "6.12.113, kill of the main process" "$(grep ' main ' <<<"$old")" "6\.12\.113 main cleaned, code=exited"
