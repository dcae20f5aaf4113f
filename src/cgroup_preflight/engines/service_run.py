"""One service of a session, from its start to its end, as far as it has come."""

from collections.abc import Mapping

from cgroup_preflight.config.model import ReadyKind
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.engines.base import Launch, UnitState
from cgroup_preflight.engines.output import Output
from cgroup_preflight.engines.ready import LogWatch, Readiness
from cgroup_preflight.plan.model import ServicePlan

if TYPE_CHECKING:
    from cgroup_preflight.host.cgroup import Counters

#: When to look for a ready line in the journal first: most services write to their output, and in less time.
JOURNAL_SECONDS = 2.0


class ServiceRun:
    """One service from its start to its end, as far as it has come; spans and moments in seconds.

    `waited`: the time of its start, without the time that other programs took. `handle` is that of the main process `pid`,
    -1 for none. `silent`: why it did not answer any more at the end of its time. `doubt`: why it is unknown who answered.
    `intruder`: that another program did. `unmet`: the conditions of its unit because of which it was not started. `stopped`: nothing of it runs any more, or it outlasted even its kill. `killed`: it had not ended when its time to stop was over; `outlasting`
    are the commands that still ran then, or that systemd leaves running (KillMode=process), `stopping` is the engine's word for its state.
    `frozen`: it waits until more of its output has been read. `end_gate` is the
    process of the gate after its end; `no_gates` look like one, and are none. `left`: how many processes run on although
    the main process has ended. `ask_after`: when to ask it next whether it is ready, in seconds after its start.
    `journal_after`: when to look for its line in the journal, in seconds after its start.
    """

    def __init__(self, service: ServicePlan, launch: Launch) -> None:
        self.service, self.launch = service, launch
        self.state = UnitState()
        self.refused = self.cgroup = self.invocation = self.silent = self.doubt = self.intruder = ""
        self.unmet = tuple[str, ...]()
        self.outlasting, self.stopping = tuple[str, ...](), ""
        #: Read right before it was killed.
        self.counted: Counters | None = None
        self.handle, self.pid = -1, 0
        self.end_gate, self.no_gates = 0, set[int]()
        self.alive = self.ended_early = self.killed = self.stopped = False
        self.left = 0
        self.readiness: Readiness | None = None
        self.ask_after = 0.0
        self.ready_at = self.released_at = self.ended_at = self.waited = 0.0
        self.output = Output(launch.output) if launch.output else None
        self.frozen = False
        #: `cpu.stat` when it became ready.
        self.ready_stat: Mapping[str, int] = {}
        self.watch: LogWatch | None = None
        self.journal_after = JOURNAL_SECONDS

    @property
    def blocked(self) -> bool:
        """Whether another program answers at its address, so that it was not started."""
        return self.readiness is not None and self.readiness.blocked

    @property
    def is_job(self) -> bool:
        """Whether it ends by itself when its work is done."""
        return self.service.smoke.ready.kind is ReadyKind.EXIT

    @property
    def is_ready(self) -> bool:
        """Whether it became ready."""
        return self.readiness is not None and self.readiness.ok
