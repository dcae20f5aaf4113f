#!/usr/bin/env bash
# Linux 6.1.176 and 7.2.7 (user-mode-linux 6.1um4+b13 and 7.2um1 of Debian): a fork that the pids.max of a *parent* cgroup
# refuses is counted in the pids.events of the child (6.1) or of the parent alone (7.2). A tool that reads one place sees 0
# on one of the two kernels, and the child has no other trace of it.
# Expected: the place where a refusal is counted stays the same, or the child's file says that it was refused.
# For users: read pids.events of the service and of each slice above it, and take the sum of what was refused.
. "$(dirname "$0")/guest.sh"
. "$(dirname "$0")/uml72.sh"
guest_root bookworm systemd=252.39-1~deb12u2
cat >"$work/script" <<'EOF2'
#!/bin/bash
cd /sys/fs/cgroup; echo +pids >cgroup.subtree_control
mkdir parent; echo +pids >parent/cgroup.subtree_control; mkdir parent/child; echo 2 >parent/pids.max
bash -c 'echo $$ >/sys/fs/cgroup/parent/child/cgroup.procs; sleep 1 & sleep 1 & wait' 2>/dev/null
echo "kernel $(uname -r) child $(sed -n 's/max //p' parent/child/pids.events) parent $(sed -n 's/max //p' parent/pids.events)"
EOF2
look() {
    local seen
    seen=$(guest_run 120 "$work/script")
    echo "$seen"
    expect "counted at the child, at the parent" "$(awk '{print ($4 > 0) ? "yes" : "no", ($6 > 0) ? "yes" : "no"}' <<<"$seen")" "$1"
}
guest_kernel 6.1um4+b13
look "yes no"
guest_kernel_72
look "no yes"
