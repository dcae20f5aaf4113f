"""A guest as its user sees it, over a real line; the other end is played, as the agent needs a machine of its own."""

import os
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.guest.image import RootImage
from cgroup_preflight.guest.inside.frames import Decoder, Frame, encode
from cgroup_preflight.guest.recipe import recipe_for
from cgroup_preflight.guest.session import Guest
from cgroup_preflight.guest.spec import Background, BootMode, CommandResult, GuestEngine, GuestError, GuestSpec
from tests.unit.guest.test_image import put_image

HELLO = Frame(head={"ok": True, "hello": "6.1"})
SPEC = GuestSpec(boot_timeout=10)
JOB = Background(argv=("sleep", "9"), job=3, pid=77)


class Process:
    """An engine whose agent greets, and then answers each request with the next of `answers`, or ends."""

    def __init__(self, *answers: Frame | Callable[[Frame], Frame], hello: bytes = encode(HELLO)) -> None:
        self.line, self._agent = socket.socketpair()
        self.asked: list[Frame] = []
        self.closed = 0
        self.paused = False
        self.resumed_from: Path | None = None
        self._answers = list(answers)
        self._agent.sendall(hello)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        decoder = Decoder()
        with self._agent:
            while self._answers and (chunk := self._agent.recv(1 << 16)):
                for request in decoder.feed(chunk):
                    self.asked.append(request)
                    answer = self._answers.pop(0)
                    self._agent.sendall(encode(answer))

    def console_tail(self, lines: int) -> tuple[str, ...]:
        return ("one", "two")[:lines]

    def fence(self) -> str:
        return "landlock 7"

    def close(self) -> None:
        self.closed += 1
        self.line.close()
        self._thread.join(10)


def answer(body: bytes = b"", **head: object) -> Frame:
    return Frame(head={"ok": True, **head}, body=body)


def ended(body: bytes = b"outerr", *, size: int = 3, code: int = 0, by_itself: bool = True) -> Frame:
    return answer(body, ended=by_itself, returncode=code, stdout_size=size)


UID = ended(b"1000\n", size=5)


def booted(process: Process, spec: GuestSpec = SPEC) -> Guest:
    return Guest(spec, RootImage(name="none", root=Path("/gone/root.ext4"), kernel=None), lambda *_: process)


@pytest.mark.parametrize("code", [0, 3, -9])
def test_a_command_and_what_came_of_it(code):
    process = Process(ended(code=code))
    with booted(process) as guest:
        assert (guest.fence, guest.alive, guest.boot_seconds > 0) == ("landlock 7", True, True)
        done = guest.run(["a", "b"], user="u", env={"X": "1"}, cwd="/d", timeout=5, stdin=b"in")
    assert done == CommandResult(argv=("a", "b"), returncode=code, stdout=b"out", stderr=b"err", timed_out=False)
    assert done.text == "out"
    (request,) = process.asked
    assert request.head == {"op": "run", "argv": ["a", "b"], "user": "u", "env": {"X": "1"}, "cwd": "/d", "timeout": 5}
    assert request.body == b"in"
    assert (process.closed, guest.alive) == (1, False)


def test_one_that_was_killed_has_timed_out():
    with booted(Process(ended(by_itself=False, code=-9))) as guest:
        assert guest.run(["a"]).timed_out


def test_a_command_in_the_background():
    process = Process(answer(job=3, pid=77), answer(ended=False), ended(code=4), answer(), ended(by_itself=False))
    with booted(process) as guest:
        assert guest.spawn(["sleep", "9"], stdin=b"x") == JOB
        assert guest.poll(JOB, timeout=0.5) is None
        assert guest.poll(JOB, timeout=0.5).returncode == 4
        guest.signal(JOB, signal.SIGTERM, group=True)
        assert guest.wait(JOB, timeout=2).timed_out
    assert [item.head for item in process.asked[1:]] == [
        {"op": "wait", "job": 3, "timeout": 0.5}, {"op": "wait", "job": 3, "timeout": 0.5},
        {"op": "signal", "job": 3, "signal": 15, "group": True},
        {"op": "wait", "job": 3, "timeout": 2, "kill": True},
    ]  # fmt: skip
    assert process.asked[0].body == b"x"


def test_the_tool_is_started_by_its_words():
    process = Process(answer(job=3, pid=77))
    with booted(process) as guest:
        made = guest.spawn_tool(["run", "--x"], folders=("/src",), cwd="/d", env={})
    assert made == Background(argv=("cgroup-preflight", "run", "--x"), job=3, pid=77)
    assert process.asked[0].head == {
        "op": "tool", "argv": ["run", "--x"], "user": None, "env": {}, "cwd": "/d", "folders": ["/src"],
    }  # fmt: skip


