"""The codes that are no host check: config and plan, binaries, smoke. A code is never reused."""

from dataclasses import dataclass

_CONTROL = "https://www.freedesktop.org/software/systemd/man/latest/systemd.resource-control.html"
_KERNEL = "https://docs.kernel.org/admin-guide/cgroup-v2.html"
_EXEC = "https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html"
_UNIT = "https://www.freedesktop.org/software/systemd/man/latest/systemd.unit.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """One code of the reference; `worst` is the worst it can say: error or warning."""

    code: str
    name: str
    worst: str
    what: str
    why: str
    remedy: str
    sources: tuple[str, ...]


def _code(code: str, name: str, what: str, why: str, remedy: str, *sources: str, worst: str = "error") -> Code:
    return Code(code=code, name=name, worst=worst, what=what, why=why, remedy=remedy, sources=sources)


CODES: tuple[Code, ...] = (
    _code("CGP201", "not-toml", "The config is TOML in UTF-8.", "Nothing in it can be read otherwise.",
          "Mend the line named.", "https://toml.io/en/v1.0.0"),
    _code("CGP202", "unknown-key", "Every key of the config is known.",
          "A misspelt limit would be no limit, in silence.", "Use the key named as nearest.", _CONTROL),
    _code("CGP203", "wrong-type", "Every value has the type of its key.", "Guessing would hide a mistake.",
          "Write the value as the message says.", "https://toml.io/en/v1.0.0"),
    _code("CGP204", "bad-value", "Every value is one that systemd reads.",
          "systemd ignores 512MB, 512MiB, 512m, max, -1 and CPUQuota=50 with a warning, and the unit runs unlimited.",
          "Use the spelling named in the message.", _CONTROL),
    _code("CGP205", "bad-name", "Names of slices and services can stand in a unit name as they are.",
          "Specifiers, slashes and escapes would name another unit than the one meant.",
          "Use letters, digits, '_', '.' and single dashes.", _UNIT),
    _code("CGP206", "undeclared-slice", "A service runs in a slice that the config declares.",
          "systemd makes up a slice that has no file, without any limit.", "Declare the slice, or use another.",
          "https://www.freedesktop.org/software/systemd/man/latest/systemd.slice.html"),
    _code("CGP207", "missing-key", "Required keys are there.", "Without them there is nothing to run.",
          "Add the key named.", "https://toml.io/en/v1.0.0"),
    _code("CGP208", "limit-too-small", "Memory limits are at least 16M.",
          "Below one page the kernel rounds to 0, and limits of a few megabytes can wedge a user manager.",
          "Raise the limit, or set allow_tiny_limits = true in [smoke].",
          "https://github.com/systemd/systemd/issues/40208"),
    _code("CGP209", "bad-address", "Readiness is asked of this machine.",
          "A config from a pull request must not make a runner call other hosts.",
          "Use a loopback address, or set allow_remote_ready = true in [smoke].",
          "https://www.rfc-editor.org/rfc/rfc1122"),
    _code("CGP210", "limits-out-of-order", "MemoryMin <= MemoryLow <= MemoryHigh <= MemoryMax.",
          "The larger one of a pair in the wrong order can never act.", "Put them in order.", _KERNEL),
    _code("CGP211", "binary", "The program of each service is an executable file.", "There is nothing to run otherwise.",
          "Build it first, or mend the path.", "https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html"),
    _code("CGP500", "smoke", "The services were run.", "Without an engine nothing is proved.",
          "Use a host with cgroup v2 and systemd.", "https://systemd.io/CGROUP_DELEGATION/"),
    _code("CGP501", "limits-in-force", "Each limit stands in the kernel's file, at the unit and at every slice above.",
          "Only the file proves a limit: systemd shows what it was told, not what the kernel has.",
          "Find the level where the controller ends.", _KERNEL),
    _code("CGP502", "process-place", "Every process of a service is in the cgroup of its unit.",
          "A process elsewhere is held by none of the limits.", "Do not move processes between cgroups.", _KERNEL),
    _code("CGP503", "service-run", "The service ran as long as it was held, or ended by itself with 0 where it should.",
          "A program that ends under its limits would end in production.", "Look at its log.", _EXEC),
    _code("CGP504", "oom-kill", "The kernel killed nothing for memory (memory.events, Result).",
          "The service needs more memory than it may have. The peak is cut off at the limit.",
          "Raise MemoryMax, or use less.", _KERNEL),
    _code("CGP505", "readiness", "The service got ready in time.", "Under its quota it may need longer than without.",
          "Look at its log; raise start_timeout if it only needs longer.",
          "https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html"),
    _code("CGP506", "stop", "The service ended after SIGTERM.", "systemd would wait, and then kill it, on every deploy.",
          "Handle SIGTERM, or raise stop_timeout.",
          "https://www.freedesktop.org/software/systemd/man/latest/systemd.kill.html"),
    _code("CGP507", "service-start", "The manager started the service, and nothing else answered in its place.",
          "An answer of another program proves nothing about this one.", "Free the address, or ask the manager.",
          "https://www.freedesktop.org/software/systemd/man/latest/systemd-run.html"),
    _code("CGP508", "effective-limit", "No cgroup above the run is tighter than the config.",
          "The effective limit is the minimum over all ancestors.", "Lift the limit of the level named.", _KERNEL,
          worst="warning"),
    _code("CGP511", "limit-bites", "Each distinct limit acts when pushed against.",
          "A limit that is set and does not bite is none. One that could not be tried is unverified, never a pass.",
          "Use a machine on which the limit can be reached; trust no host on which it does not act.",
          _KERNEL, "https://docs.kernel.org/scheduler/sched-bwc.html"),
)  # fmt: skip
