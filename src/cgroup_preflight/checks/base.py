"""What a check is: a code, a name, and one pure function from context to findings."""

import enum
from collections.abc import Callable, Iterable

from cgroup_preflight.core.reading import Known, Missing, Reading, Why, value_or
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.core.report import Evidence, Finding, Location, Remedy, Status
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
        """The engine whose controllers are judged: the one taken, else the user manager that is there and cannot.

        `systemd` otherwise: what the kernel offers at the root.
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
        """Nobody can start units, and a user manager is there: only delegation is missing."""
        known = isinstance(self.facts.user_manager.controllers, Known)
        return self.engine.name is None and self.judged == "user" and known

    @property
    def settings(self) -> "tuple[Setting, ...]":
        """Every setting of the plan, slices first."""
        return self.plan.settings if self.plan is not None else ()


class Severity(enum.StrEnum):
    """The worst that a check can say: an error fails the host, a warning never does."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check; `run` gives at least one finding, a pass included.

    `needs` names the fields of Facts that a pass rests on, `uses` those that only shape what it says otherwise;
    `what`, `why`, `remedy` and `sources` are its page in the reference.
    """

    code: str
    name: str
    severity: Severity
    needs: tuple[str, ...]
    what: str
    why: str
    remedy: str
    sources: tuple[str, ...]
    run: "Callable[[Check, Context], Iterable[Finding]]"
    uses: tuple[str, ...] = ()

    def finding(
        self, status: Status, subject: str, message: str, *, evidence: Evidence | None = None,
        remedies: tuple[Remedy, ...] = (), location: Location | None = None,
    ) -> Finding:  # fmt: skip
        """A finding of this check."""
        return Finding(
            code=self.code, name=self.name, status=status, subject=subject, message=message,
            evidence=evidence or {}, remedies=remedies, location=location,
        )  # fmt: skip

    def unverified(self, subject: str, reading: Missing) -> Finding:
        """The finding for a reading that could not be had; of a check that only warns, a warning."""
        status = Status.UNVERIFIED if self.severity is Severity.ERROR else Status.WARN
        remedy = Remedy(title=f"make {reading.source} readable for this job, or run it on the host itself")
        if reading.why is Why.NOT_RECORDED:
            remedy = Remedy(title="record the host again with this version of cgroup-preflight snapshot")
        return self.finding(
            status, subject, f"could not be read: {reading}", evidence={reading.source: str(reading.why)},
            remedies=(remedy,),
        )  # fmt: skip


def unread(*readings: "Reading[object]") -> Missing | None:
    """The first that should be there and could not be read; what is absent was read, and is not there."""
    for reading in readings:
        if isinstance(reading, Missing) and reading.why is not Why.ABSENT:
            return reading
    return None
