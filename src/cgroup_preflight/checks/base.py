"""What a check is: a code, a name, and one pure function from context to findings."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cgroup_preflight.config.model import Require
from cgroup_preflight.engines import EngineChoice
from cgroup_preflight.facts.model import Facts
from cgroup_preflight.plan.model import Plan
from cgroup_preflight.reading import Missing
from cgroup_preflight.report import Evidence, Finding, Location, Remedy, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Everything a check may look at; `required` are the controllers that services need here."""

    facts: Facts
    engine: EngineChoice
    required: tuple[str, ...]
    require: Require
    plan: Plan | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check; `run` gives at least one finding, a pass included. `docs` names the page with its sources."""

    code: str
    name: str
    run: "Callable[[Check, Context], Iterable[Finding]]"

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
        """The finding for a reading that could not be had."""
        return self.finding(
            Status.UNVERIFIED, subject, f"could not be read: {reading}", evidence={reading.source: str(reading.why)},
            remedies=(Remedy(title=f"make {reading.source} readable for this job, or run it on the host itself"),),
        )  # fmt: skip
