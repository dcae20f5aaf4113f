"""Which reports count: the newest attempt of each leg; and which legs are missing. Pure.

A leg that never reported is not a pass: it becomes a runner with the verdict unverified, which names it.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cgroup_preflight import __version__
from cgroup_preflight.core import codes
from cgroup_preflight.core.report import VERDICTS_WORST_FIRST, Finding, Origin, Remedy, Report, Status, Verdict
from cgroup_preflight.report.escape import clip
from cgroup_preflight.report.merge import Leg

#: Most legs of one job that are named one by one if they are missing; GitHub has at most 256, GitLab 200.
_NAMED_MAX = 256
_LOOK = Remedy(title="look at the log of that job, then run it again")
_ASK = Remedy(
    title="look at the log of the run, and ask the host", commands=(("cgroup-preflight", "rollout", "status"),)
)
_EPOCH = "1970-01-01T00:00:00Z"


def join(legs: Iterable[Leg]) -> tuple[Leg, ...]:
    """The legs that count, sorted by name: of each job those of its newest run, of each leg its newest attempt.

    Two jobs with the same identity in one attempt (a workflow that is called twice) both count. A later attempt replaces
    them only if it has as many, because nothing tells which of the two it repeats.
    """
    plain, known = [], dict[tuple[object, ...], Leg]()
    for leg in legs:
        origin = leg.report.origin
        if origin is None:
            plain.append(leg)
            continue
        key = key_of(origin)
        known[key] = _of_one_job(known[key], leg) if key in known else leg
    newest: dict[str, int] = {}
    for origin in map(_origin, known.values()):
        newest[origin.group] = max(newest.get(origin.group, 0), origin.run)
    groups: dict[str, dict[int, list[Leg]]] = defaultdict(lambda: defaultdict(list))
    for leg in known.values():
        if _origin(leg).run == newest[_origin(leg).group]:
            groups[_origin(leg).id][_origin(leg).attempt].append(leg)
    kept = [leg for attempts in groups.values() for leg in _attempts(attempts)]
    kept.sort(key=lambda leg: (leg.name, key_of(_origin(leg))))
    return (*plain, *kept)


#: Id, run, attempt and number of the job.
Key = tuple[str, int, int, int]


def key_of(origin: Origin) -> Key:
    """One report of one leg: another attempt has another key."""
    return origin.id, origin.run, origin.attempt, origin.job_id


def _origin(leg: Leg) -> Origin:
    assert leg.report.origin is not None
    return leg.report.origin


def _of_one_job(old: Leg, new: Leg) -> Leg:
    """Of two reports of one job the later one; without the job's number they may be from two jobs: the worse one."""
    rank = VERDICTS_WORST_FIRST.index
    worse = rank(old.report.verdict) < rank(new.report.verdict)
    return old if worse and not _origin(new).job_id else new


def _attempts(attempts: dict[int, list[Leg]]) -> list[Leg]:
    kept: list[Leg] = []
    most = 0
    for attempt in sorted(attempts, reverse=True):
        if not kept or len(attempts[attempt]) > max(1, most):
            kept += attempts[attempt]
            most = len(attempts[attempt])
    return kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A job that must have reported, with its `result` in GitHub's words (empty: unknown); or a number of reports."""

    job: str = ""
    result: str = ""
    count: int = 0


def expected_of(words: Iterable[str]) -> tuple[Expected, ...]:
    """What `--expect` names: a job, a number of reports, or GitHub's `toJSON(needs)`. Raises ValueError."""
    found: list[Expected] = []
    for word in map(str.strip, words):
        if re.fullmatch(r"[0-9]{1,4}", word, re.ASCII):
            found.append(Expected(count=int(word)))
        elif word.startswith("{"):
            found += _needs(word)
        elif word:
            found.append(Expected(job=word))
    return tuple(found)


