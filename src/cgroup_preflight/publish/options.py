"""The options of one call of `publish` and the results that it publishes: frozen data and two pure functions."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cgroup_preflight.core.report import PROBLEMS, Origin, Report, Status, Verdict
from cgroup_preflight.core.verdict import worst_of
from cgroup_preflight.publish.comment import Draft
from cgroup_preflight.publish.legs import Key, absent, key_of, too_many
from cgroup_preflight.publish.origin import LegId, named
from cgroup_preflight.report import comment as comment_body
from cgroup_preflight.report.headline import planned_changes
from cgroup_preflight.report.merge import RUNNER, Leg, Merged, merge
from cgroup_preflight.report.views import noise_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of one call. `comment`: with auto a new comment needs a fail, an unverified, a change, or a planned change.

    `key` separates several results on one pull or merge request. `leg` tells this leg from the others of its job.
    `claimed` is the number of a pull request from an artifact, so it is not trusted. `deadline` is the time for all
    requests, `settle` the pause before a leg looks at the comment again, both in seconds.
    """

    comment: str = "auto"
    check: bool = True
    key: str = "default"
    leg: LegId = field(default_factory=LegId)
    files: str = ""
    claimed: int | None = None
    allow_unverified: bool = False
    deadline: float = 60.0
    settle: float = 3.0
    ca_file: str = ""
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The reports of all legs, their merged view, and the report of the target branch if one was given."""

    legs: tuple[Leg, ...]
    merged: Merged
    baseline: Report | None = None

    def as_leg(self, origin: Origin) -> Leg:
        """The whole result as that of one job."""
        return Leg(name=origin.name, report=replace(self.merged.report, origin=origin))

    def covers(self, origin: Origin) -> frozenset[Key]:
        """The legs other than `origin` whose reports are in the result."""
        origins = (leg.report.origin for leg in self.legs)
        return frozenset(key_of(item) for item in origins if item and item.id != origin.id)


def view(legs: tuple[Leg, ...], *, shortened: bool = False, noun: str = RUNNER) -> Merged:
    """The merged view of one leg or more, with the worst verdict; `shortened` and `noun` as in `merge`."""
    return merge(legs, worst_of(leg.report.verdict for leg in legs), shortened=shortened, noun=noun)


def drafter(results: Results, mode: str) -> Callable[[tuple[Leg, ...], int, int], Draft]:
    """Makes the text of the comment: from the legs stored in it if other jobs write it, too, else from `results`.

    Legs that have not reported yet are no reason for a new comment, and an existing one is no pass without them.
    """
    own = results.merged
    news = own.verdict is not Verdict.PASS or bool(planned_changes(own.report.findings))
    worth = mode == "always" or news or _differs(own.report, results.baseline)

    def draft(legs: tuple[Leg, ...], left_out: int, limit: int) -> Draft:
        more = (*absent(legs), *((too_many(legs[0].report.started_at),) if left_out and legs else ()))
        merged = view(named((*legs, *more)), shortened=True) if legs else own
        return Draft(text=comment_body.render(merged, limit=limit), verdict=merged.verdict, worth_creating=worth)

    return draft


def _differs(report: Report, baseline: Report | None) -> bool:
    """Whether the target branch has another verdict or other problems."""
    return baseline is not None and _problems(report) != _problems(baseline)


def _problems(report: Report) -> tuple[Verdict, frozenset[tuple[str, str, Status]]]:
    is_noise = noise_of(report)
    wrong = [item for item in report.findings if item.status in PROBLEMS and not is_noise(item)]
    return report.verdict, frozenset((item.code, item.subject, item.status) for item in wrong)
