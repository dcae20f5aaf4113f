"""`up` where no engine of this host works, or the guest is wanted: the services run in the built-in VM."""

import ipaddress
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from cgroup_preflight.cli.guest_run import is_imported, say
from cgroup_preflight.config import DEFAULT_DISTRO
from cgroup_preflight.config.model import WITH_PORT, ReadyKind
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
#: Of those that services choose by themselves.
_PORTS_MAX = 64
#: Ports below this one belong to this host's own services.
_PRIVILEGED = 1024


def run_in_guest(request: Request, write: Callable[[str], None]) -> int:
    """The exit status of the services in a guest; `write` gets the lines. Ctrl-C (KeyboardInterrupt) passes when it has ended.

    Raises UsageError, ConfigError, HostError.
    """
    config, plan = request.config, request.plan
    distro = config.target.distro or DEFAULT_DISTRO
    if is_imported(distro):
        from cgroup_preflight.guest.outside import imported_root

        imported_root(distro, os.environ, "[target] distro")
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
        shown.listens = Forwarding(listeners, shown.say).begin
        handlers = Handlers(write=shown.take, look=changes.look)
        return keep_in_guests(lambda: _run(request, task, listeners, handlers), changes, shown.say)


def _run(request: Request, task: GuestTask, listeners: Listeners, handlers: Handlers) -> int:
    """One guest to its end."""
    if not is_imported(task.distro):
        return run_up(task, dotenv(request.variables), listeners, handlers, os.environ, say)
    from cgroup_preflight.cli.up_outside import run_up_imported

    return run_up_imported(request, task, listeners, handlers)


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


class Forwarding:
    """Forwards the ports at which services in the guest begin to listen, where this host's port is free."""

    def __init__(self, listeners: Listeners, say: Callable[[str], None]) -> None:
        self._listeners, self._say = listeners, say
        self._known = {forward.local for forward in listeners.sockets.values()}

    def begin(self, name: str, address: str, port: int) -> None:
        """A service, which may be hostile, listens there; one line says what comes of it."""
        # A socket of `::` takes IPv4, too, unless the program forbids it; Go's does.
        host = "127.0.0.1" if ipaddress.ip_address(address).is_unspecified else address
        forward = Forward(host=host, port=port)
        if forward.local in self._known or len(self._known) > _PORTS_MAX:
            return
        self._known.add(forward.local)
        if len(self._known) > _PORTS_MAX:
            self._say(f"services in the guest listen at more than {_PORTS_MAX} ports; no more are forwarded")
        elif port < _PRIVILEGED:
            self._say(
                f"{name} listens at port {port}; a port below {_PRIVILEGED} is forwarded only if `ready` names it"
            )
        else:
            try:
                self._listeners.add(forward)
            except OSError as error:
                self._say(f"{name} listens at port {port}, which is not forwarded: {error.strerror}")
            else:
                self._say(_leads(forward, name))


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
        yield _leads(forward, name)
    for item in services:
        if item.smoke.ready.kind is ReadyKind.UNIX:
            yield f"{item.label} listens at the socket {place_of(item.smoke.ready)} in the guest, which this host cannot reach"
    others = [
        item.label for item in services if item.label not in forwards and item.smoke.ready.kind is not ReadyKind.UNIX
    ]
    if others:
        yield f"`ready` names no port of {', '.join(others)}: a port is forwarded when the service listens there"


def _leads(forward: Forward, name: str) -> str:
    host, port = forward.local
    return f"{f'[{host}]' if ':' in host else host}:{port} leads to {name} in the guest"
