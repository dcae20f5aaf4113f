"""GitLab Code Quality."""

import json
from dataclasses import replace
from typing import Any

from hypothesis import given

from cgroup_preflight.core.report import Remedy, Report, Status, Verdict
from cgroup_preflight.publish.options import view
from cgroup_preflight.report import codequality
from cgroup_preflight.report.escape import clip, plain
from cgroup_preflight.report.merge import Leg
from cgroup_preflight.report.views import noise_of
from tests.unit.report.samples import MIXED, few, finding, report, reports


def entries(some: Report) -> list[dict[str, Any]]:
    text = codequality.render(some)
    assert text.isascii()
    loaded: list[dict[str, Any]] = json.loads(text)
    return loaded


def test_what_needs_a_reader_is_listed() -> None:
    assert [(item["check_name"], item["severity"], item["location"]) for item in entries(MIXED)] == [
        ("CGP501 limits-in-force", "critical", {"path": "deploy/cgroup-preflight.toml", "lines": {"begin": 12}}),
        ("CGP515 throttled", "minor", {"path": "deploy/cgroup-preflight.toml", "lines": {"begin": 1}}),
        ("CGP511 bites", "major", {"path": "deploy/cgroup-preflight.toml", "lines": {"begin": 12}}),
    ]
    assert entries(MIXED)[0]["description"] == ("user-api: memory.max is not in force. To do: raise MemoryMax to 96M.")


def test_a_pass_is_an_empty_array_and_silence_is_not() -> None:
    assert entries(report(finding(Status.PASS))) == []
    assert [item["severity"] for item in entries(report())] == ["major"]


def test_what_could_not_run_says_so_and_several_remedies_follow() -> None:
    two = (Remedy(title="first"), Remedy(title="second"))
    (entry,) = entries(report(finding(Status.UNVERIFIED, remedies=two)))
    assert entry["description"] == "user-api: unverified: memory.max is not in force. To do: first. To do: second."
    (silent,) = entries(report())
    assert silent["location"] == {"path": "cgroup-preflight.toml", "lines": {"begin": 1}}
    assert entries(replace(MIXED, verdict=Verdict.FAIL))[0]["severity"] == "critical"


def test_variables_for_later_jobs() -> None:
    merged = view((Leg(name="a", report=MIXED), Leg(name="b", report=MIXED)))
    assert codequality.dotenv(merged).splitlines() == [
        "CGROUP_PREFLIGHT_VERDICT=fail", "CGROUP_PREFLIGHT_RUNNERS=2", "CGROUP_PREFLIGHT_FAILED=1",
        "CGROUP_PREFLIGHT_UNVERIFIED=1", "CGROUP_PREFLIGHT_WARNINGS=1",
    ]  # fmt: skip
    links = {"a": "http://x.example", "b": "https://x.example", "c": "ftp://x.example"}
    shown = json.loads(codequality.annotations(merged, links))["cgroup-preflight"]
    assert [item["external_link"]["url"] for item in shown] == ["http://x.example", "https://x.example"]


@few
@given(reports())
def test_every_entry_is_what_gitlab_reads(some: Report) -> None:
    found = entries(some)
    assert len({item["fingerprint"] for item in found}) == len(found)
    for item in found:
        assert set(item) == {"description", "check_name", "fingerprint", "severity", "location"}
        assert item["severity"] in ("info", "minor", "major", "critical", "blocker")
        assert item["location"]["lines"]["begin"] >= 1
        assert not item["location"]["path"].startswith(("/", "./", ".."))
        assert all(ord(char) >= 32 for char in item["description"])


@few
@given(reports())
def test_every_finding_has_its_words(some: Report) -> None:
    about_machine = noise_of(some)
    shown = [
        item for item in some.findings if item.status in ("fail", "warn", "unverified") and not about_machine(item)
    ]
    for item, entry in zip(shown, entries(some), strict=False):
        assert plain(clip(item.code, 200)) in plain(entry["check_name"]) or len(item.code) > 200
        assert plain(clip(item.subject, 500)) in entry["description"]
        assert all(plain(clip(remedy.title, 500)) in entry["description"] for remedy in item.remedies)
