"""The only place that starts processes: argv lists, no shell, a time-out on each, output bounded."""

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

from cgroup_preflight.core.reading import Known, Missing, Reading, Why, missing
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass

if TYPE_CHECKING:
    from typing import IO, Protocol
else:
    Protocol = object

#: What a command may inherit: messages in English, and the address of the user manager.
_KEEP = ("PATH", "HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "TMPDIR")
_OUTPUT_MAX = 4 << 20
_KILL_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A finished command; text is decoded with replacement, so hostile bytes cannot raise."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


class CommandRunner(Protocol):
    """What runs a command and waits for it."""

    def run(self, argv: tuple[str, ...], *, timeout: float = 20.0, stdin: bytes = b"") -> Reading[Completed]:
        """The finished command, or why it could not be run (absent, denied, failed on time-out)."""


class Running(Protocol):
    """A running command: `stdout` and `stderr` are pipes of this tool, whichever machine it runs on."""

    @property
    def pid(self) -> int:
        """Its number on the machine that it runs on."""

    @property
    def stdin(self) -> "IO[bytes] | None":
        """What it reads, if it was started so."""

    @property
    def stdout(self) -> "IO[bytes] | None":
        """What it prints."""

    @property
    def stderr(self) -> "IO[bytes] | None":
        """Its complaints."""

    def poll(self) -> int | None:
        """Its exit status, None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status. Raises subprocess.TimeoutExpired."""


class Programs(Protocol):
    """Commands on the machine: argv lists, never a line for a shell; `started` counts them."""

    started: int

    def run(self, argv: tuple[str, ...], *, timeout: float = 20.0, stdin: bytes = b"") -> Reading[Completed]:
        """The finished command, or why it could not be run; on time-out it and all it started are killed."""

    def run_together(
        self, argvs: Sequence[tuple[str, ...]], *, timeout: float = 20.0, stdin: bytes = b""
    ) -> tuple[Reading[Completed], ...]:
        """As `run`, several at the same time, or in one round trip."""

    def start(self, argv: tuple[str, ...], *, stdin: int = -3) -> Running:
        """A running command with its output piped (`stdin` as of subprocess.Popen); the caller ends it. Raises OSError."""

    def stop(self, process: Running) -> None:
        """Ends a command of `start` and everything it started. On another machine it also ends with the connection."""


class LiveRunner:
    """Runs commands on this machine; `started` counts them."""

    def __init__(self, extra_env: Mapping[str, str] | None = None) -> None:
        self._extra = dict(extra_env or {})
        self.started = 0

    def environment(self) -> dict[str, str]:
        """A small environment, so that no token of a CI job reaches a command."""
        kept = {name: os.environ[name] for name in _KEEP if name in os.environ}
        return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **kept, "LC_ALL": "C.UTF-8", **self._extra}

    def run(self, argv: tuple[str, ...], *, timeout: float = 20.0, stdin: bytes = b"") -> Reading[Completed]:
        """The finished command; on time-out its whole process group is killed."""
        return self.run_together((argv,), timeout=timeout, stdin=stdin)[0]

    def run_together(
        self, argvs: Sequence[tuple[str, ...]], *, timeout: float = 20.0, stdin: bytes = b""
    ) -> tuple[Reading[Completed], ...]:
        """As `run`, several at the same time; each has `timeout` seconds more than the one before it took."""
        begun: list[tuple[tuple[str, ...], Reading[subprocess.Popen[bytes]]]] = []
        try:
            for argv in argvs:
                begun.append((argv, self._begin(argv, stdin)))
            return tuple(_finish(argv, process, timeout, stdin) for argv, process in begun)
        finally:
            for _, process in begun:
                if isinstance(process, Known) and process.value.poll() is None:
                    _kill_group(process.value)

    def _begin(self, argv: tuple[str, ...], stdin: bytes) -> "Reading[subprocess.Popen[bytes]]":
        source = " ".join(argv[:3])
        try:
            return Known(value=self.start(argv, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL), source=source)
        except OSError as error:
            return missing(source, error)

    def start(self, argv: tuple[str, ...], *, stdin: int = subprocess.DEVNULL) -> "subprocess.Popen[bytes]":
        """A running command with its output piped; the caller ends it with `stop`. Raises OSError."""
        self.started += 1
        process = None
        with _signals_held() as came:
            try:
                process = subprocess.Popen(
                    argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment(),
                    start_new_session=True,
                )  # fmt: skip
                return process
            finally:
                if came and process is not None:
                    _kill_group(process)

    def stop(self, process: Running) -> None:
        """Ends a command of `start` and everything it started."""
        assert isinstance(process, subprocess.Popen)
        stop(process)


