"""A stream over a line: what D-Bus needs of one, with an end to every wait."""

import struct
import threading

import pytest

from cgroup_preflight.engines import bus
from cgroup_preflight.engines.bus_values import text
from cgroup_preflight.host.remote.bridge import BridgedManager, LineStream
from tests.unit.engines.test_bus import answer
from tests.unit.host.remote.ends import replay, silent


def test_reads_are_exact_however_the_bytes_come():
    stream = LineStream(replay(b"OK 123\r\nrest and more", piece=3))
    assert stream.readline(100) == b"OK 123\r\n"
    assert stream.read(4) == b"rest"
    assert stream.read(0) == b""
    assert stream.readline(4) == b" and"
    with pytest.raises(OSError, match="closed"):
        stream.read(100)
    stream.close()


def test_silence_and_a_peer_that_does_not_read_end_with_the_time():
    line, there = silent()
    stream = LineStream(line, seconds=0.05)
    assert stream.read(0) == b""
    with pytest.raises(OSError, match="did not answer in time"):
        stream.read(1)
    with pytest.raises(OSError, match="did not answer in time"):
        stream.sendall(b"x" * (8 << 20))
    stream.close()
    there.close()


def test_who_is_not_root_has_no_line_to_the_manager():
    manager = BridgedManager(None)
    assert not manager.usable()
    with pytest.raises(OSError, match="only root"):
        manager.connect()


def test_a_bridge_that_fails_is_not_said_to_have_been_used():
    said = [b"Welcome to this host!\n", b"", b"OK 00\r\n" + bytes(64)]
    manager = BridgedManager(lambda: replay(said.pop(0)))
    for way in ("systemctl", "systemctl", "systemd-stdio-bridge and systemctl"):
        connection = bus.Connection(manager.connect)
        with pytest.raises(bus.BusError):
            connection.of_manager(["Version"])
        assert manager.way == way


def test_the_manager_is_asked_over_a_bridge():
    line, there = silent()

    def serve() -> None:
        heard = b""
        while not heard.endswith(b"\r\n"):
            heard += there.recv(1000)
        there.sendall(b"OK 00\r\n")
        heard = b""
        while len(heard) < 1024:
            heard += there.recv(65536)
        there.sendall(answer(1, "v", struct.pack("B", 1) + b"s\0" + b"\0" + text("252.39")))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    counted: list[int] = []
    manager = BridgedManager(lambda: line, lambda: counted.append(1))
    assert manager.usable()
    assert manager.way == "systemctl"
    connection = bus.Connection(manager.connect)
    assert connection.of_manager(["Version"]) == {"Version": "252.39"}
    # The log-in, and the question.
    assert (manager.way, len(counted)) == ("systemd-stdio-bridge", 2)
    connection.close()
    thread.join(20)
    there.close()
