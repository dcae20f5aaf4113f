"""`validate`: nothing is run and nothing read but the config; every format; the exit status is that of the findings."""

import json

import pytest

from cgroup_preflight.report import FORMATS
from tests.unit.cli.calling import FILE, call

pytestmark = pytest.mark.starts_processes
PROJECT = "[project]\nname = 'shop'\n"
GOOD = (
    f"{PROJECT}[slices.api]\nMemoryMax = '512M'\n[services.a]\nbinary = 'nowhere'\nslice = 'api'\nMemoryMax = '256M'\n"
)
WARNS = GOOD.replace("256M", "1G")
FAILS = (
    f"{PROJECT}[slices.api]\nConcurrencyHardMax = 1\n[services.a]\nbinary = 'nowhere'\nslice = 'api'\n"
    "[services.b]\nbinary = 'nowhere'\nslice = 'api'\n"
)
WRONG = f"{PROJECT}[slices.api]\nMemoryMax = '512MB'\n"
NONE = f"{PROJECT}[services.a]\nbinary = 'nowhere'\n"


@pytest.mark.parametrize(("text", "status"), [(GOOD, 0), (WARNS, 0), (FAILS, 1), (WRONG, 2), (NONE, 3)])
def test_the_exit_status_is_that_of_the_findings(tmp_path, text, status):
    assert call(tmp_path, "validate", config=text).status == status
    assert call(tmp_path, "validate", "--exit-zero").status == 0
    assert call(tmp_path, "validate", "--allow-unverified").status == (0 if status == 3 else status)


@pytest.mark.parametrize(("text", "code", "line"), [(WARNS, "CGP212", 8), (FAILS, "CGP219", 4), (WRONG, "CGP204", 4)])
def test_every_format_has_the_finding_and_its_line(tmp_path, text, code, line):
    wanted = [f"--format={name}=out.{name}" for name in FORMATS]
    call(tmp_path, "validate", *wanted, config=text)
    for name in FORMATS:
        assert code in (tmp_path / f"out.{name}").read_text(), name
    report = json.loads((tmp_path / "out.json").read_text())
    assert [item["location"] for item in report["findings"] if item["code"] == code] == [{"file": FILE, "line": line}]


def test_nothing_of_the_host_and_no_binary_is_needed(tmp_path):
    report = json.loads(call(tmp_path, "validate", "--format=json", config=GOOD).out)
    assert (report["verdict"], report["host"], report["services"]) == ("pass", {}, [])


def test_no_config_is_a_wrong_call(tmp_path):
    called = call(tmp_path, "validate")
    assert called.status == 2
    assert "init" in called.err


def test_help_teaches_what_it_does(tmp_path):
    text = call(tmp_path, "validate", "--help").out
    for word in ("weights without siblings", "Exit status", "runs nothing", "--format"):
        assert word in text


@pytest.mark.parametrize(("text", "status"), [(GOOD, 0), (WARNS, 0), (FAILS, 1)])
def test_slices_says_the_same_and_writes_the_files_all_the_same(tmp_path, text, status):
    called = call(tmp_path, "slices", config=text)
    assert called.status == status
    assert "### api.slice" in called.out
    assert (f"{FILE}:" in called.err) is (text is not GOOD)
    assert ("next: " in called.err) is (text is not GOOD)


@pytest.mark.parametrize(("text", "status"), [(WARNS, "warn"), (FAILS, "fail"), (GOOD, "pass")])
def test_check_with_a_config_says_it_too(tmp_path, text, status):
    report = json.loads(call(tmp_path, "check", "--format=json", config=text).out)
    codes = ("CGP212", "CGP213", "CGP214", "CGP215", "CGP219")
    statuses = {item["status"] for item in report["findings"] if item["code"] in codes}
    assert status in statuses
    assert statuses <= {"pass", status}
