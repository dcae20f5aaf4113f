"""What a check of the host is: a code, a page, and one pure function from context to findings."""

from collections.abc import Callable, Iterable

from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code, Severity
from cgroup_preflight.core.reading import Known, Missing, Reading, Why, value_or
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.engines.choice import EngineChoice
from cgroup_preflight.host.facts import Facts

if TYPE_CHECKING:
    # Without a config none of it is loaded.
    from cgroup_preflight.config.model import Require, Setting
    from cgroup_preflight.plan.model import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Everything a check may look at; `required` are the controllers that services need here.

    `require` and `plan` are None without a config.
    """

    facts: Facts
    engine: EngineChoice
    required: tuple[str, ...]
    require: "Require | None" = None
    plan: "Plan | None" = None

    @property
    def judged(self) -> str:
        """The engine whose controllers are judged: the chosen one, else an existing user manager that cannot be used.

        `systemd` otherwise: the controllers that the kernel has at the root.
        """
        if self.engine.name is not None:
            return self.engine.name
        there = (
            "user" in dict(self.engine.reasons)
            and isinstance(self.facts.cgroup_mount, Known)
            and value_or(self.facts.systemd_running, default=False)
            and isinstance(self.facts.user_manager.socket, Known)
        )
        return "user" if there else "systemd"

    @property
    def undelegated(self) -> bool:
        """No engine can start units, but a user manager exists: only delegation is missing."""
        known = isinstance(self.facts.user_manager.controllers, Known)
        return self.engine.name is None and self.judged == "user" and known

    @property
    def settings(self) -> "tuple[Setting, ...]":
        """Every setting of the plan, slices first."""
        return self.plan.settings if self.plan is not None else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check of the host; `run` gives at least one finding, a pass included.

    `needs` names the fields of Facts that a pass rests on, `uses` those that only shape what it says otherwise.
    """

    code: Code
    page: Page
    needs: tuple[str, ...]
    run: Callable[[Context], Iterable[Finding]]
    uses: tuple[str, ...] = ()


def unverified(code: Code, subject: str, reading: Missing) -> Finding:
    """The finding for a fact that could not be read; a warning where the code never says more than that."""
    status = Status.UNVERIFIED if code.worst is Severity.ERROR else Status.WARN
    remedy = Remedy(title=f"make {reading.source} readable for this job, or run it on the host itself")
    if reading.why is Why.NOT_RECORDED:
        remedy = Remedy(title="record the host again with this version of cgroup-preflight snapshot")
    evidence = {reading.source: str(reading.why)}
    return code.finding(status, subject, f"could not be read: {reading}", remedy, evidence=evidence)


def unread(*readings: "Reading[object]") -> Missing | None:
    """The first that could not be read; a file that is absent was read, and does not exist."""
    for reading in readings:
        if isinstance(reading, Missing) and reading.why is not Why.ABSENT:
            return reading
    return None
