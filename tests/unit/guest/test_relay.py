"""A relay from end to end: the real agent serves the real channel in a thread, and a real service answers on loopback.

Only the machine between them is missing: the agent starts the tool without a cgroup, as it needs root for that.
"""

import contextlib
import http.client
import http.server
import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from cgroup_preflight.core.errors import HostError, UsageError
from cgroup_preflight.guest import relay
from cgroup_preflight.guest.image import RootImage
from cgroup_preflight.guest.inside import agent as inside
from cgroup_preflight.guest.inside import jobs
from cgroup_preflight.guest.inside.frames import Frame
from cgroup_preflight.guest.inside.relay import Relay as InsideRelay
from cgroup_preflight.guest.project import Project
from cgroup_preflight.guest.relay import CONNECTIONS_MAX, Forward, Listeners, Relay
from cgroup_preflight.guest.requirements import GuestMachine
from cgroup_preflight.guest.run import GuestTask, Ready
from cgroup_preflight.guest.session import Guest
from cgroup_preflight.guest.spec import Background, GuestEngine, GuestError, GuestSpec
from cgroup_preflight.guest.up import Handlers, carry_up
from tests.unit.guest.played import config

pytestmark = [pytest.mark.starts_processes, pytest.mark.timeout(60)]
#: The service's address is another one of loopback than the one that is forwarded, as both are this machine here.
SERVICE = "127.0.0.2"
ROOT = RootImage(name="debian-12-x", root=Path("/cache/root.ext4"), kernel=None)


class LocalAgent(inside.Agent):
    """Starts a program of this machine as the tool."""

    program = ("/bin/sh", "-c", "echo no program")

    def tool(self, head, _body):
        assert head["piped"]
        reading, writing = os.pipe()
        process = subprocess.Popen(self.program, stdout=writing, stderr=subprocess.PIPE)
        os.close(writing)
        job = jobs.Job(
            process=process, cgroup=Path("/nowhere"), stdout=process.stderr, stderr=process.stderr, pipe=reading
        )
        return self._started(1, job)

    def wait(self, head, _body):
        job = self._jobs[head["job"]]
        job.process.wait(30)
        errors = job.stderr.read()
        job.stderr.close()
        os.close(job.pipe)
        return {"ended": True, "returncode": job.process.returncode, "stdout_size": 0}, errors


class Machine:
    """What `Guest` starts: a thread that is the agent."""

    def __init__(self, program) -> None:
        self.paused, self.resumed_from = False, None
        self.line, self._inner = socket.socketpair()
        agent = LocalAgent(Path("/nowhere"), self._inner.fileno())
        agent.program = program
        self._thread = threading.Thread(target=self._serve, args=(agent,), daemon=True)
        self._thread.start()

    def _serve(self, agent) -> None:
        try:
            inside.serve(self._inner.fileno(), agent)
        except OSError:
            pass
        finally:
            if agent._relay is not None:
                agent._relay._streams.close()

    def console_tail(self, lines):
        return ("console",)[:lines]

    def fence(self):
        return ""

    def close(self):
        self.line.close()
        self._thread.join(10)
        self._inner.close()


class Pieces(Machine):
    """A machine whose line brings requests in small pieces, as a serial line does: the agent acknowledges each."""

    def __init__(self, program) -> None:
        super().__init__(program)
        self._far, (self.line, self._near) = self.line, socket.socketpair()
        self._threads = [
            threading.Thread(target=self._pass_on, args=words, daemon=True)
            for words in ((self._near, self._far, 40), (self._far, self._near, 1 << 16))
        ]
        for thread in self._threads:
            thread.start()

    def _pass_on(self, source, target, size) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(size):
                target.sendall(data)
                if size < 100:
                    # The agent reads this piece by itself.
                    time.sleep(0.005)
            target.shutdown(socket.SHUT_WR)

    def close(self):
        self.line.close()
        super().close()
        for thread in self._threads:
            thread.join(10)
        self._near.close()
        self._far.close()


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers with the path, and takes its time for /slow."""

    def do_GET(self):
        body = self.path.encode() * (20_000 if self.path == "/large" else 1)
        if self.path == "/slow":
            time.sleep(1.0)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Says nothing."""


