"""Lines that send no more than a window without an answer: the other ends are played, and count what waits unread."""

import os
import select
import shlex
import socket
import struct
import subprocess
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgroup_preflight.engines import bus
from cgroup_preflight.guest.line import WINDOW
from cgroup_preflight.guest.paced import BusPace, FilesPace, PacedLine, ShellPace
from cgroup_preflight.host.remote.bridge import LineStream
from cgroup_preflight.host.remote.line import LineError
from cgroup_preflight.host.remote.sftp import Sftp, request
from cgroup_preflight.host.remote.sftp_packets import HANDLE, OK, STAT, STATUS, WRITE, offset, status_of
from cgroup_preflight.host.remote.shell import Script, Shell

#: What user-mode-linux's terminal takes before it hangs.
_TERMINAL = 3968


class Peer:
    """The other end: `serve` gets what came and returns answers; what waited at most at once is `most`."""

    def __init__(self, serve):
        self.here, self.there = socket.socketpair()
        self.most = 0
        self._serve = serve
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        data = bytearray()
        while True:
            # So that what is sent at once also waits at once.
            select.select([self.there], [], [])
            time.sleep(0.001)
            chunk = self.there.recv(1 << 20)
            if not chunk:
                return
            self.most = max(self.most, len(chunk))
            data += chunk
            for answer in self._serve(data):
                self.there.sendall(answer)

    def line(self, pace):
        return PacedLine(os.dup(self.here.fileno()), pace, where="x")

    def close(self):
        self.here.close()
        self.there.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self.there.close()


@pytest.fixture
def peer():
    made = []

    def make(serve):
        made.append(Peer(serve))
        return made[-1]

    yield make
    for one in made:
        one.close()


def packets(data):
    """The whole packets at the beginning of `data`, which are taken from it."""
    while len(data) >= 4 and len(data) >= 4 + int.from_bytes(data[:4], "big"):
        size = 4 + int.from_bytes(data[:4], "big")
        packet = bytes(data[:size])
        del data[:size]
        yield packet


def status(number, code=OK):
    body = struct.pack(">BII", STATUS, number, code) + struct.pack(">I", 0) * 2
    return struct.pack(">I", len(body)) + body


def file_server(written, fails_at=()):
    def serve(data):
        for packet in packets(data):
            kind, number = packet[4], int.from_bytes(packet[5:9], "big")
            if kind == 1:
                yield b"\0\0\0\5\2\0\0\0\3"
                continue
            if kind == WRITE:
                size = int.from_bytes(packet[9:13], "big")
                at, length = struct.unpack_from(">QI", packet, 13 + size)
                assert packet[13 : 13 + size] == b"handle"
                written[at] = packet[25 + size :]
                assert len(written[at]) == length
                yield status(number, 4 if at in fails_at else OK)
            else:
                yield status(number, 2)

    return serve


def write(at, content):
    reply = yield [request(WRITE, b"handle", offset(at), content)]
    return status_of(reply[0])[0]


def stat(path):
    reply = yield [request(STAT, path)]
    return status_of(reply[0])[0]


def test_many_requests_of_files_are_paced(peer):
    server = peer(file_server({}))
    sftp = Sftp(server.line(FilesPace()))
    assert sftp.run([stat(b"/x" * 60) for _ in range(200)]) == [2] * 200
    assert server.most <= WINDOW
    sftp.close()


def test_a_long_write_is_several_and_has_one_answer(peer):
    written: dict[int, bytes] = {}
    server = peer(file_server(written))
    sftp = Sftp(server.line(FilesPace()))
    content = os.urandom(10_000)
    assert sftp.run([write(500, content), stat(b"/y"), write(90_000, content)]) == [0, 2, 0]
    assert b"".join(written[at] for at in sorted(written) if at < 90_000) == content
    assert b"".join(written[at] for at in sorted(written) if at >= 90_000) == content
    assert server.most <= WINDOW
    sftp.close()


