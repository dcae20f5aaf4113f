"""README, exit statuses and commands promise the same."""

import re
from pathlib import Path

from cgroup_preflight.cli import COMMANDS, help_text
from cgroup_preflight.exit_status import ExitStatus

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_table_of_exit_statuses_is_the_enum() -> None:
    rows = [int(match) for match in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)]
    assert rows == [status.value for status in ExitStatus]


def test_help_names_every_command_and_readme_only_real_ones() -> None:
    text = help_text()
    for command in COMMANDS:
        assert f"  {command} " in text
    for command in re.findall(r"cgroup-preflight ([a-z]+)\b", README):
        assert command in COMMANDS


def test_readme_names_only_real_sessions() -> None:
    noxfile = (Path(__file__).parents[2] / "noxfile.py").read_text()
    for session in re.findall(r"nox -s ([a-z]+)", README):
        assert f"def {session}(session" in noxfile
