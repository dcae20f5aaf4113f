"""Runs `up` of this tool in a guest: its lines come while it runs, and its services' ports are forwarded to loopback."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from types import FrameType

from cgroup_preflight.core.errors import ExitStatus
from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.engines.fair_time import SLOWEST
from cgroup_preflight.guest.relay import Listeners, Relay
from cgroup_preflight.guest.run import Boot, GuestTask, Now, Ready, Say, lost, ready_guest, start_tool
from cgroup_preflight.guest.session import Guest
from cgroup_preflight.guest.spec import Background, CommandResult, GuestError

_ENV_FILE = "/run/preflight/up.env"
#: Besides what the services may take to stop.
_STOP_SECONDS = 60.0
_ENDED = (ExitStatus.PASS, ExitStatus.FAIL)
#: Of a tool that Ctrl-C reached before it could do anything about it.
_INTERRUPTED = (*_ENDED, ExitStatus.INTERRUPTED, -signal.SIGINT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """What happens meanwhile: `write` gets what the tool prints; `look`, called each second, says whether this guest is to end."""

    write: Callable[[bytes], None]
    look: Callable[[], bool]


def run_up(
    task: GuestTask, variables: str, listeners: Listeners, handlers: Handlers, environment: Mapping[str, str], say: Say,
    *, boot: Boot = Guest, now: Now = time.monotonic,
) -> int:  # fmt: skip
    """Boots a guest and runs the task in it to its end, or until `look` ends it; the exit status.

    `variables` is the text of a .env file. The first Ctrl-C stops the services in the guest, and raises
    KeyboardInterrupt when it has ended; the second ends the guest at once. Raises what `ready_guest` raises.
    """
    with ready_guest(task, environment, say, lambda _: None, boot=boot, now=now) as ready:
        return carry_up(ready, variables, listeners, handlers, now)


def carry_up(ready: Ready, variables: str, listeners: Listeners, handlers: Handlers, now: Now) -> int:
    """As `run_up`, in a guest that has booted."""
    words = []
    if variables:
        ready.guest.write_file(_ENV_FILE, variables.encode(), mode=0o600)
        words = [f"--env-file={_ENV_FILE}"]
    job = start_tool(ready, *words, piped=True)
    with closing(Relay(ready.guest, job, listeners, handlers.write)) as relay, first_interrupt() as interrupt:
        _carry(relay, interrupt, handlers.look, now, _Stop(ready, job))
    done = ready.guest.wait(job)
    if done.returncode not in (_INTERRUPTED if interrupt.seen else _ENDED):
        raise _failed(done)
    if interrupt.seen:
        raise KeyboardInterrupt
    return done.returncode


class Interrupt:
    """Whether Ctrl-C came; `wake` is a descriptor that is readable from then on until `is_new` was asked."""

    def __init__(self, wake: int) -> None:
        self.wake = wake
        self.seen = self._noted = False

    def is_new(self) -> bool:
        """Whether it came, once."""
        if not self.seen or self._noted:
            return False
        self._noted = bool(os.read(self.wake, 1))
        return True


@contextmanager
def first_interrupt() -> Iterator[Interrupt]:
    """Ctrl-C breaks no frame of the channel; the second one does what it always does."""
    reading, writing = os.pipe()
    interrupt = Interrupt(reading)

    def note(_number: int, _frame: FrameType | None) -> None:
        interrupt.seen = True
        os.write(writing, b"!")
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
        os.close(reading)
        os.close(writing)


class _Stop:
    """Stops the services of one guest, once; `deadline` is infinity until then."""

    def __init__(self, ready: Ready, job: Background) -> None:
        self._ready, self._job = ready, job
        self.deadline = float("inf")

    def __call__(self, now: float) -> None:
        if self.deadline == float("inf"):
            longest = max((item.smoke.stop_timeout for item in self._ready.task.config.services), default=0.0)
            self.deadline = now + SLOWEST * longest + _STOP_SECONDS
            self._ready.guest.signal(self._job, signal.SIGINT)

    def late(self) -> GuestError:
        """The services did not stop."""
        return lost(self._ready.guest, "did not stop its services in time")


def _carry(relay: Relay, interrupt: Interrupt, look: Callable[[], bool], now: Now, stop: _Stop) -> None:
    """Carries everything until the job has printed its last line."""
    while relay.turn(interrupt.wake):
        if interrupt.is_new() or look():
            stop(now())
        if now() > stop.deadline:
            raise stop.late()


def _failed(done: CommandResult) -> GuestError:
    words = printable(" / ".join(done.stderr.decode(errors="replace").split("\n")[-6:]))[:600]
    return GuestError(f"`up` in the guest ended with exit status {done.returncode}: {words}",
                      remedy=Remedy(title="try the services in a guest with run, which says more"))  # fmt: skip
