"""Pages of the config's codes (CGP2xx)."""

from cgroup_preflight.checks.page import Page
from cgroup_preflight.config.properties import BY_NAME
from cgroup_preflight.core import codes
from cgroup_preflight.core.codes import Code

#: What a suppression of a result is.
_SARIF = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/sarif-v2.1.0-errata01-os-complete.html"
_CONTROL = "https://www.freedesktop.org/software/systemd/man/latest/systemd.resource-control.html"
_KERNEL = "https://docs.kernel.org/admin-guide/cgroup-v2.html"
_TOML = "https://toml.io/en/v1.0.0"

CONFIG_PAGES: dict[Code, Page] = {
    codes.NOT_TOML: Page(
        what="Checks that the config file is TOML in UTF-8.",
        fails="The file cannot be parsed, so nothing in it was read.",
        fix="Correct the line that the message names.",
        sources=(_TOML,),
    ),
    codes.UNKNOWN_KEY: Page(
        what="Checks that every key of the config is known.",
        fails="A key is misspelled. A misspelled limit would be no limit, and nothing would say so.",
        fix=(
            "Use the key that the message proposes, or remove the line. Settings of systemd that the config does not have "
            "belong in a unit file, which `unit` names."
        ),
        sources=(_CONTROL,),
    ),
    codes.WRONG_TYPE: Page(
        what="Checks that every value has the type of its key.",
        fails="A value is a number where text is needed, or the like. The tool does not guess what was meant.",
        fix="Write the value as the message shows.",
        sources=(_TOML,),
    ),
    codes.BAD_VALUE: Page(
        what="Checks that systemd accepts every value.",
        fails=(
            "systemd does not understand the value. It ignores values such as 512MB, 512MiB, 512m, max, -1 and "
            "CPUQuota=50 with a warning in the journal, and the unit runs without the limit."
        ),
        fix="Use the spelling that the message proposes, such as 512M or 50%.",
        about=tuple(BY_NAME),
        sources=(_CONTROL,),
    ),
    codes.BAD_NAME: Page(
        what="Checks that the names of slices and services can be used in unit names as they are.",
        fails="With a specifier, a slash or an escape in it, the name would mean another unit.",
        fix="Use letters, digits, '_', '.' and single dashes.",
        about=("slice", "unit"),
        sources=("https://www.freedesktop.org/software/systemd/man/latest/systemd.unit.html",),
    ),
    codes.UNDECLARED_SLICE: Page(
        what="Checks that every service runs in a slice that the config declares.",
        fails="systemd creates a slice that has no unit file without any limit, so the service would run unlimited.",
        fix="Declare the slice in [slices.NAME], or use one that is declared.",
        sources=("https://www.freedesktop.org/software/systemd/man/latest/systemd.slice.html",),
    ),
    codes.MISSING_KEY: Page(
        what="Checks that the config has every required key.",
        fails="A key that the tool needs is missing, such as the binary of a service.",
        fix="Add the key that the message names.",
        sources=(_TOML,),
    ),
    codes.LIMIT_TOO_SMALL: Page(
        what=(
            "Checks that MemoryMax and MemoryHigh are at least 16M: in the config, in units of the project, and on this "
            "host where they are percentages."
        ),
        fails=(
            "The limit is too small to be safe. The kernel rounds a limit below one page to 0, and limits of a few "
            "megabytes can block a service manager. Nothing is started with such a limit."
        ),
        fix="Raise the limit, or set allow_tiny_limits = true in [smoke].",
        sources=("https://github.com/systemd/systemd/issues/40208",),
    ),
    codes.BAD_ADDRESS: Page(
        what="Checks that each readiness test uses an address of this machine, and one of its own.",
        fails=(
            "The address is malformed, is on another machine, or belongs to two services. A config from a pull "
            "request must not make a runner call other hosts, and one answer must not count for two services."
        ),
        fix="Use a loopback address and a port of its own, or set allow_remote_ready = true in [smoke].",
        about=("ready", "readiness"),
        sources=("https://www.rfc-editor.org/rfc/rfc1122",),
    ),
    codes.LIMITS_OUT_OF_ORDER: Page(
        what="Checks that MemoryMin <= MemoryLow <= MemoryHigh <= MemoryMax.",
        fails="Two settings are in the wrong order, so that the larger of the two has no effect.",
        fix="Put the values in order.",
        sources=(_KERNEL,),
    ),
    codes.BINARY: Page(
        what="Checks that the program of each service is an executable file.",
        fails="The file does not exist, is no regular file, or may not be executed, so the service cannot run.",
        fix="Build the program first, or correct `binary` in the config.",
        sources=("https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html",),
    ),
    codes.CONCURRENCY: Page(
        what="Checks that a slice lets all its services be active at the same time.",
        fails=(
            "With ConcurrencyHardMax below the number of services in the slice and below it, systemd (258 and later) "
            "refuses to start the rest at once. With ConcurrencySoftMax it queues them until another one has ended."
        ),
        fix="Raise the value, or move services to another slice.",
        about=("ConcurrencyHardMax", "ConcurrencySoftMax"),
        sources=("https://www.freedesktop.org/software/systemd/man/latest/systemd.slice.html",),
    ),
    codes.IGNORE_EXPIRED: Page(
        what="Checks that no exception of the policy has expired.",
        fails="The day in `until` is over, in UTC. The exception has no effect any more, so its findings count again.",
        fix="Remove the exception, or set a later day if its reason still holds.",
        about=("policy.ignore", "until", "waiver", "suppression"),
        sources=(_SARIF,),
    ),
    codes.IGNORE_UNUSED: Page(
        what="Checks that each exception of the policy is needed.",
        fails=(
            "A run of all services found nothing that the exception is about: the problem is solved, or its code, subject or "
            "line is wrong. It could hide something new. Or the finding is unverified, which no exception changes."
        ),
        fix="Remove the exception, or correct its code, subject or line.",
        about=("policy.ignore", "waiver", "suppression"),
        sources=(_SARIF,),
    ),
    codes.THRESHOLDS: Page(
        what="Shows which thresholds of [policy], and of the policies of services, differ from the defaults.",
        fails="It never fails. Whoever reviews a change sees here that it warns later than this tool does by itself.",
        fix="Nothing, or remove the threshold.",
        about=("headroom_min", "throttled_max", "policy", "threshold"),
        sources=(_SARIF,),
    ),
    codes.ABOVE_SLICE: Page(
        what="Checks that no limit is above the same limit of a slice over the unit.",
        fails=(
            "The tightest level decides, so the larger limit has no effect. A protection (MemoryMin, MemoryLow) is at "
            "most what every slice above protects, which is nothing where it is not set."
        ),
        fix="Lower the limit, or raise that of the slice.",
        about=("validate", "MemoryMax", "MemoryMin", "MemoryLow", "TasksMax", "CPUQuota", "AllowedCPUs"),
        sources=(_KERNEL, _CONTROL),
    ),
    codes.WEIGHT_ALONE: Page(
        what="Checks that a unit with CPUWeight or IOWeight shares its slice with another unit.",
        fails="The unit is alone in its slice. A weight divides what the units of one slice compete for, so it has no effect.",
        fix="Set the weight on the slice, or put the units that compete into one slice.",
        about=("validate", "CPUWeight", "IOWeight"),
        sources=(_KERNEL,),
    ),
    codes.BEYOND_KERNEL: Page(
        what="Checks that the kernel takes every value as it is.",
        fails=(
            "The kernel refuses a pids.max above 4194304, and takes a memory limit of about 8E as none: both are mistakes "
            "in the config (CGP204), and this code names them in unit files. A quota is at "
            "least 1ms in a period of at most 1s, so less than 0.1% becomes 0.1%, and a shorter period becomes longer."
        ),
        fix="Use a value within the range that the message names.",
        about=("validate", "TasksMax", "MemoryMax", "CPUQuota", "CPUQuotaPeriodSec"),
        sources=(
            "https://docs.kernel.org/admin-guide/cgroup-v1/pids.html",
            "https://docs.kernel.org/scheduler/sched-bwc.html",
        ),
    ),
    codes.PERCENT_LIMIT: Page(
        what="Checks that a percentage is a usable limit on each machine that may run the unit.",
        fails=(
            "A percentage of MemoryMax or TasksMax is a share of the machine, not of the slice. On a small machine it can "
            "be below 16M or no task at all, on a large one above the limit of its slice, or above the MemoryMax of the "
            "same unit."
        ),
        fix="Use an absolute value, or a larger share.",
        about=("validate", "percent", "MemoryMax", "TasksMax"),
        sources=(_CONTROL,),
    ),
    codes.UNIT_FILE: Page(
        what="Checks that the unit of a service exists, has a program, and can be tried where the run is.",
        fails=(
            "The file is missing, or the machine has not installed the unit, or has masked it. Or systemd would refuse it, "
            "or the service would use folders, sockets or names of the real unit, or it needs root (User, Group, "
            "AmbientCapabilities) and the programs of the run do not have it."
        ),
        fix="Correct the unit file or the key in the config; try services with a user or folders of their own in a guest.",
        about=("unit", "ExecStart", "StateDirectory", "User", "AmbientCapabilities", "template", "instance", "socket"),
        sources=("https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html",),
    ),
    codes.PACKAGES: Page(
        what="Checks that the distribution of the guest has each of the `packages` in [target].",
        fails="The guest cannot be made, so no service is run. A package may have another name in another release.",
        fix="Correct the names; `apt-cache search` and packages.debian.org find them.",
        about=("packages", "target", "guest"),
        sources=(
            "https://packages.debian.org/",
            "https://www.debian.org/doc/debian-policy/ch-controlfields.html#package",
        ),
    ),
    codes.NO_MATCH: Page(
        what="Checks that each glob of `files` in [target] matches a file, and that each `ready_ca` has a certificate.",
        fails="A service that lacks its files in the guest fails there, and the guest looks like the cause.",
        fix="Correct the glob or the path. For all files of a folder write folder/**.",
        about=("glob", "files", "target", "ready_ca"),
        sources=("https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html",),
    ),
}
