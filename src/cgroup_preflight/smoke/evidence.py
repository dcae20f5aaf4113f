"""What one smoke run saw of one service: frozen, complete, undecided."""

from collections.abc import Mapping

from cgroup_preflight.core.reading import Reading
from cgroup_preflight.core.records import dataclass, field
from cgroup_preflight.host.cgroup import Counters, Effective
from cgroup_preflight.plan.model import ServicePlan
from cgroup_preflight.smoke.go_view import GoView
from cgroup_preflight.smoke.limits import LimitReading


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Whether the service got ready, after how many seconds, and if not, why not."""

    ok: bool
    seconds: float
    why: str = ""
    blocked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """Where the processes were while the service ran: its main process, and those outside its cgroup."""

    main_cgroup: Reading[str]
    strays: tuple[tuple[int, str], ...]
    processes: int
    allowed_cpus: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceEvidence:
    """One service from start to end; `show` is what systemd said of it while it was held after its end.

    `silent`: why it did not answer any more at the end of its time, empty where it did.
    `killed`: it had not ended when its time to stop was over, and was killed.
    """

    service: ServicePlan
    engine: str
    refused: str = ""
    cgroup: str = ""
    limits: tuple[LimitReading, ...] = ()
    effective: Effective | None = None
    ready: Ready | None = None
    stay: Stay | None = None
    go: GoView | None = None
    ended_early: bool = False
    silent: str = ""
    killed: bool = False
    counters: Counters | None = None
    slices: tuple[Counters, ...] = ()
    show: Mapping[str, str] = field(default_factory=dict)
    log: tuple[str, ...] = ()
    duration_seconds: float = 0.0
