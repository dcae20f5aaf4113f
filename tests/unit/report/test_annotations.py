"""Annotations of a check run and of a job's log: levels, texts, how many."""

from cgroup_preflight.core.report import Remedy, Status
from cgroup_preflight.report import annotations
from tests.unit.report.samples import MIXED, finding, report


def test_an_annotation_of_the_api() -> None:
    (batch,) = annotations.batches(MIXED)
    assert [(item["annotation_level"], item["title"], item["start_line"]) for item in batch] == [
        ("failure", "CGP501 limits-in-force", 12), ("warning", "CGP511 bites", 12), ("notice", "CGP515 throttled", 1),
    ]  # fmt: skip
    assert [item["message"] for item in batch] == [
        "user-api: memory.max is not in force", "user-api: unverified: could not be tried",
        "io: memory.max is not in force",
    ]  # fmt: skip
    assert batch[0]["raw_details"] == (
        "read: memory.max = max\nread: oom_kill = 1\nread: ok = False\nto do: raise MemoryMax to 96M\n"
        "    sudo systemctl set-property 'a b' x=1"
    )
    assert batch[0]["path"] == "deploy/cgroup-preflight.toml"
    (bare,) = annotations.batches(report(finding(Status.FAIL, evidence={}, remedies=())))
    assert "raw_details" not in bare[0]
    user = Remedy(title="do it", commands=(("a", "b"),))
    (plain,) = annotations.batches(report(finding(Status.FAIL, evidence={}, remedies=(user,))))
    assert plain[0]["raw_details"] == "to do: do it\n    a b"


def test_bounds_of_an_annotation() -> None:
    evidence = {f"key{number}": "x" * 600 for number in range(80)}
    (batch,) = annotations.batches(report(finding(Status.FAIL, evidence=evidence, code="C" * 300, message="m" * 3000)))
    (item,) = batch
    assert len(item["title"]) <= 255
    assert len(item["raw_details"]) == 8000
    assert "(100 characters left out)" in item["raw_details"]
    assert "(1000 characters left out)" in item["message"]
    few = {f"key{number}": "x" for number in range(80)}
    ((item,),) = annotations.batches(report(finding(Status.FAIL, evidence=few)))
    assert item["raw_details"].count("\n") == 59


def test_lines_of_a_log() -> None:
    lines = annotations.render(MIXED).splitlines()
    assert lines == [
        (
            "::error title=CGP501 limits-in-force,file=deploy/cgroup-preflight.toml,line=12::"
            "user-api: memory.max is not in force; to do: raise MemoryMax to 96M"
        ),
        (
            "::warning title=CGP511 bites,file=deploy/cgroup-preflight.toml,line=12::"
            "user-api: unverified: could not be tried; to do: raise MemoryMax to 96M"
        ),
        (
            "::notice title=CGP515 throttled,file=deploy/cgroup-preflight.toml,line=1::"
            "io: memory.max is not in force; to do: raise MemoryMax to 96M"
        ),
    ]
    assert annotations.kinds("\n".join(lines)) == {"error": 1, "warning": 1, "notice": 1}
    bare = annotations.render(report(finding(Status.FAIL, remedies=())))
    assert bare.endswith("user-api: memory.max is not in force\n")
    assert annotations.render(report(finding(Status.PASS), finding(Status.SKIP))) == ""


def test_what_a_step_has_shown_already_is_taken_from_its_ten() -> None:
    warned = report(*[finding(Status.WARN, subject=f"w{number}") for number in range(10)])
    lines = annotations.render(warned, taken={"notice": 1, "error": 9}).splitlines()
    assert len(lines) == 9
    assert lines[-1] == "::notice title=cgroup-preflight::and 2 more: see the job summary"
    assert len(annotations.render(warned, taken={"error": 10}).splitlines()) == 10
    assert annotations.render(warned, taken={"notice": 10}) == ""
    assert annotations.render(warned, taken={"notice": 9}) == ""
    assert len(annotations.render(warned, taken={"notice": 8}).splitlines()) == 2


def test_characters_with_a_meaning_in_a_command_are_escaped() -> None:
    assert annotations.command("notice", "50%: a,b\n::x", title="a:b,c%", file="", line="1") == (
        "::notice title=a%3Ab%2Cc%25,line=1::50%25: a,b\\n::x\n"
    )
    assert annotations.no_command("##[group]x") == "## [group]x"
    assert annotations.no_command("  ::error::x") == "'  ::error::x"
    assert annotations.no_command("a ::error::x") == "a ::error::x"
    assert annotations.command("notice", "x", title="t" * 300).startswith(
        "::notice title=" + "t" * 250 + "... (50 char"
    )
