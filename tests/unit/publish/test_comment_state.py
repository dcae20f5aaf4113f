"""The hidden line of a comment: what comes back, what is refused, and which result stays."""

import base64
import json
import random
import zlib
from dataclasses import replace

import pytest
from hypothesis import given

from cgroup_preflight.core.report import By, Origin, Ruling, Status, Verdict
from cgroup_preflight.publish.comment_state import RunId, State, decode, encode, fitted
from cgroup_preflight.report.merge import Leg
from tests.unit.publish.jobs import FAIL, PASS
from tests.unit.report.samples import few, finding, report, texts

GOOD = State(
    key="k",
    run=RunId(run=7, attempt=2),
    sha="1" * 40,
    job="one",
    verdict=Verdict.FAIL,
    legs=(
        Leg(name="a", report=replace(FAIL, origin=Origin(id="i", group="g", name="a", job="one", run=7, attempt=2))),
    ),
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
    (("left_out",), "1"), (("left_out",), True), (("legs", 0, "attempt"), "2"), (("legs", 0, "report"), {}), (("legs", 0, "report", "verdict"), "pass"),
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
    legs = tuple(
        Leg(name=f"leg-{number}", report=replace(made, origin=Origin(id=str(number), group="g", name="", job="leg")))
        for number, made in enumerate([*bad, PASS])
    )
    state = fitted(replace(GOOD, legs=legs))
    assert len(encode(state)) <= 24_000
    assert [leg.report.verdict for leg in state.legs] == [leg.report.verdict for leg in legs]
    assert {len(leg.report.findings) for leg in state.legs} == {1}
    assert {leg.report.findings[0].status for leg in state.legs} == {Status.FAIL, Status.PASS}
    assert decode(encode(state), "k") == state


def test_of_many_legs_each_still_says_that_something_is_accepted():
    subjects = iter(_names(900, 40))
    ruling = Ruling(by=By.IGNORE, was=Status.FAIL, reason="it is known")
    legs = tuple(
        Leg(name=f"leg-{number}", report=replace(
            report(finding(Status.PASS, code="CGP101"), finding(Status.SKIP, code="CGP505", policy=ruling),
                   *(finding(Status.SKIP, subject=next(subjects), policy=ruling) for _ in range(3))),
            origin=Origin(id=str(number), group="g", name="", job="leg")))
        for number in range(300)
    )  # fmt: skip
    state = fitted(replace(GOOD, legs=legs))
    assert {tuple(item.status for item in leg.report.findings) for leg in state.legs} == {(Status.PASS, Status.SKIP)}
    assert {leg.report.findings[1].code for leg in state.legs} == {"CGP501"}, "that a limit is not in force comes first"
    assert decode(encode(state), "k") == state


def test_of_legs_that_do_not_fit_at_all_those_that_passed_go_first():
    names = _names(3000, 90)
    bad = [Leg(name=name, report=FAIL) for name in names[:5]]
    state = fitted(replace(GOOD, legs=(*(Leg(name=name, report=PASS) for name in names[5:]), *bad)))
    assert len(encode(state)) <= 24_000
    assert 100 < len(state.legs) < 3000
    assert state.left_out == 3000 - len(state.legs)
    assert [leg.name for leg in state.legs if leg.report.verdict is Verdict.FAIL] == names[:5]


def _old(**changes):
    """A line as versions wrote it that knew legs by their names only."""
    document = _document() | changes
    del document["left_out"]
    for leg in document["legs"]:
        del leg["report"]["origin"]
    return _line(document)


def test_a_line_of_an_earlier_version_is_read_and_its_legs_keep_their_results():
    state = decode(_old(), "k")
    (leg,) = state.legs
    assert (leg.name, leg.report.verdict, leg.report.origin.run, leg.report.origin.attempt) == ("a", Verdict.FAIL, 7, 2)
    assert decode(encode(state), "k") == state
    for verdict in ("fail", "unverified"):
        (leg,) = decode(_old(legs=[], verdict=verdict), "k").legs
        assert (leg.name, leg.report.verdict.value, leg.report.origin.job) == ("one", verdict, "one")
    assert decode(_old(legs=[], verdict="pass"), "k").legs == ()
