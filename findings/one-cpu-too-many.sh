#!/usr/bin/env bash
# systemd 262 on Linux 7.2.12 (Debian forky, QEMU with 2 CPUs): a service with AllowedCPUs=1-2 runs on both CPUs, because
# CPU 2 does not exist: the kernel refuses the whole list (ERANGE), and not only the CPU that it lacks. The service is active,
# `systemctl start` ends with 0, `systemctl show` prints AllowedCPUs=1-2, and cpuset.cpus is empty. On a running service that
# is limited to CPU 0, `systemctl set-property AllowedCPUs=1-2` ends with 0, too, and it stays on CPU 0.
# Expected: the unit runs on CPU 1 alone, or it fails to start; `show` has what is in force.
# For users: name no CPU that a machine may lack, and read Cpus_allowed_list of the process, or cpuset.cpus.effective.
. "$(dirname "$0")/guest.sh"
guest_root forky systemd=262-1 cpio
for cpus in 1-2 1; do
    printf '[Service]\nExecStart=sleep 600\nAllowedCPUs=%s\n' "$cpus" >"$work/root/etc/systemd/system/on-$cpus.service"
done
cat >"$work/script" <<'EOF2'
#!/bin/bash
tell() { # tell WORDS UNIT
    echo "$1 shows $(systemctl show -P AllowedCPUs "$2"), cpuset.cpus '$(cat /sys/fs/cgroup/system.slice/$2/cpuset.cpus)'," \
        "process on $(sed -n 's/^Cpus_allowed_list:\t//p' "/proc/$(systemctl show -P MainPID "$2")/status")"
}
echo "kernel $(uname -r)"
for cpus in 1 1-2; do
    systemctl start on-$cpus.service
    echo "start $cpus $?"
    tell "$cpus" on-$cpus.service
done
systemctl set-property --runtime on-1.service AllowedCPUs=0
tell moved on-1.service
systemctl set-property --runtime on-1.service AllowedCPUs=1-2
echo "set $?"
tell kept on-1.service
EOF2
seen=$(machine_run 900 "$work/script" forky linux-binary-7.2.12+deb14-cloud-amd64 7.2.12-1)
echo "$seen"
of() { sed -n "s/^$1 //p" <<<"$seen"; }
expect "AllowedCPUs=1" "$(of 1)" "shows 1, cpuset.cpus '1', process on 1"
expect "AllowedCPUs=1-2, start" "$(of 'start 1-2')" 0
expect "AllowedCPUs=1-2" "$(of 1-2)" "shows 1-2, cpuset.cpus '', process on 0-1"
expect "set-property AllowedCPUs=0" "$(of moved)" "shows 0, cpuset.cpus '0', process on 0"
expect "set-property AllowedCPUs=1-2" "$(of set) $(of kept)" "0 shows 1-2, cpuset.cpus '0', process on 0"
