"""What a person sees: width, colour, -q, -v, --timings; on a pseudo terminal, and through a pipe."""

import os
import pty
import re
import subprocess
import sys
import time

import pytest

from cgroup_preflight.cli.progress import Progress
from cgroup_preflight.core.report import ServiceResult
from tests.unit.cli.calling import FILE, call, environment

pytestmark = pytest.mark.starts_processes
WRONG = "[project]\nname = 'shop'\n[slices.api]\nxyzzy = 1\nMemoryMax = '512MB'\n"
WARNS = "[project]\nname = 'shop'\n[slices.api]\nMemoryMax = '1G'\n[services.a]\nbinary = 'x'\nslice = 'api'\nMemoryMax = '2G'\n"
_TIMEOUT = 60


def on_terminal(folder, *words, config=WRONG, **more):
    """The text on a terminal of 80 columns, or of those that `COLUMNS` names; both streams together."""
    (folder / FILE).write_text(config)
    here, there = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "cgroup_preflight", *words], cwd=folder, stdin=subprocess.DEVNULL, stdout=there,
        stderr=there, env=environment(folder, **{"COLUMNS": "80", "TERM": "xterm", **more}),
    )  # fmt: skip
    os.close(there)
    text, until = b"", time.monotonic() + _TIMEOUT
    try:
        while time.monotonic() < until:
            try:
                part = os.read(here, 65536)
            except OSError:  # Linux: the last writer has gone
                break
            text += part
        process.wait(_TIMEOUT)
    finally:
        process.kill()
        process.wait()
        os.close(here)
    return text.decode().replace("\r\n", "\n")


def bare(text):
    return re.sub(r"\x1b\[\d+m", "", text)


@pytest.mark.parametrize("words", [["validate"], ["slices"], ["check"]])
def test_no_line_is_longer_than_the_terminal_and_no_word_is_lost(tmp_path, words):
    text = bare(on_terminal(tmp_path, *words))
    piped = call(tmp_path, *words)
    assert max(len(line) for line in text.split("\n")) <= 80
    assert any(len(line) > 80 for line in piped.text.split("\n")), "a pipe has whole lines"
    assert text.split() == (piped.out + piped.err).split()


def test_a_wider_terminal_has_wider_lines(tmp_path):
    assert 80 < max(len(line) for line in bare(on_terminal(tmp_path, "validate", COLUMNS="120")).split("\n")) <= 120


