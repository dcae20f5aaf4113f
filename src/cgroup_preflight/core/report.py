"""The records that every room uses: findings, remedies, service results and the report.

All of it is frozen data: nothing here decides, renders or reads the host.
"""

import enum
from collections.abc import Mapping

from cgroup_preflight.core.records import dataclass, field

#: What was read, by name; JSON has it as it is.
Evidence = Mapping[str, str | int | float | bool | None]


class Status(enum.StrEnum):
    """Outcome of one check on one subject, in the words of the JSON report."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    WARN = "warn"
    SKIP = "skip"
    UNVERIFIED = "unverified"


class Verdict(enum.StrEnum):
    """Outcome of a whole report."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    UNVERIFIED = "unverified"


#: Statuses and verdicts in the order in which one beats another.
STATUSES_WORST_FIRST = (Status.FAIL, Status.UNVERIFIED, Status.WARN, Status.SKIP, Status.PASS)
VERDICTS_WORST_FIRST = (Verdict.FAIL, Verdict.UNVERIFIED, Verdict.PASS)
#: The statuses that a person must read, and those of them that rule out a pass; the worst first.
PROBLEMS = STATUSES_WORST_FIRST[:3]
NO_PASS = STATUSES_WORST_FIRST[:2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A line of the config: `file` as the user named it, `line` counted from 1."""

    file: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RemedyFile:
    """A file that a remedy says to write, with its whole content."""

    path: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """What to do next: commands are argv lists, never shell text."""

    title: str
    why: str = ""
    commands: tuple[tuple[str, ...], ...] = ()
    files: tuple[RemedyFile, ...] = ()
    needs_root: bool = False
    persistent: bool = False
    docs: str = ""


class By(enum.StrEnum):
    """What changed a finding: a key of `[policy]`, a comment in the config (also `ignore`), or `--baseline`."""

    IGNORE = "ignore"
    BASELINE = "baseline"
    FAIL_ON = "fail_on"
    WARN_ON = "warn_on"
    MACHINE_WARNINGS = "machine_warnings"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What the policy made of a finding: `was` is the status that the check gave.

    `reason`, `until` (YYYY-MM-DD, may be empty) and `location` are those of an ignore in the config.
    """

    by: By
    was: Status
    reason: str = ""
    until: str = ""
    location: Location | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check's answer about one subject; `evidence` is what was read, not what was concluded.

    `policy` is None unless the policy changed the status.
    """

    code: str
    name: str
    status: Status
    subject: str
    message: str
    evidence: Evidence = field(default_factory=dict)
    remedies: tuple[Remedy, ...] = ()
    location: Location | None = None
    policy: Ruling | None = None

    @property
    def is_waived(self) -> bool:
        """Whether it does not count, because the config ignores it or the baseline has it."""
        return self.policy is not None and self.policy.by in (By.IGNORE, By.BASELINE)

    @property
    def is_accepted_fail(self) -> bool:
        """Whether it failed, and does not count all the same."""
        return self.is_waived and self.policy is not None and self.policy.was is Status.FAIL


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitResult:
    """One attribute file of a unit or of a slice above it, expected against read.

    `file` is relative to the cgroup mount, `actual` the kernel's own text, None if it could not be read.
    """

    file: str
    expected: str
    actual: str | None
    ok: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuUsage:
    """`cpu.stat` of the unit; times in microseconds; the last three only where cpu is enabled."""

    usage_usec: int
    nr_periods: int | None = None
    nr_throttled: int | None = None
    throttled_usec: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceResult:
    """One service after its smoke run; `result` and `exit_status` are systemd's words.

    `host` is the name that `--host` gave, and `read_at` when that host was asked, RFC 3339 in UTC; None on this machine.
    """

    name: str
    engine: str
    unit: str
    cgroup: str
    limits: tuple[LimitResult, ...] = ()
    memory_peak_bytes: int | None = None
    cpu: CpuUsage | None = None
    oom_kills: int | None = None
    result: str | None = None
    exit_status: int | None = None
    duration_seconds: float = 0.0
    memory_max_bytes: int | None = None
    log_tail: tuple[str, ...] = ()
    host: str | None = None
    read_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSummary:
    """Where a report was made; every value is None where it could not be read."""

    kernel: str | None
    systemd: str | None
    hierarchy: str | None
    mount_point: str | None
    controllers: tuple[str, ...] | None
    machine: str | None
    engine: str | None = None
    cpus: int | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Which leg of a CI run made a report: a job, or one of the jobs of a matrix.

    `id` is a hash of the job and its whole matrix, the same in each attempt; all legs of one job share `group`.
    `name` and `job` are for people. `index` counts the legs of a job from 1 to `total`. The numbers of `run`, `attempt`
    and `job_id` are those of GitHub or GitLab. Zero is unknown.
    """

    id: str
    group: str
    name: str
    job: str
    index: int = 0
    total: int = 0
    run: int = 0
    attempt: int = 0
    job_id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that one command found; `started_at` is RFC 3339 in UTC. `origin` is set when a CI job publishes it.

    `project` is that of the config, None where the command read no config.
    """

    tool_version: str
    verdict: Verdict
    host: HostSummary | None
    findings: tuple[Finding, ...]
    services: tuple[ServiceResult, ...]
    started_at: str
    duration_seconds: float
    origin: Origin | None = None
    project: str | None = None
