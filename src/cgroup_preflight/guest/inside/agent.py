"""The agent: answers the host's requests on a serial line, one after the other.

    python3 -m cgroup_preflight.guest.inside.agent CHANNEL

Requests are frames with an `op` in the head; every request has one answer, `{"ok": true, ...}` or
`{"ok": false, "error": text}`. Being sequential is on purpose: the host speaks only when it has the last answer,
and ends a guest that does not answer.
"""

import itertools
import os
import pwd
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cgroup_preflight.guest.inside import jobs
from cgroup_preflight.guest.inside.frames import Decoder, Frame, encode

#: How long the device of the line may take to appear.
_DEVICE_SECONDS = 20.0
Head = dict[str, Any]
Answer = tuple[Head, bytes]


class Agent:
    """What the host can ask for; a public method is an operation, named as in the frame."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._numbers = itertools.count(1)
        self._jobs: dict[int, jobs.Job] = {}
        self._terminal: Any = None

    def answer(self, request: Frame) -> Frame:
        """The answer to one request; every failure becomes an answer, so that the line stays in step."""
        operations: dict[str, Callable[[Head, bytes], Answer]] = {
            "run": self.run,
            "spawn": self.spawn,
            "tool": self.tool,
            "signal": self.signal,
            "wait": self.wait,
            "put": self.put,
            "get": self.get,
            "terminal": self.terminal,
            "exchange": self.exchange,
        }
        try:
            head, body = operations[request.head["op"]](request.head, request.body)
        except Exception as error:  # noqa: BLE001 - the host is told, and judges
            return Frame(head={"ok": False, "error": f"{type(error).__name__}: {error}"})
        return Frame(head={"ok": True, **head}, body=body)

    def spawn(self, head: Head, body: bytes) -> Answer:
        """Starts a command with `body` as its stdin; answers its `job` number and `pid`."""
        number = next(self._numbers)
        return self._begun(number, jobs.start(_command(head), stdin=body, place=self._home / f"run-{number}"))

    def tool(self, head: Head, _body: bytes) -> Answer:
        """As `spawn`, but `argv` are words for this tool, whose package is in one of `folders`."""
        number = next(self._numbers)
        place = self._home / f"run-{number}"
        return self._begun(number, jobs.start_tool(_command(head), list(head["folders"]), place=place))

    def _begun(self, number: int, job: jobs.Job) -> Answer:
        self._jobs[number] = job
        return {"job": number, "pid": job.process.pid}, b""

    def wait(self, head: Head, _body: bytes) -> Answer:
        """Waits `timeout` seconds, then kills if `kill`; body is stdout then stderr, split at `stdout_size`."""
        number = int(head["job"])
        job = self._jobs[number]
        ended = jobs.wait(job, timeout=float(head["timeout"]))
        if not ended and not head.get("kill"):
            return {"ended": False}, b""
        if not ended:
            jobs.kill(job)
        stdout, stderr = jobs.collect(job)
        del self._jobs[number]
        return {"ended": ended, "returncode": job.process.returncode, "stdout_size": len(stdout)}, stdout + stderr

    def run(self, head: Head, body: bytes) -> Answer:
        """`spawn` and `wait` in one; the command is killed at the end of `timeout`."""
        started, _ = self.spawn(head, body)
        return self.wait({"job": started["job"], "timeout": head["timeout"], "kill": True}, b"")

    def signal(self, head: Head, _body: bytes) -> Answer:
        """Sends `signal` to the job's first process, or to its process group if `group`."""
        jobs.send_signal(self._jobs[int(head["job"])], int(head["signal"]), group=bool(head.get("group")))
        return {}, b""

    def put(self, head: Head, body: bytes) -> Answer:
        """Writes `body` to `path` with permission bits `mode`, making parent directories."""
        path = Path(head["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        path.chmod(int(head["mode"]))
        return {}, b""

    def get(self, head: Head, _body: bytes) -> Answer:
        """The content of `path`; also of files below /proc and /sys, whose size reads 0."""
        return {}, Path(head["path"]).read_bytes()

    def terminal(self, head: Head, _body: bytes) -> Answer:
        """Opens the one terminal and starts `argv` at it as root; `rows` and `columns` are its size."""
        from cgroup_preflight.guest.inside import terminal

        environment = {**jobs.login_environment(pwd.getpwnam("root")), "TERM": str(head.get("term") or "linux")}
        size = {"rows": int(head["rows"]), "columns": int(head["columns"])}
        self._terminal = terminal.start(list(head["argv"]), environment, **size)
        return {}, b""

    def exchange(self, head: Head, body: bytes) -> Answer:
        """Types `body` and answers what is shown within `timeout`; `status` once the shell has ended."""
        from cgroup_preflight.guest.inside import terminal

        shown, status = terminal.exchange(self._terminal, body, timeout=float(head["timeout"]))
        return {"status": status}, shown


def _command(head: Head) -> jobs.Command:
    argv, env = tuple(head["argv"]), head.get("env") or {}
    return jobs.Command(argv=argv, user=head.get("user"), env=env, cwd=head.get("cwd"))


def serve(channel: int, agent: Agent) -> None:
    """Greets, then answers until the line is closed."""
    _write(channel, encode(Frame(head={"ok": True, "hello": os.uname().release})))
    decoder = Decoder()
    received = 0
    while chunk := os.read(channel, 65536):
        received += len(chunk)
        requests = list(decoder.feed(chunk))
        if not requests:
            _write(channel, encode(Frame(head={"received": received})))
            continue
        received = 0
        for request in requests:
            _write(channel, encode(agent.answer(request)))


def _write(channel: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(channel, view) :]


def _await(path: str) -> None:
    """Waits for the line's device; its driver is a module in some kernels, and nobody else would load it."""
    if os.path.exists(path):
        return
    subprocess.run(["modprobe", "--all", "virtio_pci", "virtio_console"], check=False)
    deadline = time.monotonic() + _DEVICE_SECONDS
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.05)


def _open_raw(path: str) -> int:
    """Opens the line byte-clean: no echo, no line editing, no translation."""
    _await(path)
    channel = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    if os.isatty(channel):
        tty.setraw(channel, termios.TCSANOW)
    return channel


def main(argv: list[str]) -> int:
    """Settles in its cgroup and serves the channel named by the one argument."""
    home = jobs.own_cgroup(Path("/proc/self/cgroup").read_text())
    jobs.settle(home)
    serve(_open_raw(argv[0]), Agent(home))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
