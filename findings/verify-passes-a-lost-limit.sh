#!/usr/bin/env bash
# systemd 262 (Debian forky): a unit file with MemoryLimit=50M, which systemd 252 and 257 apply as memory.max, starts without
# any limit. `systemd-analyze verify` prints that the option "has been removed and it is ignored" and exits with 0, also
# with --recursive-errors=yes, the switch that makes it exit with 1 for an option that never existed (MemoryLimitt=).
# systemd 257.13 exits with 1 for it, too. `systemctl show` has MemoryMax=infinity, and `systemd-run -p MemoryLimit=50M` exits with 0, too.
# Expected: a check that fails for a misspelt limit also fails for one that is ignored.
# For users: search unit files for MemoryLimit=, CPUShares= and BlockIO...= before an upgrade to systemd 258 or later.
. "$(dirname "$0")/guest.sh"
guest_kernel 7.2um1 forky 2.43-7
cat >"$work/script" <<'EOF2'
#!/bin/bash
systemctl --version | head -1
for unit in old typo; do
    systemd-analyze verify --recursive-errors=yes $unit.service
    echo "verify $unit $?"
done
systemctl start old.service
echo "start $?"
cgroup=$(systemctl show -P ControlGroup old.service)
echo "memory.max $(cat /sys/fs/cgroup$cgroup/memory.max)"
systemd-run -q --unit=transient -p MemoryLimit=50M sleep 600
echo "run $?"
echo "transient memory.max $(cat /sys/fs/cgroup/system.slice/transient.service/memory.max)"
EOF2
try() { # try SUITE SYSTEMD
    rm -rf "$work/root"
    guest_root "$1" "systemd=$2"
    printf '[Service]\nExecStart=sleep 600\nMemoryLimit=50M\n' >"$work/root/etc/systemd/system/old.service"
    printf '[Service]\nExecStart=sleep 600\nMemoryLimitt=50M\n' >"$work/root/etc/systemd/system/typo.service"
    guest_run 120 "$work/script"
}
new=$(try forky 262-1)
old=$(try trixie 257.13-1~deb13u1)
printf '%s\n' "$new" "$old"
of() { sed -n "s/^$1 //p" <<<"$2"; }
expect "262, verify of MemoryLimit" "$(of 'verify old' "$new")" 0
expect "262, verify of MemoryLimitt" "$(of 'verify typo' "$new")" 1
expect "262, start" "$(of start "$new")" 0
expect "262, memory.max" "$(of memory.max "$new")" max
expect "262, systemd-run and its memory.max" "$(of run "$new") $(of 'transient memory.max' "$new")" "0 max"
expect "257.13, verify of MemoryLimit" "$(of 'verify old' "$old")" 1
expect "257.13, memory.max" "$(of memory.max "$old")" 52428800
