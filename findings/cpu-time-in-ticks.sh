#!/usr/bin/env bash
# Linux as a process (user-mode-linux), 6.1 of Debian 12 and 7.2.7 of forky: cpu.stat of every cgroup counts usage_usec in
# steps of one tick, 10,000 us, although the scheduler keeps it in nanoseconds: this architecture gives it no finer clock.
# What runs for less than a tick at a time is counted by chance, as 0 or as a whole tick.
# Expected: microseconds, as the name says and as on a machine.
# For users: in such a guest, judge no CPU time below some hundredths of a second, and no ratio of two small ones.
. "$(dirname "$0")/guest.sh"
cat >"$work/script" <<'EOF2'
#!/bin/bash
echo "kernel $(uname -r)"
systemd-run -q --unit=busy bash -c 'while :; do :; done'
for number in 1 2 3 4 5 6 7 8; do systemd-run -q --unit="brief$number" bash -c 'sleep 1; sleep 100'; done
sleep 3
find /sys/fs/cgroup -name cpu.stat -exec grep -h usage_usec {} + | awk '
    $2 > 0 {seen++; if ($2 % 10000) odd++} END {print (seen > 8 && !odd) ? "all in steps of 10000" : seen " seen, " odd " not"}'
grep -h usage_usec /sys/fs/cgroup/system.slice/busy.service/cpu.stat | awk '{print ($2 > 500000) ? "busy is counted" : "busy has " $2}'
EOF2
guest_kernel 6.1um4+b13
guest_root bookworm
old=$(guest_run 120 "$work/script")
guest_kernel 7.2um1 forky 2.43-7
new=$(guest_run 120 "$work/script")
printf '%s\n' "$old" "$new"
for seen in "$old" "$new"; do
    expect "usage_usec of all cgroups" "$(sed -n 2p <<<"$seen")" "all in steps of 10000"
    expect "a busy service" "$(sed -n 3p <<<"$seen")" "busy is counted"
done
