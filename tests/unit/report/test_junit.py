"""JUnit XML."""

import xml.etree.ElementTree as ET

from hypothesis import given

from cgroup_preflight.core.report import Report, Status
from cgroup_preflight.report import junit
from cgroup_preflight.report.escape import clip, plain
from tests.unit.report.samples import HOSTILE, MIXED, few, finding, report, reports


def cases(some: Report) -> list[ET.Element]:
    return ET.fromstring(junit.render(some)).findall("./testsuite/testcase")


def test_each_status_has_its_element() -> None:
    elements = {case.get("classname"): [child.tag for child in case] for case in cases(MIXED)}
    assert elements == {
        "CGP101 hierarchy": ["system-out"], "CGP501 limits-in-force": ["failure"], "CGP120 io-weight": ["system-out"],
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