def test_files_and_the_terminal():
    process = Process(answer(b"content"), answer(), answer(), answer(b"shown", status=None), answer(b"", status=7))
    with booted(process) as guest:
        assert guest.read_file("/proc/x") == b"content"
        guest.write_file("/a", b"new", mode=0o755)
        guest.open_terminal(["bash"], rows=24, columns=80)
        assert guest.exchange(b"ls\n", timeout=0.1) == (b"shown", None)
        assert guest.exchange(b"", timeout=0.1) == (b"", 7)
    assert process.asked[1].head == {"op": "put", "path": "/a", "mode": 0o755}
    assert [item.body for item in process.asked] == [b"", b"new", b"", b"ls\n", b""]


def test_a_request_that_the_agent_cannot_do_is_an_error_and_the_guest_lives():
    process = Process(Frame(head={"ok": False, "error": "FileNotFoundError: gone"}), answer(b"x"))
    with booted(process) as guest:
        with pytest.raises(HostError, match=r"debian-12 guest \(uml\): FileNotFoundError: gone") as caught:
            guest.read_file("/gone")
        assert not isinstance(caught.value, GuestError)
        assert guest.read_file("/there") == b"x"


def test_a_guest_that_ends_is_lost_with_its_console_and_stays_lost():
    with booted(Process()) as guest:
        with pytest.raises(GuestError) as lost:
            guest.run(["a"])
        assert lost.value.what.startswith("debian-12 guest (uml) ")
        assert lost.value.what.endswith("(request: run)")
        assert lost.value.console == ("one", "two")
        assert "  | one\n  | two" in str(lost.value)
        assert not guest.alive
        with pytest.raises(GuestError, match="is not running"):
            guest.run(["a"])


@pytest.mark.parametrize(("hello", "words"), [(b"login: ", "not a frame"), (b"CGPF", "gave no answer")])
def test_one_that_does_not_greet_is_closed(hello, words):
    process = Process(ended(), hello=hello)
    with pytest.raises(GuestError, match=words) as lost, booted(process, replace(SPEC, boot_timeout=0.05)):
        pass
    assert lost.value.what.endswith("(booting)")
    assert process.closed == 1


@pytest.mark.parametrize("harmed", [True, False])
def test_an_image_that_is_damaged_is_named_with_what_removes_it(tmp_path, harmed):
    """Its size and its time may be as they were: a cache that was restored, or a disk that failed."""
    made = put_image(tmp_path, recipe_for("debian-12"))
    if harmed:
        status = made.root.stat()
        made.root.write_bytes(b"rOOt")
        os.utime(made.root, ns=(status.st_atime_ns, status.st_mtime_ns))
    guest = Guest(replace(SPEC, boot_timeout=0.05), made, lambda *_: Process(hello=b"CGPF"))
    with pytest.raises(GuestError) as lost, guest:
        pass
    assert (f"its image {made.name} is damaged (root.ext4)" in lost.value.what) is harmed
    removes = ("cgroup-preflight", "guest", "remove", made.name)
    assert (removes in lost.value.remedy.commands) is harmed


def test_a_full_boot_waits_for_systemd():
    process = Process(ended(code=1))
    with booted(process, replace(SPEC, mode=BootMode.FULL)):
        pass
    assert process.asked[0].head["argv"] == ["systemctl", "is-system-running", "--wait"]


@pytest.mark.parametrize(
    ("code", "stderr", "message"),
    [(0, b"", ""), (1, b"first\nOSError: no device\n", "no network: OSError: no device"), (5, b"", "no network: 5")],
)
def test_the_network(code, stderr, message):
    process = Process(ended(stderr, size=0, code=code))
    with booted(process, replace(SPEC, engine=GuestEngine.QEMU)) as guest:
        if not message:
            guest.start_network()
        else:
            with pytest.raises(GuestError) as lost:
                guest.start_network()
            assert lost.value.what == f"debian-12 guest (qemu): {message}"
            assert lost.value.console == ("one", "two")
    assert process.asked[0].head["argv"][-3:] == ["10.0.2.15", "10.0.2.2", "10.0.2.3"]


def test_the_manager_of_a_user():
    process = Process(UID, ended(), ended())
    with booted(process) as guest:
        guest.start_user_manager("tester")
    assert [item.head["argv"] for item in process.asked] == [
        ["id", "-u", "tester"], ["loginctl", "enable-linger", "tester"], ["systemctl", "start", "user@1000.service"],
    ]  # fmt: skip
    with (
        booted(Process(UID, ended(b"refused\n", size=0, code=1))) as guest,
        pytest.raises(GuestError, match="linger tester: refused"),
    ):
        guest.start_user_manager("tester")
