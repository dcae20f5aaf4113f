"""What is ignored, forgiven or about the machine, in each format: shown where it belongs, and never as a problem."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from hypothesis import given

from cgroup_preflight.core.report import By, Finding, Location, Ruling, Status, Verdict
from cgroup_preflight.publish.options import view
from cgroup_preflight.report import annotations, codec, codequality, html_page, junit, markdown, sarif, text
from cgroup_preflight.report import comment as comment_body
from cgroup_preflight.report.headline import headline
from cgroup_preflight.report.merge import Leg, rebase
from cgroup_preflight.report.read import ReportShapeError, report_of
from cgroup_preflight.report.views import surroundings, view_of
from tests.unit.report.forge import show, squeeze
from tests.unit.report.samples import GOOD, HOSTILE, PROVED, few, finding, report, reports
from tests.unit.report.test_sarif import VALIDATOR

WHERE = Location(file="deploy/cgroup-preflight.toml", line=30)
IGNORED = finding(
    Status.SKIP, code="CGP506", name="stop", subject="web", message="did not stop",
    policy=Ruling(by=By.IGNORE, was=Status.FAIL, reason="it drains its queue", until="2027-06-30", location=WHERE),
)  # fmt: skip
FORGIVEN = finding(
    Status.SKIP, code="CGP505", name="readiness", subject="api", message="was slow", policy=Ruling(by=By.BASELINE, was=Status.FAIL),
)  # fmt: skip
GUEST = finding(
    Status.WARN, code="CGP512", name="guest", subject="guest", message="Tested in a VM", location=None,
    evidence={"machine": "uml", "distro": "Debian 12", "cpus": 1, "memory_mib": 416},
)  # fmt: skip
PRESSURE = finding(Status.WARN, code="CGP117", name="pressure", subject="pressure", message="no PSI", location=None)
DOCKER = finding(
    Status.WARN, code="CGP124", name="container", subject="this host: docker", message="in Docker", location=None
)
ACCEPTED = report(*PROVED, IGNORED, FORGIVEN, services=(GOOD,))
MACHINE = report(*PROVED, GUEST, PRESSURE, DOCKER, services=(GOOD,))


def words(some):
    return show(markdown.render(some)).text


def test_the_first_line_counts_what_does_not_count():
    assert headline(ACCEPTED) == (
        "PASS: 2 limits of 1 service are in force (2 checks passed, 1 failure ignored (CGP506 web), "
        "1 failure forgiven by the baseline (CGP505 api))"
    )
    warned = replace(IGNORED, policy=replace(IGNORED.policy, was=Status.WARN))
    assert headline(report(*PROVED, warned, warned, services=(GOOD,))).endswith("(2 checks passed, 2 ignored)")
    assert headline(report(*PROVED, warned, IGNORED, services=(GOOD,))).endswith(
        "(2 checks passed, 1 failure ignored (CGP506 web), 1 ignored)"
    )
    failed = report(*PROVED, finding(Status.FAIL), IGNORED, services=(GOOD,))
    assert headline(failed) == "FAIL: 1 of 4 checks failed: CGP501 user-api; 1 failure ignored (CGP506 web)"
    assert headline(report(IGNORED)) == "UNVERIFIED: all that was found is ignored; this is not a pass"


def test_limits_that_are_accepted_as_not_in_force_are_in_the_total():
    bad = replace(GOOD, name="bad", limits=tuple(replace(item, ok=False, actual="max") for item in GOOD.limits))
    ignored = replace(IGNORED, code="CGP501", subject="bad")
    said = headline(report(*PROVED, ignored, services=(bad, GOOD)))
    assert said == "PASS: 2 of 4 limits of 2 services are in force (2 checks passed, 1 failure ignored (CGP501 bad))"


def test_several_runners_do_not_hide_what_does_not_count():
    missing = replace(IGNORED, code="CGP501", policy=replace(IGNORED.policy, reason="soon"))
    for some, said in (
        (ACCEPTED, ("the limits are in force; the report of each run counts them; the policy accepts failures "
         "(CGP505 api, CGP506 web)")),
        (report(*PROVED, replace(IGNORED, policy=replace(IGNORED.policy, was=Status.WARN)), services=(GOOD,)),
         "the limits are in force; the report of each run counts them; the policy accepts some findings"),
        (report(*PROVED, missing, services=(GOOD,)),
         "not all limits are in force; the report of each run counts them; the policy accepts failures (CGP501 web)"),
        (report(*PROVED, services=(GOOD,)), "the limits are in force; the report of each run counts them"),
    ):  # fmt: skip
        legs = [Leg(name="a", report=some), Leg(name="b", report=report(*PROVED, services=(GOOD,)))]
        assert comment_body.title(view(legs)) == f"PASS on all 2 runners: {said}"


def test_text():
    lines = text.render(ACCEPTED).splitlines()
    table = next(number for number, line in enumerate(lines) if line.startswith("service "))
    assert lines[table + 1].endswith("accepted")
    below = "\n".join(lines[table:])
    assert (
        "fail, ignored CGP506 web: did not stop (fail, ignored until 2027-06-30: it drains its queue [deploy/cgroup-preflight.toml:30])"
        in below
    )
    assert "1 finding that the baseline has, too, 1 of them failed: --verbose lists them" in below
    assert "CGP505" not in below
    assert "fail, forgiven CGP505 api: was slow (fail, and the baseline has it, too)" in text.render(
        ACCEPTED, verbose=True
    )


def test_markdown():
    shown = words(ACCEPTED)
    for part in ("Ignored", "CGP506", "did not stop", "it drains its queue", "until 2027-06-30", "CGP505", "accepted"):
        assert squeeze(part) in squeeze(shown)
    assert squeeze("1 finding that the baseline has, too") in squeeze(shown)
    assert markdown.render(ACCEPTED).splitlines()[1] == (
        "**Nothing blocks the merge.** Below: 1 ❌ failure ignored, 1 ❌ failure forgiven by the baseline."
    )
    assert "| ❌ fail <code>CGP506</code>" in markdown.render(ACCEPTED)
    warned = report(*PROVED, replace(IGNORED, policy=replace(IGNORED.policy, was=Status.WARN)), services=(GOOD,))
    assert markdown.render(warned).splitlines()[1] == "**Nothing blocks the merge.** Below: 1 ignored."
    assert "❌" not in markdown.render(warned)


def test_a_failure_that_is_ignored_is_before_warnings_that_are():
    warned = replace(IGNORED, subject="api", policy=replace(IGNORED.policy, was=Status.WARN))
    some = report(*PROVED, warned, IGNORED, services=(GOOD,))
    assert view_of(some).ignored == (IGNORED, warned)
    lines = [line for line in text.render(some).splitlines() if "ignored" in line and " CGP506 " in line]
    assert [line.split("CGP506 ")[1][:3] for line in lines] == ["web", "api"]
    assert [line.startswith("fail, ") for line in lines] == [True, False]
    assert text.render(some, colour=True).count("\x1b[31mfail, ignored") == 1


def test_annotations_show_a_failure_that_is_ignored_with_its_reason():
    warned = replace(IGNORED, subject="api", policy=replace(IGNORED.policy, was=Status.WARN))
    some = report(*PROVED, warned, IGNORED, FORGIVEN, services=(GOOD,))
    (line,) = annotations.render(some).splitlines()
    assert line.startswith("::warning ")
    assert "fail, ignored until 2027-06-30: it drains its queue" in line
    assert "to do" not in line
    ((one,),) = annotations.batches(some)
    assert one["annotation_level"] == "warning"
    assert "fail, ignored until 2027-06-30: it drains its queue" in one["message"]


def test_thresholds_of_the_policy_are_one_line():
    said = "thresholds that differ from the defaults: headroom_min 5% (default 20%)"
    some = report(*PROVED, finding(Status.SKIP, code="CGP222", subject="policy", message=said), services=(GOOD,))
    assert headline(some) == headline(report(*PROVED, services=(GOOD,)))
    assert f"policy     {said}" in text.render(some).splitlines()
    assert squeeze(f"Policy: {said}") in squeeze(words(some))
    assert f"Policy: {said}" in html_page.render(some)
    assert "Policy" not in markdown.render(ACCEPTED)


def test_html():
    page = html_page.render(ACCEPTED)
    assert (
        page.index("<h2>Services</h2>")
        < page.index("<h2>Ignored</h2>")
        < page.index("1 forgiven by the baseline, 1 of them failed</summary>")
    )
    assert "it drains its queue" in page
    assert page.count('<span class="fail"><span class="word">fail</span></span> <code>CGP50') == 2
    assert "What to look at" not in page
    machine = html_page.render(MACHINE)
    assert (
        machine.index("<h2>Services</h2>")
        < machine.index("3 warnings about the machine, not")
        < machine.index("CGP117")
    )
    assert "What to look at" not in machine


def test_json_goes_through_and_leaves_out_what_is_not_there():
    document = json.loads(codec.render(ACCEPTED))
    assert document["findings"][2]["policy"] == {
        "by": "ignore", "was": "fail", "reason": "it drains its queue", "until": "2027-06-30",
        "location": {"file": WHERE.file, "line": 30},
    }  # fmt: skip
    assert "policy" not in document["findings"][0]
    assert "project" not in document
    assert report_of(codec.render(replace(ACCEPTED, project="shop")).encode()) == replace(ACCEPTED, project="shop")


def test_junit_skips_them_with_the_reason():
    cases = {case.get("name"): case for case in ET.fromstring(junit.render(ACCEPTED)).iter("testcase")}
    skipped = cases["CGP506 stop: web"].find("skipped")
    assert skipped is not None
    assert "it drains its queue" in str(skipped.get("message"))
    assert "did not stop" in str(skipped.text)
    assert ET.fromstring(junit.render(ACCEPTED)).get("failures") == "0"


def test_sarif_suppresses_them():
    document = json.loads(sarif.render(ACCEPTED))
    VALIDATOR.validate(document)
    ignored, forgiven = document["runs"][0]["results"]
    (one,) = ignored["suppressions"]
    assert (ignored["ruleId"], ignored["level"]) == ("CGP506", "error")
    assert (one["kind"], one["status"]) == ("inSource", "accepted")
    assert one["justification"] == "it drains its queue (until 2027-06-30)"
    assert one["location"]["physicalLocation"]["region"] == {"startLine": 30}
    assert [item["kind"] for item in forgiven["suppressions"]] == ["external"]
    active = json.loads(sarif.render(report(finding(Status.FAIL))))["runs"][0]["results"]
    assert "suppressions" not in active[0]


def test_lists_of_problems_leave_them_out():
    assert json.loads(codequality.render(ACCEPTED)) == []
    warned = report(
        *PROVED, replace(IGNORED, policy=replace(IGNORED.policy, was=Status.WARN)), FORGIVEN, services=(GOOD,)
    )
    assert annotations.render(warned) == ""
    assert annotations.batches(warned) == [[]]


def test_warnings_about_the_machine_are_below_the_table():
    lines = text.render(MACHINE).splitlines()
    assert lines[0].endswith("(2 checks passed; 3 warnings about the machine)")
    assert lines[1].endswith("; in a VM (Debian 12, 1 CPU, 416 MiB), no PSI; this host (docker) was not judged")
    assert lines[2:4] == ["", lines[3]]
    assert lines[3].startswith("service ")
    below = lines[lines.index("about the machine, not the project:") :]
    assert [line.split(":")[0] for line in below[1::2]] == [
        "warn       CGP512 guest", "warn       CGP117 pressure", "warn       CGP124 this host",
    ]  # fmt: skip
    assert len(below) == 7
    assert "    read: machine = uml" in text.render(MACHINE, verbose=True)


def test_warnings_about_the_machine_are_in_no_list_of_problems():
    assert json.loads(sarif.render(MACHINE))["runs"][0]["results"] == []
    assert json.loads(codequality.render(MACHINE)) == []
    assert annotations.render(MACHINE) == ""
    assert "WARNINGS=0\n" in codequality.dotenv(view((Leg(name="one", report=MACHINE),)))
    names = [case.get("name") for case in ET.fromstring(junit.render(MACHINE)).iter("testcase")]
    assert "CGP117 pressure: pressure" in names


@pytest.mark.parametrize("by", [By.MACHINE_WARNINGS, By.WARN_ON])
def test_unless_the_policy_asks_for_them(by):
    asked = replace(PRESSURE, policy=Ruling(by=by, was=Status.WARN))
    some = report(*PROVED, asked, services=(GOOD,))
    assert [item["ruleId"] for item in json.loads(sarif.render(some))["runs"][0]["results"]] == ["CGP117"]
    assert len(json.loads(codequality.render(some))) == 1
    assert annotations.render(some).count("::notice ") == 1
    assert text.render(some).splitlines()[3].startswith("warn       CGP117")


def test_where_no_service_was_run_the_machine_is_the_subject():
    some = report(finding(Status.PASS, code="CGP101"), PRESSURE)
    assert view_of(some).problems == (PRESSURE,)
    assert text.render(some).splitlines()[3].startswith("warn       CGP117")
    assert len(json.loads(codequality.render(some))) == 1


def test_an_accepted_warning_about_the_machine_opens_no_alert():
    ignored = replace(PRESSURE, status=Status.SKIP, policy=replace(IGNORED.policy, was=Status.WARN))
    assert json.loads(sarif.render(report(*PROVED, ignored, services=(GOOD,))))["runs"][0]["results"] == []


@pytest.mark.parametrize("some", [ACCEPTED, MACHINE, report(*PROVED, services=(GOOD,)), report(*PROVED, finding(Status.WARN), services=(GOOD,))])  # fmt: skip
def test_nothing_to_do_and_something_to_do_are_never_on_one_page(some):
    for page in (markdown.render(some), comment_body.render(view((Leg(name="one", report=some),)))):
        assert ("Nothing to do" in page) != ("To do:" in page or "Remedy:" in page or "Below:" in page)


def test_what_a_warned_pass_says():
    warned = report(*PROVED, finding(Status.WARN), finding(Status.WARN), PRESSURE, services=(GOOD,))
    assert (
        markdown.render(warned).splitlines()[1]
        == "**Nothing blocks the merge.** Below: 2 warnings, 1 warning about the machine."
    )


def test_several_runners_do_not_differ_by_their_machines():
    one, two = Leg(name="a", report=MACHINE), Leg(name="b", report=report(*PROVED, services=(GOOD,)))
    merged = view((one, two))
    assert merged.codes == ()
    assert "CGP117" in comment_body.render(merged)


def test_an_exception_of_one_runner_hides_no_finding_of_another():
    failed = finding(Status.SKIP, code="CGP506", subject="web", message="did not stop")
    merged = view((Leg(name="a", report=ACCEPTED), Leg(name="b", report=report(*PROVED, failed, services=(GOOD,)))))
    found = [item for item in merged.report.findings if item.code == "CGP506"]
    assert [item.is_waived for item in sorted(found, key=lambda item: item.is_waived)] == [False, True]


def test_places_of_exceptions_are_relative_to_the_repository_too():
    moved = rebase(ACCEPTED, prefix="sub")
    (item,) = [item for item in moved.findings if item.code == "CGP506"]
    assert item.policy is not None
    assert item.policy.location == Location(file="sub/deploy/cgroup-preflight.toml", line=30)


def _edited(item: Finding):
    return codec.render(
        replace(report(*PROVED, services=(GOOD,)), findings=(*PROVED, item), verdict=Verdict.PASS)
    ).encode()


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (replace(IGNORED, policy=replace(IGNORED.policy, was=Status.UNVERIFIED)), "no policy changes"),
        (replace(IGNORED, policy=replace(IGNORED.policy, was=Status.PASS)), "no policy changes"),
        (replace(IGNORED, policy=replace(IGNORED.policy, reason=" ")), "reason is empty"),
        (replace(IGNORED, status=Status.PASS), "the status is pass"),
        (replace(FORGIVEN, code="CGP501"), "does not change a fail of this code"),
        (replace(FORGIVEN, code="CGP511", status=Status.WARN, policy=Ruling(by=By.WARN_ON, was=Status.FAIL)), "does not change"),
    ],
)  # fmt: skip
def test_a_report_with_what_no_policy_does_is_refused(item, says):
    with pytest.raises(ReportShapeError, match=says):
        report_of(_edited(item))


def test_a_service_whose_fail_is_accepted_need_not_look_like_a_pass():
    killed = replace(GOOD, oom_kills=1)
    ignored = replace(IGNORED, code="CGP504", name="oom-kill")
    fine = report(*PROVED, ignored, services=(killed,))
    assert report_of(codec.render(fine).encode()).verdict is Verdict.PASS
    with pytest.raises(ReportShapeError, match="oom_kills"):
        report_of(codec.render(report(*PROVED, services=(killed,))).encode())


@pytest.mark.parametrize("hostile", HOSTILE)
def test_reasons_and_places_are_foreign_text(hostile):
    ruling = Ruling(
        by=By.IGNORE, was=Status.FAIL, reason=f"x{hostile}", until=hostile, location=Location(file=hostile, line=1)
    )
    some = report(*PROVED, replace(IGNORED, policy=ruling), replace(GUEST, evidence={"machine": hostile, "distro": hostile}),
                  replace(DOCKER, subject=f"this host: {hostile}"), services=(GOOD,))  # fmt: skip
    for shown in (text.render(some), markdown.render(some), junit.render(some), sarif.render(some), codec.render(some)):
        assert not {char for char in shown if ord(char) < 32 and char != "\n"}
        assert not {"\u202e", "\u2066", "\x7f"} & set(shown)
        shown.encode("utf-8")
    show(markdown.render(some))
    assert len(surroundings(some)) < 300
    VALIDATOR.validate(json.loads(sarif.render(some)))
    assert not any(line.lstrip().startswith("::") for line in text.render(some).splitlines())


@few
@given(reports())
def test_each_finding_is_in_exactly_one_group(some):
    found = view_of(some)
    groups = (found.problems, found.machine, found.ignored, found.forgiven, found.policy, found.rest)
    assert sorted(map(id, (item for group in groups for item in group))) == sorted(map(id, some.findings))
