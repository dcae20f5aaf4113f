"""Pages of the codes of a smoke run (CGP5xx), and of what it shows of Go programs (CGP4xx)."""

from cgroup_preflight.checks.page import Page
from cgroup_preflight.config.properties import BY_NAME
from cgroup_preflight.core import codes
from cgroup_preflight.core.codes import Code

_KERNEL = "https://docs.kernel.org/admin-guide/cgroup-v2.html"
_SERVICE = "https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html"
_ENVIRONMENT = "https://pkg.go.dev/runtime#hdr-Environment_Variables"

_GO_PAGES: dict[Code, Page] = {
    codes.GO_RUNTIME: Page(
        what="Shows what the Go runtime of the program will choose at start, and why.",
        fails="GOMAXPROCS and the memory limit decide how a Go program behaves under its quota.",
        fix="Nothing; other codes say what is wrong with the choice.",
        about=("golang", "gomemlimit"),
        sources=(_ENVIRONMENT,),
    ),
    codes.GO_RUNTIME_CHOICE: Page(
        what="Checks that the runtime chose what the model predicts: environment, open cpu.max, GOMAXPROCS.",
        fails="The program, a library or a wrapper overrides the settings, so those of the plan have no effect.",
        fix="Look for calls of runtime.GOMAXPROCS, for automaxprocs, or for a wrapper that changes the environment.",
        about=("golang",),
        sources=(_ENVIRONMENT, "https://github.com/golang/go/issues/81180"),
    ),
    codes.GO_MEMORY_VIEW: Page(
        what="Shows how much of the charged memory the Go runtime does not count.",
        fails=(
            "File pages, C memory, kernel memory and child processes count against MemoryMax, but not against "
            "GOMEMLIMIT."
        ),
        fix="Lower gomemlimit_ratio where that share is large.",
        about=("golang", "memory.current"),
        sources=("https://go.dev/doc/gc-guide#Memory_limit",),
    ),
}

