"""Commands, processes and the clock of a machine at the other end."""

import math
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, cast

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.quantities import QuantityError, parse_cpus
from cgroup_preflight.core.reading import Reading, value_or
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.command import Completed, Running, stop
from cgroup_preflight.host.remote.asking import Asker
from cgroup_preflight.host.remote.questions import Kind, Question
from cgroup_preflight.host.remote.shell import Script, quoted

_LOOK_AT = Remedy(title="look at the machine and its connection")
#: Handles of processes elsewhere: no descriptor of this process has such a number.
_FIRST_HANDLE = 1 << 32
#: Seconds between two looks at processes elsewhere.
_LOOK_SECONDS = 0.05
_PID_SECONDS = 20.0
#: Runs a command until it ends, or until nobody holds the other end of the line any more, and says its number first.
_WATCHED = "; ".join((  # noqa: FLY002 - one step a line
    "exec 3<&0 </dev/null",
    "{command} & p=$!",
    "printf '\\n%s %s\\n' 'cgroup-preflight started' $p",
    "(cat <&3 >/dev/null 2>&1; kill $p) >/dev/null 2>&1 & w=$!",
    "wait $p; s=$?",
    "kill $w 2>/dev/null",
    "exit $s",
))  # fmt: skip


class RemotePrograms:
    """As `Programs`. `channel` starts a process of this machine that runs a script at the other end (`ssh NAME sh -c ...`)."""

    def __init__(
        self,
        asker: Asker,
        channel: "Callable[[str], subprocess.Popen[bytes]]",
        environment: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._asker, self._channel = asker, channel
        self._prefix = ("env", *(f"{name}={value}" for name, value in environment)) if environment else ()
        self.started = 0

    def run(self, argv: tuple[str, ...], *, timeout: float = 20.0, stdin: bytes = b"") -> Reading[Completed]:
        """As `Programs.run`."""
        return self.run_together((argv,), timeout=timeout, stdin=stdin)[0]

    def run_together(
        self, argvs: Sequence[tuple[str, ...]], *, timeout: float = 20.0, stdin: bytes = b""
    ) -> tuple[Reading[Completed], ...]:
        """As `Programs.run_together`, one after another and in one round trip."""
        self.started += len(argvs)
        questions = [
            Question(kind=Kind.COMMAND, words=(*self._prefix, *argv), seconds=timeout, stdin=stdin) for argv in argvs
        ]
        return tuple(cast("Sequence[Reading[Completed]]", self._asker.ask(questions)))

    def start(self, argv: tuple[str, ...], *, stdin: int = subprocess.DEVNULL) -> Running:
        """As `Programs.start`; it reads no input, and ends when the connection does."""
        if stdin != subprocess.DEVNULL:
            raise HostError("a command elsewhere has no input", where=argv[0], remedy=Remedy(title="use run"))
        self.started += 1
        script = _WATCHED.format(command=quoted((*self._prefix, *argv)))
        process = self._channel(script)
        assert process.stdout is not None
        try:
            return _Carried(process, _number(process.stdout))
        except BaseException:
            stop(process)
            raise

    def stop(self, process: Running) -> None:
        """As `Programs.stop`: its line ends, and the script at the other end kills it."""
        assert isinstance(process, _Carried)
        process.end()


class _Carried:
    """As `Running`: a command elsewhere, whose output a process of this machine passes on."""

    def __init__(self, process: "subprocess.Popen[bytes]", pid: int) -> None:
        self._process, self.pid = process, pid
        self.stdin: IO[bytes] | None = None

    @property
    def stdout(self) -> IO[bytes] | None:
        """What it prints."""
        return self._process.stdout

    @property
    def stderr(self) -> IO[bytes] | None:
        """Its complaints, and those of the connection."""
        return self._process.stderr

    def poll(self) -> int | None:
        """As `Running.poll`."""
        return self._process.poll()

    def wait(self, timeout: float | None = None) -> int:
        """As `Running.wait`."""
        return self._process.wait(timeout)

    def end(self) -> None:
        """Closes the input of the script, which kills the command then; and ends what carried it here."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(2.0)
        stop(self._process)


def _number(stdout: IO[bytes]) -> int:
    """The first line of a script: the number of its command, after whatever the login printed. Raises OSError."""
    until, line, seen = time.monotonic() + _PID_SECONDS, b"", 0
    while seen < _NOISE_MAX:
        left = max(until - time.monotonic(), 0.0)
        if not select.select([stdout], [], [], left)[0]:
            raise TimeoutError("the command did not start in time")
        byte = os.read(stdout.fileno(), 1)
        if not byte:
            raise OSError("the command did not start")
        seen += 1
        if byte != b"\n":
            line += byte
        elif line.startswith(_PID_MARK) and _is_pid(number := line.removeprefix(_PID_MARK)):
            return int(number)
        else:
            line = b""
    raise OSError("the command did not start")


def _is_pid(text: bytes) -> bool:
    """Whether it is a number that a process can have: int() refuses very long ones with an error of its own."""
    return text.isdigit() and len(text) <= _DIGITS_MAX


#: The largest number of a process is 4194304 (proc(5), pid_max).
_DIGITS_MAX = 10
_NOISE_MAX = 256 * 1024
_PID_MARK = b"cgroup-preflight started "


class RemoteProcesses:
    """As `Processes`: a handle stands for a number and the start time of the process that had it."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._known: dict[int, tuple[int, str]] = {}
        self._last = _FIRST_HANDLE
        self._own = 0

    def own(self) -> int:
        """As `Processes.own`: the shell, which ends with its line."""
        if not self._own:
            text = self._asker.scripts([Script(text="echo $$")])[0].out.strip()
            if not _is_pid(text):
                raise HostError("the shell does not say its number", remedy=_LOOK_AT)
            self._own = int(text)
        return self._own

    def cpus(self) -> frozenset[int]:
        """As `Processes.cpus`: those of whoever answers there."""
        lines = self._text("/proc/self/status").splitlines()
        lists = [line.partition(":")[2] for line in lines if line.startswith("Cpus_allowed_list:")]
        return _cpus(lists[0] if lists else "")

    def count_cpus(self) -> int:
        """As `Processes.count_cpus`."""
        return len(_cpus(self._text("/sys/devices/system/cpu/online"))) or 1

    def memory(self, pid: int, address: int, size: int) -> bytes:  # noqa: ARG002 - nothing is asked
        """As `Processes.memory`."""
        return b""

    def _text(self, path: str) -> str:
        found = cast("Reading[bytes]", self._asker.ask([Question(kind=Kind.DATA, path=path)])[0])
        return value_or(found, b"").decode("utf-8", "replace")

    def open(self, pid: int) -> int | None:
        """As `Processes.open`."""
        began = self._began([pid])[0]
        if not began:
            return None
        self._last += 1
        self._known[self._last] = (pid, began)
        return self._last

    def close(self, handle: int) -> None:
        """As `Processes.close`."""
        self._known.pop(handle)

    def signal(self, handle: int, number: signal.Signals) -> None:
        """As `Processes.signal`: the shell looks at the start time right before it sends the signal."""
        pid, began = self._known[handle]
        # Without a program between the look and the signal: `read` and `kill` are the shell's own.
        text = (
            f"IFS= read -r l < /proc/{pid}/stat || exit 0; l=${{l##*) }}; set -f; set -- $l; "
            f'[ "${{20}}" = {began} ] || exit 0; kill -{int(number)} {pid} || sudo -n kill -{int(number)} {pid}'
        )
        output = self._asker.scripts([Script(text=f"({text})")])[0]
        if output.status != 0 and "ermitted" in output.err:
            raise PermissionError(output.err.strip()[:200])

    def wait(self, handles: Sequence[int], seconds: float, pipes: Sequence[int] = ()) -> Sequence[int]:
        """As `Processes.wait`: looks at all processes elsewhere in one batch, every twentieth of a second."""
        until = time.monotonic() + max(seconds, 0.0)
        poll = select.poll()
        for pipe in pipes:
            poll.register(pipe, select.POLLIN)
        while True:
            ended = self._ended(handles)
            left = until - time.monotonic()
            pause = 0.0 if ended else max(min(left, _LOOK_SECONDS if handles else left), 0.0)
            found = [*ended, *(handle for handle, _ in poll.poll(pause * 1000))]
            if found or left <= 0:
                return found

    def _ended(self, handles: Sequence[int]) -> list[int]:
        if not handles:
            return []
        now = self._began([self._known[handle][0] for handle in handles])
        return [handle for handle, began in zip(handles, now, strict=True) if began != self._known[handle][1]]

    def _began(self, pids: Sequence[int]) -> list[str]:
        """The start time of each process, field 22 of proc(5) stat; empty for a process that has ended, a zombie, too.

        Raises HostError where the machine cannot be asked: not to answer is no end of a process.
        """
        readings = self._asker.ask([Question(kind=Kind.DATA, path=f"/proc/{pid}/stat") for pid in pids])
        if self._asker.lost:
            raise HostError(self._asker.lost, remedy=_LOOK_AT)
        return [_start_time(cast("Reading[bytes]", reading)) for reading in readings]


def _cpus(text: str) -> frozenset[int]:
    try:
        return parse_cpus(text.strip())
    except QuantityError:
        return frozenset()


def _start_time(reading: Reading[bytes]) -> str:
    words = value_or(reading, b"").rpartition(b")")[2].split()
    if len(words) <= 19 or words[0] in (b"Z", b"X") or not words[19].isdigit():
        return ""
    return words[19].decode()


class RemoteClock:
    """As `Clock`: time-outs count here, and what is compared with the machine's files is asked there."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._wall: tuple[float, float] | None = None

    def monotonic(self) -> float:
        """As `Clock.monotonic`."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """As `Clock.sleep`."""
        time.sleep(seconds)

    def own_cpu(self) -> float:
        """As `Clock.own_cpu`: this tool does not run there."""
        return 0.0

    def wall(self) -> float:
        """As `Clock.wall`, asked once: from then on the clock of this machine counts. Raises HostError."""
        if self._wall is None:
            output = self._asker.scripts([Script(text="date +%s.%N")])[0]
            self._wall = (_seconds(output.out), time.monotonic())
        return self._wall[0] + time.monotonic() - self._wall[1]


def _seconds(text: bytes) -> float:
    """What date(1) said."""
    try:
        # One without fractions prints the letter.
        number = float(text.strip().split(b".%")[0][:32])
        if not math.isfinite(number):
            raise ValueError
        return number
    except ValueError:
        raise HostError("the clock cannot be read: an odd answer", where="date", remedy=_LOOK_AT) from None
