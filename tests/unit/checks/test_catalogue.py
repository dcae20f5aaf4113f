"""Drift over the table of checks: each code has its module, page, remedy, sources, and hosts for both answers."""

import dataclasses
import importlib
import json
import re
from pathlib import Path

import pytest
from ci import make_reference

import cgroup_preflight.checks
from cgroup_preflight.checks import CHECKS, reference
from cgroup_preflight.checks.base import Severity
from cgroup_preflight.checks.runner import load_check
from cgroup_preflight.cli import schema as schema_command
from cgroup_preflight.core.report import Status
from cgroup_preflight.host.facts import Facts
from tests.unit.checks import hosts
from tests.unit.checks.cases import PASSES, SAYS_OTHERWISE


def test_each_module_is_in_the_table_once():
    top = Path(cgroup_preflight.checks.__file__).parent
    modules = [
        f"{path.parent.name}.{path.stem}"
        for name in ("cgroup", "kernel", "systemd")
        for path in (top / name).glob("*.py")
        if path.stem != "__init__"
    ]
    assert sorted(CHECKS.values()) == sorted(modules)
    assert list(CHECKS) == sorted(CHECKS)


@pytest.mark.parametrize("code", CHECKS)
def test_module_and_check_agree(code):
    check = load_check(code)
    module = importlib.import_module(f"cgroup_preflight.checks.{CHECKS[code]}")
    assert check.code == code
    assert check.name == CHECKS[code].rpartition(".")[2].replace("_", "-")
    assert (module.__doc__ or "").startswith(f"{code}: ")


@pytest.mark.parametrize("code", CHECKS)
def test_needs_are_facts(code):
    check = load_check(code)
    fields = {item.name for item in dataclasses.fields(Facts)}
    assert check.needs
    assert set(check.needs) | set(check.uses) <= fields
    assert not set(check.needs) & set(check.uses)


@pytest.mark.parametrize("code", reference.known_codes())
def test_page_has_all_its_parts(code):
    item = reference.page(code)
    for text in (item.what, item.why, item.remedy):
        assert text.endswith("."), text
        assert len(text) > 10
    assert item.sources
    assert all(re.fullmatch(r"https://[^\s<>]+", source) for source in item.sources)
    assert item.worst in ("error", "warning", "information")
    for heading in ("## What", "## Why", "## Remedy", "## Sources"):
        assert heading in reference.markdown(code)


def test_pages_are_as_generated():
    assert make_reference.stale(make_reference.FOLDER) == [], "run python -m ci.make_reference"


def test_stale_pages_are_noticed(tmp_path):
    for name, text in make_reference.pages().items():
        (tmp_path / name).write_text(text)
    assert make_reference.stale(tmp_path) == []
    (tmp_path / "CGP101.md").write_text("else")
    (tmp_path / "CGP999.md").write_text("no such code")
    (tmp_path / "CGP102.md").unlink()
    assert make_reference.stale(tmp_path) == ["CGP101.md", "CGP102.md", "CGP999.md"]


def test_the_schema_has_an_entry_for_each_code_and_no_other(capsys):
    assert schema_command.main(["report"]) == 0
    code = json.loads(capsys.readouterr().out)["$defs"]["finding"]["properties"]["code"]
    assert {item["const"]: item["title"] for item in code["oneOf"]} == reference.known_codes()
    assert all(re.search(code["pattern"], item["const"]) for item in code["oneOf"])


def test_each_code_of_the_source_is_in_the_reference():
    found = set()
    for path in (hosts.REPOSITORY / "src").rglob("*.py"):
        found |= set(re.findall(r"\bCGP\d{3}\b", path.read_text()))
    assert found == set(reference.known_codes())


def test_both_answers_of_each_code_are_shown():
    assert set(PASSES) == set(CHECKS)
    assert {code for code, _ in SAYS_OTHERWISE} == set(CHECKS)


@pytest.mark.parametrize("code", CHECKS)
def test_a_host_that_passes(code):
    assert PASSES[code].statuses(code) == {"pass"}


@pytest.mark.parametrize(("code", "case"), SAYS_OTHERWISE, ids=lambda item: getattr(item, "host", item))
def test_a_host_of_which_it_says_otherwise(code, case):
    assert case.says in case.statuses(code)


@pytest.mark.parametrize(("code", "case"), SAYS_OTHERWISE, ids=lambda item: getattr(item, "host", item))
def test_what_is_wrong_has_evidence_and_a_remedy(code, case):
    config = hosts.config_of(case.config) if case.config else None
    _, findings = hosts.judge(hosts.facts_of(case.document()), config)
    wrong = [item for item in findings if item.code == code and item.status in hosts.BAD]
    assert wrong
    for item in wrong:
        assert item.evidence
        assert item.remedies
        assert all(remedy.title for remedy in item.remedies)
        # Somebody looks for where it was read: a path, or the command that answered.
        assert any("/" in key or key.startswith("systemctl") for key in item.evidence), item.evidence


@pytest.mark.parametrize("name", hosts.NAMES)
def test_a_check_that_only_warns_never_fails(name):
    warns = {code for code in CHECKS if load_check(code).severity is Severity.WARNING}
    _, findings = hosts.judge(hosts.facts_of(hosts.recording(name)), hosts.shop())
    assert not {item.code for item in findings if item.status in (Status.FAIL, Status.UNVERIFIED)} & warns
