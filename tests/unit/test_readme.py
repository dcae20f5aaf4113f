"""README, exit statuses and commands promise the same."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from cgroup_preflight.cli import COMMANDS, help_text
from cgroup_preflight.core.errors import ExitStatus
from cgroup_preflight.core.report import Report, ServiceResult, Verdict
from cgroup_preflight.report import text

TOP = Path(__file__).parents[2]
README = (TOP / "README.md").read_text()
PAGES = [TOP / "README.md", TOP / "CONTRIBUTING.md", *sorted((TOP / "docs").rglob("*.md"))]


def test_the_table_of_exit_statuses_is_the_enum() -> None:
    rows = [int(match) for match in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)]
    assert rows == [status.value for status in ExitStatus]


def test_help_names_every_command_and_readme_only_real_ones() -> None:
    text = help_text()
    for command in COMMANDS:
        assert f"  {command} " in text
    for page in PAGES:
        for command in re.findall(r"^ +cgroup-preflight ([a-z]+)\b", page.read_text(), re.MULTILINE):
            assert command in COMMANDS, page.name


def test_links_lead_to_files_that_are_there() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_readme_names_only_real_sessions() -> None:
    noxfile = (TOP / "noxfile.py").read_text()
    for page in PAGES:
        for session in re.findall(r"nox -s ([a-z]+)", page.read_text()):
            assert f"def {session}(session" in noxfile, page.name


def _sample() -> str:
    found = re.search(r"## What it prints\n.*?```text\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


def _constants() -> Iterator[str]:
    """Every piece of fixed text in the package, longest first; those of an f-string are the pieces between values."""
    texts = set()
    for path in (TOP / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(node.value)
    return iter(sorted((item for item in texts if 10 <= len(item) <= 300), key=len, reverse=True))


def test_the_sample_run_has_the_words_of_this_version() -> None:
    """At least half of each message and remedy is text of the package; the rest are values of the machine."""
    lines = [line.strip().partition(": ")[2] for line in _sample().splitlines() if re.match(r"warn |    do: ", line)]
    lines = [re.sub(r"^(?:this host: )?\S+: ", "", line) for line in lines]
    fixed = list(_constants())
    assert len(lines) >= 6
    for line in lines:
        rest = line
        for item in fixed:
            rest = rest.replace(item.strip(), "")
        assert len(rest) <= 0.5 * len(line), rest


def test_the_sample_run_has_the_shape_of_the_text_format() -> None:
    made = text.render(
        Report(tool_version="1", verdict=Verdict.PASS, host=None, findings=(), started_at="2026-01-01T00:00:00Z",
               duration_seconds=1.0, services=(ServiceResult(name="worker", engine="guest", unit="w", cgroup="/w"),)),
    )  # fmt: skip
    header = next(line for line in made.splitlines() if line.startswith("service "))
    assert header.split() in [line.split() for line in _sample().splitlines()]
    assert re.match(r"PASS: \d+ limits of 3 services are in force \(\d+ checks passed", _sample())
