#!/usr/bin/env bash
# systemd 252.39 (Debian 12): a service with `LimitNOFILE=2000000000` starts although the kernel refuses that number
# (fs.nr_open is the most). systemd takes the nearest value that the kernel accepts, says nothing in the journal, and
# `systemctl show` goes on to print 2000000000.
# Expected: the start fails, or `show` and the journal tell the value in force.
# For users: read "Max open files" in /proc/PID/limits of the running service, not what systemd shows.
. "$(dirname "$0")/guest.sh"
guest_kernel 6.1um4+b13
guest_root bookworm systemd=252.39-1~deb12u2

printf '[Service]\nLimitNOFILE=2000000000\nExecStart=sleep 600\n' >"$work/root/etc/systemd/system/files.service"
cat >"$work/script" <<'EOF2'
#!/bin/bash
systemctl --version | head -1
systemctl start files
echo "start $?"
echo "shown $(systemctl show -p LimitNOFILE --value files)"
echo "kernel $(awk '/^Max open files/ {print $5}' /proc/$(systemctl show -p MainPID --value files)/limits)"
echo "largest $(cat /proc/sys/fs/nr_open)"
echo "journal $(journalctl -q -b -u files --grep 'NOFILE|rlimit|RLIMIT' | wc -l)"
EOF2
seen=$(guest_run 120 "$work/script")
echo "$seen"
value() { awk -v key="$1" '$1 == key {print $2}' <<<"$seen"; }
expect "status of the start" "$(value start)" 0
expect "what systemd shows" "$(value shown)" 2000000000
expect "what the process has, next to fs.nr_open" "$(value kernel) $(value largest)" "([0-9]+) \2"
expect "lines about it in the journal" "$(value journal)" 0
