"""`up` where no engine of this host works, or the guest is wanted: the services run in the built-in VM."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from cgroup_preflight.cli.guest_run import is_imported, say
from cgroup_preflight.config import DEFAULT_DISTRO
from cgroup_preflight.config.model import WITH_PORT, ReadyKind
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.engines.ready import address
from cgroup_preflight.engines.session import local_door
from cgroup_preflight.guest.relay import Forward, Listeners
from cgroup_preflight.guest.run import GuestTask
from cgroup_preflight.guest.up import Handlers, run_up
from cgroup_preflight.plan.model import ServicePlan
from cgroup_preflight.up.dotenv import dotenv
from cgroup_preflight.up.launches import new_logs
from cgroup_preflight.up.ports import place_of
from cgroup_preflight.up.run import Request, refuse_taken
from cgroup_preflight.up.session import Wishes, rebuilt
from cgroup_preflight.up.stream import Prefixes
from cgroup_preflight.up.watching import watch_builds
from cgroup_preflight.up.wire import Arrived

#: Seconds between two looks at what changed, while no guest runs.
_LOOK = 0.5


def run_in_guest(request: Request, write: Callable[[str], None]) -> int:
    """The exit status of the services in a guest; `write` gets the lines. Ctrl-C (KeyboardInterrupt) passes when it has ended.

    Raises UsageError, ConfigError, HostError.
    """
    config, plan = request.config, request.plan
    if is_imported(distro := config.target.distro or DEFAULT_DISTRO):
        raise UsageError(f"{distro} is an imported root, and up needs a distribution that this tool builds", where="[target] distro",
                         remedy=Remedy(title="use run or smoke, or another distro"))  # fmt: skip
    refuse_taken(plan, local_door({}), request.facts.mount_point)
    names = [item.label for item in plan.services]
    task = GuestTask(config=config, words=("up", *_flags(request)), names=tuple(names), distro=distro)
    with (
        closing(Listeners(list(forwards_of(plan.services).values()))) as listeners,
        closing(Arrived(Prefixes(names, colour=request.colour), new_logs(config.project, names), write)) as shown,
        closing(Changes(request, shown)) as changes,
    ):  # fmt: skip
        shown.say(f"{len(names)} service(s) in a guest with {task.distro}; Ctrl-C stops them and the guest")
        shown.say_all(heads(plan.services))
        handlers = Handlers(write=shown.take, look=changes.look)
        return keep_in_guests(
            lambda: run_up(task, dotenv(request.variables), listeners, handlers, os.environ, say), changes, shown.say
        )


def keep_in_guests(run: Callable[[], int], changes: "Changes", say: Callable[[str], None]) -> int:
    """Runs one guest after the other, each with the new programs; the exit status of the last one."""
    while True:
        status = run()
        if not changes.taken():
            if not changes.are_watched:
                return status
            say("all services have ended; the guest boots again when a source changes")
            changes.wait()
        say("the guest boots again with what was built")


class Changes:
    """Builds again when sources change; a guest has its files from its boot, so a new program needs a new guest."""

    def __init__(self, request: Request, shown: Arrived) -> None:
        self._shown = shown
        self._wishes = Wishes(
            builds=request.builds, programs={item.label: item.binary for item in request.plan.services}
        )
        self._watching = watch_builds(request.builds, request.config.folder) if request.watch else None
        self._new = False

    @property
    def are_watched(self) -> bool:
        """Whether there can be changes."""
        return self._watching is not None

    def wait(self) -> None:
        """Waits for a program that differs. Raises HostError where watching failed."""
        while not self.look():
            time.sleep(_LOOK)
        self.taken()

    def look(self) -> bool:
        """Whether a program differs from the one in the guest. Raises HostError where watching failed."""
        if self._watching is not None and (changed := self._watching.changed()):
            self._new = bool(rebuilt(self._shown, self._wishes, changed)) or self._new
        return self._new

    def taken(self) -> bool:
        """Whether there was a new program, which the next guest has."""
        new, self._new = self._new, False
        return new

    def close(self) -> None:
        """Ends watching."""
        if self._watching is not None:
            self._watching.end()


def _flags(request: Request) -> tuple[str, ...]:
    return (*(("--restart",) if request.restart else ()), *(("--table",) if request.table else ()))


def forwards_of(services: Sequence[ServicePlan]) -> dict[str, Forward]:
    """The addresses that this host forwards to the guest, by service."""
    found = {}
    for item in services:
        if item.smoke.ready.kind in WITH_PORT:
            host, port = address(item.smoke.ready)
            found[item.label] = Forward(host=host, port=port)
    return found


def heads(services: Sequence[ServicePlan]) -> Iterator[str]:
    """How the services are reached."""
    forwards = forwards_of(services)
    for name, forward in forwards.items():
        host, port = forward.local
        yield f"{f'[{host}]' if ':' in host else host}:{port} leads to {name} in the guest"
    for item in services:
        if item.smoke.ready.kind is ReadyKind.UNIX:
            yield f"{item.label} listens at the socket {place_of(item.smoke.ready)} in the guest, which this host cannot reach"
    others = [
        item.label for item in services if item.label not in forwards and item.smoke.ready.kind is not ReadyKind.UNIX
    ]
    if others:
        yield f"no port of {', '.join(others)} is known from its `ready`, so none leads to it"