@pytest.fixture
def service():
    server = http.server.ThreadingHTTPServer((SERVICE, 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def guest(script, machine=Machine):
    return Guest(GuestSpec(boot_timeout=10), None, lambda _spec, _image: machine(("/bin/sh", "-c", script)))


def ready(made):
    project = Project(inputs={}, folder="/project", config_name="c.toml", outside=(), size=0)
    task = GuestTask(config=config(), words=("up",), names=("api",), distro="debian-12")
    machine = GuestMachine(engine=GuestEngine.UML, cpus=1, memory_mib=256)
    return Ready(root=ROOT, guest=made, task=task, project=project, source="/src", machine=machine, lost_boot="")


class Carried:
    """`carry_up` in this thread; `meanwhile` runs in another one once the tool has printed something."""

    def __init__(self, script, port, meanwhile=lambda: None, look=lambda: False, machine=Machine) -> None:
        self.printed, self.errors = b"", []
        self._meanwhile, self._begun = meanwhile, threading.Event()
        self.listeners = Listeners([Forward(host=SERVICE, port=port)])
        thread = threading.Thread(target=self._work, daemon=True)
        thread.start()
        try:
            with guest(script, machine) as made:
                self.status = carry_up(
                    ready(made), "", self.listeners, Handlers(write=self._write, look=look), time.monotonic
                )
        finally:
            self.listeners.close()
            self._begun.set()
            thread.join(20)
        assert self.errors == []

    def _write(self, data):
        self.printed += data
        self._begun.set()

    def _work(self):
        self._begun.wait(20)
        try:
            self._meanwhile()
        except Exception as error:  # noqa: BLE001 - shown by the test
            self.errors.append(error)


def get(port, path):
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    line.request("GET", path)
    return line.getresponse().read()


#: Prints a line, and ends when the file appears.
UNTIL = "echo begins; until [ -e {done} ]; do sleep 0.05; done; echo ends"


def test_answers_of_a_service_come_through_while_the_tool_prints(tmp_path, service):
    done = tmp_path / "done"
    found = {}

    def meanwhile():
        slow = threading.Thread(target=lambda: found.update(slow=get(service, "/slow")))
        slow.start()
        began = time.monotonic()
        found["one"] = get(service, "/one")
        found["large"] = get(service, "/large")
        found["first"] = slow.is_alive() or time.monotonic() - began > 1
        slow.join(20)
        done.touch()

    carried = Carried(UNTIL.format(done=done), service, meanwhile)
    assert carried.status == 0
    assert carried.printed == b"begins\nends\n"
    assert (found["one"], found["slow"], len(found["large"])) == (b"/one", b"/slow", 120_000)
    assert found["first"], "a slow answer does not keep the others waiting"


#: Longer than a turn may take here: what waits for the end of a turn fails.
LONG = 25.0


def test_a_part_of_an_answer_keeps_nothing_waiting(tmp_path, service, monkeypatch):
    """The word that a piece of a request was received is no answer: who waits for one then does not see a connection."""
    monkeypatch.setattr(relay, "TURN", LONG)
    done, found = tmp_path / "done", []

    def meanwhile():
        began = time.monotonic()
        for number in range(3):
            # By now this host has the word that its request was received, and waits.
            time.sleep(0.3)
            found.append(get(service, f"/{number}"))
        found.append(time.monotonic() - began < LONG)
        done.touch()

    assert Carried(UNTIL.format(done=done), service, meanwhile, machine=Pieces).status == 0
    assert found == [b"/0", b"/1", b"/2", True]


def test_a_reader_that_was_slow_is_told_to_the_guest_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(relay, "TURN", LONG)
    size, done, found = 8 << 20, tmp_path / "done", []
    with socket.create_server((SERVICE, 0)) as server:

        def serve():
            line, _ = server.accept()
            with line:
                line.sendall(b"x" * size)

        threading.Thread(target=serve, daemon=True).start()

        def meanwhile():
            began = time.monotonic()
            with socket.socket() as line:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
                line.settimeout(40)
                line.connect(("127.0.0.1", server.getsockname()[1]))
                # Now the guest learns that it is slow.
                time.sleep(0.5)
                count = 0
                while data := line.recv(1 << 16):
                    count += len(data)
            found.extend((count, time.monotonic() - began < LONG))
            done.touch()

        assert Carried(UNTIL.format(done=done), server.getsockname()[1], meanwhile).status == 0
    assert found == [size, True]


def test_a_service_whose_queue_is_full_keeps_no_other_waiting_and_answers_later(service):
    with socket.create_server((SERVICE, 0), backlog=0) as busy, contextlib.ExitStack() as stack:
        full = []
        for _ in range(4):
            line = stack.enter_context(socket.socket())
            line.setblocking(False)
            line.connect_ex(busy.getsockname())
            full.append(line)
        reading, writing = os.pipe()
        stack.callback(os.close, reading)
        stack.callback(os.close, writing)
        job = jobs.Job(process=None, cgroup=Path("/nowhere"), stdout=None, stderr=None, pipe=reading)
        made = InsideRelay(reading)
        stack.callback(made._streams.close)
        head = {"open": [[1, *busy.getsockname()], [2, SERVICE, service]], "data": [[1, 5]], "eof": [1]}
        answer, _ = made.turn(job, head, b"hello", 0.0)
        assert "close" not in answer
        assert len(made._streams) == 2
        # The kernel tries again after a second.
        busy.setblocking(False)
        said, until, lines = b"", time.monotonic() + 40, list[socket.socket]()
        while said != b"hello" and time.monotonic() < until:
            with contextlib.suppress(BlockingIOError):
                lines.append(stack.enter_context(busy.accept()[0]))
                lines[-1].setblocking(False)
            made.turn(job, {}, b"", 0.05)
            for line in lines:
                with contextlib.suppress(BlockingIOError):
                    said += line.recv(10)
        assert said == b"hello"


def test_a_service_that_does_not_listen_closes_the_connection(tmp_path):
    done = tmp_path / "done"
    with socket.socket() as free:
        free.bind((SERVICE, 0))
        port = free.getsockname()[1]
    found = []

    def meanwhile():
        with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
            found.append(line.recv(10))
        done.touch()

    assert Carried(UNTIL.format(done=done), port, meanwhile).status == 0
    assert found == [b""]


def test_ctrl_c_reaches_the_tool_and_passes_when_it_has_ended(service):
    script = "trap 'echo stopped; exit 0' INT; echo begins; while :; do sleep 0.05; done"
    carried = Carried.__new__(Carried)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        carried.__init__(script, service, lambda: os.kill(os.getpid(), signal.SIGINT))
    assert carried.printed == b"begins\nstopped\n"
    assert signal.getsignal(signal.SIGINT) is before


def test_a_look_that_says_so_ends_the_tool_and_is_no_interrupt(service):
    script = "trap 'echo stopped; exit 0' INT; echo begins; while :; do sleep 0.05; done"
    carried = Carried(script, service, look=lambda: True)
    assert (carried.status, carried.printed.endswith(b"stopped\n")) == (0, True)


def test_a_tool_that_fails_is_an_error_with_its_last_words(service):
    with pytest.raises(GuestError, match=r"ended with exit status 2: .*bad \?config"):
        Carried("echo 'bad \x07config' >&2; exit 2", service)


def test_a_port_that_is_taken_is_one_line():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(
            UsageError, match=f"cannot forward 127[.]0[.]0[.]1:{port} to the guest: Address already in use"
        ):
            Listeners([Forward(host="127.0.0.1", port=port)])


def test_each_family_has_its_own_loopback():
    assert Forward(host="::", port=1).local == ("::1", 1)
    assert Forward(host="0.0.0.0", port=1).local == ("127.0.0.1", 1)


class Lying:
    """A guest whose answer is this frame."""

    spec = GuestSpec()

    def __init__(self, **head) -> None:
        self._frame = Frame(head={"ok": True, **head}, body=b"abc")
        self._line, self._far = socket.socketpair()
        self._far.send(b"!")
        #: Numbers of connections that it closes with its next answer.
        self.ends = []

    def fileno(self):
        return self._line.fileno()

    def request(self, *_, **__):
        """Takes everything."""

    def has_answer(self, *, read):
        return read

    def answer(self, *_, **__):
        ends, self.ends = self.ends, []
        return Frame(head={"close": ends, **self._frame.head}, body=self._frame.body)

    def console_tail(self):
        return ()

    def close(self):
        self._line.close()
        self._far.close()


def test_connections_beyond_what_select_knows_wait(service):
    reading, writing = os.pipe()
    with closing(Lying(output=0)) as lying, closing(Listeners([Forward(host=SERVICE, port=service)])) as listeners:
        lines = []
        made = Relay(lying, Background(argv=(), job=1, pid=1), listeners, lambda _: None)
        with closing(made):
            for _ in range(CONNECTIONS_MAX + 2):
                lines.append(socket.create_connection(("127.0.0.1", service), timeout=20))
                made.turn(reading)
            assert len(made._streams) == CONNECTIONS_MAX
            lying.ends = [1]
            made.turn(reading)
            assert len(made._streams) == CONNECTIONS_MAX, "one ended, and one that waited came"
        for line in (*lines, reading, writing):
            os.close(line) if isinstance(line, int) else line.close()


@pytest.mark.parametrize(
    "head",
    [{"output": 4}, {"output": -1}, {"output": "1"}, {"output": 0, "data": [[1, 9]]}, {"output": 0, "data": 5},
     {"output": 0, "data": [[1]]}, {"output": 0, "eof": 3}, {"output": 0, "full": [[]]}, {"output": 0, "data": [["x", "y"]]}],
)  # fmt: skip
def test_an_answer_that_makes_no_sense_ends_the_guest(head):
    reading, writing = os.pipe()
    try:
        with closing(Lying(**head)) as lying, pytest.raises(GuestError, match="sent a wrong answer"):
            Relay(lying, Background(argv=(), job=1, pid=1), Listeners([]), lambda _: None).turn(reading)
    finally:
        os.close(reading)
        os.close(writing)


def test_the_wire_of_up_prints_only_what_is_one(tmp_path):
    from cgroup_preflight.up.stream import Prefixes
    from cgroup_preflight.up.wire import Arrived, Wire

    log = tmp_path / "web.log"
    log.touch()
    said = []
    arrived = Arrived(Prefixes(["web"], colour=False), {"web": str(log)}, said.append)
    data = (
        Wire.line("web", "a\x1b[2Jb \udcff") + Wire.line("web", "ready", said=True) + Wire.line("up", "x", said=True)
    ).encode()
    for at in range(0, len(data), 7):
        arrived.take(data[at : at + 7])
    assert "".join(said) == "web | a?[2Jb ?\nweb | ready\nup  | x\n"
    assert log.read_bytes() == b"a\x1b[2Jb ?\n"
    places = []
    arrived.listens = lambda *place: places.append(place)
    arrived.take((Wire.listens("web", "0.0.0.0", 8081) + Wire.listens("web", "::", 1)).encode())
    assert (places, "".join(said)) == (
        [("web", "0.0.0.0", 8081), ("web", "::", 1)],
        "web | a?[2Jb ?\nweb | ready\nup  | x\n",
    )
    wrong = [("nobody", "::1", 1), ("web", "x", 1), ("web", "::1", 0), ("web", "::1", 1 << 16), ("web", "::1", True), ("web", 1, 1),
             ("web", "::1", "1"), (["web"], "::1", 1)]  # fmt: skip
    for line in (b"{}", b'{"x": 1}', *(Wire.listens(*place)[:-1].encode() for place in wrong), b"hello", b"[]", b'["nobody", false, "x"]', b'["up", false, "x"]', b'["web", 1, "x"]', b'["web", true, 3]',
                 b'[["web"], true, "x"]', b"[" * 100_000):  # fmt: skip
        with pytest.raises(HostError, match="no line of `up`"):
            arrived.take(line + b"\n")
    with pytest.raises(HostError, match="has no end"):
        arrived.take(b"x" * (1 << 19))
    arrived.close()
