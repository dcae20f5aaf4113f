"""Before a run: what this machine must not do with the services and their units, and the users that they need."""

import os
from collections.abc import Collection, Iterable, Iterator

from cgroup_preflight.config.keys import SYSTEMD_SLICES
from cgroup_preflight.config.model import Service, Setting
from cgroup_preflight.config.properties import FOLDERS
from cgroup_preflight.core import codes
from cgroup_preflight.core.errors import ConfigError, HostError
from cgroup_preflight.core.reading import Missing
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Finding, Location, Remedy, Status
from cgroup_preflight.core.unit_text import values
from cgroup_preflight.plan.own_unit import own_limits
from cgroup_preflight.plan.run_unit import host_conflicts, named, users
from cgroup_preflight.plan.unitfile import DROP_IN

if TYPE_CHECKING:
    from cgroup_preflight.config.unit_source import UnitSource
    from cgroup_preflight.host.door import Door

_IN_GUEST = Remedy(
    title="run it in a guest, whose files and names are its own",
    commands=(("cgroup-preflight", "run", "--engine", "guest"),),
)
_SECONDS = 30.0
#: What only root can give to a program (systemd.exec(5)).
_OF_ROOT = ("User", "Group", "AmbientCapabilities")


def refuse_on_host(services: Iterable[Service], source: str, *, root: bool) -> None:
    """Raises ConfigError where a service would use folders, names or sockets of the unit that the host may run.

    Also where it needs root, and the programs do not run as `root` here: through sudo they are the caller's, too.
    """
    findings = [item for service in services for item in _refused(service, root=root)]
    if findings:
        raise ConfigError(
            f"{len(findings)} service(s) cannot be tried on this host",
            where=source,
            findings=tuple(findings),
            remedy=_IN_GUEST,
        )


def _refused(service: Service, *, root: bool) -> Iterator[Finding]:
    if service.source is not None and (conflicts := host_conflicts(service.source)):
        message = f"{service.unit} has {', '.join(conflicts)}, which on this host may belong to the real unit"
        yield codes.UNIT_FILE.finding(Status.FAIL, service.name, message, _IN_GUEST, location=service.unit_location)
    if folders := _settings(service, FOLDERS):
        message = f"{_shown(folders)} may belong to the real service on this host"
        yield codes.UNIT_FILE.finding(Status.FAIL, service.name, message, _IN_GUEST, location=folders[0].location)
    if not root and (needing := _settings(service, _OF_ROOT)):
        message = f"{_shown(needing)} needs root, and programs do not run as root here"
        yield codes.UNIT_FILE.finding(Status.FAIL, service.name, message, _IN_GUEST, location=needing[0].location)


def _settings(service: Service, names: Iterable[str]) -> tuple[Setting, ...]:
    return tuple(item for item in service.settings if item.property in names)


def _shown(settings: Iterable[Setting]) -> str:
    return ", ".join(f"{item.property}={item.text}" for item in settings)


def create_users(door: "Door", services: Iterable[Service]) -> None:
    """Creates the users and groups that services name and this guest lacks (sysusers.d(5)). Raises HostError.

    They are system users, who have no home; a person has one, which systemd names in $HOME (systemd.exec(5)).
    """
    lines: dict[str, None] = {}
    given = tuple(services)
    homes = tuple(dict.fromkeys(name for service in given if (name := _person(service))))
    for service in given:
        people, groups = users(service.source) if service.source is not None else ((), ())
        people = tuple(name for name in people if name not in homes)
        groups += named(item.text for item in _settings(service, ("Group",)))
        people += named(item.text for item in _settings(service, ("User",)))
        lines |= dict.fromkeys((*(f"g {name} -" for name in groups), *(f"u {name} -" for name in people)))
    lines |= dict.fromkeys(f"u {name} - - /home/{name} /bin/sh" for name in homes)
    if not lines:
        return
    _create(door, "systemd-sysusers", lines)
    if homes:
        _create(door, "systemd-tmpfiles", (f"d /home/{name} 0755 {name} {name}" for name in homes), "--create")


