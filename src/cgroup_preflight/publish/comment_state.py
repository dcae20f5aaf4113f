"""The hidden line of a comment, which tells the next run who wrote it and the result of each leg.

The line is base64 of deflated JSON, so nothing in it can end the HTML comment around it. It counts only in a comment
of our own author, and even then it is read as strictly as a report.
"""

import base64
import json
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cgroup_preflight.core.report import PROBLEMS, VERDICTS_WORST_FIRST, Finding, Remedy, Status, Verdict
from cgroup_preflight.report import codec
from cgroup_preflight.report.escape import clip
from cgroup_preflight.report.merge import Leg
from cgroup_preflight.report.read import ReportShapeError, report_from

_LINE = re.compile(r"<!-- cgroup-preflight:v1 key=([A-Za-z0-9._-]{1,64}) ([A-Za-z0-9+/=]{1,60000}) -->", re.ASCII)
KEY = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
#: Most characters of the hidden line, and most bytes of its JSON.
LINE_MAX = 24_000
_UNPACKED_MAX = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class RunId:
    """The number of a run and of its attempt on GitHub or GitLab; a newer one has a higher number. Zero is unknown."""

    run: int = 0
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """`job` of `run` wrote it, about commit `sha`; there are `legs` only if legs publish by themselves."""

    key: str
    run: RunId
    sha: str
    job: str = ""
    verdict: Verdict = Verdict.PASS
    legs: tuple[Leg, ...] = ()

    def outlasts(self, run: RunId, job: str, verdict: Verdict) -> bool:
        """Whether this state stays and a result of `job` in `run` must not replace it.

        The newer run stays, and in one run the worse verdict: otherwise jobs that share a key would show the result
        of the job that ended last.
        """
        if not run.run or self.run.run != run.run:
            return bool(run.run) and self.run > run
        if self.job == job:
            return self.run > run
        return VERDICTS_WORST_FIRST.index(self.verdict) < VERDICTS_WORST_FIRST.index(verdict)


def fitted(state: State) -> State:
    """The state with as much of its legs as fits into LINE_MAX: messages go first, then all findings except one."""
    for message, findings in ((200, 20), (60, 8), (0, 3), (0, 0)):
        slim = replace(state, legs=tuple(_slim(leg, message, findings) for leg in state.legs))
        if len(encode(slim)) <= LINE_MAX - 100:  # the verdict is set later
            return slim
    return replace(state, legs=())


def encode(state: State) -> str:
    """The hidden line; at most LINE_MAX characters if the state is `fitted`."""
    document = {
        "run": state.run.run, "attempt": state.run.attempt, "sha": state.sha, "job": state.job,
        "verdict": state.verdict.value,
        "legs": [{"name": leg.name, "attempt": leg.attempt, "report": codec.document(leg.report)}
                 for leg in state.legs],
    }  # fmt: skip
    packed = zlib.compress(json.dumps(document, separators=(",", ":")).encode("ascii"), 9)
    return f"<!-- cgroup-preflight:v1 key={state.key} {base64.b64encode(packed).decode('ascii')} -->"


def _slim(leg: Leg, message: int, findings: int) -> Leg:
    """A leg with what its section of the comment shows: no evidence, no services, only the title of one remedy."""
    report = leg.report
    wrong = [item for item in report.findings if item.status in PROBLEMS]
    wrong.sort(key=lambda item: PROBLEMS.index(item.status))
    fine = {item.code: item for item in report.findings if item.status in (Status.PASS, Status.SKIP)}
    kept = [_slim_finding(item, message) for item in wrong[:findings]]
    kept += [_slim_finding(item, min(message, 60)) for item in fine.values()] if findings else []
    if not findings:  # one stays to support the verdict: the reader refuses a pass without a passed check
        passed = [item for item in fine.values() if item.status is Status.PASS]
        kept = [_slim_finding(item, 0) for item in (*wrong, *passed)[:1]]
    return replace(leg, report=replace(report, host=None, findings=tuple(kept), services=()))


def _slim_finding(item: Finding, message: int) -> Finding:
    remedies = tuple(Remedy(title=clip(remedy.title, 120)) for remedy in item.remedies[:1]) if message else ()
    return Finding(
        code=clip(item.code, 20), name=clip(item.name, 60), status=item.status, subject=clip(item.subject, 60),
        message=clip(item.message, message) if message else "", remedies=remedies, location=item.location,
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
        numbers = [document[name] for name in ("run", "attempt")]
        sha, job = document["sha"], document["job"]
        if not all(type(item) is int for item in numbers) or type(sha) is not str or type(job) is not str:
            return None
        verdict = Verdict(document["verdict"])
        legs = tuple(_leg(item) for item in document["legs"])
    except (ValueError, KeyError, TypeError, zlib.error, RecursionError, ReportShapeError):
        return None
    run = RunId(run=numbers[0], attempt=numbers[1])
    return State(key=key, run=run, sha=sha, job=job, verdict=verdict, legs=legs)


def _leg(item: dict[str, object]) -> Leg:
    name, attempt = item["name"], item["attempt"]
    if type(name) is not str or type(attempt) is not int:
        raise TypeError
    return Leg(name=name, attempt=attempt, report=report_from(item["report"]))


def join(groups: Iterable[Sequence[Leg]]) -> tuple[Leg, ...]:
    """One leg for each name, the latest attempt (of equal attempts the last one), sorted by name."""
    newest: dict[str, Leg] = {}
    for legs in groups:
        for leg in legs:
            known = newest.get(leg.name)
            if known is None or leg.attempt >= known.attempt:
                newest[leg.name] = leg
    return tuple(newest[name] for name in sorted(newest))