@pytest.mark.parametrize(
    ("more", "coloured"),
    [
        ({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": ""}, False), ({"TERM": "dumb", "FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False), ({"FORCE_COLOR": "1", "NO_COLOR": ""}, True),
    ],
)  # fmt: skip
def test_colour_through_a_pipe(tmp_path, more, coloured):
    assert ("\x1b[31mFAIL\x1b[0m" in call(tmp_path, "validate", config=WRONG, **more).out) is coloured


@pytest.mark.parametrize(("more", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colour_on_a_terminal(tmp_path, more, coloured):
    assert ("\x1b[31mFAIL\x1b[0m" in on_terminal(tmp_path, "validate", **more)) is coloured


def test_a_file_has_no_colour_and_whole_lines(tmp_path):
    on_terminal(tmp_path, "validate", "--format", "text=out.txt", FORCE_COLOR="1")
    text = (tmp_path / "out.txt").read_text()
    assert "\x1b" not in text
    assert max(map(len, text.split("\n"))) > 120


def test_quiet_shows_the_verdict_and_what_is_no_pass(tmp_path):
    brief = call(tmp_path, "validate", "-q", config=WARNS)
    assert (brief.status, brief.out.count("\n"), brief.out[:5]) == (0, 1, "CHECK")
    assert "CGP212" in call(tmp_path, "validate").out
    failed = call(tmp_path, "validate", "--quiet", config=WRONG).out
    assert [line[:4] for line in failed.splitlines() if "CGP" in line] == ["FAIL", "fail", "fail"]
    assert "use 512M" in failed


def test_verbose_shows_what_passed_and_excludes_quiet(tmp_path):
    passed = call(tmp_path, "validate", "-v", config=WARNS).out
    assert "pass       CGP213" in passed
    assert call(tmp_path, "validate", "--verbose").out == passed
    assert call(tmp_path, "validate", "-q", "-v").status == 2


@pytest.mark.parametrize("command", ["check", "run", "smoke", "validate", "inspect", "inject"])
def test_each_command_with_a_report_knows_both(tmp_path, command):
    text = call(tmp_path, command, "--help").out
    assert "-q, --quiet" in text
    assert "-v, --verbose" in text


@pytest.mark.parametrize("words", [("diagnose",), ("rollout", "plan")])
def test_what_always_shows_all_has_no_option_for_it(tmp_path, words):
    text = call(tmp_path, *words, "--help").out
    assert "-q, --quiet" in text
    assert "--verbose" not in text


def test_timings_are_on_stderr_and_add_up(tmp_path):
    config = "[project]\nname = 'shop'\n[services.a]\nbinary = 'x'\nMemoryMax = '1G'\n"
    (tmp_path / "x").write_text("#!/bin/sh\n")
    (tmp_path / "x").chmod(0o755)
    called = call(tmp_path, "run", "--timings", "--format", "json", config=config)
    assert called.out.startswith("{")
    rows = [line.rsplit(None, 1) for line in called.err.splitlines() if re.search(r" \d+\.\d\d$", line)]
    assert [row[0].strip() for row in rows][:2] == ["reading the config", "checking the host"]
    assert rows[-1][0] == "all"
    assert sum(float(row[1]) for row in rows[:-1]) == pytest.approx(float(rows[-1][1]), abs=0.02 * len(rows))
    assert "seconds" not in call(tmp_path, "run").err


def test_a_step_lasts_until_the_next_and_services_are_within_one():
    shown, times = [], iter([10.0, 11.5, 14.0, 14.25])
    progress = Progress(quiet=False, show=shown.append, now=lambda: next(times))
    progress("checking the host")
    progress("starting", lambda text: shown.append(text.upper()))
    service = ServiceResult(name="a\x1b", engine="user", unit="a", cgroup="/a", duration_seconds=0.2)
    assert progress.table((service,)) == (
        "\nstep                seconds\nreading the config     1.50\nchecking the host      2.50\n"
        "starting               0.25\n  service a\\x1b        0.20\nall                    4.25\n"
    )
    assert shown == ["checking the host", "STARTING"]


def test_a_quiet_command_shows_no_step():
    shown = []
    progress = Progress(quiet=True, show=shown.append)
    progress("checking the host")
    progress("starting", shown.append)
    assert shown == []


SOME = "[project]\nname = 'shop'\n[services.a]\nbinary = 'x'\nMemoryMax = '1G'\n[services.b]\nbinary = 'x'\n[services.c]\nbinary = 'x'\n"


@pytest.fixture
def project(tmp_path):
    (tmp_path / "x").write_text("#!/bin/sh\n")
    (tmp_path / "x").chmod(0o755)
    return tmp_path


def test_run_of_some_services_says_what_is_left_out(project):
    called = call(project, "run", "b", config=SOME)
    assert "2 services were left out of this run, so nothing is proven about a, c" in called.out
    assert "1 service was left out of this run, so nothing is proven about c" in call(project, "run", "b", "a").out


@pytest.mark.parametrize("names", [[], ["a", "b", "c"], ["c", "b", "a", "a"]])
def test_run_of_all_services_leaves_none_out(project, names):
    assert "left out" not in call(project, "run", *names, config=SOME).text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nosuch"], "no service 'nosuch'"), (["a", "--inject", "always"], "this run tests only some"),
        (["a", "--inject", "passed"], "this run tests only some"), (["a", "--package", "x"], "the packages decide"),
    ],
)  # fmt: skip
def test_run_of_some_services_refuses_what_needs_all(project, words, says):
    called = call(project, "run", *words, config=SOME)
    assert (called.status, called.out) == (2, "")
    assert says in called.err
