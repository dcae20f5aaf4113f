"""The codes of the report: what a code is, and each code that no check of a host or of a Go program owns.

A code is never used again for something else. Checks keep theirs in their own modules; every page is in `checks`.
"""

import enum

from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.core.report import Evidence, Finding, Location, Remedy, Status

if TYPE_CHECKING:
    from typing import Protocol

    class Located(Protocol):
        """What a finding can be about: its name in the report, and its line of the config."""

        @property
        def label(self) -> str: ...
        @property
        def location(self) -> Location | None: ...


class Severity(enum.StrEnum):
    """The worst that a code can say: an error fails the report, a warning and an information never do."""

    ERROR = "error"
    WARNING = "warning"
    INFORMATION = "information"


@dataclass(frozen=True, slots=True)
class Code:
    """One code: `code` is `CGP` and three digits, `name` is for people; it makes its own findings."""

    code: str
    name: str
    worst: Severity = Severity.ERROR

    def finding(
        self, status: Status, subject: "str | Located", message: str, *remedies: Remedy,
        location: Location | None = None, evidence: Evidence | None = None,
    ) -> Finding:  # fmt: skip
        """A finding with this code, at `location` if there is one, else at the line of the subject."""
        label = subject if isinstance(subject, str) else subject.label
        if location is None and not isinstance(subject, str):
            location = subject.location
        return Finding(
            code=self.code, name=self.name, status=status, subject=label, message=message,
            evidence=evidence or {}, remedies=remedies, location=location,
        )  # fmt: skip


UNIT_LIMITS = Code("CGP128", "unit-limits")
HOST = Code("CGP129", "host")

NOT_TOML = Code("CGP201", "not-toml")
UNKNOWN_KEY = Code("CGP202", "unknown-key")
WRONG_TYPE = Code("CGP203", "wrong-type")
BAD_VALUE = Code("CGP204", "bad-value")
BAD_NAME = Code("CGP205", "bad-name")
UNDECLARED_SLICE = Code("CGP206", "undeclared-slice")
MISSING_KEY = Code("CGP207", "missing-key")
LIMIT_TOO_SMALL = Code("CGP208", "limit-too-small")
BAD_ADDRESS = Code("CGP209", "bad-address")
LIMITS_OUT_OF_ORDER = Code("CGP210", "limits-out-of-order")
BINARY = Code("CGP211", "binary")
ABOVE_SLICE = Code("CGP212", "limit-above-slice", Severity.WARNING)
WEIGHT_ALONE = Code("CGP213", "weight-without-siblings", Severity.WARNING)
BEYOND_KERNEL = Code("CGP214", "beyond-kernel")
PERCENT_LIMIT = Code("CGP215", "percent-limit")
NO_MATCH = Code("CGP216", "no-match")
UNIT_FILE = Code("CGP217", "unit-file")
PACKAGES = Code("CGP218", "packages")
CONCURRENCY = Code("CGP219", "concurrency")
IGNORE_EXPIRED = Code("CGP220", "ignore-expired", Severity.WARNING)
IGNORE_UNUSED = Code("CGP221", "ignore-unused", Severity.WARNING)
THRESHOLDS = Code("CGP222", "policy-thresholds", Severity.INFORMATION)

ARTIFACT = Code("CGP301", "artifact")
TESTED_BINARY = Code("CGP302", "tested-binary")
ARTIFACT_CONFLICT = Code("CGP303", "artifact-conflict")
UNSAFE_ARTIFACT = Code("CGP304", "unsafe-artifact")
CORRUPT_ARTIFACT = Code("CGP305", "corrupt-artifact")
UNSUPPORTED_ARTIFACT = Code("CGP306", "unsupported-artifact")
STALE_SIGNATURE = Code("CGP307", "stale-signature", Severity.WARNING)
HIDDEN_UNIT = Code("CGP308", "hidden-unit")
NOT_INJECTED = Code("CGP309", "not-injected")

GO_RUNTIME = Code("CGP400", "go-runtime", Severity.INFORMATION)
BINARY_FORMAT = Code("CGP401", "binary-format")
GO_RUNTIME_CHOICE = Code("CGP418", "go-runtime-choice", Severity.WARNING)
GO_MEMORY_VIEW = Code("CGP419", "go-memory-view", Severity.INFORMATION)

