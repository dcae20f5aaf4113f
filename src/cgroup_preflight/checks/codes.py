"""The codes that are no host check: config and plan, binaries, smoke. A code is never reused."""

from dataclasses import dataclass

from cgroup_preflight.checks.codes_go import GO_ROWS
from cgroup_preflight.checks.codes_publish import PUBLISH_ROWS

_CONTROL = "https://www.freedesktop.org/software/systemd/man/latest/systemd.resource-control.html"
_KERNEL = "https://docs.kernel.org/admin-guide/cgroup-v2.html"
_EXEC = "https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html"
_UNIT = "https://www.freedesktop.org/software/systemd/man/latest/systemd.unit.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """One code of the reference; `worst` is the worst it can say: error, warning, information."""

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
    _code("CGP212", "limit-above-slice", "No limit is above the same limit of a slice over the unit.",
          "The tightest level decides, so the larger number never acts. A protection (MemoryMin, MemoryLow) is at most what "
          "every slice above protects.", "Lower the limit, or raise that of the slice.", _KERNEL, _CONTROL, worst="warning"),
    _code("CGP213", "weight-without-siblings", "A unit with CPUWeight or IOWeight shares its slice with another unit.",
          "A weight divides what units of one slice compete for; alone in a slice a unit has all of it.",
          "Set the weight on the slice, or put the units that compete into one slice.", _KERNEL, worst="warning"),
    _code("CGP214", "beyond-kernel", "Every value is one that the kernel takes as it is.",
          "The kernel refuses a pids.max above 4194304 and takes a memory limit of about 8E as none. A quota is at "
          "least 1ms in a period of at most 1s, which is 0.1%.", "Use a value within the range named.",
          "https://docs.kernel.org/admin-guide/cgroup-v1/pids.html", "https://docs.kernel.org/scheduler/sched-bwc.html"),
    _code("CGP215", "percent-limit", "A percentage is a usable limit on each machine that may run the unit.",
          "A percentage of MemoryMax and TasksMax is a share of the machine, not of the slice: on a small machine it can be "
          "below 16M or no task at all, on a large one above the limit of its slice.",
          "Use an absolute value, or a larger share.", _CONTROL),
    _code("CGP216", "no-match", "Each glob of files in [target] matches a file.",
          "A service that lacks its files in the guest fails there, and the guest looks like the cause.",
          "Correct the glob; for all files of a folder write folder/**.",
          "https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html#tag_19_14"),
    *(Code(code=code, name=name, worst=worst, what=what, why=why, remedy=remedy, sources=sources)
      for code, name, worst, what, why, remedy, sources in GO_ROWS),
    _code("CGP301", "artifact", "The artifact holds exactly the files of the plan.",
          "Only the plan that was tested proves anything about what ships.",
          "Put it in: cgroup-preflight inject ARTIFACT.", _UNIT),
    _code("CGP302", "tested-binary", "The program in the artifact is the one that was run.",
          "A program that was stripped or built again is another program; one under another name cannot be told.",
          "Point binary at the file that is packed; inject after the run, or with --report.",
          "https://slsa.dev/spec/v1.0/verifying-artifacts"),
    _code("CGP303", "artifact-conflict", "Where a file of the plan goes, nothing else stands.",
          "Of two opinions about one limit only one can ship.", "Remove one of the two, or replace it with --force.",
          _UNIT),
    _code("CGP304", "unsafe-artifact", "Every member is one that all unpackers treat alike.",
          "Names that lead out, links where files go, doubles and devices are how archives attack their reader.",
          "Pack it anew without the member named.", "https://cwe.mitre.org/data/definitions/22.html"),
    _code("CGP305", "corrupt-artifact", "The artifact is whole, and unpacks to a size that can be meant.",
          "What is cut or damaged must not be made to look whole.", "Build it again, or raise the limit named.",
          "https://cwe.mitre.org/data/definitions/409.html"),
    _code("CGP306", "unsupported-artifact", "The artifact has a format that can be changed after it was built.",
          "An rpm's header holds a digest of every file, and a signature.",
          "Put the files in while it is built: cgroup-preflight inject --emit nfpm.",
          "https://rpm-software-management.github.io/rpm/manual/format_v4.html"),
    _code("CGP307", "stale-signature", "Signatures and checksums of the artifact fit it.",
          "They were made for it as it was before.", "Sign after injecting; --rewrite-checksums corrects checksums.",
          "https://www.debian.org/doc/manuals/securing-debian-manual/deb-pack-sign.en.html", worst="warning"),
    _code("CGP308", "hidden-unit", "No file in the artifact goes before or over those of the plan.",
          "systemd takes /etc before /usr/lib, and the last drop-in by name wins; --check does not pass over that.",
          "Remove it from the artifact, or move its settings into the config.", _UNIT),
    _code("CGP309", "not-injected", "Artifacts get the plan after a run that passed.",
          "A plan that failed must not ship.", "Mend what failed, or build the artifact first.",
          "https://systemd.io/CGROUP_DELEGATION/"),
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
    _code("CGP509", "kernel-counters", "What the kernel counted for a service and for every slice above it.",
          "A slice that is throttled or near its limit holds its services back, and no service shows it.",
          "Nothing to mend: numbers to choose limits by.", _KERNEL, worst="information"),
    _code("CGP510", "cleanup", "Nothing of the run is left: no unit, no unit file, no cgroup.",
          "What stays would meet the next run, or hold memory and CPU.", "Stop and remove what is named.",
          "https://systemd.io/CGROUP_DELEGATION/"),
    _code("CGP513", "policy", "systemd holds each setting that the kernel has no file for, and somebody acts on it.",
          "ManagedOOM settings are for systemd-oomd, which many servers do not run.",
          "Run systemd-oomd where the service runs, or remove the setting.",
          "https://www.freedesktop.org/software/systemd/man/latest/systemd-oomd.service.html"),
    _code("CGP512", "guest", "Services that ran in a guest were judged there: with its systemd and its kernel.",
          "This host was not judged, and what the guest lacks is not proven. A guest that was lost proves nothing.",
          "Run `check` on the machine that will carry the services; choose [target] after it.",
          "https://docs.kernel.org/virt/uml/user_mode_linux_howto_v2.html"),
    _code("CGP511", "limit-bites", "Each distinct limit acts when pushed against.",
          "A limit that is set and does not bite is none. One that could not be tried is unverified, never a pass.",
          "Use a machine on which the limit can be reached; trust no host on which it does not act.",
          _KERNEL, "https://docs.kernel.org/scheduler/sched-bwc.html"),
    *(Code(code=code, name=name, worst=worst, what=what, why=why, remedy=remedy, sources=sources)
      for code, name, worst, what, why, remedy, sources in PUBLISH_ROWS),
)  # fmt: skip