@pytest.mark.parametrize("at", [0, 1024, 4096])
def test_a_failure_in_a_long_write_is_its_answer(peer, at):
    server = peer(file_server({}, fails_at=(at,)))
    sftp = Sftp(server.line(FilesPace()))
    assert sftp.run([write(0, bytes(4500)), write(90_000, bytes(4500))]) == [4, 0]
    sftp.close()


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.randoms())
def test_answers_of_files_in_any_pieces(sizes, random):
    pace = FilesPace()
    sent = []
    for number, size in enumerate(sizes, 1):
        body = struct.pack(">BI", STAT, number) + bytes(size)
        sent += pace.cut(struct.pack(">I", len(body)) + body)
    answers = b"".join(status(number) for number in range(1, len(sizes) + 1))
    passed, answered = b"", 0
    while answers:
        cut = random.randint(1, len(answers))
        more, size = pace.take(answers[:cut])
        passed, answered, answers = passed + more, answered + size, answers[cut:]
    assert passed == b"".join(status(number) for number in range(1, len(sizes) + 1))
    assert answered == sum(cost for cost, _ in sent) == sum(len(unit) for _, unit in sent)


@pytest.mark.parametrize("nonsense", [b"\0\0\0\0" * 9, b"\xff" * 20, bytes((0, 0, 0, 3, HANDLE)) * 3])
def test_what_is_no_packet_reaches_the_reader(nonsense):
    assert FilesPace().take(nonsense) == (nonsense, 0)


def manager(data):
    """systemd's side of a connection: the login, then an empty answer to each call."""
    if data.startswith(b"\0AUTH"):
        del data[:]
        yield b"OK 00\r\n"
        return
    if data.startswith(b"BEGIN\r\n"):
        del data[:7]
    while len(data) >= 16:
        body, number, fields = struct.unpack_from("<III", data, 4)
        size = 16 + -(-fields // 8) * 8 + body
        if len(data) < size:
            return
        del data[:size]
        reply = b"\x05\x01u\0" + struct.pack("<I", number)
        # A signal comes before each answer.
        yield struct.pack("<cBBBIII", b"l", 4, 0, 1, 0, 7, 8) + b"\x09\x01u\0" + bytes(4)
        yield struct.pack("<cBBBIII", b"l", 2, 0, 1, 0, 9, len(reply)) + reply


def test_many_calls_are_paced(peer):
    server = peer(manager)
    connection = bus.Connection(lambda: LineStream(server.line(BusPace())))
    for _ in range(2):
        assert connection.call(bus.start([f"unit-{number}.service" for number in range(100)])) == [None] * 100
    assert server.most <= _TERMINAL
    connection.close()


def test_a_message_that_is_too_long_loses_the_line_and_does_not_hang(peer):
    server = peer(manager)
    connection = bus.Connection(lambda: LineStream(server.line(BusPace())))
    with pytest.raises(bus.BusError, match="at once are too much"):
        connection.call(bus.start(["x" * 5000]))
    connection.close()


@pytest.fixture
def shell(tmp_path):
    """A real shell, and what it was sent."""
    here, there = socket.socketpair()
    with there, subprocess.Popen(["sh"], stdin=there, stdout=there, cwd=tmp_path) as process:
        there.close()
        line = PacedLine(os.dup(here.fileno()), ShellPace(str(tmp_path / "it's")), where="x")
        yield Shell(line)
        line.close()
        here.close()
        process.kill()


@pytest.mark.starts_processes
@pytest.mark.parametrize("size", [10, 900, 1100, 3000, 20_000])
def test_a_text_of_any_length_reaches_a_shell_whole(shell, size):
    text = 'it\'s $x `y` \\n "z"\n\u00e4' * (size // 20 + 1)
    for _ in range(2):
        first, second = shell.run([Script(text=f"printf %s {shlex.quote(text)}"), Script(text="echo 2; (exit 3)")])
        assert (first.out.decode(), first.status, second.out, second.status) == (text, 0, b"2\n", 3)


@pytest.mark.starts_processes
def test_output_between_long_texts_stays_as_it_is(shell):
    text = "x" * 3000
    script = Script(text=f"printf '\\036'; printf '\\036\\036abc'; : {text}; printf '\\036'")
    assert [item.out for item in shell.run([script, script])] == [b"\x1e\x1e\x1eabc\x1e"] * 2


def test_pieces_of_a_text_fit():
    units = ShellPace("/x").cut(b"'" * 9000)
    assert all(len(unit) <= _TERMINAL for _, unit in units)
    assert all(len(unit) <= WINDOW + 100 for _, unit in units)


def test_silence_ends_the_wait(peer):
    server = peer(lambda _: ())
    line = server.line(FilesPace())
    line.send(struct.pack(">IBI", 5, STAT, 1))
    with pytest.raises(LineError):
        line.receive(time.monotonic() + 0.05)
    line.close()
