"""A shell at a line: a real one over a socket, as every machine has one."""

import itertools
import os
import socket
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgroup_preflight.guest import shell as module
from cgroup_preflight.guest.line import WINDOW, Line, LineError
from cgroup_preflight.guest.shell import Shell

pytestmark = pytest.mark.starts_processes
_ALL = bytes(range(256)) * 20 + b"\r\n\x03\x04\x11\x13\x1a\x1c\x7f\xff\x00end"


@pytest.fixture
def ends(tmp_path, monkeypatch):
    """This tool's end of a line, and the shell at the other one."""
    monkeypatch.setattr(module, "_SCRIPT", str(tmp_path / "script"))
    here, there = socket.socketpair()
    with there, subprocess.Popen(["sh"], stdin=there, stdout=there, cwd=tmp_path) as process:
        there.close()
        line = Line(here, seconds=10)
        yield line, process
        line.close()
        process.kill()


@pytest.mark.parametrize("window", [0, WINDOW])
def test_answers_with_output_and_status(ends, window):
    shell = Shell(ends[0], "x", window=window)
    assert shell.ask("printf 'a\\n\\n'; (exit 3)") == (3, b"a\n\n")
    assert shell.ask("true") == (0, b"")
    assert shell.ask("printf '\\n123 4\\n'") == (0, b"\n123 4\n")


@pytest.mark.parametrize("window", [0, WINDOW])
@pytest.mark.parametrize("size", [1100, 1900, 2300, 9000])
def test_a_long_text_arrives_whole(ends, window, size):
    word = 'it\'s \\n $x `y` "z" ' * (size // 20)
    quoted = "'" + word.replace("'", "'\"'\"'") + "'"
    assert Shell(ends[0], "x", window=window).ask(f"printf %s {quoted}") == (0, word.encode())


def test_no_more_than_the_window_is_sent_without_an_answer(ends, monkeypatch):
    sent = []
    line, _ = ends
    send, read = line.sendall, line.some
    monkeypatch.setattr(line, "sendall", lambda data: (sent.append(len(data)), send(data))[1])
    monkeypatch.setattr(line, "some", lambda *words: (sent.append(0), read(*words))[1])
    Shell(line, "x").ask(f": {'x' * 20_000}")
    assert max(sent) <= WINDOW
    assert all(0 in pair for pair in itertools.pairwise(sent))


@pytest.mark.parametrize("window", [0, WINDOW])
@pytest.mark.parametrize("data", [b"", b"x", _ALL, b"\n" * 5000])
def test_a_file_is_written_as_it_is(ends, tmp_path, window, data):
    Shell(ends[0], "x", window=window).write(str(tmp_path / "it's a file"), data)
    assert (tmp_path / "it's a file").read_bytes() == data


def test_a_file_that_cannot_be_written(ends):
    with pytest.raises(LineError, match="could not write"):
        Shell(ends[0], "x").write("/nonexistent/file", b"x")


def test_a_command_that_runs_on(ends):
    shell = Shell(ends[0], "x")
    shell.begin("echo 12; echo more; sleep 0.3; (exit 7)")
    assert shell.first_line(10) == b"12"
    assert shell.wait(0.01) is None
    with pytest.raises(ValueError, match="not answered"):
        shell.begin("true")
    assert shell.wait(10) == (7, b"\nmore\n")
    assert shell.ask("echo next") == (0, b"next\n")


def test_what_is_typed_and_shown_while_it_runs(ends):
    shell = Shell(ends[0], "x")
    shell.begin('echo ready; IFS= read -r a; echo "got $a"; (exit 2)')
    assert shell.first_line(10) == b"ready"
    shell.type(b"one two\n")
    shown = b""
    while not shell.has_ended():
        shown += shell.some(0.2)
    shown += shell.some(0.0)
    assert (shown, shell.wait(0)) == (b"\ngot one two\n", (2, b""))


def test_the_end_of_the_shell_is_seen(ends):
    line, process = ends
    with pytest.raises(LineError, match="ended"):
        Shell(line, "x").ask("exit 0")
    process.wait(10)
    with pytest.raises(LineError):
        Shell(line, "x").ask("true")


def test_silence_has_a_limit(ends):
    with pytest.raises(LineError, match=r"no answer for 0 s"):
        Shell(ends[0], "x").ask("sleep 5", seconds=0.1)


def test_more_output_than_is_kept(ends, monkeypatch):
    monkeypatch.setattr(module, "ANSWER_MAX", 1000)
    with pytest.raises(LineError, match="printed more than"):
        Shell(ends[0], "x").ask("head -c 100000 /dev/zero")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=30), max_size=8))
def test_output_that_looks_like_the_end_is_output(pieces):
    """Played, because the word of the end is random: whatever comes before it, in whatever pieces, is the output."""
    here, there = socket.socketpair()
    with there:
        shell = Shell(Line(here, seconds=5), "x")
        shell.begin("true")
        text = there.recv(4096)
        word = text.rpartition(b"printf '\\n")[2].split()[0]
        for piece in pieces:
            there.sendall(piece + b"\n" + word[:5])
        there.sendall(b"\n" + word + b" 0\n")
        assert shell.wait(5) == (0, b"".join(piece + b"\n" + word[:5] for piece in pieces))
        here.close()


def test_a_line_reads_what_it_is_asked_for():
    here, there = socket.socketpair()
    with there:
        line = Line(here, seconds=0.2)
        there.sendall(b"one\ntwothree")
        assert (line.readline(100), line.read(3), line.some(2), line.waits(0)) == (b"one\n", b"two", b"th", True)
        assert line.readline(3) == b"ree"
        assert not line.waits(0)
        with pytest.raises(LineError, match="no answer"):
            line.read(1)
        there.close()
        assert (line.read(5), line.readline(5), line.some()) == (b"", b"", b"")
        with pytest.raises(LineError, match="closed"):
            line.sendall(b"x" * 9)
        assert line.fileno() == here.fileno()
        line.close()


def test_a_line_that_takes_nothing():
    here, there = socket.socketpair()
    with there, here, pytest.raises(LineError, match="took no data"):
        Line(here, seconds=0.1).sendall(os.urandom(1 << 22))
