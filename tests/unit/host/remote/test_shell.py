"""The shell at the other end: frames that nothing can imitate, limits of time and size, and what a login prints before it."""

import os
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.host.remote.line import LineError
from cgroup_preflight.host.remote.shell import OUTPUT_MAX, Script, Shell, octal, quoted
from tests.unit.host.remote.ends import program, replay, silent

pytestmark = pytest.mark.starts_processes


@pytest.fixture
def shell():
    opened = Shell(program("sh"))
    yield opened
    opened.close()


def said(shell: Shell, text: str, **more: float) -> tuple[bytes, int, str]:
    (output,) = shell.run([Script(text=text, **more)])
    return output.out, output.status, output.err


def test_output_status_and_complaints_are_apart(shell):
    assert said(shell, "echo out; echo err >&2; (exit 7)") == (b"out\n", 7, "err")
    assert said(shell, ":") == (b"", 0, "")
    assert said(shell, "printf 'a\\n\\n'") == (b"a\n\n", 0, "")
    assert said(shell, "echo 'x\ny' >&2") == (b"", 0, "x\ny")
    assert said(shell, "cat") == (b"", 0, "")  # it has no input, above all not the scripts that follow


def test_a_batch_is_one_round_trip_and_one_failure_does_not_hide_the_next(shell):
    outputs = shell.run([Script(text=f"echo {number}; [ {number} != 2 ]") for number in range(5)])
    assert [(output.out, output.status) for output in outputs] == [
        (b"0\n", 0), (b"1\n", 0), (b"2\n", 1), (b"3\n", 0), (b"4\n", 0),
    ]  # fmt: skip
    assert shell.round_trips == 1


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_pass_in_both_directions(data):
    shell = Shell(program("sh"))
    (output,) = shell.run([Script(text=f"printf {quoted((octal(data),))} | cat")])
    assert output.out == data
    shell.close()


def test_words_reach_a_command_as_they_are(shell):
    words = ("a b", "$HOME", "`id`", "'", '"', "\\n", "*", "-n", "ü\n", "", ";", "\udcff")
    assert said(shell, f"printf '%s,' {quoted(words)}")[0] == b"".join(os.fsencode(word) + b"," for word in words)
    with pytest.raises(ValueError, match="NUL"):
        quoted(("a\0b",))


def test_a_shell_that_ends_is_named_and_stays_lost(shell):
    with pytest.raises(LineError, match="closed"):
        said(shell, "exit 3")
        said(shell, "kill -9 $$")
    assert shell.lost
    with pytest.raises(LineError):
        said(shell, ":")


def test_what_takes_too_long_is_killed_at_the_other_end(shell, tmp_path):
    began = time.monotonic()
    _, status, _ = said(shell, f"t 1 sh -c 'sleep 60; echo x > {tmp_path}/late'")
    assert status == 124
    assert time.monotonic() - began < 30
    assert said(shell, "echo next")[0] == b"next\n"
    assert os.listdir(tmp_path) == []


def test_a_script_without_an_answer_loses_the_line(monkeypatch):
    monkeypatch.setattr("cgroup_preflight.host.remote.shell._GRACE_SECONDS", 0.2)
    shell = Shell(program("sh"))
    said(shell, ":")
    with pytest.raises(LineError, match="did not answer in time"):
        said(shell, "t 1 sleep 30", seconds=0.1)
    shell.close()


def test_output_without_end_loses_the_line(shell):
    with pytest.raises(LineError, match=f"more than {OUTPUT_MAX} bytes"):
        said(shell, "while :; do echo 1234567890123456789012345678901234567890; done")


@pytest.mark.parametrize(
    "noise",
    [
        "echo Welcome to web1; echo 'You have mail.' >&2",
        "printf 'no end of line'",
        "printf '\\nbegin\\n end 0\\nover\\n'",
        "head -c 100000 /dev/zero",
    ],
)
def test_what_a_profile_prints_before_the_first_frame_is_skipped(noise):
    shell = Shell(program("sh", "-c", f"{noise}; exec sh"))
    assert said(shell, "echo right") == (b"right\n", 0, "")
    shell.close()


