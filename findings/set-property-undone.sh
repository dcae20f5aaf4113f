#!/usr/bin/env bash
# systemd 252.39 (Debian 12): `systemctl set-property web.service MemoryMax=100M` ends with status 0 and the kernel has
# 100M, but where a package ships a drop-in whose name sorts after "50-MemoryMax.conf", the next daemon-reload (any
# package installation does one) brings the package's value back. Drop-ins are ordered by file name over all folders,
# so /usr/lib/.../60-package.conf wins over what the administrator set in /etc/systemd/system.control.
# Expected: a persistent set-property lasts, as a file in /etc wins over one in /usr/lib.
# For users: packages should ship limits in a drop-in that sorts before 50-.
. "$(dirname "$0")/guest.sh"
guest_kernel 6.1um4+b13
guest_root bookworm systemd=252.39-1~deb12u2

mkdir -p "$work/root/usr/lib/systemd/system/early.service.d" "$work/root/usr/lib/systemd/system/late.service.d"
for name in early late; do
    printf '[Service]\nExecStart=sleep 600\n' >"$work/root/usr/lib/systemd/system/$name.service"
done
printf '[Service]\nMemoryMax=200M\n' >"$work/root/usr/lib/systemd/system/early.service.d/10-package.conf"
printf '[Service]\nMemoryMax=200M\n' >"$work/root/usr/lib/systemd/system/late.service.d/60-package.conf"

cat >"$work/script" <<'EOF2'
#!/bin/bash
systemctl --version | head -1
for name in early late; do
    systemctl start $name
    systemctl set-property $name.service MemoryMax=100M
    status=$?
    set_to=$(cat /sys/fs/cgroup/system.slice/$name.service/memory.max)
    systemctl daemon-reload
    echo "$name $status $set_to $(cat /sys/fs/cgroup/system.slice/$name.service/memory.max)"
done
EOF2
seen=$(guest_run 120 "$work/script")
echo "$seen"
expect "drop-in 10-package.conf: status, then, after the reload" "$(awk '$1 == "early" {print $2, $3, $4}' <<<"$seen")" "0 104857600 104857600"
expect "drop-in 60-package.conf: status, then, after the reload" "$(awk '$1 == "late" {print $2, $3, $4}' <<<"$seen")" "0 104857600 209715200"
