"""What a JSON report holds: one row for each field of each record, in the order of the file.

`codec` writes by this table, `read` reads by it, and `schema` prints it as a JSON Schema.
"""

from collections.abc import Mapping

from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import (
    By,
    CpuUsage,
    Finding,
    HostSummary,
    LimitResult,
    Location,
    Origin,
    Remedy,
    RemedyFile,
    Report,
    Ruling,
    ServiceResult,
    Status,
    Verdict,
)
from cgroup_preflight.report.escape import LOG_LINE_MAX, LOG_LINES

SCHEMA_VERSION = 1
TOOL = "cgroup-preflight"
#: Largest number, so that sums and fractions of numbers stay in the range of a float.
_NUMBER_MAX = 2**63

Schema = Mapping[str, object]
_TEXT: Schema = {"type": "string"}
#: The kinds of values that are neither a record nor an enumeration: the words of an error, and a JSON Schema.
KINDS: Mapping[str, tuple[str, Schema]] = {
    "text": ("a text", _TEXT),
    "flag": ("true or false", {"type": "boolean"}),
    "whole": ("a whole number", {"type": "integer", "minimum": -_NUMBER_MAX, "maximum": _NUMBER_MAX}),
    "count": ("a whole number of 0 or more", {"type": "integer", "minimum": 0, "maximum": _NUMBER_MAX}),
    "line": ("a line number", {"type": "integer", "minimum": 1, "maximum": _NUMBER_MAX}),
    "seconds": ("a number of 0 or more", {"type": "number", "minimum": 0, "maximum": _NUMBER_MAX}),
    "argv": ("a list of texts", {"type": "array", "items": _TEXT, "minItems": 1}),
    "evidence": (
        "an object of texts, numbers, true, false and null",
        {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]}},
    ),
    "log": (
        f"a list of at most {LOG_LINES} texts of at most {LOG_LINE_MAX} characters",
        {"type": "array", "maxItems": LOG_LINES, "items": {"type": "string", "maxLength": LOG_LINE_MAX}},
    ),
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field; `name` is the same in the record and in the file.

    `kind` is a record, an enumeration, or a key of KINDS. `null`: may be null. `many`: a list of at most `most`. `optional`: a file of an earlier version may lack it.
    """

    name: str
    kind: type | str
    about: str = ""
    null: bool = False
    many: bool = False
    most: int = 10_000
    optional: bool = False

    @property
    def is_left_out(self) -> bool:
        """Whether a record without a value has no such field in the file, so that most reports are as they were."""
        return self.optional and not self.null


_CODE = (
    "CGP1xx host, 2xx config and plan, 3xx artifacts, 4xx Go, 5xx smoke, 6xx publishing, 7xx contention, 8xx rollout."
)

RECORDS: Mapping[type, tuple[Field, ...]] = {
    Report: (
        Field("verdict", Verdict, "fail beats unverified beats pass."),
        Field("host", HostSummary, "Where the report was made; empty where no host was looked at.", null=True),
        # A run makes about a hundred.
        Field("findings", Finding, "One or more for each check, including those that passed.", many=True, most=20_000),
        Field("services", ServiceResult, "One for each service that was run.", many=True),
        Field("started_at", "text", "RFC 3339, in UTC."),
        Field("duration_seconds", "seconds", "Time that the command took."),
        Field("origin", Origin, "The CI job that published the report; null elsewhere.", null=True, optional=True),
        Field("project", "text", "The project of the config; absent where no config was read.", optional=True),
    ),
    Origin: (
        Field("id", "text", "Hash of the job and its whole matrix; the same in each attempt."),
        Field("group", "text", "Hash of the job, which the legs of its matrix share."),
        Field("name", "text", "Name of the leg for people."),
        Field("job", "text", "Name of the job without its matrix."),
        Field("index", "count", "Position among the legs of the job, from 1; 0 is unknown, as in the next fields."),
        Field("total", "count", "Number of legs of the job."),
        Field("run", "count", "Number of the run (GitHub) or pipeline (GitLab)."),
        Field("attempt", "count", "Number of the attempt; a later attempt has a higher one."),
        Field("job_id", "count", "Number of the job, another one in each attempt."),
    ),
    HostSummary: (
        Field("kernel", "text", "Release of the kernel.", null=True),
        Field("systemd", "text", "Version of systemd.", null=True),
        Field("hierarchy", "text", "unified, hybrid, legacy or none.", null=True),
        Field("mount_point", "text", "Where cgroup v2 is mounted.", null=True),
        Field("controllers", "text", "Controllers that the units of the engine can use.", null=True, many=True),
        Field("machine", "text", "Architecture in the spelling of `uname -m`.", null=True),
        Field("engine", "text", "The engine that can start units here; null where none can.", null=True),
        Field("cpus", "count", "CPUs online.", null=True),
        Field("memory_bytes", "count", "Memory of the host.", null=True),
    ),
    Finding: (
        Field("code", "text", _CODE),
        Field("name", "text", "Name of the check."),
        Field("status", Status),
        Field("subject", "text", "What was checked: a service, a controller, a key of the config."),
        Field("message", "text", "The answer in one sentence."),
        Field("evidence", "evidence", "What was read, not what was concluded."),
        Field("remedies", Remedy, "What to do, the best first.", many=True, most=100),
        Field("location", Location, "The line of the config that causes it.", null=True),
        Field("policy", Ruling, "What the policy made of it; absent where it changed nothing.", optional=True),
    ),
    Ruling: (
        Field("by", By, "ignore: [[policy.ignore]] or a comment in the config; baseline: the report of --baseline."),
        Field("was", Status, "The status that the check gave."),
        Field("reason", "text", "Why it is ignored."),
        Field("until", "text", "The last day on which it is ignored, YYYY-MM-DD; may be empty."),
        Field("location", Location, "Where the config says so.", null=True),
    ),
    Remedy: (
        Field("title", "text", "What to do."),
        Field("why", "text", "Why that helps; may be empty."),
        Field("commands", "argv", "Argument lists, never shell text.", many=True),
        Field("files", RemedyFile, "Files to write.", many=True),
        Field("needs_root", "flag", "Whether the commands need root."),
        Field("persistent", "flag", "Whether it outlasts a reboot."),
        Field("docs", "text", "Address of a page with more; may be empty."),
    ),
    RemedyFile: (Field("path", "text", "Where it goes."), Field("content", "text", "The whole content.")),
    Location: (Field("file", "text", "The file as the user named it."), Field("line", "line", "Line, from 1.")),
    ServiceResult: (
        Field("name", "text", "Its name in the config."),
        Field("engine", "text", "The engine that started it."),
        Field("unit", "text", "Its unit."),
        Field("cgroup", "text", "Its cgroup below the mount."),
        Field("limits", LimitResult, "Every limit of the unit and of the slices above it.", many=True),
        Field("memory_peak_bytes", "count", "memory.peak of the unit.", null=True),
        Field("cpu", CpuUsage, "cpu.stat of the unit.", null=True),
        Field("oom_kills", "count", "oom_kill of memory.events.", null=True),
        Field("result", "text", "systemd's Result.", null=True),
        Field("exit_status", "whole", "systemd's ExecMainStatus.", null=True),
        Field("duration_seconds", "seconds", "How long it ran."),
        Field("memory_max_bytes", "count", "The tightest memory.max of the unit and of all levels above it.", null=True,
              optional=True),
        Field("log_tail", "log", "The last lines of its log, control characters as escapes.", optional=True),
        Field("host", "text", "The host that it ran on, as --host named it; absent without --host.", optional=True),
        Field("read_at", "text", "When that host was asked, RFC 3339, in UTC, by the clock of the machine that asked.",
              optional=True),
    ),
    LimitResult: (
        Field("file", "text", "The attribute file below the cgroup mount."),
        Field("expected", "text", "The text that the file must have."),
        Field("actual", "text", "The kernel's own text; null where it could not be read.", null=True),
        Field("ok", "flag", "Whether the kernel's text means what is expected."),
    ),
    CpuUsage: (
        Field("usage_usec", "count", "CPU time used, microseconds."),
        Field("nr_periods", "count", "Periods with a quota; null without the cpu controller, like the next two.", null=True),
        Field("nr_throttled", "count", "Periods in which it was throttled.", null=True),
        Field("throttled_usec", "count", "Time it was throttled, microseconds.", null=True),
    ),
}  # fmt: skip
