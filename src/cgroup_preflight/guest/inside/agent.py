"""The agent answers the host's requests on a serial line, one after the other.

    python3 -m cgroup_preflight.guest.inside.agent CHANNEL

Requests are frames with an `op` in the head; every request has one answer, `{"ok": true, ...}` or
`{"ok": false, "error": text}`. The host sends a request only after the last answer, and ends a guest that does not
answer.
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

from cgroup_preflight.guest.inside import jobs, loaded, page_tables
from cgroup_preflight.guest.inside.frames import Decoder, Frame, encode

#: Seconds that the device of the channel may take to appear.
_DEVICE_SECONDS = 20.0
#: What the host hears at the pause (guest/words.py).
_PAUSED = b"P"
#: Seconds for what is left to do of the boot: later runs would have to do it otherwise.
_SETTLE_SECONDS = 0.5
_Head = dict[str, Any]
_Answer = tuple[_Head, bytes]


class Agent:
    """The operations of the host's requests: each public method but `answer` has the name in the frame."""

    def __init__(self, home: Path, channel: int) -> None:
        self._home = home
        self._channel = channel
        self._numbers = itertools.count(1)
        self._jobs: dict[int, jobs.Job] = {}
        self._terminal: Any = None
        self._relay: Any = None
        #: Whether the host has sent the next request already.
        self.next_waits = False

    def answer(self, request: Frame) -> Frame:
        """The answer to one request; an error is an answer too, so that each request has one."""
        operations: dict[str, Callable[[_Head, bytes], _Answer]] = {
            "run": self.run,
            "spawn": self.spawn,
            "tool": self.tool,
            "signal": self.signal,
            "wait": self.wait,
            "put": self.put,
            "get": self.get,
            "terminal": self.terminal,
            "exchange": self.exchange,
            "relay": self.relay,
            "renew": self.renew,
        }
        try:
            head, body = operations[request.head["op"]](request.head, request.body)
        except Exception as error:  # noqa: BLE001 - the host gets it as an answer
            return Frame(head={"ok": False, "error": f"{type(error).__name__}: {error}"})
        return Frame(head={"ok": True, **head}, body=body)

    def spawn(self, head: _Head, body: bytes) -> _Answer:
        """Starts a command with `body` as its stdin; answers its `job` number and `pid`."""
        number = next(self._numbers)
        return self._started(number, jobs.start(_command(head), stdin=body, cgroup=self._home / f"run-{number}"))

    def tool(self, head: _Head, _body: bytes) -> _Answer:
        """As `spawn`, but `argv` are the words of this tool, whose package is in one of `folders`.

        With `piped`, its stdout is for `relay`.
        """
        number = next(self._numbers)
        cgroup = self._home / f"run-{number}"
        job = jobs.start_tool(_command(head), list(head["folders"]), cgroup=cgroup, piped=bool(head.get("piped")))
        return self._started(number, job)

    def _started(self, number: int, job: jobs.Job) -> _Answer:
        self._jobs[number] = job
        return {"job": number, "pid": job.process.pid}, b""

    def wait(self, head: _Head, _body: bytes) -> _Answer:
        """Waits `timeout` seconds, then kills if `kill`; the body is stdout, `stdout_size` bytes long, then stderr."""
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

    def run(self, head: _Head, body: bytes) -> _Answer:
        """`spawn` and `wait` in one; kills the command after `timeout` seconds."""
        started, _ = self.spawn(head, body)
        return self.wait({"job": started["job"], "timeout": head["timeout"], "kill": True}, b"")

    def signal(self, head: _Head, _body: bytes) -> _Answer:
        """Sends `signal` to the job's first process, or to its process group if `group`."""
        jobs.send_signal(self._jobs[int(head["job"])], int(head["signal"]), group=bool(head.get("group")))
        return {}, b""

    def put(self, head: _Head, body: bytes) -> _Answer:
        """Writes `body` to `path` with permission bits `mode`; makes parent directories."""
        path = Path(head["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        path.chmod(int(head["mode"]))
        return {}, b""

    def get(self, head: _Head, _body: bytes) -> _Answer:
        """The content of `path`, also of files below /proc and /sys, whose size is 0."""
        return {}, Path(head["path"]).read_bytes()

    def terminal(self, head: _Head, _body: bytes) -> _Answer:
        """Opens the one terminal and starts `argv` at it as root; `rows` and `columns` are its size."""
        from cgroup_preflight.guest.inside import terminal

        environment = {**jobs.login_environment(pwd.getpwnam("root")), "TERM": str(head.get("term") or "linux")}
        size = {"rows": int(head["rows"]), "columns": int(head["columns"])}
        self._terminal = terminal.start(list(head["argv"]), environment, **size)
        return {}, b""

    def exchange(self, head: _Head, body: bytes) -> _Answer:
        """Types `body`; answers the output within `timeout` seconds, and `status` once the shell has ended."""
        from cgroup_preflight.guest.inside import terminal

        shown, status = terminal.exchange(self._terminal, body, timeout=float(head["timeout"]))
        return {"status": status}, shown

    def renew(self, head: _Head, body: bytes) -> _Answer:
        """Makes a machine that paused in its boot a new one, from `seconds`, `machine_id`, and random bytes in the body."""
        from cgroup_preflight.guest.inside import renewal

        renewal.renew(seconds=float(head["seconds"]), random=body, machine_id=str(head["machine_id"]))
        return {}, b""

    def relay(self, head: _Head, body: bytes) -> _Answer:
        """Carries connections to services (`open`: number, host, port) and the output of a `piped` job.

        Returns when there is something for the host, the host sends its next request, or after `timeout` seconds. The
        body is `output` bytes of stdout, then those of connections (streams.py); `ended`: all of stdout has been sent.
        """
        if self._relay is None:
            from cgroup_preflight.guest.inside.relay import Relay

            self._relay = Relay(self._channel)
        timeout = 0.0 if self.next_waits else float(head["timeout"])
        answered: _Answer = self._relay.turn(self._jobs[int(head["job"])], head, body, timeout)
        return answered


def _command(head: _Head) -> jobs.Command:
    argv, env = tuple(head["argv"]), head.get("env") or {}
    return jobs.Command(argv=argv, user=head.get("user"), env=env, cwd=head.get("cwd"))


def serve(channel: int, agent: Agent) -> None:
    """Sends a greeting, then answers until the channel closes."""
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
        for number, request in enumerate(requests, 1):
            agent.next_waits = number < len(requests)
            _write(channel, encode(agent.answer(request)))


def _write(channel: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(channel, view) :]


def _wait_for(path: str) -> None:
    """Waits for the channel's device; loads its driver, which is a module in some kernels."""
    if os.path.exists(path):
        return
    subprocess.run(["modprobe", "--all", "virtio_pci", "virtio_console"], check=False)
    deadline = time.monotonic() + _DEVICE_SECONDS
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.05)


def _open_raw(path: str) -> int:
    """Opens the channel for plain bytes: no echo, no line editing, no translation."""
    _wait_for(path)
    channel = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    if os.isatty(channel):
        tty.setraw(channel, termios.TCSANOW)
    return channel


def _pause(channel: int) -> None:
    """Returns in each machine that goes on from here."""
    time.sleep(_SETTLE_SECONDS)
    _write(channel, _PAUSED)
    os.read(channel, 1)


def main(argv: list[str]) -> int:
    """Moves to a leaf cgroup and serves the channel that the one argument names."""
    home = jobs.own_cgroup(Path("/proc/self/cgroup").read_text())
    jobs.move_to_leaf(home)
    order = loaded.order()
    if order is not None:
        loaded.load(order.folders)
        loaded.unmount(order.disk, order.place)
    # The service manager forks for each command of a unit, and the tool is a fork of this process.
    for pid in (1, os.getpid()):
        page_tables.copy_at_fork(pid)
    channel = _open_raw(argv[0])
    if order is not None:
        _pause(channel)
        loaded.mount(order.disk, order.place)
    serve(channel, Agent(home, channel))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
