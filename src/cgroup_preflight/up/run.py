"""One call of `up`, once config, plan and engine are known: makes the run, and keeps its services up."""

import os
from collections.abc import Callable, Mapping, Sequence

from cgroup_preflight.checks.numbers import host_numbers
from cgroup_preflight.config.model import Config
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.records import dataclass, replace
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.engines import run_scope
from cgroup_preflight.engines.base import Engine
from cgroup_preflight.engines.choice import EngineChoice
from cgroup_preflight.engines.devices import devices_of
from cgroup_preflight.engines.listeners import Listeners
from cgroup_preflight.engines.make import make_engine
from cgroup_preflight.engines.session import local_door
from cgroup_preflight.engines.systemd import bus_environment
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.host.door import Door
from cgroup_preflight.host.facts import Facts
from cgroup_preflight.plan.build import scoped
from cgroup_preflight.plan.model import Plan
from cgroup_preflight.plan.safe_sizes import refuse_tiny
from cgroup_preflight.up.build import Build
from cgroup_preflight.up.launches import Owner, launch_of, new_logs
from cgroup_preflight.up.listening import Listening
from cgroup_preflight.up.ports import taken
from cgroup_preflight.up.services import Item, UpServices
from cgroup_preflight.up.session import Wishes, keep_up
from cgroup_preflight.up.stream import Prefixes, Stream
from cgroup_preflight.up.watching import watch_builds
from cgroup_preflight.up.wire import Wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is wanted: the plan has only the services to run; `variables` are those of .env.

    `inside`: this is a guest of another `up`, which reads the stream, and the machine is discarded afterwards.
    """

    config: Config
    plan: Plan
    facts: Facts
    choice: EngineChoice
    variables: dict[str, str]
    builds: tuple[Build, ...] = ()
    restart: bool = False
    watch: bool = False
    table: bool = False
    colour: bool = False
    inside: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlace:
    """Where services run: `logs` makes the paths of their logs there by name. `meanwhile` is called often."""

    door: Door
    logs: Callable[[Sequence[str]], Mapping[str, str]]
    meanwhile: Callable[[], None] = lambda: None


def run_up(request: Request, write: Callable[[str], object], progress: Callable[[str], None]) -> tuple[str, ...]:
    """Runs the services until all have ended; the names of those that failed.

    Ctrl-C (KeyboardInterrupt) passes when everything was stopped. Raises HostError, UsageError for an address that is
    taken, and ConfigError for a limit that is too small here.
    """
    door = local_door(bus_environment(request.choice, os.geteuid()))
    refuse_taken(request.plan, door, request.facts.mount_point)
    project = request.config.project
    return run_on(request, RunPlace(door=door, logs=lambda names: new_logs(project, names)), write, progress)


def run_on(
    request: Request, place: RunPlace, write: Callable[[str], object], progress: Callable[[str], None]
) -> tuple[str, ...]:  # fmt: skip
    """As `run_up`, on another machine, whose paths and facts the request has."""
    door = place.door
    numbers = replace(host_numbers(request.facts), devices=devices_of(request.plan, door.files))
    refuse_tiny(request.plan.every_limit, numbers, request.config.path, tiny=request.config.allow_tiny_limits)
    engine = make_engine(request.choice, request.facts, door, numbers)
    for left in run_scope.clean_leftovers(engine, door):
        progress(f"removed what a crashed run left behind ({left})")
    name = run_scope.new_name()
    plan = scoped(request.plan, name)
    with run_scope.run_scope(engine, door, plan, name, request.facts.mount_point, stays=request.inside):
        return run_services(request, plan, engine, place, write)


def refuse_taken(plan: Plan, door: Door, mount: str) -> None:
    """Raises UsageError where another program listens at the address of a service."""
    listeners = Listeners(door.files, Observer(door.files, mount))
    if lines := taken(plan.services, door.network.listens, listeners.holder):
        raise UsageError(lines[0], where="up", remedy=Remedy(title="end that program, or change the address"))


def run_services(
    request: Request, plan: Plan, engine: Engine, place: RunPlace, write: Callable[[str], object]
) -> tuple[str, ...]:
    """As `run_up`, in a run that has been made: `plan` has the names of its units."""
    door, files = place.door, place.logs([item.label for item in plan.services])
    lines = Wire() if request.inside else Prefixes(list(files), colour=request.colour)
    stream = Stream(lines, files, write, door.files, frees=request.inside)
    owner = Owner(uid=os.geteuid(), gid=os.getegid()) if request.choice.sudo else None
    items = [
        Item(service=item, launch=launch_of(item, request.config, request.variables, files[item.label], owner))
        for item in plan.services
    ]
    mount = request.facts.mount_point
    listening = Listening(
        Listeners(door.files, Observer(door.files, mount)), lambda *place: write(Wire.listens(*place)), door.clock.monotonic
    )  # fmt: skip

    def pump() -> None:
        place.meanwhile()
        stream.pump()
        if request.inside:
            listening.look(services.cgroups)

    services = UpServices(engine, door, mount, items, stream.say, pump, restart=request.restart)
    programs = {item.label: item.binary for item in plan.services}
    wishes = Wishes(builds=request.builds, programs=programs, table=request.table)
    watching = None
    if request.watch:
        watching = watch_builds(request.builds, request.config.folder)
    if not request.inside:
        stream.say(f"{len(items)} service(s) with the engine {engine.name}; Ctrl-C stops them")
    try:
        return keep_up(services, stream, list(files), wishes, door.clock.monotonic, watching)
    finally:
        if watching is not None:
            watching.end()
