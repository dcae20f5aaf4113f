#!/usr/bin/env bash
# systemd 262 (Debian forky): a service with IOReadIOPSMax=/dev/nosuch 10 starts although there is no such device: status 0,
# `systemctl show` prints the limit, and io.max is empty. PID 1 writes "Couldn't stat device" to the journal without the name of
# the unit, so that `journalctl -u` and `systemctl status` do not show it. The same line with a device that exists is in io.max.
# Expected: the start fails, or the warning belongs to the unit, as all others about its limits do.
# For users: name the file system instead (systemd finds its device), and read io.max of the unit's cgroup.
. "$(dirname "$0")/guest.sh"
guest_kernel 7.2um1 forky 2.43-7
guest_root forky systemd=262-1
cat >"$work/script" <<'EOF2'
#!/bin/bash
mknod -m 600 /dev/lab b 98 0
try() { # try NAME DEVICE
    systemd-run -q --unit="$1" -p "IOReadIOPSMax=$2 10" sleep 600
    echo "$1 start $?"
    echo "$1 shown $(systemctl show -P IOReadIOPSMax "$1")"
    echo "$1 io.max '$(cat "/sys/fs/cgroup/system.slice/$1.service/io.max")'"
    journalctl -b -q --no-pager -o cat _PID=1 | grep "$2" | sed "s/^/$1 PID 1 says /"
    echo "$1 lines of the unit about it: $(journalctl -b -q --no-pager -o cat -u "$1.service" | grep -c "$2")"
}
try absent /dev/nosuch
try present /dev/lab
EOF2
: >"$work/disk"
truncate -s 1M "$work/disk"
seen=$(guest_run 120 "$work/script" "ubd0=$work/disk")
echo "$seen"
of() { sed -n "s/^$1 //p" <<<"$seen"; }
expect "start" "$(of 'absent start')" 0
expect "shown" "$(of 'absent shown')" "/dev/nosuch 10"
expect "io.max" "$(of 'absent io.max')" "''"
expect "words of PID 1" "$(of 'absent PID 1 says')" "Couldn't stat device '/dev/nosuch': No such file or directory"
expect "lines of the unit about it" "$(of 'absent lines of the unit about it:')" 0
expect "a device that exists" "$(of 'present start') $(of 'present io.max')" "0 '98:0 rbps=max wbps=max riops=10 wiops=max'"
