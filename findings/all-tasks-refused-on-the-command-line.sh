#!/usr/bin/env bash
# systemd 262 (Debian forky; 257.13 of Debian 13 as well): TasksMax=100% is a valid limit in a unit file and gives the most
# tasks that the system allows, but `systemd-run -p TasksMax=100%` and `systemctl set-property X TasksMax=100%` refuse it as
# "out of range", while 99% works. MemoryMax=100% is accepted everywhere.
# Expected: a value means the same in a unit file and on the command line (systemd.resource-control(5) has one text for both).
# For users: write TasksMax=infinity, or a number, where a percentage of 100 can come out of a template.
. "$(dirname "$0")/guest.sh"
guest_kernel 7.2um1 forky 2.43-7
guest_root forky systemd=262-1
printf '[Service]\nExecStart=sleep 600\nTasksMax=100%%\n' >"$work/root/etc/systemd/system/all.service"
cat >"$work/script" <<'EOF2'
#!/bin/bash
systemctl --version | head -1
systemctl start all.service
echo "file $? $(cat /sys/fs/cgroup/system.slice/all.service/pids.max)"
for share in 99 100; do
    systemd-run -q --unit=run$share -p TasksMax=$share% sleep 600
    echo "run $share $?"
    systemctl set-property --runtime all.service TasksMax=$share%
    echo "set $share $?"
done
systemd-run -q --unit=memory -p MemoryMax=100% sleep 600
echo "memory 100 $?"
EOF2
seen=$(guest_run 120 "$work/script")
echo "$seen"
of() { sed -n "s/^$1 //p" <<<"$seen"; }
expect "TasksMax=100% in a unit file" "$(of file)" "0 [0-9]+"
expect "systemd-run, 99% and 100%" "$(of 'run 99') $(of 'run 100')" "0 1"
expect "set-property, 99% and 100%" "$(of 'set 99') $(of 'set 100')" "0 1"
expect "systemd-run, MemoryMax=100%" "$(of 'memory 100')" 0
