"""Files for forges keep below their limits: the worst stays, the rest is counted."""

import json
import xml.etree.ElementTree as ET

import pytest

from cgroup_preflight.core.report import Status
from cgroup_preflight.report import codequality, junit
from tests.unit.report.samples import HOSTILE, finding, report

MANY = report(
    *[finding(Status.PASS, subject=f"p{number}") for number in range(300)],
    *[finding(Status.WARN, subject=f"w{number}", message=HOSTILE[8]) for number in range(300)],
    *[finding(Status.FAIL, subject=f"f{number}", message="\U0001f600" * 50) for number in range(100)],
)


@pytest.mark.parametrize("limit", [30_000, 100_000, 150_000, 300_000])
def test_junit(limit: int) -> None:
    text = junit.render(MANY, limit=limit)
    assert len(text.encode()) <= limit
    suite = ET.fromstring(text)[0]
    cases = suite.findall("testcase")
    assert suite.get("tests") == str(len(cases))
    fails = [case for case in cases if case.find("failure") is not None]
    assert suite.get("failures") == str(len(fails))
    (note,) = [case for case in cases if case.get("name") == "left out"]
    missing = len(MANY.findings) - len(cases) + 1
    element = "skipped" if len(fails) == 100 else "error"
    assert note.find(element).get("message").startswith(f"{missing} more findings")
    others = {child.tag for case in cases for child in case}
    assert len(fails) == 100 or others == {"failure", "error"}


@pytest.mark.parametrize("limit", [10_000, 40_000, 80_000])
def test_code_quality(limit: int) -> None:
    text = codequality.render(MANY, limit=limit)
    assert len(text) <= limit
    *entries, note = json.loads(text)
    assert note["description"].startswith(f"{400 - len(entries)} more findings")
    fails = sum(entry["severity"] == "critical" for entry in entries)
    assert fails == min(100, len(entries))
    assert note["severity"] == ("minor" if fails == 100 else "major")
    assert len({entry["fingerprint"] for entry in entries}) == len(entries)


def test_nothing_is_left_out_where_all_fits() -> None:
    assert "left out" not in junit.render(MANY)
    assert len(json.loads(codequality.render(MANY))) == 400
