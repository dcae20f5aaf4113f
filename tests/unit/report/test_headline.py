"""The verdict in one line: what it names, what it counts, and that a pass says no more than was proven."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from cgroup_preflight.core.report import Report, Status, Verdict
from cgroup_preflight.publish.options import view
from cgroup_preflight.report import codequality, junit, markdown, sarif, text
from cgroup_preflight.report import comment as comment_body
from cgroup_preflight.report.headline import Runners, headline, problems
from cgroup_preflight.report.merge import Leg
from tests.unit.report.samples import GOOD, MIXED, PROVED, SERVICE, finding, report

PASSED = finding(Status.PASS, code="CGP101", subject="this host")
HOST = report(PASSED, PASSED, finding(Status.WARN), finding(Status.SKIP))


def _failed(*subjects: str, code: str = "CGP504") -> list:
    return [finding(Status.FAIL, code=code, subject=subject) for subject in subjects]


@pytest.mark.parametrize(
    ("findings", "said"),
    [
        ([*_failed("api"), *[PASSED] * 83], "FAIL: 1 of 84 checks failed: CGP504 api"),
        (_failed("api"), "FAIL: 1 of 1 check failed: CGP504 api"),
        ([*_failed("api"), finding(Status.SKIP)], "FAIL: 1 of 1 check failed: CGP504 api"),
        (_failed("a", "b", "c"), "FAIL: 3 of 3 checks failed: CGP504 a, CGP504 b, CGP504 c"),
        (_failed(*"abcdefg"), "FAIL: 7 of 7 checks failed: CGP504 a, CGP504 b, CGP504 c and 4 more"),
        (_failed("a", "a", "b"), "FAIL: 3 of 3 checks failed: CGP504 a, CGP504 b"),
        ([*_failed("a"), finding(Status.UNVERIFIED)], "FAIL: 1 of 2 checks failed: CGP504 a; 1 check could not run"),
        ([*_failed("a"), *[finding(Status.UNVERIFIED)] * 2], "FAIL: 1 of 3 checks failed: CGP504 a; 2 checks could not run"),
        ([finding(Status.UNVERIFIED, code="CGP511", subject="api"), PASSED],
         "UNVERIFIED: 1 check could not run (CGP511 api); this is not a pass"),
        ([finding(Status.UNVERIFIED, code="CGP511", subject=name) for name in "abcde"],
         "UNVERIFIED: 5 checks could not run (CGP511 a, CGP511 b, CGP511 c and 2 more); this is not a pass"),
        ([], "UNVERIFIED: no check ran; this is not a pass"),
        ([finding(Status.SKIP)], "UNVERIFIED: no check ran; this is not a pass"),
        # What is wrong with the inputs comes before the host, whatever the order of the findings.
        ([*_failed("host", code="CGP101"), *_failed("api"), *_failed("line", code="CGP203"), *_failed("web", code="CGP401")],
         "FAIL: 4 of 4 checks failed: CGP203 line, CGP401 web, CGP101 host and 1 more"),
        (_failed("x" * 41, "y" * 40), f"FAIL: 2 of 2 checks failed: CGP504 {'x' * 40}..., CGP504 {'y' * 40}"),
        (_failed("\x1b[31m\u202e"), "FAIL: 1 of 1 check failed: CGP504 \\x1b[31m\\u202e"),
        (_failed("x", code="\x1b[1m"), "FAIL: 1 of 1 check failed: \\x1b[1m x"),
        (_failed("", code="CGP" * 9), "FAIL: 1 of 1 check failed: CGPCGPCGPC"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_and_counted(findings: list, said: str) -> None:
    assert headline(report(*findings)) == said


def _services(*items: object) -> Report:
    return replace(report(*PROVED), services=items)


NONE = replace(GOOD, name="bare", limits=())
SHARE = replace(GOOD, limits=(*GOOD.limits, replace(GOOD.limits[0], ok=False, actual=None)))


@pytest.mark.parametrize(
    ("some", "said"),
    [
        (_services(GOOD), "PASS: 2 limits of 1 service are in force (2 checks passed)"),
        (_services(GOOD, GOOD, GOOD), "PASS: 6 limits of 3 services are in force (2 checks passed)"),
        (_services(replace(GOOD, limits=GOOD.limits[:1])), "PASS: 1 limit of 1 service is in force (2 checks passed)"),
        (_services(GOOD, NONE), "PASS: 2 limits of 1 service are in force, 1 service ran without one (2 checks passed)"),
        (_services(SHARE), "PASS: 2 of 3 limits of 1 service are in force (2 checks passed)"),
        (_services(NONE, NONE), "PASS: 2 services ran without a limit in force, so no limit is proven (2 checks passed)"),
        (HOST, "CHECKED: 2 checks passed, 1 warning, 1 skipped. No service was run, so no limit was tested"),
        (report(PASSED), "CHECKED: 1 check passed. No service was run, so no limit was tested"),
        (report(PASSED, *[finding(Status.WARN)] * 2, *[finding(Status.SKIP)] * 2),
         "CHECKED: 1 check passed, 2 warnings, 2 skipped. No service was run, so no limit was tested"),
        # A merged report holds no services of runners on which all is well.
        (_services(), "PASS: the limits are in force; the report of each run counts them (2 checks passed)"),
    ],
)  # fmt: skip
def test_a_pass_says_what_was_proven(some: Report, said: str) -> None:
    assert headline(some) == said


def test_no_limit_is_in_force_where_none_was_found_so() -> None:
    bad = replace(GOOD, limits=tuple(replace(item, ok=False) for item in GOOD.limits))
    assert headline(replace(HOST, services=(bad,))).startswith(
        "PASS: 1 service ran without a limit in force, so no limit"
    )


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.UNVERIFIED])
def test_a_verdict_that_no_finding_explains_is_told_as_it_is(verdict: Verdict) -> None:
    said = headline(replace(HOST, verdict=verdict))
    assert said.startswith(f"{verdict.value.upper()}: the report does not name the check that ")
    assert said.endswith("this is not a pass") is (verdict is Verdict.UNVERIFIED)


def _legs(**named: Report) -> tuple[Leg, ...]:
    return tuple(Leg(name=name, report=made) for name, made in named.items())


WEB = _services(GOOD)


@pytest.mark.parametrize(
    ("legs", "said"),
    [
        (_legs(a=WEB, b=WEB), "PASS on all 2 runners: the limits are in force; the report of each run counts them"),
        (_legs(a=WEB, b=HOST, c=HOST),
         "PASS on all 3 runners: the limits are in force on 1 of them; no limit was tested on the others"),
        (_legs(a=HOST, b=HOST), "CHECKED on all 2 runners: no limit was tested"),
        (_legs(a=MIXED, b=HOST), "FAIL on 1 of 2 runners: 1 check failed: CGP501 user-api; 1 check could not run"),
        (_legs(a=HOST, b=report(finding(Status.UNVERIFIED, code="CGP511"))),
         "UNVERIFIED on 1 of 2 runners: 1 check could not run (CGP511 user-api); this is not a pass"),
    ],
)  # fmt: skip
def test_several_runners(legs: tuple[Leg, ...], said: str) -> None:
    merged = view(legs)
    assert comment_body.title(merged) == said
    plain_title = comment_body.render(merged).split("\n")[0].replace("<code>", "").replace("</code>", "")
    assert plain_title.endswith(f" cgroup-preflight {said}")


def test_nothing_is_counted_in_a_report_that_was_shortened_for_a_comment() -> None:
    """Of what passed it holds one finding for each code, and no services."""
    assert comment_body.title(view(_legs(a=_services()), shortened=True)) == (
        "PASS: the limits are in force; the report of each run counts them"
    )
    assert comment_body.title(view(_legs(a=MIXED), shortened=True)) == (
        "FAIL: 1 check failed: CGP501 user-api; 1 check could not run"
    )
    assert view(_legs(a=MIXED)).runners is None
    assert view(_legs(a=WEB, b=HOST)).runners == Runners(count=2, agreeing=2, proven=1)
    # Limits that are in force count, although one share without an effect keeps the finding from being a pass.
    shared = replace(WEB, findings=(replace(PROVED[0], status=Status.WARN), PROVED[1]))
    assert view(_legs(a=shared, b=HOST)).runners == Runners(count=2, agreeing=2, proven=1)


def test_every_format_has_the_same_words() -> None:
    some = report(finding(Status.FAIL), PASSED, services=(SERVICE,))
    said = "FAIL: 1 of 2 checks failed: CGP501 user-api"
    assert headline(some) == said
    assert text.render(some).split("\n")[0] == said
    assert text.render(some, colour=True).split("\n")[0] == f"\x1b[31mFAIL\x1b[0m{said[4:]}"
    assert markdown.render(some).startswith(
        "## ❌ cgroup-preflight FAIL: 1 of 2 checks failed: <code>CGP501</code> user-api\n"
    )
    assert ET.fromstring(junit.render(some)).find(".//property[@name='headline']").get("value") == said
    (run,) = json.loads(sarif.render(some))["runs"]
    assert run["invocations"][0]["toolExecutionNotifications"] == [{"level": "error", "message": {"text": said}}]
    (label,) = json.loads(codequality.annotations(view(_legs(a=some)), {"job": "https://x.example/1"}))[
        "cgroup-preflight"
    ]
    assert label["external_link"]["label"] == f"cgroup-preflight {said} (job)"


def test_where_no_finding_explains_the_verdict_the_line_does() -> None:
    (case,) = ET.fromstring(junit.render(report())).iter("testcase")
    assert case.find("error").get("message") == "UNVERIFIED: no check ran; this is not a pass"
    (entry,) = json.loads(codequality.render(report()))
    assert entry["description"] == "UNVERIFIED: no check ran; this is not a pass"


def test_problems_come_worst_first_and_inputs_before_the_host() -> None:
    some = [
        finding(Status.WARN, code="CGP101"), finding(Status.PASS), finding(Status.WARN, code="CGP209"),
        finding(Status.UNVERIFIED), finding(Status.SKIP), finding(Status.FAIL, code="CGP102"),
        finding(Status.FAIL, code="CGP401"), finding(Status.FAIL, code="CGP402"),
    ]  # fmt: skip
    assert [(item.status.value, item.code) for item in problems(some)] == [
        ("fail", "CGP401"), ("fail", "CGP102"), ("fail", "CGP402"), ("unverified", "CGP501"), ("warn", "CGP209"),
        ("warn", "CGP101"),
    ]  # fmt: skip
    for shown in (text.render(report(*some)), markdown.render(report(*some))):
        assert shown.index("CGP401") < shown.index("CGP102") < shown.index("CGP209") < shown.index("CGP101")


@pytest.mark.parametrize(
    ("statuses", "says"),
    [
        ([("fail", "C1")], "FAIL: 1 cause of contention: CGP701 a"),
        ([("fail", "C1"), ("unverified", None)], "FAIL: 1 cause of contention: CGP701 a; 1 question open: CGP701 a"),
        ([("warn", "C4")], "PASS: 1 possible cause of contention: CGP701 a"),
        ([("unverified", None)], "UNVERIFIED: no verdict, 1 question open: CGP701 a"),
        ([("pass", None)], "PASS: no contention"),
        ([("pass", None), ("warn", None)], "PASS: no contention"),
    ],
)
def test_a_diagnosis_says_causes_and_open_questions(statuses: list[tuple[str, str | None]], says: str) -> None:
    found = tuple(
        finding(Status(status), code="CGP701", subject="a", evidence={"rule": rule} if rule else {})
        for status, rule in statuses
    )
    assert headline(report(*found)) == says
