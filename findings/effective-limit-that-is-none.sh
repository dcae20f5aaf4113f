#!/usr/bin/env bash
# systemd 262 (Debian forky, Linux 7.2.7): `systemctl show` has EffectiveMemoryMax=, "the effective memory limit" of a unit, and
# MemoryAvailable=, what it may still use. On a machine booted with cgroup_disable=memory a service with MemoryMax=50M starts
# with status 0, both properties say 50M, and the kernel has no memory.max at all. The same for EffectiveTasksMax= after
# another program has lowered pids.max: it says 50 where the kernel refuses the 21st task.
# Expected: a property named effective has what the kernel enforces, or [not set] where it enforces nothing.
# For users: read the file of the limit in the unit's cgroup; Effective... is computed from what systemd was told.
. "$(dirname "$0")/guest.sh"
guest_kernel 7.2um1 forky 2.43-7
guest_root forky systemd=262-1
cat >"$work/script" <<'EOF2'
#!/bin/bash
group=/sys/fs/cgroup/system.slice
systemd-run -q --unit=limited -p MemoryMax=50M sleep 600
echo "start $?"
echo "shown $(systemctl show -P EffectiveMemoryMax limited) $(systemctl show -P MemoryAvailable limited)"
echo "memory.max $(cat $group/limited.service/memory.max 2>/dev/null || echo absent)"
systemd-run -q --unit=tasks -p TasksMax=50 sleep 600
echo 20 >$group/tasks.service/pids.max
echo "tasks $(systemctl show -P EffectiveTasksMax tasks), pids.max $(cat $group/tasks.service/pids.max)"
EOF2
seen=$(guest_run 120 "$work/script" cgroup_disable=memory)
echo "$seen"
of() { sed -n "s/^$1 //p" <<<"$seen"; }
expect "start" "$(of start)" 0
expect "EffectiveMemoryMax and MemoryAvailable" "$(of shown)" "52428800 52428800"
expect "memory.max" "$(of memory.max)" absent
expect "EffectiveTasksMax" "$(of tasks)" "50, pids.max 20"
