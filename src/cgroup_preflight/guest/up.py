"""Runs `up` of this tool in a guest: its lines come while it runs, and its services' ports are forwarded to loopback."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager

from cgroup_preflight.core.errors import ExitStatus
from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.engines.fair_time import SLOWEST
from cgroup_preflight.guest.relay import Listeners, Relay
from cgroup_preflight.guest.run import Boot, GuestTask, Now, Ready, Say, ready_guest, start_tool
from cgroup_preflight.guest.session import Guest
from cgroup_preflight.guest.spec import CommandResult, GuestError

_ENV_FILE = "/run/preflight/up.env"
#: Besides what the services may take to stop.
_STOP_SECONDS = 60.0
_ENDED = (ExitStatus.PASS, ExitStatus.FAIL)
#: Of a tool that Ctrl-C reached before it could do anything about it.
_INTERRUPTED = (*_ENDED, ExitStatus.INTERRUPTED, -signal.SIGINT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """What happens meanwhile: `write` gets what the tool prints; `look` is called about each second, and says with True
    that this guest is to end."""

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
        words = []
        if variables:
            ready.guest.write_file(_ENV_FILE, variables.encode(), mode=0o600)
            words = [f"--env-file={_ENV_FILE}"]
        job = start_tool(ready, *words, piped=True)
        relay = Relay(ready.guest, job, listeners, handlers.write)
        with closing(relay), _first_interrupt() as wake:
            interrupted = _carry(ready, relay, wake, handlers.look, now, lambda: ready.guest.signal(job, signal.SIGINT))
        done = ready.guest.wait(job)
    if done.returncode not in (_INTERRUPTED if interrupted else _ENDED):
        raise _failed(done)
    if interrupted and not os.read(wake, 1):
        raise KeyboardInterrupt
    return done.returncode
