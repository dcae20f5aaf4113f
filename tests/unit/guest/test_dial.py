"""Connections that bash makes at the other end of a line: here both ends are this machine's."""

import socket
import subprocess
import threading
import time
from contextlib import closing

import pytest

from cgroup_preflight.guest.dial import Dialer
from cgroup_preflight.guest.forwards import Forwards
from cgroup_preflight.guest.line import Line
from cgroup_preflight.guest.relay import Forward, Listeners

pytestmark = pytest.mark.starts_processes


@pytest.fixture
def dialer():
    """A dialer, and the lines that it has opened."""
    opened = []

    def open_line(argv):
        here, there = socket.socketpair()
        with there:
            process = subprocess.Popen(
                argv, stdin=there, stdout=there, stderr=subprocess.DEVNULL, start_new_session=True
            )
        opened.append((here, process))
        return Line(here, seconds=10)

    yield Dialer(open_line), opened
    for here, process in opened:
        here.close()
        process.kill()
        process.wait()


@pytest.fixture
def server():
    """A server that answers each connection with what it got, in capitals, and closes it; or talks first."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(line):
        with line:
            data = b""
            while not data.endswith(b"end") and (more := line.recv(4096)):
                data += more
            line.sendall(data.upper() + b"\r\n\x00\xff\n")

    def serve():
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(line,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


def asked(line, data):
    with line:
        line.settimeout(10)
        line.sendall(data)
        found = b""
        while more := line.recv(4096):
            found += more
        return found


@pytest.mark.parametrize("size", [1, 3, 1024, 5000])
def test_data_goes_there_and_back(dialer, server, size):
    data = bytes(97 + at % 20 for at in range(size)) + b"end"
    for _ in range(2):
        assert asked(dialer[0].connect("127.0.0.1", server), data) == data.upper() + b"\r\n\x00\xff\n"


def test_several_at_the_same_time_and_lines_are_used_again(dialer, server):
    lines = [dialer[0].connect("127.0.0.1", server) for _ in range(3)]
    assert [asked(line, b"%dend" % number)[:1] for number, line in enumerate(lines)] == [b"0", b"1", b"2"]
    for _ in range(5):
        asked(dialer[0].connect("127.0.0.1", server), b"end")
    assert len(dialer[1]) <= 4


def test_nobody_listens(dialer):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for _ in range(2):
        with dialer[0].connect("127.0.0.1", port) as line:
            line.settimeout(10)
            assert line.recv(10) == b""


def test_a_client_that_goes_first(dialer, server):
    dialer[0].connect("127.0.0.1", server).close()
    assert asked(dialer[0].connect("127.0.0.1", server), b"end") == b"END\r\n\x00\xff\n"


@pytest.mark.parametrize(
    ("host", "port"), [("a b", 1), ("$(x)", 1), ("x\n", 1), ("", 1), ("127.0.0.1", 0), ("x", 70000)]
)
def test_what_is_no_address_reaches_no_shell(dialer, host, port):
    with pytest.raises(OSError, match="no address"):
        dialer[0].connect(host, port)
    assert dialer[1] == []


def test_a_lost_line_ends_the_connection(dialer, server):
    line = dialer[0].connect("127.0.0.1", server)
    dialer[1][0][0].shutdown(socket.SHUT_RDWR)
    with line:
        line.settimeout(10)
        assert line.recv(10) == b""


@pytest.fixture
def listeners():
    with closing(Listeners(())) as made:
        yield made


def forwarded(listeners, port):
    """A forward of a port of this machine that is free to another one of it, and the address here."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        local = free.getsockname()[1]
    made = Forward(host="127.0.0.1", port=local)
    listeners.add(made)
    (line,) = listeners.sockets
    listeners.sockets[line] = Forward(host="127.0.0.1", port=port)
    return made.local


def test_connections_are_forwarded_so_many_at_a_time(dialer, server, listeners):
    """Without a free line for them, others wait until one is over."""
    address = forwarded(listeners, server)
    forwards = Forwards(listeners, dialer[0], 2)
    clients = [socket.create_connection(address) for _ in range(3)]
    forwards.look()
    forwards.look()
    assert (dialer[0].carried, len(dialer[1])) == (2, 2)
    assert [asked(one, b"%dend" % number)[:1] for number, one in enumerate(clients[:2])] == [b"0", b"1"]
    deadline = time.monotonic() + 20
    while dialer[0].carried == 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    forwards.look()
    assert asked(clients[2], b"2end")[:1] == b"2"
    assert len(dialer[1]) == 2


def test_what_cannot_be_carried_is_closed(dialer):
    here, there = socket.socketpair()
    with here, pytest.raises(OSError, match="no address"):
        dialer[0].carry(there, "$(x)", 1)
    assert there.fileno() == -1
