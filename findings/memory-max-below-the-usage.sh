#!/usr/bin/env bash
# systemd 262 on Linux 7.2.7 (Debian forky's user-mode-linux 7.2um1): `systemctl set-property X MemoryMax=50M` while X uses
# 100M ends with status 0, memory.max and `systemctl show` read 50M, and nothing happens: memory.current stays at 100M,
# memory.events counts nothing, and no process is killed until the service asks for more. PID 1 writes the limit without
# waiting (O_NONBLOCK), and kernels since 6.16 then neither reclaim nor kill. The same systemd on Linux 6.12.113 (Debian
# 13's user-mode-linux) has the service killed at once, as a blocking write on 7.2.7 does.
# Expected: a limit that reads back limits, or an event or a message says that the usage is above it.
# For users: compare memory.current with memory.max after each change; memory.max alone does not show that it is in force.
. "$(dirname "$0")/guest.sh"
guest_root forky systemd=262-1 python3-minimal
cat >"$work/root/eater.py" <<'EOF2'
import time
use = bytearray(b"x") * (100 << 20)
open("/eater.up", "w").close()
while True:
    time.sleep(1000)
EOF2
cat >"$work/script" <<'EOF2'
#!/bin/bash
group=/sys/fs/cgroup/system.slice/eater.service
rm -f /eater.up
systemd-run -q --unit=eater -p MemorySwapMax=0 python3 /eater.py
until [ -e /eater.up ]; do sleep 0.3; done
sleep 1
systemctl set-property --runtime eater.service MemoryMax=50M
status=$?
sleep 3
echo "kernel $(uname -r): set-property ended with $status, service $(systemctl is-active eater.service)"
[ -e $group ] || exit 0
echo "memory.max $(cat $group/memory.max), memory.current $(cat $group/memory.current)"
echo "events $(awk '{sum += $2} END {print sum}' $group/memory.events)"
echo 50M >$group/memory.max
sleep 3
echo "after a write that waits: $(systemctl is-active eater.service)"
EOF2
guest_kernel 7.2um1 forky 2.43-7
new=$(guest_run 120 "$work/script")
guest_kernel 6.12um1+b22 trixie 2.41-12+deb13u5
old=$(guest_run 120 "$work/script")
printf '%s\n' "$new" "$old"
expect "Linux 7.2.7, set-property" "$(grep '^kernel' <<<"$new")" "kernel 7\.2\.7: set-property ended with 0, service active"
expect "memory.max" "$(sed -n 's/^memory.max \([0-9]*\),.*/\1/p' <<<"$new")" 52428800
expect "memory.current" "$(awk '/memory.current/ {print ($4 > 100000000) ? "above 100 MB" : $4}' <<<"$new")" "above 100 MB"
expect "events" "$(sed -n 's/^events //p' <<<"$new")" 0
expect "after a write that waits" "$(sed -n 's/^after a write that waits: //p' <<<"$new")" failed
expect "Linux 6.12.113, set-property" "$old" "kernel 6\.12\.113: set-property ended with 0, service failed"