@contextlib.contextmanager
def _signals_held() -> Iterator[list[int]]:
    """Delays signals to the end: an exception within Popen would leave a process that nobody stops."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if callable(handler):
            signal.signal(number, lambda number, _frame: came.append(number))
    try:
        yield came
    finally:
        for number, handler in before.items():
            if callable(handler):
                signal.signal(number, handler)
        for noted in came:
            signal.raise_signal(noted)


class _TooMuch(Exception):
    pass


def _finish(
    argv: tuple[str, ...], process: "Reading[subprocess.Popen[bytes]]", timeout: float, stdin: bytes
) -> Reading[Completed]:  # fmt: skip
    if isinstance(process, Missing):
        return process
    try:
        out, err = _collect(process.value, stdin, timeout)
    except subprocess.TimeoutExpired:
        # Before anybody waits for it: until then the number is its own, also if it has ended and a child keeps the output open.
        _kill_group(process.value)
        return Missing(source=process.source, why=Why.FAILED, detail=f"no answer within {timeout:g} s")
    except _TooMuch:
        return Missing(source=process.source, why=Why.FAILED, detail=f"more than {_OUTPUT_MAX >> 20}M of output")
    return Known(
        value=Completed(
            argv=argv, returncode=process.value.returncode,
            stdout=out[:_OUTPUT_MAX].decode("utf-8", "replace"), stderr=err[:_OUTPUT_MAX].decode("utf-8", "replace"),
        ),
        source=process.source,
    )  # fmt: skip


def _collect(process: "subprocess.Popen[bytes]", stdin: bytes, timeout: float) -> tuple[bytes, bytes]:
    """Stdout and stderr of a process until it ends; never more than allowed is kept in memory.

    Raises subprocess.TimeoutExpired or _TooMuch.
    """
    deadline = time.monotonic() + timeout
    out, err = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
        for pipe, buffer in ((process.stdout, out), (process.stderr, err)):
            assert pipe is not None
            stack.callback(pipe.close)
            selector.register(pipe, selectors.EVENT_READ, buffer)
        if process.stdin is not None:
            threading.Thread(target=_feed, args=(process.stdin, stdin), daemon=True).start()
        while selector.get_map():
            ready = selector.select(max(deadline - time.monotonic(), 0))
            if not ready:
                raise subprocess.TimeoutExpired(process.args, timeout)
            for key, _ in ready:
                data = os.read(key.fd, 1 << 16)
                key.data.extend(data)
                if not data:
                    selector.unregister(key.fileobj)
                if len(key.data) > _OUTPUT_MAX:
                    raise _TooMuch
        process.wait(timeout=max(deadline - time.monotonic(), 0.1))
    return bytes(out), bytes(err)


def _feed(pipe: "IO[bytes]", data: bytes) -> None:
    """Writes while the output is read: a program that does not read its input must not block this one."""
    with contextlib.suppress(OSError), pipe:
        pipe.write(data)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Ends a command of `LiveRunner.start` and everything it started."""
    _kill_group(process)


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # It has ended already, or belongs to sudo, which ends when its pipes are closed.
        pass
    # Not communicate(): a child that left the group could keep the pipe open forever.
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=_KILL_SECONDS)
