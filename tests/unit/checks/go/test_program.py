"""The checks of the program itself, the runner, and that every code has a page."""

import importlib
from dataclasses import replace

import pytest

from cgroup_preflight.checks.go import CHECKS
from cgroup_preflight.checks.go.base import GoCheck
from cgroup_preflight.checks.go.runner import load_check, run_go_checks
from cgroup_preflight.checks.reference import entry, known_codes
from cgroup_preflight.core.report import Status
from cgroup_preflight.golang.executable import Executable, FileKind
from cgroup_preflight.golang.program import Binary
from tests.unit.checks.go.making import STAMP, TARGET, app, findings, go_program, of, statuses, subjects

SCRIPT = Binary(
    path="/src/bin", executable=Executable(kind=FileKind.SCRIPT, interpreter="/bin/sh"), why_not="is a script"
)


def test_a_fitting_program_is_in_order() -> None:
    found = findings(app('CPUQuota = "200%"', 'MemoryMax = "512M"', go_settings=True))
    assert not statuses(found)
    assert found[0].code == "CGP400"
    assert "GOMAXPROCS 2 and memory limit 483183820 bytes" in found[0].message


def test_the_wrong_architecture() -> None:
    (item,) = of(findings(app(), target=replace(TARGET, machine="aarch64")), "CGP401")
    assert item.status is Status.FAIL
    assert not of(findings(app()), "CGP401")


def test_a_copy_that_was_cut_off() -> None:
    program = go_program()
    assert program.executable is not None
    cut = replace(program, executable=replace(program.executable, missing=9_000))
    (item,) = of(findings(app(), cut), "CGP401")
    assert (item.status, item.remedies[0].title) == (Status.FAIL, "build or copy it again: the file is incomplete")


def test_a_missing_interpreter() -> None:
    program = replace(go_program(interpreter="/lib/ld-musl-x86_64.so.1"), interpreter_here=False)
    (item,) = of(findings(app(), program), "CGP401")
    assert "/lib/ld-musl-x86_64.so.1" in item.message
    (item,) = of(findings(app(), program, target=replace(TARGET, machine="aarch64")), "CGP401")
    assert "/lib/ld" not in item.message  # what is missing for another machine is not to be seen here


def test_a_script_is_said_to_be_one_and_gets_no_advice() -> None:
    (item,) = findings(app('MemoryMax = "512M"', go_settings=True), SCRIPT)
    assert (item.code, item.status) == ("CGP400", Status.SKIP)
    assert "is a script" in item.message


def test_a_packed_program_is_said_to_be_packed() -> None:
    packed = Binary(path="/src/bin", why_not="is packed by UPX", unreadable=True)
    assert statuses(findings(app(), packed)) == {"CGP417": Status.WARN}
    (item,) = of(findings(app(), packed), "CGP417")
    assert (item.message, item.remedies[0].title) == (
        "its build info cannot be read: it is packed by UPX",
        "name a program file that can be read",
    )
    known = replace(packed, executable=go_program().executable)
    assert "as the Go toolchain built it" in of(findings(app(), known), "CGP417")[0].remedies[0].title


@pytest.mark.parametrize(
    ("setting", "words"),
    [(("-race", "true"), "race detector"), (("-asan", "true"), "address"), (("-gcflags", "all=-N -l"), "debugger")],
)
def test_builds_that_are_not_shipped(setting: tuple[str, str], words: str) -> None:
    (item,) = of(findings(app(), go_program("go1.27.3", setting)), "CGP412")
    assert words in item.message


@pytest.mark.parametrize("setting", [("-race", "false"), ("-gcflags", "-live"), ("-ldflags", "-N")])
def test_builds_that_are(setting: tuple[str, str]) -> None:
    assert not of(findings(app(), go_program("go1.27.3", setting)), "CGP412")


def test_the_stamp_of_the_repository_is_information() -> None:
    dirty = findings(app(), go_program(stamp=(STAMP[0], ("vcs.modified", "true"))))
    assert [item.status for item in of(dirty, "CGP415")] == [Status.PASS]
    assert [item.status for item in of(findings(app(), go_program(stamp=())), "CGP416")] == [Status.PASS]
    clean = findings(app())
    assert not of(clean, "CGP415") + of(clean, "CGP416")


def test_a_check_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_subject: object) -> tuple[()]:
        raise RuntimeError("boom")

    module = importlib.import_module("cgroup_preflight.checks.go.vcs_dirty")
    monkeypatch.setattr(module, "CHECK", GoCheck(code=module.CODE, page=module.PAGE, run=broken))
    bare, _ = subjects(app(), go_program())
    (item,) = [item for item in run_go_checks(bare) if item.code == "CGP415"]
    assert item.status is Status.UNVERIFIED
    assert "boom" in item.message


def test_each_code_of_the_table_is_that_of_its_module_and_has_a_page() -> None:
    pages = known_codes()
    for code in CHECKS:
        check = load_check(code)
        assert (check.code.code, check.code.name, check.page) == (code, pages[code], entry(code).page)
    assert {"CGP400", "CGP418", "CGP419"} <= set(pages)


def test_every_finding_that_worries_says_what_to_do() -> None:
    worst = findings(
        app('CPUQuota = "150%"', 'MemoryMax = "512M"', 'MemoryHigh = "300M"', 'TasksMax = "8"'),
        go_program("go1.24.1", ("-race", "true")),
    )
    worried = [item for item in worst if item.status in (Status.WARN, Status.FAIL)]
    assert {item.code for item in worried} == {"CGP403", "CGP404", "CGP405", "CGP409", "CGP412", "CGP414"}
    assert all(item.remedies and item.location for item in worried)
