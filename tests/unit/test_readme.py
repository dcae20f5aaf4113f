"""README, exit statuses and commands promise the same."""

import re
from pathlib import Path

from cgroup_preflight.cli import COMMANDS, help_text
from cgroup_preflight.core.errors import ExitStatus

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
