"""A run on another machine: the programs and files of the project go there, and a guard ends the run if the connection is lost."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from cgroup_preflight.config.model import Config
from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass, replace
from cgroup_preflight.core.report import Finding, Remedy
from cgroup_preflight.core.unit_values import is_yes
from cgroup_preflight.engines.guard import LONG_SECONDS, Guard, SigningClock, SigningProcesses
from cgroup_preflight.engines.run_scope import Guarded
from cgroup_preflight.plan.model import Plan, ServicePlan
from cgroup_preflight.smoke import full_disk

if TYPE_CHECKING:
    from cgroup_preflight.engines.choice import EngineChoice
    from cgroup_preflight.host.door import Door

_SECONDS = 30.0
#: Where absolute paths of programs are below the private folder.
ABSOLUTE = "absolute"


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """The files that go to the other machine: paths of this one by their names there; `home` is the name of the config's folder.

    A program that the config names by an absolute path is below `ABSOLUTE`.
    """

    files: Mapping[str, str]
    home: str


@dataclass(frozen=True, slots=True, kw_only=True)
class There:
    """What a run uses on the other machine: the door, which gives the guard its signs, and config and plan with its paths."""

    door: "Door"
    config: Config
    plan: Plan


class Elsewhere:
    """How a run is made on the machine of a door that is not this one; `systemd` is its version."""

    def __init__(self, choice: "EngineChoice", systemd: int, carried: Carried) -> None:
        self._choice, self._systemd, self._carried = choice, systemd, carried

    @contextmanager
    def prepared(
        self, door: "Door", guarded: Guarded, config: Config, plan: Plan, say: Callable[[str], None]
    ) -> Iterator[There]:  # fmt: skip
        """Starts the guard and copies the files into the private folder of the run. Raises HostError.

        After an error the guard stays, and ends what the end of the run could not.
        """
        guard = Guard(self._choice, door, guarded, self._systemd)
        try:
            guard.begin()
            self._copy(door, guard, guarded.folder, plan, say)
            guard.sign()
            yield self._there(door, guard, guarded.folder, config, plan)
            # Fails where the guard has begun to end the run: what was seen since then is not the fault of a service.
            guard.sign()
        except HostError as error:
            if (full := full_disk.named(door, guarded.folder, error)) is not None:
                raise full from error
            raise
        guard.end()

    def judged(self, door: "Door", folder: str, findings: Sequence[Finding]) -> tuple[Finding, ...]:
        """The findings of a run, of which a full disk there can explain some (`smoke.full_disk`)."""
        return full_disk.excused(door, folder, findings)

    def _there(self, door: "Door", guard: Guard, folder: str, config: Config, plan: Plan) -> There:
        signing = replace(
            door, clock=SigningClock(guard, door.clock), processes=SigningProcesses(guard, door.processes)
        )
        home = os.path.normpath(f"{folder}/{self._carried.home}")
        services = (_moved(item, folder, home) for item in plan.services)
        return There(
            door=signing, config=replace(config, folder=home), plan=replace(plan, services=tuple(services)),
        )  # fmt: skip

    def _copy(self, door: "Door", guard: Guard, folder: str, plan: Plan, say: Callable[[str], None]) -> None:
        files = self._carried.files
        sizes = {name: os.stat(path).st_size for name, path in files.items()}
        _require_space(door, folder, sum(sizes.values()))
        say(f"copying {len(files)} file(s), {format_bytes(sum(sizes.values()))}, to {door.host}")
        if any(map(_has_user, plan.services)):
            # Its name is random: who does not run for the run does not find it.
            door.programs.run(("chmod", "0711", folder), timeout=_SECONDS)
        for below in sorted({os.path.dirname(f"{folder}/{name}") for name in files}):
            door.files.make_folder(below)
        for name, path in files.items():
            guard.sign(LONG_SECONDS)
            with open(path, "rb") as source:
                mode = 0o755 if os.stat(path).st_mode & 0o111 else 0o644
                door.files.upload(source, f"{folder}/{name}", mode)


def _moved(service: ServicePlan, folder: str, home: str) -> ServicePlan:
    """The service with the path that its program has there; one that is installed there stays as it is."""
    if service.source is not None and service.path == service.source.name:
        return service
    place = f"{folder}/{ABSOLUTE}{service.path}" if service.path.startswith("/") else f"{home}/{service.path}"
    return replace(service, binary=os.path.normpath(place))


def _has_user(service: ServicePlan) -> bool:
    """Whether systemd starts it as another user, who must be able to reach the program."""
    own = {item.property: item.text for item in service.own_settings}
    source = service.source
    named = own.get("User", "") or (source.last("User") if source is not None else "")
    return bool(named) or (source is not None and is_yes(source.last("DynamicUser")))


def _require_space(door: "Door", folder: str, size: int) -> None:
    """Raises HostError where the files do not fit."""
    free = full_disk.free_bytes(door, folder)
    if free is not None and free < size + full_disk.SPARE:
        raise HostError(
            f"{folder} of {door.host} has {format_bytes(free)} free, and the run needs {format_bytes(size + full_disk.SPARE)}",
            where=door.host, remedy=Remedy(title="free space there"),
        )  # fmt: skip
