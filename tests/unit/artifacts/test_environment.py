"""Environment files and variables of units in an artifact, which change what a run tested."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.artifacts import findings as artifact_findings
from cgroup_preflight.artifacts.environment import own_variables
from cgroup_preflight.core.env_file import variables_of_file
from cgroup_preflight.core.report import Status
from tests.unit.artifacts.making import UNITS, check, entry, put, request, tar, write

_PLAN = """
[slices.api]
MemoryMax = "192M"
[services.user-api]
binary = "dist/user-api"
slice = "api"
[services.user-api.Environment]
GOMAXPROCS = "1"
MODE = "fast"
"""
_UNIT = f"{UNITS}/user-api.service"


def _said(tmp_path: Path, files: dict[str, str], *, plan: str = _PLAN) -> list[tuple[Status, str]]:
    goal = request(plan, services="present")
    members = [entry("usr/bin/user-api", b"\x7fELF"), *(entry(name, text.encode()) for name, text in files.items())]
    path = write(tmp_path, "a.tar", tar(members))
    put(path, goal)
    found = artifact_findings.checked(check(path, goal))
    return [
        (item.status, item.message) for item in found
        if item.code == "CGP308" and item.status in (Status.FAIL, Status.WARN)
    ]  # fmt: skip


@pytest.mark.parametrize("place", ["etc/default/user-api", "opt/shop/env", "aa", "zz/last"])
def test_a_file_of_the_artifact_that_undoes_the_plan_fails(tmp_path: Path, place: str) -> None:
    files = {place: "# c\nGOMAXPROCS=8\nMODE='fast'\nOTHER=1\n", _UNIT: f"[Service]\nEnvironmentFile=-/{place}\n"}
    message = f"user-api.service: EnvironmentFile=/{place} sets GOMAXPROCS=8, over GOMAXPROCS=1 of the plan"
    assert _said(tmp_path, files) == [(Status.FAIL, message)]


def test_a_file_that_agrees_or_that_no_unit_reads_is_no_finding(tmp_path: Path) -> None:
    unit = "[Service]\nEnvironmentFile=/etc/default/user-api\n"
    assert _said(tmp_path, {"etc/default/user-api": 'GOMAXPROCS="1"\nX=2\n', _UNIT: unit}) == []
    assert _said(tmp_path, {"etc/default/user-api": "GOMAXPROCS=8\n", _UNIT: "[Service]\nUser=x\n"}) == []
    reset = f"{unit}EnvironmentFile=\n"
    assert _said(tmp_path, {"etc/default/user-api": "GOMAXPROCS=8\n", _UNIT: reset}) == []


def test_a_file_that_is_not_in_the_artifact_is_a_warning(tmp_path: Path) -> None:
    unit = {_UNIT: "[Service]\nEnvironmentFile=/etc/default/user-api\n"}
    ((status, message),) = _said(tmp_path, unit)
    assert status is Status.WARN and "may change GOMAXPROCS, MODE" in message
    assert _said(tmp_path, unit, plan=_PLAN.partition("[services.user-api.Env")[0]) == [], "nothing can be lost"


@pytest.mark.parametrize(
    "name", ["/etc/default/%N", "/etc/default/%p", "/etc/default/user-*", '"/etc/default/user-api"']
)
def test_names_with_specifiers_globs_and_quotes(tmp_path: Path, name: str) -> None:
    files = {"etc/default/user-api": "MODE=slow\n", _UNIT: f"[Service]\nEnvironmentFile={name}\n"}
    assert [status for status, _ in _said(tmp_path, files)] == [Status.FAIL]


def test_drop_ins_name_files_too_and_the_unit_in_etc_is_the_one(tmp_path: Path) -> None:
    files = {"etc/default/x": "MODE=slow\n", _UNIT: "[Service]\nUser=x\n"}
    drop_in = {f"{UNITS}/user-api.service.d/20-x.conf": "[Service]\nEnvironmentFile=/etc/default/x\n"}
    assert [status for status, _ in _said(tmp_path, files | drop_in)] == [Status.FAIL]
    hidden = {
        _UNIT: "[Service]\nEnvironmentFile=/etc/default/x\n",
        "etc/systemd/system/user-api.service": "[Service]\n",
    }
    assert _said(tmp_path, files | hidden) == []
    shown = {**hidden, "lib/systemd/system/user-api.service": "[Service]\n"}
    del shown["etc/systemd/system/user-api.service"]
    assert [status for status, _ in _said(tmp_path, files | shown)] == [Status.FAIL], "lib/ is read after usr/lib/"


def test_variables_of_the_go_runtime_that_the_run_did_not_have(tmp_path: Path) -> None:
    unit = '[Service]\nEnvironment=GOGC=50 "A=b c"\nEnvironment=GOMAXPROCS=8\n'
    ((status, message),) = _said(tmp_path, {_UNIT: unit})
    assert status is Status.WARN and "GOGC=50" in message, "GOMAXPROCS is set again by the plan's drop-in"
    for value, count in (("50", 0), ("60", 1)):
        plan = f'{_PLAN}[services.user-api.smoke.env]\nGOGC = "{value}"\n'
        assert len(_said(tmp_path, {_UNIT: unit}, plan=plan)) == count, "the run had another value"
    files = {"etc/default/x": "GOGC=50\n", _UNIT: "[Service]\nEnvironmentFile=/etc/default/x\n"}
    assert [status for status, _ in _said(tmp_path, files)] == [Status.WARN]


@pytest.mark.parametrize(("text", "found"), [
    ("GOGC = 50\n", {"GOGC": "50"}), ("  GOGC=50 \n", {"GOGC": "50"}), ("export GOGC=50\n", {}),
    ("# a \\\nGOGC=50\n", {"GOGC": "50"}), ("a \\\nGOGC=50\n", {"GOGC": "50"}), ("# GOGC=50\n;GOGC=50", {}),
    ("A=b\\\nGOGC=50\n", {"A": "bGOGC=50"}), ("A=b\\\\\nGOGC=50\n", {"A": "b\\", "GOGC": "50"}),
    ("A='b\nGOGC=50'\n", {"A": "b\nGOGC=50"}), ("A='b\\'\nGOGC=50", {"A": "b\\", "GOGC": "50"}),
    ('A="b\nGOGC=50', {"A": "b\nGOGC=50"}), ('A="b\\"\nc"\nGOGC=5"0\n', {"A": 'b"\nc', "GOGC": '5"0'}),
    ("GOGC='5'\"0\"\n", {"GOGC": "50"}), ("GOGC=\\5\\0\n", {"GOGC": "50"}), ("GOGC=1\nGOGC=50\n", {"GOGC": "50"}),
    ("GOGC=50\rA=1", {"GOGC": "50", "A": "1"}), ("A=1\u2028GOGC=50\n", {"A": "1\u2028GOGC=50"}), ("=GOGC=50", {}),
    ("GOGC=\n", {"GOGC": ""}), ('A="\\x\\$"', {"A": "\\x$"}), ("A=\\", {"A": ""}), ("GOGC", {}),
])  # fmt: skip
def test_a_file_of_variables_is_read_as_systemd_reads_it(text: str, found: dict[str, str]) -> None:
    assert variables_of_file(text) == found


def test_no_line_hides_the_variable_below_it(tmp_path: Path) -> None:
    unit = "[Service]\nEnvironmentFile=/etc/default/user-api\n"
    for text in ("# c:\\\nGOMAXPROCS=8\n", "GOMAXPROCS = 8\n", "PATH_=c:\\\\\nGOMAXPROCS=8\n"):
        assert [status for status, _ in _said(tmp_path, {"etc/default/user-api": text, _UNIT: unit})] == [Status.FAIL]
    for text in ("# GOMAXPROCS=8\n", "GOMAXPROCS = 1\n", "X='\nGOMAXPROCS=8\n'\n"):
        assert _said(tmp_path, {"etc/default/user-api": text, _UNIT: unit}) == []


@pytest.mark.parametrize(
    "text", [" " * 300_000, "a" * 300_000, "A=" + "'" * 300_001, 'A="' + "\\" * 300_001, "=" * 300_000]
)
def test_a_long_file_is_read_once(text: str) -> None:
    assert set(variables_of_file(text)) <= {"A"}


@given(
    name=st.from_regex(r"[A-Z_][A-Z0-9_]{0,9}", fullmatch=True),
    value=st.from_regex(r"[a-z0-9 ./:-]{0,20}", fullmatch=True),
)
def test_a_variable_is_read_as_it_was_written(name: str, value: str) -> None:
    assert variables_of_file(f'; x=1\n{name}="{value}"\n') == {name: value}
    assert own_variables([f'[Service]\nEnvironment="{name}={value}"\n']) == {name: value}


@given(st.text(max_size=200))
def test_any_text_can_be_read(text: str) -> None:
    variables_of_file(text)
    own_variables([text, f"[Service]\nEnvironment={text}"])
