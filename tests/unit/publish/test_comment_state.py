"""The hidden line of a comment: what comes back, what is refused, and which result stays."""

import base64
import json
import random
import zlib
from dataclasses import replace

import pytest
from hypothesis import given

from cgroup_preflight.core.report import Status, Verdict
from cgroup_preflight.publish.comment_state import RunId, State, decode, encode, fitted, join
from cgroup_preflight.report.merge import Leg
from tests.unit.publish.jobs import FAIL, PASS
from tests.unit.report.samples import few, finding, report, texts

GOOD = State(
    key="k",
    run=RunId(run=7, attempt=2),
    sha="1" * 40,
    job="one",
    verdict=Verdict.FAIL,
    legs=(Leg(name="a", report=FAIL, attempt=2),),
)


def _document():
    packed = encode(fitted(GOOD)).split(" ")[3]
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def _line(document, key="k"):
    packed = base64.b64encode(zlib.compress(json.dumps(document).encode())).decode()
    return f"<!-- cgroup-preflight:v1 key={key} {packed} -->"


def test_a_forged_line_without_a_mistake_is_read():
    assert decode(_line(_document()), "k") == fitted(GOOD)


@pytest.mark.parametrize(("path", "value"), [
    (("sha",), 7), (("sha",), None), (("job",), []), (("run",), "7"), (("run",), True), (("attempt",), 1.0),
    (("verdict",), "green"), (("legs",), None), (("legs", 0, "name"), 7), (("legs", 0, "attempt"), True),
    (("legs", 0, "attempt"), "2"), (("legs", 0, "report"), {}), (("legs", 0, "report", "verdict"), "pass"),
])  # fmt: skip
def test_a_forged_line_with_a_mistake_is_no_state(path, value):
    document = at = _document()
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    assert decode(_line(document), "k") is None


@pytest.mark.parametrize("name", ["run", "attempt", "sha", "job", "verdict", "legs"])
def test_a_line_that_lacks_something_is_no_state(name):
    document = _document()
    del document[name]
    assert decode(_line(document), "k") is None


@pytest.mark.parametrize("document", [None, [], "x", [[]] * 3])
def test_a_line_of_another_shape_is_no_state(document):
    assert decode(_line(document), "k") is None


def test_a_line_that_unpacks_to_too_much_is_no_state():
    assert decode(_line(_document() | {"more": "x" * (5 << 20)}), "k") is None
    assert decode(_line(_document() | {"more": "x" * (3 << 20)}), "k") is not None


def test_the_last_line_of_the_key_counts():
    first, last = _document() | {"job": "first"}, _document() | {"job": "last"}
    body = f"{_line(first)}\r\n  {_line(last)}  \n{_line(last | {'job': 'other'}, key='other')}\ntext"
    assert decode(body, "k").job == "last"
    assert decode(body, "other").job == "other"
    assert decode(body, "third") is None
    assert decode(f"x{_line(first)}", "k") is None


@few
@given(texts)
def test_no_text_breaks_the_reader(text):
    assert decode(f"<!-- cgroup-preflight:v1 key=k {text} -->", "k") is None
    assert decode(text, "k") is None


def _names(count, size):
    """Names that do not deflate well, the same ones each time."""
    chance = random.Random(1)
    return ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=size)) for _ in range(count)]


def _state(run, attempt, job, verdict):
    return State(key="k", run=RunId(run=run, attempt=attempt), sha="", job=job, verdict=verdict)


@pytest.mark.parametrize(("stored", "run", "attempt", "job", "verdict", "stays"), [
    # another run: the newer one stays, whatever the verdicts are
    ((8, 1, "a", Verdict.PASS), 7, 9, "a", Verdict.FAIL, True), ((7, 9, "a", Verdict.FAIL), 8, 1, "a", Verdict.PASS, False),
    # the same job of one run: the later attempt stays
    ((7, 2, "a", Verdict.PASS), 7, 1, "a", Verdict.FAIL, True), ((7, 1, "a", Verdict.FAIL), 7, 2, "a", Verdict.PASS, False),
    ((7, 1, "a", Verdict.FAIL), 7, 1, "a", Verdict.PASS, False),
    # another job of one run: the worse verdict stays
    ((7, 1, "a", Verdict.FAIL), 7, 2, "b", Verdict.UNVERIFIED, True),
    ((7, 1, "a", Verdict.UNVERIFIED), 7, 1, "b", Verdict.PASS, True),
    ((7, 9, "a", Verdict.PASS), 7, 1, "b", Verdict.PASS, False), ((7, 9, "a", Verdict.PASS), 7, 1, "b", Verdict.FAIL, False),
    # a run without a number knows no order
    ((8, 1, "a", Verdict.FAIL), 0, 0, "b", Verdict.PASS, False), ((0, 0, "a", Verdict.FAIL), 0, 0, "b", Verdict.PASS, False),
])  # fmt: skip
def test_which_result_stays(stored, run, attempt, job, verdict, stays):
    assert _state(*stored).outlasts(RunId(run=run, attempt=attempt), job, verdict) is stays


def test_of_a_leg_the_latest_attempt_stays():
    old, new, other = (Leg(name=name, report=made, attempt=attempt) for name, made, attempt in (
        ("b", FAIL, 1), ("b", PASS, 2), ("a", FAIL, 1)))  # fmt: skip
    assert join([[old, other], [new]]) == (other, new)
    assert join([[new], [old, other]]) == (other, new)
    again = replace(new, report=FAIL)
    assert join([[new], [again]]) == (again,)
    assert join([]) == ()


def test_a_few_legs_keep_messages_and_one_remedy_without_evidence():
    made = report(
        finding(Status.PASS, code="CGP101"),
        finding(Status.WARN, subject="w"),
        finding(Status.UNVERIFIED, subject="u"),
        finding(Status.FAIL, subject="f", message="m" * 300),
    )
    (leg,) = fitted(replace(GOOD, legs=(Leg(name="a", report=made),))).legs
    slim = leg.report
    assert [item.subject for item in slim.findings[:3]] == ["f", "u", "w"]
    assert slim.findings[3].code == "CGP101"
    assert slim.findings[0].message == "m" * 200 + "... (100 characters left out)"
    assert [remedy.title for remedy in slim.findings[0].remedies] == [made.findings[3].remedies[0].title]
    assert (slim.services, slim.host, slim.findings[0].evidence) == ((), None, {})
    assert slim.findings[0].location == made.findings[3].location


def test_of_many_legs_one_finding_each_supports_the_verdict():
    subjects = iter(_names(900, 40))
    bad = [
        report(finding(Status.PASS, code="CGP101"), *(finding(Status.FAIL, subject=next(subjects)) for _ in range(3)))
        for _ in range(300)
    ]
    legs = tuple(Leg(name=f"leg-{number}", report=made) for number, made in enumerate([*bad, PASS]))
    state = fitted(replace(GOOD, legs=legs))
    assert len(encode(state)) <= 24_000
    assert [leg.report.verdict for leg in state.legs] == [leg.report.verdict for leg in legs]
    assert {len(leg.report.findings) for leg in state.legs} == {1}
    assert {leg.report.findings[0].status for leg in state.legs} == {Status.FAIL, Status.PASS}
    assert decode(encode(state), "k") == state


def test_legs_that_do_not_fit_at_all_are_left_out():
    state = fitted(replace(GOOD, legs=tuple(Leg(name=name, report=PASS) for name in _names(3000, 90))))
    assert state == replace(GOOD, legs=())
