"""Pages of the codes of `diagnose` (CGP7xx): who waits, for what, and because of whom."""

from cgroup_preflight.checks.page import Page
from cgroup_preflight.core import codes
from cgroup_preflight.core.codes import Code

_KERNEL = "https://docs.kernel.org/admin-guide/cgroup-v2.html"
_PSI = "https://docs.kernel.org/accounting/psi.html"
_CONTROL = "https://www.freedesktop.org/software/systemd/man/latest/systemd.resource-control.html"
_BANDWIDTH = "https://docs.kernel.org/scheduler/sched-bwc.html"

_CPU_PAGES: dict[Code, Page] = {
    codes.CONTENTION: Page(
        what="Checks whether slices and units wait, and says so where one waits and no rule explains it (no verdict).",
        fails="Something waits, and the numbers that were read do not show because of whom. A wrong accusation is worse than none.",
        fix="Do what the finding says: measure longer, add a trace, or use a kernel that counts what is missing.",
        about=("diagnose", "noisy neighbour", "cpu.pressure", "memory.pressure", "io.pressure"),
        sources=(_PSI, _KERNEL),
    ),
    codes.OWN_QUOTA: Page(
        what="Checks whether a unit or slice waits for a CPU because it used up its own CPUQuota (rule C1).",
        fails=(
            "nr_throttled of its own cpu.stat grew, and its tasks waited for about that long. The quota is spent by all "
            "threads together, so that many threads spend it early in each period of 100 ms."
        ),
        fix="Raise CPUQuota to the proposed value, which is what it used and what had work meanwhile; or run fewer threads.",
        about=("CPUQuota", "cpu.max", "cpu.stat", "throttled", "GOMAXPROCS"),
        sources=(_BANDWIDTH, _CONTROL),
    ),
    codes.QUOTA_ABOVE: Page(
        what="Checks whether a unit waits for a CPU because a slice above it used up its CPUQuota (rule C2).",
        fails=(
            "The counters of a quota exist at the level that has it, and nowhere below: cpu.stat of the unit shows no "
            "throttling. Its pressure and, from Linux 6.7 on, its cpu.stat.local do."
        ),
        fix="Raise CPUQuota of the slice to the proposed value, or limit the unit in it that uses most.",
        about=("CPUQuota", "cpu.stat.local", "slice", "throttled"),
        sources=(_KERNEL, _BANDWIDTH),
    ),
    codes.CPU_NEIGHBOUR: Page(
        what="Checks whether a unit waits on a busy host although it had what its weight entitles it to, and a neighbour had more (rule C3).",
        fails=(
            "CPUWeight divides the CPU time among the siblings of each level that want some. The neighbour is the sibling, "
            "at any level of the path, that used most more than the victim's side. Equal siblings are never named."
        ),
        fix="Raise CPUWeight of the victim's side to the proposed value, or limit the neighbour with CPUQuota.",
        about=("CPUWeight", "cpu.weight", "noisy neighbour"),
        sources=(_KERNEL, _CONTROL),
    ),
    codes.BELOW_ENTITLEMENT: Page(
        what="Checks whether a unit waits on a busy host and had less CPU time than its weight entitles it to (rule C4).",
        fails="Weights do not explain it. CPU affinity, real-time tasks, nested weights or a sched_ext scheduler can.",
        fix="Look for these before you blame a neighbour; no neighbour is named.",
        about=("affinity", "sched_ext", "real-time", "AllowedCPUs"),
        sources=(_KERNEL, "https://docs.kernel.org/scheduler/sched-ext.html"),
    ),
    codes.STEAL: Page(
        what="Checks whether the hypervisor took CPU time of this machine for others (rule C5; steal in /proc/stat).",
        fails="The machine is itself a guest on a busy host, so its own counters cannot name the cause.",
        fix="Move it, or reserve CPUs for it; nothing inside it helps.",
        about=("steal", "hypervisor", "virtual machine"),
        sources=("https://man7.org/linux/man-pages/man5/proc_stat.5.html",),
    ),
}

