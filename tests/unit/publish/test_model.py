"""A model of legs that publish, fail, stop and run again, also at the same time: a pass only if every leg has passed."""

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from cgroup_preflight.core.report import VERDICTS_WORST_FIRST, Status, Verdict
from cgroup_preflight.publish import comment
from cgroup_preflight.publish.clock import RequestClock
from cgroup_preflight.publish.comment_state import RunId, decode
from cgroup_preflight.publish.options import Options, Results, drafter, view
from cgroup_preflight.publish.origin import JobId, LegId, origin_of
from cgroup_preflight.report.markdown import LIMIT
from cgroup_preflight.report.merge import Leg
from tests.unit.publish.jobs import FAIL, PASS
from tests.unit.report.samples import finding, report

UNVERIFIED = report(finding(Status.UNVERIFIED))
SHA = "1" * 40
MADE = {Verdict.PASS: PASS, Verdict.FAIL: FAIL, Verdict.UNVERIFIED: UNVERIFIED}


class Server:
    """Comments of one pull request."""

    def __init__(self):
        self.comments = []
        self.count = 0

    def read_all(self):
        return list(self.comments)

    def is_own(self, _author):
        return True

    def head(self):
        return SHA

    def create(self, body):
        self.count += 1
        self.comments.append(comment.Comment(id=self.count, body=body, author="me"))
        return self.comments[-1]

    def update(self, old, body):
        self.comments = [replace(item, body=body) if item.id == old.id else item for item in self.comments]
        return replace(old, body=body)

    def delete(self, old):
        self.comments = [item for item in self.comments if item.id != old.id]

    @property
    def verdict(self):
        """What the comment says; None if there is none."""
        if not self.comments:
            return None
        (only,) = self.comments
        shown = next(
            verdict for verdict in Verdict if f"cgroup-preflight {verdict.value.upper()}" in only.body.split("\n")[0]
        )
        assert decode(only.body, "default").verdict is shown
        return shown


def _publish(server, job, index, total, attempt, number, made, *, mode, meanwhile=None):
    """One leg publishes; `meanwhile` happens in its first pause."""
    origin = origin_of(
        JobId(workflow="ci.yml", name=job, run=RunId(run=7, attempt=attempt), id=number),
        LegId(matrix=f'{{"os": "os-{index}"}}', name="os", index=index, total=total),
    )
    results = Results(legs=(leg := Leg(name="os", report=made),), merged=view((leg,)))
    queue = [meanwhile] if meanwhile else []

    def sleep(_seconds):
        if queue:
            queue.pop()()

    spec = comment.CommentSpec(
        channel="comment", key="default", run=RunId(run=7, attempt=attempt), sha=SHA, limit=LIMIT,
        draft=drafter(results, mode), leg=results.as_leg(origin),
    )  # fmt: skip
    return comment.publish(server, spec, RequestClock(sleep=sleep), settle=Options().settle)


class Stale:
    """The server as a leg sees it that reads before others write, and writes after them."""

    def __init__(self, server, comments):
        self._server, self._comments = server, [comments]

    def read_all(self):
        return self._comments.pop() if self._comments else self._server.read_all()

    def __getattr__(self, name):
        return getattr(self._server, name)


def _at_once(server, legs, mode):
    """All read the same comment, then each writes over the one before; then each looks again."""
    before = server.read_all()

    def go(at):
        meanwhile = (lambda: go(at + 1)) if at + 1 < len(legs) else None
        _publish(Stale(server, before), *legs[at], mode=mode, meanwhile=meanwhile)

    if legs:
        go(0)


_VERDICTS = st.sampled_from([Verdict.PASS, Verdict.PASS, Verdict.FAIL, Verdict.UNVERIFIED, None])
_STEPS = st.lists(st.tuples(st.sampled_from(["one", "two"]), st.integers(1, 3), _VERDICTS, st.booleans()), max_size=8)


@settings(max_examples=40, deadline=None)
@given(_STEPS, st.sampled_from(["always", "auto"]))
def test_a_pass_means_that_the_newest_report_of_every_leg_passed(steps, mode):
    """None: the leg ends before it publishes. Legs with `True` publish at the same time as the one after them."""
    server, newest, attempts = Server(), {}, {}
    waiting = []
    for number, (job, index, verdict, at_once) in enumerate(steps, 1):
        attempts[job, index] = attempts.get((job, index), 0) + 1
        if verdict is None:
            continue
        newest[job, index] = verdict
        waiting.append((job, index, 3, attempts[job, index], number, MADE[verdict]))
        if not at_once:
            _at_once(server, waiting, mode)
            waiting = []
    _at_once(server, waiting, mode)
    everything = [
        newest.get((job, index), Verdict.UNVERIFIED) for job in {job for job, _ in newest} for index in (1, 2, 3)
    ]
    worst = min(everything, key=VERDICTS_WORST_FIRST.index, default=None)
    if mode == "always":
        assert server.verdict is worst
    assert server.verdict is not Verdict.PASS or worst is Verdict.PASS


def test_many_legs_are_a_pass_only_together():
    server = Server()
    order = list(range(1, 21))
    random.Random(3).shuffle(order)
    for number in order[:-1]:
        _publish(server, "leg", number, 20, 1, number, PASS, mode="always")
        assert server.verdict is Verdict.UNVERIFIED
    _publish(server, "leg", order[-1], 20, 1, order[-1], PASS, mode="always")
    assert server.verdict is Verdict.PASS