SMOKE = Code("CGP500", "smoke")
LIMITS_IN_FORCE = Code("CGP501", "limits-in-force")
PROCESS_PLACE = Code("CGP502", "process-place")
SERVICE_RUN = Code("CGP503", "service-run")
OOM_KILL = Code("CGP504", "oom-kill")
READINESS = Code("CGP505", "readiness")
STOP = Code("CGP506", "stop")
SERVICE_START = Code("CGP507", "service-start")
EFFECTIVE_LIMIT = Code("CGP508", "effective-limit", Severity.WARNING)
KERNEL_COUNTERS = Code("CGP509", "kernel-counters", Severity.INFORMATION)
CLEANUP = Code("CGP510", "cleanup")
LIMIT_ENFORCED = Code("CGP511", "limit-enforced")
GUEST = Code("CGP512", "guest")
POLICY = Code("CGP513", "policy")
HEADROOM = Code("CGP514", "headroom", Severity.WARNING)
THROTTLED = Code("CGP515", "throttled", Severity.WARNING)
START_SETTINGS = Code("CGP516", "start-settings")
CPU_SHARES = Code("CGP517", "cpu-shares")
PACKAGE = Code("CGP520", "package", Severity.WARNING)
PACKAGE_INSTALL = Code("CGP521", "package-install")
PACKAGE_START = Code("CGP522", "package-start")
PACKAGE_UPGRADE = Code("CGP523", "package-upgrade")
PACKAGE_REMOVAL = Code("CGP524", "package-removal")

PUBLISH_FILES = Code("CGP601", "publish-files", Severity.WARNING)
PUBLISH_LOG = Code("CGP602", "publish-log", Severity.WARNING)
PUBLISH_SUMMARY = Code("CGP603", "publish-summary", Severity.WARNING)
PUBLISH_OUTPUTS = Code("CGP604", "publish-outputs", Severity.WARNING)
PUBLISH_CHECK_RUN = Code("CGP605", "publish-check-run", Severity.WARNING)
PUBLISH_COMMENT = Code("CGP606", "publish-comment", Severity.WARNING)
PUBLISH_NOTE = Code("CGP607", "publish-note", Severity.WARNING)
RUNNER_REPORTED = Code("CGP608", "runner-reported")

CONTENTION = Code("CGP700", "contention")
OWN_QUOTA = Code("CGP701", "own-quota")
QUOTA_ABOVE = Code("CGP702", "quota-above")
CPU_NEIGHBOUR = Code("CGP703", "cpu-neighbour")
BELOW_ENTITLEMENT = Code("CGP704", "below-entitlement")
STEAL = Code("CGP705", "steal")
MEMORY_LIMIT = Code("CGP711", "memory-limit")
HOST_MEMORY = Code("CGP712", "host-memory")
MEMORY_PROTECTION = Code("CGP713", "memory-protection")
IO_NEIGHBOUR = Code("CGP721", "io-neighbour")
GO_KERNEL = Code("CGP731", "go-delay-kernel")
GO_INSIDE = Code("CGP732", "go-delay-inside")
GO_OTHERS = Code("CGP733", "go-delay-others")
GO_TRACE = Code("CGP734", "go-trace")
CONTENTION_BLIND = Code("CGP790", "contention-blind")
CONTENTION_INPUT = Code("CGP791", "contention-input")

ROLLOUT = Code("CGP800", "rollout")
ROLLOUT_PLAN = Code("CGP801", "rollout-plan", Severity.INFORMATION)
ROLLOUT_UNIT = Code("CGP802", "rollout-unit")
ROLLOUT_MEMORY = Code("CGP803", "rollout-memory")
ROLLOUT_CONFLICT = Code("CGP804", "rollout-conflict")
ROLLOUT_TAKEN_BACK = Code("CGP805", "rollout-taken-back")
ROLLOUT_STUCK = Code("CGP806", "rollout-stuck")
ROLLOUT_UNFINISHED = Code("CGP807", "rollout-unfinished")
ROLLOUT_ABOVE = Code("CGP808", "rollout-above", Severity.WARNING)