_OTHER_PAGES: dict[Code, Page] = {
    codes.MEMORY_LIMIT: Page(
        what="Checks whether a unit waits for memory, or lost processes, because a memory limit on its path was reached (rule M1).",
        fails=(
            "memory.events counts `high`, `max` and `oom` at the level whose limit was reached and above it; "
            "memory.events.local only at that level. The finding names the level."
        ),
        fix="Raise the limit that is named to the proposed value, or reduce what the unit uses; for Go set GOMEMLIMIT, too.",
        about=("MemoryMax", "MemoryHigh", "memory.events", "oom", "GOMEMLIMIT"),
        sources=(_KERNEL, _PSI),
    ),
    codes.HOST_MEMORY: Page(
        what="Checks whether a unit waits for memory, or lost processes, although no limit on its path was reached (rule M2).",
        fails=(
            "The host had too little memory, and the kernel reclaims from all cgroups then. A neighbour is named if it has more than half of the memory, or "
            "grew by a quarter, as systemd-oomd and oomd choose."
        ),
        fix="Limit the neighbour with MemoryHigh, and protect the victim with MemoryLow, on its slices, too.",
        about=("MemoryLow", "MemoryHigh", "reclaim", "oomd"),
        sources=(_KERNEL, "https://github.com/facebookincubator/oomd/blob/main/docs/core_plugins.md"),
    ),
    codes.MEMORY_PROTECTION: Page(
        what="Checks whether memory was taken from a unit although it used less than its MemoryLow (rule M3).",
        fails="The protected memory of all units is more than the kernel can keep, or a slice above protects less.",
        fix="Lower MemoryLow of others, or set it on the slices above, too.",
        about=("MemoryLow", "memory.low"),
        sources=(_KERNEL,),
    ),
    codes.IO_NEIGHBOUR: Page(
        what="Checks whether a unit waits for a device of which one neighbour had more than half of the traffic (rule I1).",
        fails=(
            "io.stat counts bytes and operations of each cgroup. Writes that the kernel does later can be charged to "
            "another cgroup, so that a writer can look innocent."
        ),
        fix="Limit the neighbour with IOReadBandwidthMax or IOWriteBandwidthMax; IOWeight needs a scheduler that knows weights.",
        about=("IOWeight", "IOReadBandwidthMax", "io.stat"),
        sources=(_KERNEL, _CONTROL),
    ),
    codes.GO_KERNEL: Page(
        what="Checks whether goroutines that could run waited at the same time as the kernel stopped their cgroup (rule G1).",
        fails="The trace of the Go scheduler and the kernel's counters confirm each other, on the same clock.",
        fix="Do what the kernel's rule (C1, C2 or C3) proposes; lowering GOMAXPROCS to the quota makes the stops shorter.",
        about=("golang", "trace", "scheduler", "GOMAXPROCS"),
        sources=("https://go.dev/blog/execution-traces-2024",),
    ),
    codes.GO_INSIDE: Page(
        what="Checks whether goroutines that could run waited although the kernel stopped nobody (rule G2).",
        fails="The cause is inside the process: GOMAXPROCS is too low for its work while CPUs are free, or goroutines wait for locks or the garbage collector.",
        fix="Raise GOMAXPROCS to the proposed value, or read the profiles of the same trace.",
        about=("golang", "GOMAXPROCS", "trace"),
        sources=("https://pkg.go.dev/runtime#hdr-Environment_Variables",),
    ),
    codes.GO_OTHERS: Page(
        what="Checks whether tasks of a cgroup waited for a CPU while the goroutines of the traced process did not (rule G3).",
        fails="Other processes of the same unit wait.",
        fix="Give them a unit of their own.",
        about=("golang", "trace"),
        sources=(_PSI,),
    ),
    codes.GO_TRACE: Page(
        what="Checks whether each trace can be joined with the counters.",
        fails="It is no trace, is of another program or of another time, or could not be fetched.",
        fix="Trace the program while diagnose runs: --trace http://127.0.0.1:PORT.",
        about=("golang", "pprof", "trace"),
        sources=("https://pkg.go.dev/net/http/pprof",),
    ),
    codes.CONTENTION_BLIND: Page(
        what="Checks whether this kernel has the files that the rules of `diagnose` need.",
        fails="A file that a rule needs does not exist (PSI, cpu.stat.local), so its cause could not be found.",
        fix="Boot with psi=1, or use a newer kernel.",
        about=("psi", "cpu.stat.local", "pressure"),
        sources=(_PSI, _KERNEL),
    ),
    codes.CONTENTION_INPUT: Page(
        what="Checks whether the readings are whole: no clock and no counter went back, and no recording was cut off.",
        fails="These parts of the time were left out, so an answer can be missing.",
        fix="Measure again if the answer matters.",
        about=("recording", "clock"),
        sources=(_KERNEL,),
    ),
}

CONTENTION_PAGES: dict[Code, Page] = {**_CPU_PAGES, **_OTHER_PAGES}
