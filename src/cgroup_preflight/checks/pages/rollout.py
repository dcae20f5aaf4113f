"""Pages of the codes of `rollout` (CGP8xx): limits that change in steps on running hosts."""

from cgroup_preflight.checks.page import Page
from cgroup_preflight.core import codes
from cgroup_preflight.core.codes import Code

_CONTROL = "https://www.freedesktop.org/software/systemd/man/latest/systemd.resource-control.html"
_SYSTEMCTL = "https://www.freedesktop.org/software/systemd/man/latest/systemctl.html"
_UNIT = "https://www.freedesktop.org/software/systemd/man/latest/systemd.unit.html"
_KERNEL = "https://docs.kernel.org/admin-guide/cgroup-v2.html"
_SWALLOWED = "https://github.com/systemd/systemd/issues/22211"

ROLLOUT_PAGES: dict[Code, Page] = {
    codes.ROLLOUT: Page(
        what="Checks that a rollout came to its end: the new values are persistent, or there was nothing to change.",
        fails="The rollout did not come to its end. The other findings and the journal say why.",
        fix="Read the journal with `cgroup-preflight rollout status`, correct the cause, and run `rollout apply` again.",
        about=("rollout", "set-property", "canary"),
        sources=(_SYSTEMCTL, _SWALLOWED),
    ),
    codes.ROLLOUT_PLAN: Page(
        what="Shows which value of which slice changes to which value, and in which steps. `rollout plan` changes nothing.",
        fails="It never fails.",
        fix="Compare the steps with what you expect, then run `cgroup-preflight rollout apply`.",
        about=("rollout", "steps"),
        sources=(_CONTROL,),
    ),
    codes.ROLLOUT_UNIT: Page(
        what="Checks that a slice can be changed while it runs: it is loaded and active, has a cgroup with the controller of "
        "each property, and is not transient.",
        fails="systemd only stores a property of an inactive unit, and writes nothing to the kernel where the controller is not "
        "enabled. A transient unit loses the change when it ends.",
        fix="Start the slice with a service in it, or leave it out of the rollout.",
        about=("ActiveState", "ControlGroup", "cgroup.controllers", "transient"),
        sources=(_CONTROL, "https://github.com/systemd/systemd/issues/9733"),
    ),
    codes.ROLLOUT_MEMORY: Page(
        what="Checks that a lower memory limit is above what the kernel cannot reclaim, and above GOMEMLIMIT in the slice.",
        fails="Anonymous, shared and slab memory and a margin need more than the target. The kernel stores the new memory.max first, then reclaims, then kills. On newer kernels the limit reads back while "
        "the usage stays above it, until the next allocation is killed.",
        fix="Choose a higher target, or lower what the services use (GOMEMLIMIT, caches) before the rollout.",
        about=("MemoryMax", "MemoryHigh", "GOMEMLIMIT", "memory.stat"),
        sources=(
            _KERNEL,
            "https://github.com/kubernetes/enhancements/tree/master/keps/sig-node/1287-in-place-update-pod-resources",
        ),
    ),
    codes.ROLLOUT_CONFLICT: Page(
        what="Checks that nobody else decides a value: no drop-in that is read after the one that `systemctl set-property` "
        "writes, and no change by somebody else during the rollout.",
        fails="systemd reads drop-ins in the order of their file names, so override.conf wins over 50-CPUQuota.conf at the next "
        "daemon-reload. A value that somebody else set meanwhile is left as it is, and everything else is taken back.",
        fix="Remove the line from the named file, or talk to whoever set the value, then run the rollout again.",
        about=("drop-in", "set-property", "override.conf", "daemon-reload"),
        sources=(_UNIT, "https://github.com/systemd/systemd/issues/16592"),
    ),
    codes.ROLLOUT_TAKEN_BACK: Page(
        what="Checks that no step was taken back, and says why one was: what the judge saw, what did not read back, or who stopped it.",
        fails="A step did harm, or nobody could show that it did not. The old values were restored and read back.",
        fix="Read the numbers in the finding. Choose another target, or other thresholds in [rollout] if they are too strict.",
        about=("rollback", "OOM kill", "throttled", "pressure"),
        sources=(_KERNEL,),
    ),
    codes.ROLLOUT_STUCK: Page(
        what="Checks that the old values read back after a rollback.",
        fails="They do not: the host is between old and new. The finding names each value and file. The manager's timer tries "
        "again by itself.",
        fix="Correct the cause (a full disk, a file that cannot be written), then run `cgroup-preflight rollout abort`.",
        about=("rollback", "journal"),
        sources=(_SYSTEMCTL,),
    ),
    codes.ROLLOUT_UNFINISHED: Page(
        what="Checks that no rollout is under way.",
        fails="One is running, was paused, or its tool died. Two rollouts on one manager would undo each other's steps.",
        fix="Wait until it has ended; `cgroup-preflight rollout resume` goes on, and `rollout abort` takes it back.",
        about=("rollout", "resume", "abort"),
        sources=(_SYSTEMCTL,),
    ),
    codes.ROLLOUT_ABOVE: Page(
        what="Checks whether a slice above allows less than the target of a slice.",
        fails="A slice can use no more than each slice above it: the target is written, and the smaller limit is in force.",
        fix="Raise the limit of the slice above, in the same rollout if you like: what is outside is raised first.",
        about=("effective limit", "nested slices"),
        sources=(_KERNEL,),
    ),
}