def test_a_profile_that_prints_without_end_is_given_up():
    shell = Shell(program("sh", "-c", "while :; do echo 1234567890123456789012345678901234567890; done"))
    with pytest.raises(LineError, match="more than 262144 bytes"):
        said(shell, ":")
    shell.close()


@pytest.mark.parametrize(
    ("login", "reason"),
    [
        (
            "echo 'This account is currently not available.'; exit 1",
            "it says: This account is currently not available.",
        ),
        ("echo 'sh: command not found' >&2; exit 127", "no shell answers there: sh: command not found"),
        ("exit 1", "no shell answers there: the other end closed the connection"),
    ],
)
def test_a_login_without_a_shell_says_what_it_said(login, reason):
    shell = Shell(program("sh", "-c", login))
    with pytest.raises(HostError) as caught:
        said(shell, "echo x")
    assert reason in str(caught.value)
    shell.close()


def test_a_server_that_speaks_something_else_is_given_up(monkeypatch):
    monkeypatch.setattr("cgroup_preflight.host.remote.shell._START_SECONDS", 0.2)
    line, there = silent()
    there.sendall(b"\0\0\0\5\2\0\0\0\3")
    with pytest.raises(LineError, match="did not answer in time"):
        Shell(line).run([Script(text=":")])
    line.close()
    there.close()


def test_frames_of_another_batch_are_no_answer():
    """What a batch left that was interrupted comes first, and has another word."""
    shell = Shell(program("sh"))
    said(shell, ":")
    shell.post([Script(text="echo old; echo older >&2")])
    assert said(shell, "echo new") == (b"new\n", 0, "")
    shell.close()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=2000))
def test_garbage_is_a_reason(data):
    shell = Shell(replay(data))
    with pytest.raises(HostError):
        shell.run([Script(text=":")])
    shell.close()


class Echo:
    """A line whose other end answers with the frames of the batch, changed by `change`."""

    def __init__(self, change) -> None:
        self.line, self._there = silent()
        self._change = change
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        import re

        data = self._there.recv(1 << 16)
        first, second = re.search(rb"begin\\n' ([0-9a-f]{16}) ([0-9a-f]{16})", data).groups()
        word = first + second
        frames = b"\n" + word + b" begin\nout\n" + word + b" end 0\nerr\n" + word + b" over\n"
        self._there.sendall(self._change(frames))
        self._there.close()


def test_frames_that_are_cut_anywhere_are_a_reason():
    size = len(b"\n" + b"w" * 32 + b" begin\nout\n" + b"w" * 32 + b" end 0\nerr\n" + b"w" * 32 + b" over\n")
    for end in range(0, size, 3):
        echo = Echo(lambda frames, end=end: frames[:end])
        with pytest.raises(HostError):
            Shell(echo.line).run([Script(text=":")])
        echo.line.close()
    echo = Echo(lambda frames: frames)
    assert Shell(echo.line).run([Script(text=":")])[0].out == b"out"
    echo.line.close()


def test_a_status_that_is_none_is_a_reason():
    for word in (b" end x\n", b" end 1234\n", b" end -1\n", b" end 99999999999999999\n"):
        echo = Echo(lambda frames, word=word: frames.replace(b" end 0\n", word))
        with pytest.raises(HostError):
            Shell(echo.line).run([Script(text=":")])
        echo.line.close()


def test_the_shell_ends_with_its_line(tmp_path):
    """Even while a command runs, which has a limit of its own; nothing stays."""
    mark = f"31.{os.getpid()}"
    shell = Shell(program("sh"))
    said(shell, ":")
    shell.post([Script(text=f"t 1 sleep {mark}")])
    shell._line.flush(time.monotonic() + 20)
    shell.close()
    until = time.monotonic() + 20
    while _runs(mark) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _runs(mark)


def _runs(word: str) -> bool:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if f"\0{word}\0".encode() in file.read():
                    return True
        except OSError:
            continue
    return False
