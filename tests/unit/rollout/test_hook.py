"""The commands of a hook, as real processes."""

import os
import signal
import time

import pytest

from cgroup_preflight.config.rollout import Hook
from cgroup_preflight.host.command import LiveRunner
from cgroup_preflight.rollout.hook import Hooks, filled
from cgroup_preflight.rollout.machine import Phase, State
from cgroup_preflight.rollout.stages import Stage

pytestmark = [pytest.mark.starts_processes, pytest.mark.timeout(180)]
STATE = State(phase=Phase.CHANGING, stage=1, stages=3)
STAGE = Stage(values={}, share=2500, slices=("a.slice", "b.slice"))


def _run(*words: str, timeout: float = 60.0) -> str:
    return Hooks(Hook(before=words, timeout=timeout), LiveRunner(), "r1").run("before", STATE, STAGE)


def test_the_words_have_the_numbers_of_the_step_and_no_shell_reads_them(tmp_path):
    words = ("x", "{share}", "{step}/{slices}", "{rollout}", "{host}", "$(touch no)", "{other}")
    assert filled(words, rollout="r1", state=STATE, stage=STAGE, host="web1") == (
        "x", "25", "2/a.slice,b.slice", "r1", "web1", "$(touch no)", "{other}")  # fmt: skip
    assert filled(words, rollout="r1", state=STATE, stage=None)[1:3] == ("0", "0/")


def test_what_a_host_is_called_is_not_replaced_again():
    assert filled(("{host}",), rollout="r1", state=STATE, stage=STAGE, host="{rollout}") == ("{rollout}",)


def test_no_command_and_one_that_succeeds_are_no_failure():
    assert Hooks(Hook(), LiveRunner(), "r1").run("back", STATE, None) == ""
    assert _run("true") == ""


def test_a_command_that_fails_says_why():
    assert "no room" in _run("sh", "-c", "echo no room >&2; exit 3")
    assert "failed" in _run("/nonexistent/program")
    assert "failed" in _run("sh", "-c", "kill -9 $$")


@pytest.mark.parametrize(
    "script", ["sleep 300", "trap '' TERM; while :; do sleep 1; done", "sleep 300 & exit 0", "cat /dev/zero"]
)
def test_a_command_that_hangs_or_leaves_its_output_open_is_a_failure_in_time(script):
    began = time.monotonic()
    assert "failed" in _run("sh", "-c", script, timeout=1.0)
    assert time.monotonic() - began < 30


def test_a_command_that_leaves_a_daemon_behind_is_a_failure_in_time(tmp_path):
    """Only one whose output goes elsewhere is no part of the command."""
    daemon = f"setsid sh -c 'echo $$ >{tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; exec sleep 300'"
    assert "no answer" in _run("sh", "-c", f"{daemon} & exit 0", timeout=1.0)
    _end(tmp_path / "pid")
    assert _run("sh", "-c", f"{daemon} >/dev/null 2>&1 & exit 0") == ""
    _end(tmp_path / "pid")


def _end(pid):
    until = time.monotonic() + 60
    while not pid.exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(int(pid.read_text()), signal.SIGKILL)
    pid.unlink()
