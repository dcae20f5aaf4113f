"""What a check is: a code, a name, and one pure function from context to findings."""

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cgroup_preflight.config.model import Require, Setting
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

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Every setting of the plan, slices first."""
        if self.plan is None:
            return ()
        groups = [*(item.settings for item in self.plan.slices), *(item.settings for item in self.plan.services)]
        return tuple(setting for settings in groups for setting in settings)


class Severity(enum.StrEnum):
    """The worst that a check can say: an error fails the host, a warning never does."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check; `run` gives at least one finding, a pass included.

    `needs` names the fields of Facts it reads; `what`, `why`, `remedy` and `sources` are its page in the reference.
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
