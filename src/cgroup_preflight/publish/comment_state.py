"""The hidden line of a comment, which tells the next run who wrote it and the result of each leg.

The line is base64 of deflated JSON, so nothing in it can end the HTML comment around it. It counts only in a comment
of our own author, and even then it is read as strictly as a report.
"""

import base64
import json
import re
import zlib
from dataclasses import dataclass, replace

from cgroup_preflight import __version__
from cgroup_preflight.core import codes
from cgroup_preflight.core.report import (
    PROBLEMS,
    VERDICTS_WORST_FIRST,
    Finding,
    Origin,
    Remedy,
    Report,
    Status,
    Verdict,
)
from cgroup_preflight.report import codec
from cgroup_preflight.report.escape import clip
from cgroup_preflight.report.headline import LIMITS_IN_FORCE
from cgroup_preflight.report.merge import Leg
from cgroup_preflight.report.read import ReportShapeError, report_from

_LINE = re.compile(r"<!-- cgroup-preflight:v1 key=([A-Za-z0-9._-]{1,64}) ([A-Za-z0-9+/=]{1,60000}) -->", re.ASCII)
KEY = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
#: Most characters of the hidden line, and most bytes of its JSON.
LINE_MAX = 24_000
_UNPACKED_MAX = 4 << 20
#: How the id of a leg begins that an earlier version of this tool wrote.
EARLIER = "name:"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class RunId:
    """The number of a run and of its attempt on GitHub or GitLab; a newer one has a higher number. Zero is unknown."""

    run: int = 0
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """`job` of `run` wrote it last, about commit `sha`. `legs` have the result of each leg, and their origin.

    `left_out` is the number of legs that did not fit; their results are unknown.
    """

    key: str
    run: RunId
    sha: str
    job: str = ""
    verdict: Verdict = Verdict.PASS
    legs: tuple[Leg, ...] = ()
    left_out: int = 0


def fitted(state: State) -> State:
    """The state with as much of its legs as fits into LINE_MAX: messages go first, then all findings except one.

    If that does not help, legs are left out, those that passed first.
    """
    slim = state
    for message, findings in ((200, 20), (60, 8), (0, 3), (0, 0)):
        slim = replace(state, legs=tuple(_slim(leg, message, findings) for leg in state.legs))
        if _fits(slim):
            return slim
    worst = sorted(slim.legs, key=lambda leg: VERDICTS_WORST_FIRST.index(leg.report.verdict))
    count = len(worst)
    while not _fits(slim):
        count = count * 9 // 10
        kept = set(map(id, worst[:count]))
        legs = tuple(leg for leg in slim.legs if id(leg) in kept)
        slim = replace(slim, legs=legs, left_out=state.left_out + len(state.legs) - count)
    return slim


def _fits(state: State) -> bool:
    return len(encode(state)) <= LINE_MAX - 100  # the verdict is set later


def encode(state: State) -> str:
    """The hidden line; at most LINE_MAX characters if the state is `fitted`."""
    document = {
        "run": state.run.run, "attempt": state.run.attempt, "sha": state.sha, "job": state.job,
        "verdict": state.verdict.value, "left_out": state.left_out,
        # An earlier version of this module reads the attempt.
        "legs": [{"name": leg.name, "attempt": leg.report.origin.attempt if leg.report.origin else 0,
                  "report": codec.document(leg.report)} for leg in state.legs],
    }  # fmt: skip
    packed = zlib.compress(json.dumps(document, separators=(",", ":")).encode("ascii"), 9)
    return f"<!-- cgroup-preflight:v1 key={state.key} {base64.b64encode(packed).decode('ascii')} -->"