def _needs(text: str) -> list[Expected]:
    found = []
    for job, item in json.loads(text).items():
        result = item.get("result") if isinstance(item, dict) else None
        if not isinstance(result, str):
            raise ValueError(f"the job {job} has no result")  # noqa: TRY004 - a text with a mistake in it
        found.append(Expected(job=job, result=result))
    return found


def absent(legs: Sequence[Leg], expected: Sequence[Expected] = ()) -> tuple[Leg, ...]:
    """A leg with the verdict unverified for each one that is missing, by what the others and `expected` tell."""
    found: list[Leg] = []
    at = legs[0].report.started_at if legs else _EPOCH
    groups: dict[str, list[Origin]] = defaultdict(list)
    for leg in legs:
        if leg.report.origin is not None:
            groups[leg.report.origin.group].append(leg.report.origin)
    for members in groups.values():
        found += [_missing(name, said, at) for name, said in _positions(members)]
    for item in expected:
        found += [_missing(name, said, at) for name, said in _unmet(item, legs, groups)]
    return tuple(found)


def _positions(members: Sequence[Origin]) -> list[tuple[str, str]]:
    """Legs of one job that are missing, by the positions of those that reported."""
    total, job = max(item.total for item in members), members[0].job
    if total <= 1:
        return []
    seen = {item.index for item in members} & set(range(1, min(total, _NAMED_MAX) + 1))
    if total > _NAMED_MAX:
        return (
            [] if len(members) >= total else [(job, f"only {len(members)} of {total} legs of this job have reported")]
        )
    positions = [index for index in range(1, total + 1) if index not in seen]
    said = f"this leg has not reported; {len(seen)} of {total} legs of the job have"
    return [(f"{job}: leg {index} of {total}", said) for index in positions]


def _unmet(item: Expected, legs: Sequence[Leg], groups: dict[str, list[Origin]]) -> list[tuple[str, str]]:
    if item.count:
        few = len(legs) < item.count
        return [("reports", f"{len(legs)} of {item.count} expected reports exist")] if few else []
    if not item.job:
        return []
    ended = f"; the job ended with: {clip(item.result, 40)}" if item.result else ""
    own = [leg for leg in legs if _is_of(leg, item.job)]
    if not own:
        return [(item.job, f"no leg of this job has reported{ended}")]
    whole = not any(leg.report.origin and _positions(groups[leg.report.origin.group]) for leg in own)
    passed = all(leg.report.verdict is Verdict.PASS for leg in own)
    if item.result not in ("", "success") and whole and passed:
        # A later attempt of a leg that ended before it made a report leaves the report of the earlier attempt.
        return [
            (item.job, f"all reports of this job are a pass, but the last attempt of a leg may lack its report{ended}")
        ]
    return []


def _is_of(leg: Leg, job: str) -> bool:
    origin = leg.report.origin
    return leg.name == job if origin is None else job in (origin.job, origin.name)


def _missing(name: str, said: str, at: str) -> Leg:
    return _unverified(name, codes.RUNNER_REPORTED.finding(Status.UNVERIFIED, name, said, _LOOK), at)


def no_report(host: str, said: str) -> Leg:
    """A host of a fleet of which nothing is known; hosts with the same reason have equal findings."""
    finding = codes.RUNNER_REPORTED.finding(Status.UNVERIFIED, "report", said, _ASK)
    return _unverified(host, finding, _EPOCH)


def _unverified(name: str, finding: Finding, at: str) -> Leg:
    return Leg(name=name, report=Report(
        tool_version=__version__, verdict=Verdict.UNVERIFIED, host=None, findings=(finding,), services=(),
        started_at=at, duration_seconds=0.0,
    ))  # fmt: skip


def too_many(at: str) -> Leg:
    """What stands for legs whose results do not fit into a comment."""
    said = "the results of further legs do not fit here; publish once, after all legs: cgroup-preflight publish a.json b.json ..."
    return _missing("other legs", said, at)