def _create(door: "Door", program: str, lines: Iterable[str], *words: str) -> None:
    """Hands lines to a program of systemd's. Raises HostError."""
    data = "".join(f"{line}\n" for line in lines).encode()
    done = door.programs.run((program, *words, "-"), timeout=_SECONDS, stdin=data)
    if isinstance(done, Missing) or done.value.returncode != 0:
        why = str(done) if isinstance(done, Missing) else done.value.stderr.strip()[:200]
        raise HostError(
            f"cannot create the users of the services: {why}", where=program,
            remedy=Remedy(title="name a user of the guest in User= and Group="),
        )  # fmt: skip


def _person(service: Service) -> str:
    """The user of a unit that runs for one person, as syncthing@NAME does (User=%i); empty for another unit."""
    if service.source is None:
        return ""
    instance = service.source.name.removesuffix(".service").partition("@")[2]
    return instance if instance and users(service.source)[0] == (instance,) else ""


def create_files(door: "Door", services: Iterable[Service]) -> None:
    """Creates in /run what installed packages expect there after a boot (tmpfiles.d(5)), which a guest's boot leaves out.

    Lines of other packages may fail in a guest: what the services need and lack, they say themselves.
    """
    if any(service.source is not None and service.source.installed for service in services):
        door.programs.run(("systemd-tmpfiles", "--create", "--prefix=/run", "--prefix=/var/run"), timeout=_SECONDS)


def own_unit_findings(services: Iterable[Service], declared: Collection[str] = ()) -> Iterator[Finding]:
    """What a run leaves out of a unit, and which of two limits wins where unit and config set one.

    `declared` are the slices of the config.
    """
    for service in services:
        if service.source is None:
            continue
        if needs := service.source.needs:
            message = f"{service.unit} requires {', '.join(needs)}, which the run does not start"
            remedy = Remedy(
                title="where the service needs it, start it in the guest with a service of its own in the config"
            )
            yield codes.SERVICE_START.finding(
                Status.SKIP, service.name, message, remedy, location=service.unit_location
            )
        yield from _own_slice(service, declared)
        yield from _two_values(service, service.source)


def _two_values(service: Service, source: "UnitSource") -> Iterator[Finding]:
    """Which of two values wins where the service runs later: systemd goes by the names of the drop-ins (systemd.unit(5))."""
    ours = {item.property: item for item in service.settings}
    for item in own_limits(source):
        own, file = ours.get(item.property), item.location.file
        if own is None or own.value == item.value:
            continue
        ours_text, text = f"{item.property}={own.text} of the config", f"{item.property}={item.text} of"
        if file != source.files[0].path and os.path.basename(file) > DROP_IN:
            message = f"{text} {file} wins over {ours_text} where the service is installed: it is read after {DROP_IN}"
            remedy = Remedy(
                title=f"remove {item.property} from {os.path.basename(file)}, or give it a name before {DROP_IN}"
            )
            yield codes.LIMITS_IN_FORCE.finding(Status.FAIL, service.name, message, remedy, location=item.location)
        else:
            message = f"{ours_text} wins over {text} {service.unit}"
            yield codes.LIMITS_IN_FORCE.finding(Status.SKIP, service.name, message, location=item.location)


def _own_slice(service: Service, declared: Collection[str]) -> Iterator[Finding]:
    """That the slice of the unit is not the one of the run, so that its limits were not tested."""
    lines = values(service.source.lines, "Service", "Slice") if service.source is not None else ()
    own = lines[-1].value.removesuffix(".slice") if lines else ""
    if not own or (own == (service.slice or own) and own in declared):
        return
    at = Location(file=lines[-1].file, line=lines[-1].line)
    if service.slice is not None:
        message = f"slice = {service.slice} of the config wins over Slice={lines[-1].value} of {service.unit}"
        yield codes.LIMITS_IN_FORCE.finding(Status.SKIP, service.name, message, location=at)
        return
    is_systemds = own.partition("-")[0] in SYSTEMD_SLICES
    yield codes.LIMITS_IN_FORCE.finding(
        Status.SKIP if is_systemds else Status.WARN, service.name,
        f"the limits of Slice={lines[-1].value} of {service.unit} were not tested: the config does not have this slice",
        *(() if is_systemds else (Remedy(title=f"add [slices.{own}] with its limits"),)), location=at,
    )  # fmt: skip
