"""`up` in a guest with an imported root, which has no agent: its services are kept up from here, over the guest's lines."""

import os
import time
from collections.abc import Callable
from contextlib import closing

from cgroup_preflight.cli.guest_outside import machine_at
from cgroup_preflight.cli.guest_run import say
from cgroup_preflight.core.errors import ExitStatus, HostError
from cgroup_preflight.core.records import replace
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest.bare import BareGuest
from cgroup_preflight.guest.forwards import Forwards
from cgroup_preflight.guest.outside import Boot, Outside, failed, ready_outside
from cgroup_preflight.guest.relay import Listeners
from cgroup_preflight.guest.run import GuestTask
from cgroup_preflight.guest.up import Handlers, Interrupt, first_interrupt
from cgroup_preflight.host.remote.asking import Asker
from cgroup_preflight.up.run import Request, RunPlace, run_on

#: Lines of such a guest: shells, files and systemd take half a dozen, and the others carry connections.
LINES = 28
_CONNECTIONS_MAX = LINES - 8
#: Seconds between two looks at what changed on this host.
_LOOK = 1.0


class NewProgramError(Exception):
    """A program was built again: a guest has its files from its boot, so the next guest has it."""


class Meanwhile:
    """What is done often while services run: connections, Ctrl-C, and a look at new programs, which end them once."""

    def __init__(self, forwards: Forwards, interrupt: Interrupt, look: Callable[[], bool]) -> None:
        self._forwards, self._interrupt, self._look = forwards, interrupt, look
        self._is_over, self._due = False, 0.0

    def __call__(self) -> None:
        """Raises KeyboardInterrupt, NewProgramError, GuestError. Never in the middle of a question to the guest."""
        self._forwards.look()
        if self._interrupt.is_new():
            self._is_over = True
            raise KeyboardInterrupt
        if not self._is_over and time.monotonic() >= self._due:
            self._due = time.monotonic() + _LOOK
            if self._look():
                self._is_over = True
                raise NewProgramError


def run_up_imported(
    request: Request, task: GuestTask, listeners: Listeners, handlers: Handlers, *, boot: Boot = BareGuest
) -> int:  # fmt: skip
    """Boots the imported root of `task` and runs the services in it until all have ended, or `look` ends it; the exit status.

    The first Ctrl-C stops the services, and raises KeyboardInterrupt when it has ended; the second one ends the guest at
    once. Raises what `ready_outside` raises.
    """
    with ready_outside(task, os.environ, say, lambda _: None, lines=LINES, boot=boot, now=time.monotonic) as ready:
        try:
            bad = _kept_up(request, ready, listeners, handlers)
        except NewProgramError:
            return ExitStatus.PASS
        except (HostError, OSError) as error:
            raise failed(ready.guest, "running the services", f"could not run the services: {error}") from None
    return ExitStatus.FAIL if bad else ExitStatus.PASS


def _kept_up(request: Request, ready: Outside, listeners: Listeners, handlers: Handlers) -> tuple[str, ...]:
    """The names of the services that failed. Raises HostError, OSError, ConfigError."""
    with closing(Asker(ready.lines.shell, ready.lines.files)) as asker, first_interrupt() as interrupt:
        config, context, door = machine_at(ready, asker)
        assert context.plan is not None
        if context.engine.name is None:
            raise HostError(f"systemd of the guest cannot start services: {context.engine.why_not}", where="up",
                            remedy=Remedy(title="test the services with run, which says more"))  # fmt: skip
        folder = door.files.private_folder("preflight-up-")
        place = RunPlace(
            door=door,
            logs=lambda names: {name: f"{folder}/{number}.log" for number, name in enumerate(names)},
            meanwhile=Meanwhile(Forwards(listeners, ready.lines.dialer, _CONNECTIONS_MAX), interrupt, handlers.look),
        )  # fmt: skip
        there = replace(request, config=config, plan=context.plan, facts=context.facts, choice=context.engine,
                        builds=(), watch=False, inside=True)  # fmt: skip
        bad = run_on(there, place, lambda text: handlers.write(text.encode()), say)
        if asker.lost:
            raise HostError(asker.lost, remedy=Remedy(title="read the console lines"))
        return bad
