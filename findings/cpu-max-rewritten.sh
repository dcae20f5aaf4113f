#!/usr/bin/env bash
# Linux 6.1.176 (Debian 12's user-mode-linux 6.1um4+b13): each write to cpu.max hands the group a full quota at once,
# even when the value written is the value that is there. A tool that applies "10 ms in 100 ms" every few milliseconds
# therefore lifts the limit that it applies: a busy loop gets several times its 10 %, and cpu.max reads 10 % all along.
# Expected: a write of the same value changes nothing.
# For users: compare the counter usage_usec with the quota, never cpu.max alone; do not re-apply quotas in a loop.
. "$(dirname "$0")/guest.sh"
guest_kernel 6.1um4+b13
guest_root bookworm systemd=252.39-1~deb12u2

cat >"$work/script" <<'EOF2'
#!/bin/bash
echo "kernel $(uname -r)"
echo +cpu >/sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/left /sys/fs/cgroup/rewritten
share() { # share GROUP PAUSE: percent of one CPU in 4 s, cpu.max written every PAUSE seconds (0: once)
    local group=/sys/fs/cgroup/$1 began ended
    echo "10000 100000" >$group/cpu.max
    sh -c 'echo $$ >'$group'/cgroup.procs; while :; do :; done' &
    local load=$!
    began=$(date +%s%N); before=$(awk '/usage_usec/{print $2}' $group/cpu.stat)
    while [ $(( $(date +%s%N) - began )) -lt 4000000000 ]; do
        if [ "$2" = 0 ]; then sleep 4; else echo "10000 100000" >$group/cpu.max; read -rt "$2" <>/pause; fi
    done
    ended=$(date +%s%N); after=$(awk '/usage_usec/{print $2}' $group/cpu.stat)
    kill $load; wait $load 2>/dev/null
    echo "$1 $(( (after - before) * 100000 / (ended - began) )) $(cat $group/cpu.max)"
}
mkfifo /pause
share left 0
share rewritten 0.01
EOF2
seen=$(guest_run 120 "$work/script")
echo "$seen"
expect "percent of a CPU, written once" "$(awk '$1 == "left" {print ($2 <= 15) ? "15 or less" : $2}' <<<"$seen")" "15 or less"
expect "percent of a CPU, the same value every 10 ms" \
    "$(awk '$1 == "rewritten" {print ($2 >= 20) ? "20 or more" : $2}' <<<"$seen")" "20 or more"
expect "cpu.max at the end" "$(awk '$1 == "rewritten" {print $3, $4}' <<<"$seen")" "10000 100000"
