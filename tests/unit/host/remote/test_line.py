"""A line: both directions at the same time, an end to every wait, and one reason once it is lost."""

import os
import socket
import threading
import time

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.host.remote import line as module
from cgroup_preflight.host.remote.line import Line, LineError
from tests.unit.host.remote.ends import program, replay, silent


def soon(seconds: float = 20.0) -> float:
    return time.monotonic() + seconds


def opened(line: Line) -> Line:
    line.allow(1 << 30)
    return line


@pytest.mark.starts_processes
def test_a_peer_that_does_not_read_while_it_writes_blocks_nobody():
    line = opened(program("cat"))
    sent = os.urandom(1 << 20)
    line.send(sent)
    found = b""
    while len(found) < len(sent):
        found += line.receive(soon())
    assert found == sent
    assert line.waiting == 0
    line.close()


def test_silence_ends_with_the_time():
    line, there = silent()
    opened(line)
    began = time.monotonic()
    with pytest.raises(LineError, match="did not answer in time"):
        line.receive(soon(0.05))
    assert time.monotonic() - began < 10
    with pytest.raises(LineError, match="did not answer in time"):
        line.send(b"x")
    line.close()
    there.close()


def test_a_peer_that_never_reads_ends_with_the_time():
    line, there = silent()
    line.send(b"x" * (8 << 20))
    with pytest.raises(LineError, match="did not answer in time"):
        line.flush(soon(0.05))
    line.close()
    there.close()


def test_what_is_pushed_goes_out_at_once_as_far_as_it_can():
    line, there = silent()
    line.send(b"now")
    line.push()
    assert (line.waiting, there.recv(10)) == (0, b"now")
    line.send(b"x" * (8 << 20))
    line.push()
    assert 0 < line.waiting < 8 << 20
    line.close()
    there.close()


def test_more_than_is_allowed_loses_the_line():
    line = replay(b"x" * 5000)
    line.allow(4000)
    with pytest.raises(LineError, match="longer than is allowed"):
        while True:
            line.receive(soon())
    line.close()


def test_what_was_said_before_the_end_is_read_although_nothing_can_be_sent():
    line, there = silent()
    opened(line)
    there.sendall(b"This account is currently not available.\n")
    there.close()
    for _ in range(2):
        line.send(b"x" * 100)
    assert line.receive(soon()) == b"This account is currently not available.\n"
    with pytest.raises(LineError):
        line.receive(soon())
    line.close()


@pytest.mark.starts_processes
def test_the_reason_is_the_last_line_of_the_complaints():
    line = opened(program("sh", "-c", "echo first >&2; printf 'no route \\033[1mto host\\n' >&2; exit 255"))
    with pytest.raises(HostError, match=r"^no route \?\[1mto host$"):
        line.receive(soon())
    line.close()
    line.close()
    with pytest.raises(LineError):
        line.receive(soon())


def test_one_descriptor_carries_both_directions():
    """As a serial line."""
    line, there = silent()
    opened(line)
    thread = threading.Thread(target=lambda: there.sendall(there.recv(100).upper()))
    thread.start()
    line.send(bytes(range(97, 123)))
    assert line.receive(soon()) == b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    thread.join(20)
    line.close()
    assert there.recv(1) == b""
    there.close()


def test_a_line_that_is_closed_says_so():
    here, there = socket.socketpair()
    handle = here.detach()
    line = Line(handle, handle)
    line.close()
    with pytest.raises(LineError, match="closed"):
        line.flush(soon()) or line.send(b"x")
    there.close()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("to", ["errors", "reader"])
def test_a_peer_that_is_always_ready_ends_with_the_time(monkeypatch, to):
    """It complains without end, or sends as fast as it is read."""
    monkeypatch.setattr(module, "_LATE", 0.2)
    reading, writing = os.pipe()
    endless = os.open("/dev/zero", os.O_RDONLY)
    line = Line(reading, writing, errors=endless) if to == "errors" else Line(endless, writing, errors=reading)
    line.allow(1 << 60)
    until = time.monotonic() + 0.3
    with pytest.raises(LineError, match="in time"):
        while time.monotonic() < until + 20:
            line.receive(until)
    line.close()
