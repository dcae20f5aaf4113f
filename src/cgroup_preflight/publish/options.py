"""What the caller of `publish` wants, and what all channels work on: frozen data and two pure functions."""

from collections.abc import Callable
from dataclasses import dataclass

from cgroup_preflight.core.report import PROBLEMS, Report, Status, Verdict
from cgroup_preflight.core.verdict import worst_of
from cgroup_preflight.publish.comment import Draft
from cgroup_preflight.report import comment as comment_body
from cgroup_preflight.report.merge import Leg, Merged, merge

COMMENT_MODES = ("auto", "always", "never")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """Options of one call. `comment`: auto makes a new comment only on a fail, an unverified or a change.

    `key` tells apart several results on one request, `leg` is set where a leg publishes for itself, `claimed` is a
    request's number out of an artifact, `deadline` the seconds for everything that waits for the forge.
    """

    comment: str = "auto"
    check: bool = True
    key: str = "default"
    leg: str = ""
    files: str = ""
    claimed: int | None = None
    allow_unverified: bool = False
    deadline: float = 60.0
    settle: float = 3.0
    ca_file: str = ""
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is to be told: the legs, their merged view, and the target branch's report where one was given."""

    legs: tuple[Leg, ...]
    merged: Merged
    baseline: Report | None = None


def view(legs: tuple[Leg, ...], *, shortened: bool = False) -> Merged:
    """The merged view of one leg or more, with their verdict; `shortened` as in `merge`."""
    return merge(legs, worst_of(leg.report.verdict for leg in legs), shortened=shortened)


def changes(load_report: Report, baseline: Report | None) -> bool:
    """Whether the result is another than that of the target branch: verdict, or what is wrong where."""
    return baseline is not None and _wrong(load_report) != _wrong(baseline)


def _wrong(report: Report) -> tuple[Verdict, frozenset[tuple[str, str, Status]]]:
    worst = [item for item in report.findings if item.status in PROBLEMS]
    return report.verdict, frozenset((item.code, item.subject, item.status) for item in worst)


def drafter(load: Load, mode: str) -> Callable[[tuple[Leg, ...], int], Draft]:
    """Makes the comment's text: of the legs stored in it where legs publish each for itself, else of `load`."""

    def draft(legs: tuple[Leg, ...], limit: int) -> Draft:
        merged = view(legs, shortened=True) if legs else load.merged
        worth = mode == "always" or merged.verdict is not Verdict.PASS or changes(merged.report, load.baseline)
        return Draft(text=comment_body.render(merged, limit=limit), verdict=merged.verdict, worth_creating=worth)

    return draft
