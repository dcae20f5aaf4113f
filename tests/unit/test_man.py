"""The manual page is that of the help, and groff has no warning about it."""

import shutil
import subprocess
from pathlib import Path

import pytest
from ci import make_man

from cgroup_preflight.cli.completion.describe import every_command

TOP = Path(__file__).parents[2]


def test_the_page_is_up_to_date():
    assert make_man.FILE.read_text(encoding="utf-8") == make_man.page(), "run python -m ci.make_reference"


@pytest.mark.starts_processes
def test_groff_has_no_warning_and_shows_every_command_and_option():
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tascii", "-P-c", "-P-b", "-P-u", "-rLL=200n", str(make_man.FILE)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    for command in every_command():
        assert f"cgroup-preflight {command.name}\n" in done.stdout
        for item in command.options:
            assert item.names[-1] in done.stdout


@pytest.mark.parametrize(
    ("text", "roff"),
    [
        (".so /etc/passwd", "\\&.so /etc/passwd"), ("a\\fBb", "a\\efBb"), ("--quiet", "\\-\\-quiet"), ("'x'", "\\(aqx\\(aq"),
        ("`run`", "\\(garun\\(ga"), ("~/.cache", "\\(ti/.cache"),
    ],
)  # fmt: skip
def test_no_text_is_a_request_of_roff(text, roff):
    assert make_man._text(text) == roff


def test_the_wheel_has_the_page_where_man_looks():
    wheel = (TOP / "pyproject.toml").read_text()
    assert '"docs/man/cgroup-preflight.1" = "share/man/man1/cgroup-preflight.1"' in wheel
