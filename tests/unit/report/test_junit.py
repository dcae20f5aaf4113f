"""JUnit XML."""

import xml.etree.ElementTree as ET
from dataclasses import replace

from hypothesis import given

from cgroup_preflight.core.report import Remedy, Report, Status, Verdict
from cgroup_preflight.report import junit
from cgroup_preflight.report.escape import clip, plain
from tests.unit.report.samples import HOST, HOSTILE, MIXED, few, finding, report, reports


def cases(some: Report) -> list[ET.Element]:
    return ET.fromstring(junit.render(some)).findall("./testsuite/testcase")


def test_each_status_has_its_element() -> None:
    elements = {case.get("classname"): [child.tag for child in case] for case in cases(MIXED)}
    assert elements == {
        "CGP101 hierarchy": ["system-out"], "CGP501 limits-in-force": ["failure"], "CGP515 throttled": ["system-out"],
        "CGP130 user-manager": ["skipped"], "CGP511 bites": ["error"],
    }  # fmt: skip


def test_totals_and_where_it_ran() -> None:
    root = ET.fromstring(junit.render(MIXED))
    suite = root[0]
    wanted = {"tests": "5", "failures": "1", "errors": "1", "skipped": "1"}
    assert {name: suite.get(name) for name in wanted} == wanted == {name: root.get(name) for name in wanted}
    assert {item.get("name"): item.get("value") for item in suite.iter("property")}["kernel"] == "6.1.0-28-amd64"


def test_a_failure_tells_what_was_read_what_to_do_and_the_log() -> None:
    failure = cases(MIXED)[1].find("failure")
    assert failure is not None
    assert failure.get("message") == "memory.max is not in force"
    assert failure.text == (
        "memory.max is not in force\nread: memory.max = max\nread: oom_kill = 1\nread: ok = False\n"
        "to do: raise MemoryMax to 96M (the peak was 80M)\n    write /etc/systemd/system/api.slice:\n"
        "        [Slice]\n        MemoryMax=96M\n    sudo systemctl set-property 'a b' x=1\n"
        "    see https://systemd.io/CGROUP_DELEGATION/\n"
        "last lines of its log:\n    first line\n    fatal: @everyone"
    )


def test_what_is_no_fail_says_its_status_first() -> None:
    passed, _, warned, skipped, unverified = cases(MIXED)
    assert passed.findtext("system-out", "").startswith("pass: memory.max is not in force\nread: ")
    assert warned.findtext("system-out", "").startswith("warn: memory.max")
    assert skipped.find("skipped").attrib == {"message": "memory.max is not in force"}
    error = unverified.find("error")
    assert error.attrib == {"message": "could not be tried", "type": "unverified"}
    assert error.text.startswith("unverified: could not be tried\n")
    assert error.text.endswith("\n    fatal: @everyone")
    assert "log" not in warned.findtext("system-out", "")


def test_a_remedy_of_words_alone_and_a_failure_without_a_log() -> None:
    remedy = Remedy(title="do it", commands=(("a", "b c"),))
    (case,) = cases(report(finding(Status.FAIL, subject="other", evidence={}, remedies=(remedy,))))
    assert case.find("failure").text == "memory.max is not in force\nto do: do it\n    a 'b c'"
    assert case.get("time") == "0.000"


def test_times_and_properties() -> None:
    root = ET.fromstring(junit.render(MIXED))
    suite = root[0]
    assert (root.get("time"), suite.get("time"), suite.get("timestamp")) == ("3.250", "3.250", "2026-01-02T03:04:05Z")
    assert {item.get("name"): item.get("value") for item in suite.iter("property")} == {
        "tool_version": "1.2.3", "verdict": "fail", "kernel": "6.1.0-28-amd64", "systemd": "252",
        "headline": "FAIL: 1 of 4 checks failed: CGP501 user-api; 1 check could not run",
        "hierarchy": "unified", "engine": "systemd",
    }  # fmt: skip
    bare = ET.fromstring(junit.render(replace(MIXED, host=replace(HOST, kernel=None, engine=None))))
    assert {"kernel", "engine"}.isdisjoint(item.get("name") for item in bare.iter("property"))
    nowhere = ET.fromstring(junit.render(replace(MIXED, host=None)))
    assert len(list(nowhere.iter("property"))) == 3


def test_a_verdict_that_no_case_explains_is_one_more_error() -> None:
    silent = replace(report(finding(Status.PASS)), verdict=Verdict.FAIL)
    suite = ET.fromstring(junit.render(silent))[0]
    assert (suite.get("tests"), suite.get("errors"), suite.get("failures")) == ("2", "1", "0")
    assert len(cases(report(finding(Status.PASS)))) == 1
    assert len(cases(report(finding(Status.UNVERIFIED)))) == 1


def test_a_located_finding_names_its_line() -> None:
    assert (cases(MIXED)[1].get("file"), cases(MIXED)[1].get("line")) == ("deploy/cgroup-preflight.toml", "12")
    assert cases(MIXED)[0].get("file") is None


def test_a_report_without_findings_does_not_look_green() -> None:
    (case,) = cases(report())
    assert [child.tag for child in case] == ["error"]


def test_equal_names_get_a_number() -> None:
    some = report(*[finding(Status.FAIL) for _ in range(3)], finding(Status.FAIL, subject="user-api (2)"))
    assert [case.get("name") for case in cases(some)] == [
        "CGP501 limits-in-force: user-api", "CGP501 limits-in-force: user-api (2)",
        "CGP501 limits-in-force: user-api (3)", "CGP501 limits-in-force: user-api (2) (2)",
    ]  # fmt: skip


def test_what_xml_cannot_hold_is_shown() -> None:
    text = junit.render(report(*[finding(Status.FAIL, subject=item, message=item) for item in HOSTILE]))
    assert not {char for char in text if ord(char) < 32 and char != "\n"}
    assert "\u202e" not in text
    assert "\\x1b[31mred" in text


@few
@given(reports())
def test_every_finding_is_a_case_with_its_words(some: Report) -> None:
    found = cases(some)
    names = [case.get("name") or "" for case in found]
    assert len(set(names)) == len(names)
    for item, case in zip(some.findings, found, strict=False):
        name = case.get("name") or ""
        assert plain(item.code) in name
        assert plain(clip(item.subject, 500)) in name
        if item.status in (Status.FAIL, Status.UNVERIFIED, Status.WARN):
            text = "".join(case.itertext())
            assert all(plain(clip(remedy.title, 500)) in text for remedy in item.remedies)
