#!/usr/bin/env bash
# systemd 257.13 (Debian 13): the unit file of a running service gets other limits and systemd reads it again. `systemctl
# daemon-reload` ends with status 0, `systemctl show` has the new values, and cpu.max and memory.max keep the old ones, until
# any property of the unit is set. systemd 252.39 (Debian 12) and 262 (forky) write the new values at the reload.
# Expected: what `show` says is in the kernel, as before 257 and later.
# For users: on Debian 13, a package or a configuration tool that changes limits and reloads has changed nothing: restart the
# service, or use `systemctl set-property`, and read the kernel's files.
. "$(dirname "$0")/guest.sh"
cat >"$work/script" <<'EOF2'
#!/bin/bash
unit=/run/systemd/system/job.service group=/sys/fs/cgroup/system.slice/job.service
say() {
    echo "$1 $(systemctl show -P CPUQuotaPerSecUSec job) $(systemctl show -P MemoryMax job)," \
        "$(cut -d' ' -f1 $group/cpu.max) $(cat $group/memory.max)"
}
printf '[Service]\nExecStart=sleep 600\nCPUQuota=50%%\nMemoryMax=200M\n' >$unit
systemctl daemon-reload
systemctl start job
say started
sed -i 's/50%/20%/; s/200M/100M/' $unit
systemctl daemon-reload || echo "reload $?"
sleep 1
say reloaded
systemctl set-property --runtime job TasksMax=100
sleep 1
say set
EOF2
try() { # try SUITE SYSTEMD RELOADED
    rm -rf "$work/root"
    guest_root "$1" "systemd=$2"
    seen=$(guest_run 120 "$work/script")
    echo "$1: systemd $2"
    expect "show, kernel: at the start" "$(sed -n 's/^started //p' <<<"$seen")" "500ms 209715200, 50000 209715200"
    expect "show, kernel: after the reload" "$(sed -n 's/^reloaded //p' <<<"$seen")" "$3"
    expect "show, kernel: another property set" "$(sed -n 's/^set //p' <<<"$seen")" "200ms 104857600, 20000 104857600"
}
guest_kernel 6.1um4+b13
try bookworm 252.39-1~deb12u2 "200ms 104857600, 20000 104857600"
try trixie 257.13-1~deb13u1 "200ms 104857600, 50000 209715200"
guest_kernel 7.2um1 forky 2.43-7
try forky 262-1 "200ms 104857600, 20000 104857600"
