#!/usr/bin/env bash
# Linux 6.1.176 and 6.12.113 (user-mode-linux of Debian 12 and 13): TasksMax of a slice refuses forks of a service in it.
# On 6.1 the service's pids.events counts them, and the slice's counts nothing; on 6.12 only the slice's counts them, and
# the service's own says 0. Whoever reads pids.events of the service to find out why a fork failed sees nothing there since
# the upgrade; a mount option (pids_localevents) brings the old meaning back, and systemd does not use it.
# Expected: a counter of one name counts the same events on both, or systemd mounts as before.
# For users: add pids.events of the service and pids.events.local of every slice above it.
. "$(dirname "$0")/guest.sh"
guest_root bookworm systemd=252.39-1~deb12u2
printf '[Slice]\nTasksMax=20\n' >"$work/root/etc/systemd/system/narrow.slice"
cat >"$work/script" <<'EOF2'
#!/bin/bash
slice=/sys/fs/cgroup/narrow.slice
systemd-run -q --unit=forks --slice=narrow.slice bash -c 'for i in $(seq 30); do sleep 600 & done; sleep 600'
for i in $(seq 60); do
    [ "$(cat $slice/pids.current)" = 20 ] && break
    sleep 0.5
done
sleep 2
for group in $slice/forks.service $slice; do
    for file in pids.events pids.events.local; do
        count=absent
        [ -e $group/$file ] && count=$(awk '{print ($2 > 0) ? "some" : "none"}' $group/$file)
        echo "$(uname -r | cut -d. -f1,2) ${group##*/} $file $count"
    done
done
EOF2
guest_kernel 6.1um4+b13
old=$(guest_run 120 "$work/script")
guest_kernel 6.12um1+b22 trixie 2.41-12+deb13u5
new=$(guest_run 120 "$work/script")
printf '%s\n' "$old" "$new"
of() { sed -n "s/^$1 $2 $3 //p" <<<"$old
$new"; }
expect "6.1, pids.events of the service" "$(of 6.1 forks.service pids.events)" some
expect "6.1, pids.events of the slice" "$(of 6.1 narrow.slice pids.events)" none
expect "6.12, pids.events of the service" "$(of 6.12 forks.service pids.events)" none
expect "6.12, pids.events of the slice" "$(of 6.12 narrow.slice pids.events)" some
expect "6.12, pids.events.local of the slice" "$(of 6.12 narrow.slice pids.events.local)" some
