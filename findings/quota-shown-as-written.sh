#!/usr/bin/env bash
# systemd 262 on Linux 7.2.7 (Debian forky): the kernel takes a quota of at least 1 ms in a period of at most 1 s, so systemd
# changes what does not fit. `CPUQuota=0.05%` becomes 1 ms in 1 s, which is 0.1%: twice as much CPU. CPUQuotaPeriodSec=10s
# becomes 1 s. `systemctl show` goes on to print 500us per second and a period of 10s, and so does nothing that a user reads
# but one line about the period in the journal; that the quota doubled is nowhere.
# Expected: `show` prints the values in force, as it prints a percentage of memory in bytes.
# For users: read cpu.max of the unit's cgroup; use no quota below 0.1% and no period above 1s.
. "$(dirname "$0")/guest.sh"
guest_kernel 7.2um1 forky 2.43-7
guest_root forky systemd=262-1
cat >"$work/script" <<'EOF2'
#!/bin/bash
echo "kernel $(uname -r), $(systemctl --version | head -1)"
try() { # try NAME PROPERTY...
    local name=$1
    shift
    systemd-run -q --unit="$name" "$@" sleep 600
    echo "$name shown $(systemctl show -P CPUQuotaPerSecUSec "$name") $(systemctl show -P CPUQuotaPeriodUSec "$name")"
    echo "$name cpu.max $(cat "/sys/fs/cgroup/system.slice/$name.service/cpu.max")"
    journalctl -b -q --no-pager -o cat | grep "^$name.service: .*cpu.max"
}
try small -p CPUQuota=0.05%
try long -p CPUQuota=50% -p CPUQuotaPeriodSec=10s
EOF2
seen=$(guest_run 120 "$work/script")
echo "$seen"
of() { sed -n "s/^$1 //p" <<<"$seen"; }
expect "CPUQuota=0.05%, systemctl show" "$(of 'small shown')" "500us infinity"
expect "CPUQuota=0.05%, cpu.max" "$(of 'small cpu.max')" "1000 1000000"
expect "CPUQuotaPeriodSec=10s, systemctl show" "$(of 'long shown')" "500ms 10s"
expect "CPUQuotaPeriodSec=10s, cpu.max" "$(of 'long cpu.max')" "500000 1000000"
expect "the journal" "$(of "small.service:")" "Clamping CPU interval for cpu.max: period is now 1s"
