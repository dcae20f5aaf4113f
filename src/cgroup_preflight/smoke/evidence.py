"""What one smoke run saw of one service: frozen, complete, undecided."""

from collections.abc import Mapping
from types import MappingProxyType

from cgroup_preflight.core.reading import Reading
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.engines.base import UnitState
from cgroup_preflight.engines.ready import Readiness
from cgroup_preflight.host.cgroup import Counters, Effective
from cgroup_preflight.plan.model import ServicePlan
from cgroup_preflight.smoke.go_view import GoView
from cgroup_preflight.smoke.limits import LimitReading
from cgroup_preflight.smoke.started import Shown
from cgroup_preflight.smoke.watch import Watched


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlimited:
    """A thread that no CPU quota applies to, in words, and bytes of huge pages: the most that one process has."""

    thread: str = ""
    huge_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """Where the processes were while the service ran: its main process, and those outside its cgroup.

    `memory` is what its memory was then, as `Observer.memory_parts` returns it.
    """

    main_cgroup: Reading[str]
    strays: tuple[tuple[int, str], ...]
    processes: int
    allowed_cpus: str
    memory: Mapping[str, int] = MappingProxyType({})
    unlimited: Unlimited = Unlimited()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """`cpu.stat` of a service when it was ready, or of a slice when all were, and `seconds` later, at the end of their time."""

    cgroup: str
    before: Mapping[str, int]
    after: Mapping[str, int]
    seconds: float = 0.0

    def counted(self, key: str) -> int:
        """How much a counter grew meanwhile."""
        return max(self.after.get(key, 0) - self.before.get(key, 0), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceEvidence:
    """One service from start to end; `state` is its last one, at the gate after its end.

    `hold` is that of its cgroup and of each slice above it, empty where it did not run until the end of its time.
    `silent`: why it did not answer any more at the end of its time, empty where it did.
    `killed`: it had not ended when its stop_timeout was over, and was killed; `outlasting` are the commands that still
    ran then, or that systemd leaves running, `stopping` is the engine's word for its state.
    `watched`: the samples of its cgroup and of each slice above it; `cpus` and `page_size` are those of the machine.
    `sharing`: of each slice above it, how many services of the run are in it, by cgroup.
    `covered`: the cgroups, its own or of a slice above, over whose folder something is mounted.
    `started`: what its main process showed of the settings of its start.
    `unmet`: the conditions of its unit because of which it was not started. `absent`: the program of its unit,
    where systemd could not execute it because there is no such file.
    `left`: how many processes ran on after the main process had ended with success.
    """

    service: ServicePlan
    engine: str
    refused: str = ""
    unmet: tuple[str, ...] = ()
    absent: str = ""
    cgroup: str = ""
    limits: tuple[LimitReading, ...] = ()
    effective: Effective | None = None
    ready: Readiness | None = None
    stay: Stay | None = None
    started: tuple[Shown, ...] = ()
    go: GoView | None = None
    ended_early: bool = False
    silent: str = ""
    killed: bool = False
    outlasting: tuple[str, ...] = ()
    stopping: str = ""
    covered: tuple[str, ...] = ()
    left: int = 0
    counters: Counters | None = None
    slices: tuple[Counters, ...] = ()
    sharing: Mapping[str, int] = MappingProxyType({})
    hold: tuple[Hold, ...] = ()
    watched: tuple[Watched, ...] = ()
    cpus: int = 1
    page_size: int = 4096
    state: UnitState = UnitState()
    log: tuple[str, ...] = ()
    duration_seconds: float = 0.0
