#!/usr/bin/env bash
# Linux 6.1.176 and 7.2.7 (user-mode-linux 6.1um4+b13 and 7.2um1 of Debian): a memory.max below the present usage, written
# to a file that is open with O_NONBLOCK, is accepted by both. 6.1 reclaims, and kills when that is not enough. On 7.2 the
# file reads the new limit at once, memory.current stays far above it, no event is counted, and nobody is killed until the
# next charge. systemd 262 opens it so.
# Expected: a limit that reads back is one that the usage is below, or an event says that it is not.
# For users: after lowering a limit, compare memory.current with memory.max; the value that reads back proves nothing.
. "$(dirname "$0")/guest.sh"
. "$(dirname "$0")/uml72.sh"
guest_root bookworm systemd=252.39-1~deb12u2 python3-minimal
cat >"$work/script" <<'EOF2'
#!/usr/bin/python3
import os, time
top = "/sys/fs/cgroup"
open(f"{top}/cgroup.subtree_control", "w").write("+memory")
os.mkdir(f"{top}/one")
ready, done = os.pipe()
child = os.fork()
if child == 0:
    open(f"{top}/one/cgroup.procs", "w").write("0")
    held = bytearray(os.urandom(1 << 20) * 64)
    os.write(done, b"x")
    time.sleep(600)
os.read(ready, 1)
file = os.open(f"{top}/one/memory.max", os.O_WRONLY | os.O_NONBLOCK)
os.write(file, b"33554432")
time.sleep(1)
read = lambda name: open(f"{top}/one/{name}").read()
events = dict(line.split() for line in read("memory.events").splitlines())
gone = os.waitpid(child, os.WNOHANG)[0] == child
print("kernel", os.uname().release, "max", read("memory.max").strip(), "current", int(read("memory.current")) >> 20, "MiB",
      "events", int(events["max"]) + int(events["oom"]), "killed", "yes" if gone else "no")
os._exit(0)
EOF2
look() {
    local seen
    seen=$(guest_run 120 "$work/script")
    echo "$seen"
    expect "memory.max" "$(awk '{print $4}' <<<"$seen")" 33554432
    expect "usage above the limit, an event, killed" \
        "$(awk '{print ($6 > 32) ? "yes" : "no", ($9 > 0) ? "yes" : "no", $11}' <<<"$seen")" "$1"
}
guest_kernel 6.1um4+b13
look "no yes yes"
guest_kernel_72
look "yes no no"