def _slim(leg: Leg, message: int, findings: int) -> Leg:
    """A leg with what its section of the comment shows: no evidence, no services, only the title of one remedy."""
    report = leg.report
    wrong = [item for item in report.findings if item.status in PROBLEMS]
    wrong.sort(key=lambda item: PROBLEMS.index(item.status))
    waived = sorted((item for item in report.findings if item.is_waived), key=lambda item: item.code != LIMITS_IN_FORCE)
    fine = {item.code: item for item in report.findings
            if item.status in (Status.PASS, Status.SKIP) and not item.is_waived}  # fmt: skip
    kept = [_slim_finding(item, message) for item in wrong[:findings]]
    kept += [_slim_finding(item, min(message, 60)) for item in fine.values()] if findings else []
    kept += [_slim_finding(item, message) for item in waived[:findings]]
    if not findings:  # one stays to support the verdict: the reader refuses a pass without a passed check
        passed = [item for item in fine.values() if item.status is Status.PASS]
        kept = [_slim_finding(item, 0) for item in (*(*wrong, *passed)[:1], *waived[:1])]
    origin = report.origin and replace(
        report.origin, name=clip(report.origin.name, 100), job=clip(report.origin.job, 100)
    )
    return replace(leg, report=replace(report, host=None, findings=tuple(kept), services=(), origin=origin))


def _slim_finding(item: Finding, message: int) -> Finding:
    remedies = tuple(Remedy(title=clip(remedy.title, 120)) for remedy in item.remedies[:1]) if message else ()
    return Finding(
        code=clip(item.code, 20), name=clip(item.name, 60), status=item.status, subject=clip(item.subject, 60),
        message=clip(item.message, message) if message else "", remedies=remedies, location=item.location,
        policy=item.policy and replace(item.policy, reason=clip(item.policy.reason, max(message, 20))),
    )  # fmt: skip


def decode(body: str, key: str) -> State | None:
    """The state of `key` in `body`, from the last line that consists of the mark; None if there is none."""
    for line in reversed(body.splitlines()):
        found = _LINE.fullmatch(line.strip())
        if found and found[1] == key:
            return _unpack(key, found[2])
    return None


def _unpack(key: str, text: str) -> State | None:
    try:
        stream = zlib.decompressobj()
        data = stream.decompress(base64.b64decode(text, validate=True), _UNPACKED_MAX)
        document = json.loads(data)
        numbers = [document["run"], document["attempt"], document.get("left_out", 0)]
        sha, job = document["sha"], document["job"]
        if not all(type(item) is int for item in numbers) or type(sha) is not str or type(job) is not str:
            return None
        verdict = Verdict(document["verdict"])
        run = RunId(run=numbers[0], attempt=numbers[1])
        legs = tuple(_leg(item, run, job) for item in document["legs"])
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error, RecursionError, ReportShapeError):
        return None
    legs = legs or _of_job(run, job, verdict)
    return State(key=key, run=run, sha=sha, job=job, verdict=verdict, legs=legs, left_out=max(0, numbers[2]))


def _leg(item: dict[str, object], run: RunId, job: str) -> Leg:
    name, attempt = item["name"], item["attempt"]
    if type(name) is not str or type(attempt) is not int:
        raise TypeError
    report = report_from(item["report"])
    origin = report.origin or _earlier(name, job, RunId(run=run.run, attempt=attempt))
    return Leg(name=name, report=replace(report, origin=origin))


def _earlier(name: str, job: str, run: RunId) -> Origin:
    """The origin of a leg that an earlier version of this tool wrote: only its name tells it from others."""
    id_ = f"{EARLIER}{name}"
    return Origin(id=id_, group=id_, name=name, job=job, run=max(0, run.run), attempt=max(0, run.attempt))


def _of_job(run: RunId, job: str, verdict: Verdict) -> tuple[Leg, ...]:
    """The result of a job by an earlier version of this tool, which stored only the verdict; a pass hides nothing."""
    if verdict is Verdict.PASS:
        return ()
    said = "an earlier version of cgroup-preflight published this result in the same run"
    finding = codes.RUNNER_REPORTED.finding(Status(verdict.value), job, said)
    report = Report(
        tool_version=__version__, verdict=verdict, host=None, findings=(finding,), services=(),
        started_at="1970-01-01T00:00:00Z", duration_seconds=0.0, origin=_earlier(job, job, run),
    )  # fmt: skip
    return (Leg(name=job, report=report),)