SMOKE_PAGES: dict[Code, Page] = {
    **_GO_PAGES,
    codes.SMOKE: Page(
        what="Checks that the services were run.",
        fails="No engine works on this host, so nothing about the services is proved.",
        fix="Use a host with cgroup v2 and systemd as PID 1, or --engine guest.",
        sources=("https://systemd.io/CGROUP_DELEGATION/",),
    ),
    codes.LIMITS_IN_FORCE: Page(
        what="Checks that each service has a limit, and that the kernel has it, at the unit and at each slice above.",
        fails=(
            "systemd accepted the limit, but the kernel does not have it: a level above does not enable the "
            "controller. Only the file proves a limit; `systemctl show` repeats what systemd was told. Or the limit "
            "was lifted for a time, which a reading or a counter shows."
        ),
        fix=(
            "Set the limit that the message names. If the kernel does not have it, run `cgroup-preflight check`: it "
            "names the level where the controller ends."
        ),
        about=(*BY_NAME, *(item.attribute for item in BY_NAME.values() if item.attribute)),
        sources=(_KERNEL,),
    ),
    codes.PROCESS_PLACE: Page(
        what="Checks four times a second that every process of a service is in the cgroup of its unit.",
        fails=(
            "A process moved to another cgroup, or a service started a program through the service manager, so that "
            "none of the unit's limits apply to it. The run ends such a process. In a guest, every other new process counts "
            "too, unless systemd started it by itself. On a host, where other programs start units at the same time, a new "
            "transient unit is a warning, unless systemd-run says in the output of a service that it started it."
        ),
        fix="Do not move processes between cgroups; run helpers as services with limits of their own.",
        about=("cgroup.procs",),
        sources=(_KERNEL,),
    ),
    codes.SERVICE_RUN: Page(
        what="Checks that the service ran for the whole test, or ended with status 0 where ready = \"exit\".",
        fails=(
            "The program ended or was killed under its limits, as it would in production. Or it went to the background: "
            "its main process ended, and other processes of it still run."
        ),
        fix=(
            "Read its log and run the program by hand with the same arguments. Give a program that goes to the "
            "background the option that keeps it in the foreground."
        ),
        about=("pids.events", "TasksMax"),
        sources=("https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html",),
    ),
    codes.OOM_KILL: Page(
        what="Checks that the kernel killed no process of the service for memory.",
        fails=(
            "The service needs more memory than its limit. memory.events and systemd's Result are both read. The "
            "peak stops at the limit, so that the real need can be higher. A service with Delegate= can also have set a "
            "smaller limit below its own, and the message says so."
        ),
        fix="Raise MemoryMax and run again, or reduce what the service uses.",
        about=("memory.max", "memory.peak", "oom"),
        sources=(_KERNEL,),
    ),
    codes.READINESS: Page(
        what="Checks that the service itself became ready in time, and still answered at the end.",
        fails=(
            "It did not answer within start_timeout, stopped answering, or another program answered at its address: a "
            "proxy, a socket unit or another service. Or its certificate is not trusted. A quota makes every start slower."
        ),
        fix=(
            "Read its log. Raise start_timeout if it only needs longer, or CPUQuota if it is throttled. Let `ready` name "
            "an address on which the service itself listens. Give an https:// address the certificate of its authority in "
            "`ready_ca`, or use tcp://, which looks at no certificate."
        ),
        about=("ready", "ready_ca", "CPUQuota"),
        sources=(_SERVICE,),
    ),
    codes.STOP: Page(
        what="Checks that the service ends after SIGTERM, and that nothing of it runs on.",
        fails=(
            "systemd would wait for the time-out and then kill the service with SIGKILL, on every deploy. With "
            "KillMode=process it leaves what outlives the main process."
        ),
        fix="Handle SIGTERM, or raise stop_timeout. Use KillMode=mixed if systemd is to kill what the main process leaves.",
        about=("TimeoutStopSec", "KillMode"),
        sources=("https://www.freedesktop.org/software/systemd/man/latest/systemd.kill.html",),
    ),
    codes.SERVICE_START: Page(
        what="Checks that the service manager started the service, and that no other program uses its address.",
        fails="The manager refused, or another program answers at the address; its answer proves nothing.",
        fix="Free the address, or look in the journal for what the manager says.",
        about=("ready",),
        sources=("https://www.freedesktop.org/software/systemd/man/latest/systemd-run.html",),
    ),
    codes.EFFECTIVE_LIMIT: Page(
        what="Checks that no cgroup above the run has a tighter limit than the config.",
        fails="The effective limit is the minimum over all ancestors, so the test ran under another limit.",
        fix="Raise or remove the limit of the level that the message names.",
        about=("memory.max", "cpu.max", "pids.max", "MemoryMax", "CPUQuota", "TasksMax"),
        sources=(_KERNEL,),
    ),
    codes.KERNEL_COUNTERS: Page(
        what="Shows what the kernel counted for a service and for every slice above it.",
        fails="A slice that is throttled or near its limit slows its services down, and no service shows it.",
        fix="Nothing to fix: choose limits by these numbers.",
        about=("cpu.stat", "memory.events", "memory.peak", "memory.pressure", "cpu.pressure", "io.pressure",
               "throttling", "throttled"),
        sources=(_KERNEL,),
    ),
    codes.CLEANUP: Page(
        what="Checks that the run left nothing behind: no unit, no unit file, no cgroup.",
        fails=(
            "What remains uses memory and CPU, and can disturb the next run. Where the folder of units or the cgroup cannot "
            "be read at the end, the check is unverified."
        ),
        fix="Stop and remove what the message names. The next run tries again.",
        sources=("https://systemd.io/CGROUP_DELEGATION/",),
    ),
    codes.LIMIT_ENFORCED: Page(
        what="Checks that the kernel enforces each distinct limit: a probe uses more than the limit allows.",
        fails=(
            "The kernel has the limit and does not act on it. A limit that could not be reached on this machine is "
            "unverified, never a pass."
        ),
        fix="Do not rely on this host for limits; use a machine on which the probe can reach them.",
        about=("MemoryMax", "MemoryHigh", "MemorySwapMax", "CPUQuota", "TasksMax", "memory.max", "memory.high",
               "memory.swap.max", "cpu.max", "pids.max", "probe"),
        sources=(_KERNEL, "https://docs.kernel.org/scheduler/sched-bwc.html"),
    ),
    codes.GUEST: Page(
        what="Shows that services were tested in a guest (a VM), with its systemd and its kernel.",
        fails="This host was not tested. What the guest lacks is not proved, and a guest that was lost proves nothing.",
        fix="Run `check` on the machine that will run the services, and choose [target] to match it.",
        about=("vm", "uml", "qemu", "user-mode-linux"),
        sources=("https://docs.kernel.org/virt/uml/user_mode_linux_howto_v2.html",),
    ),
    codes.POLICY: Page(
        what="Checks that systemd has each setting that the kernel has no file for, and that a daemon acts on it.",
        fails="ManagedOOM settings are for systemd-oomd. Many servers do not run it, so the setting has no effect.",
        fix="Run systemd-oomd where the service runs, or remove the setting.",
        about=("ManagedOOMMemoryPressure", "oom", "oomd"),
        sources=("https://www.freedesktop.org/software/systemd/man/latest/systemd-oomd.service.html",),
    ),
    codes.START_SETTINGS: Page(
        what=(
            "Checks that the main process has what User, Group, AmbientCapabilities, LimitNOFILE and WorkingDirectory say, "
            "from /proc/PID."
        ),
        fails=(
            "systemd starts some services with less than their settings say, and does not say so; a program can also "
            "change them itself."
        ),
        fix="Follow the remedy of the setting that the message names.",
        about=("User", "Group", "AmbientCapabilities", "LimitNOFILE", "WorkingDirectory", "nofile", "ulimit"),
        sources=("https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html",
                 "https://man7.org/linux/man-pages/man5/proc.5.html"),
    ),
    codes.CPU_SHARES: Page(
        what=(
            "Checks that CPUWeight divides CPU time as the plan says: processes in the place of the services use all they "
            "can at the same time, on as few CPUs as the plan allows, and what each received of what its slice had is "
            "compared with the model of `plan shares`."
        ),
        fails=(
            "A weight in cpu.weight is only a wish: without the cpu controller at its level, or with a scheduler that "
            "ignores weights, it has no effect. More than 3 percentage points is a fail on a quiet machine; with steal, "
            "other load or repeats that differ it is unverified. Without cpu in [require], a level without the controller "
            "is a warning; so are CPU lists that overlap in part, for which the model is approximate."
        ),
        fix="Follow the cause that the message names; run it on a quiet machine where other load made it unverified.",
        about=("CPUWeight", "cpu.weight", "cpu.idle", "sched_ext", "fair share"),
        sources=("https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu", "https://docs.kernel.org/scheduler/sched-ext.html"),
    ),
    codes.HEADROOM: Page(
        what=(
            "Checks that memory was left at the peak: 20% of MemoryMax, or what [policy] headroom_min says. And that a service "
            "was not above its MemoryHigh, unless with file cache."
        ),
        fails=(
            "The run was near MemoryMax, and the kernel kills at it. A real load, or the next version, needs more than a "
            "short test. The peak includes file cache, which the kernel can reclaim. Above MemoryHigh a service waits at each "
            "allocation."
        ),
        fix="Set MemoryMax or MemoryHigh to the value that the remedy proposes, or lower headroom_min for this service.",
        about=("memory.peak", "memory.max", "memory.high", "MemoryMax", "MemoryHigh", "headroom", "headroom_min"),
        sources=(_KERNEL,),
    ),
    codes.THROTTLED: Page(
        what=(
            "Checks that a quota stopped a service in few periods after its start: 25%, or throttled_max. Of fewer than 10 "
            "periods, the throttled time counts. A start counts if it took more than half of start_timeout."
        ),
        fails=(
            "A throttled service waits in each period until the next one begins, so its answers are late. A start that is "
            "slow because of that can fail on a busier machine."
        ),
        fix="Raise CPUQuota to the value that the remedy proposes, or raise throttled_max for work that can wait.",
        about=("cpu.stat", "cpu.max", "CPUQuota", "throttled", "throttled_max"),
        sources=(_KERNEL, "https://docs.kernel.org/scheduler/sched-bwc.html"),
    ),
}  # fmt: skip
