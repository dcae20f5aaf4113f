#!/usr/bin/env bash
# systemd 262 on Linux 7.2.7 (Debian forky's user-mode-linux 7.2um1): CPUQuota=10% of a slice throttles a busy service in it
# most of the time. cpu.stat of the service has no nr_throttled at all, and cpu.stat.local, the file that exists to tell
# throttling by a level above, is empty: throttled_usec is there only where the unit itself uses the cpu controller. With
# CPUWeight=100 on the service (the default weight, so nothing else changes) cpu.stat says nr_throttled 0 and
# throttled_usec 0, and cpu.stat.local tells seconds.
# Expected: cpu.stat.local of every cgroup that is throttled says so, as cpu.stat has usage_usec everywhere.
# For users: read nr_throttled of each slice above the service; give the service a CPUWeight where its own share matters.
. "$(dirname "$0")/guest.sh"
guest_kernel 7.2um1 forky 2.43-7
guest_root forky systemd=262-1
printf '[Slice]\nCPUQuota=10%%\n' >"$work/root/etc/systemd/system/narrow.slice"
cat >"$work/script" <<'EOF2'
#!/bin/bash
echo "kernel $(uname -r), $(systemctl --version | head -1)"
try() { # try NAME PROPERTY...
    local name=$1 group=/sys/fs/cgroup/narrow.slice/$1.service file key
    shift
    systemd-run -q --unit="$name" --slice=narrow.slice "$@" bash -c 'while :; do :; done'
    sleep 5
    for file in cpu.stat cpu.stat.local; do
        for key in nr_throttled throttled_usec; do
            echo "$name $file $key $(awk -v key=$key '$1 == key {n = $2; seen = 1}
                END {print (!seen ? "no such line" : (n > 1000000) ? "more than 1 s" : n)}' $group/$file)"
        done
    done
    systemctl stop "$name"
}
try plain
echo "slice: $(awk '$1 == "nr_throttled" {print ($2 > 10) ? "throttled" : $2}' /sys/fs/cgroup/narrow.slice/cpu.stat)"
try weighted -p CPUWeight=100
EOF2
seen=$(guest_run 120 "$work/script")
echo "$seen"
of() { sed -n "s/^$1 //p" <<<"$seen"; }
expect "cpu.stat of the slice" "$(of slice:)" throttled
expect "cpu.stat of the service, nr_throttled" "$(of 'plain cpu.stat nr_throttled')" "no such line"
expect "cpu.stat.local of the service" "$(of 'plain cpu.stat.local throttled_usec')" "no such line"
expect "with CPUWeight, cpu.stat" "$(of 'weighted cpu.stat throttled_usec')" 0
expect "with CPUWeight, cpu.stat.local" "$(of 'weighted cpu.stat.local throttled_usec')" "more than 1 s"
