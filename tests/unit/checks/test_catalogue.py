"""Drift over the table of checks: each code has its module, page, remedy, sources, and hosts for both answers."""

import ast
import dataclasses
import importlib
import json
import re
from pathlib import Path

import pytest
from ci import make_reference

import cgroup_preflight.checks
from cgroup_preflight.checks import CHECKS, reference
from cgroup_preflight.checks.runner import load_check
from cgroup_preflight.cli import schema as schema_command
from cgroup_preflight.core.codes import Severity
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
    assert check.code.code == code
    assert check.code.name == CHECKS[code].rpartition(".")[2].replace("_", "-")
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
    item = reference.entry(code)
    page = item.page
    for text in (page.what, page.fails, page.fix):
        assert text.endswith("."), text
        assert len(text) > 10
    verb = "Shows " if item.code.worst is Severity.INFORMATION else ("Checks ", "Shows that ")
    assert page.what.startswith(verb), page.what
    assert page.sources
    assert all(re.fullmatch(r"https://[^\s<>]+", source) for source in page.sources)
    for text in (reference.markdown(item), reference.explain(item)):
        at = [text.index(part) for part in ("What it does", "When it" if "When it" in text else "What it tells",
                                            "What to do", "Sources")]  # fmt: skip
        assert at == sorted(at)
    assert ("What it tells" in text) == (item.code.worst is Severity.INFORMATION)


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


#: Where a code may stand alone in the source: where it is made, and in the tables of checks.
TABLES = ("checks/__init__.py", "checks/go/__init__.py", "core/firm.py")


def _codes_alone(path: Path) -> list[tuple[str, bool]]:
    """Each string of a module that is a code and nothing else; whether a `Code` is made of it."""
    tree = ast.parse(path.read_text())
    made = {id(node.args[0]) for node in ast.walk(tree)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Code" and node.args}  # fmt: skip
    return [(node.value, id(node) in made) for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and re.fullmatch(r"CGP\d{3}", str(node.value))]  # fmt: skip


def test_each_code_is_made_in_one_place_and_written_nowhere_else():
    source = hosts.REPOSITORY / "src" / "cgroup_preflight"
    made: list[str] = []
    for path in source.rglob("*.py"):
        for code, is_made in _codes_alone(path):
            place = str(path.relative_to(source))
            assert is_made or place in TABLES, f"{place}: use the object of {code}"
            made += [code] if is_made else []
    assert sorted(made) == list(reference.known_codes())


def test_a_code_written_as_text_is_noticed(tmp_path):
    path = tmp_path / "x.py"
    path.write_text('"""CGP501: words."""\nA = Code("CGP501", "x")\nB = item.code == "CGP504"\nC = "see CGP101"\n')
    assert _codes_alone(path) == [("CGP501", True), ("CGP504", False)]


def test_no_name_is_used_twice():
    names = list(reference.known_codes().values())
    assert len(names) == len(set(names))


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
    warns = {code for code in CHECKS if load_check(code).code.worst is Severity.WARNING}
    _, findings = hosts.judge(hosts.facts_of(hosts.recording(name)), hosts.shop())
    assert not {item.code for item in findings if item.status in (Status.FAIL, Status.UNVERIFIED)} & warns
