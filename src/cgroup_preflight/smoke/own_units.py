"""Before a run: what this machine must not do with the services and their units, and the users that they need."""

import os
from collections.abc import Iterable, Iterator

from cgroup_preflight.config.model import Service, Setting
from cgroup_preflight.config.properties import FOLDERS
from cgroup_preflight.core import codes
from cgroup_preflight.core.errors import ConfigError, HostError
from cgroup_preflight.core.reading import Missing
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Finding, Remedy, Status
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
    """Creates the system users and groups that services name and this guest lacks (sysusers.d(5)). Raises HostError."""
    lines: dict[str, None] = {}
    for service in services:
        people, groups = users(service.source) if service.source is not None else ((), ())
        groups += named(item.text for item in _settings(service, ("Group",)))
        people += named(item.text for item in _settings(service, ("User",)))
        lines |= dict.fromkeys((*(f"g {name} -" for name in groups), *(f"u {name} -" for name in people)))
    if not lines:
        return
    done = door.programs.run(
        ("systemd-sysusers", "-"), timeout=_SECONDS, stdin="".join(f"{line}\n" for line in lines).encode()
    )
    if isinstance(done, Missing) or done.value.returncode != 0:
        why = str(done) if isinstance(done, Missing) else done.value.stderr.strip()[:200]
        raise HostError(
            f"cannot create the users of the services: {why}", where="systemd-sysusers",
            remedy=Remedy(title="name a user of the guest in User= and Group="),
        )  # fmt: skip


def create_files(door: "Door", services: Iterable[Service]) -> None:
    """Creates in /run what installed packages expect there after a boot (tmpfiles.d(5)), which a guest's boot leaves out.

    Lines of other packages may fail in a guest: what the services need and lack, they say themselves.
    """
    if any(service.source is not None and service.source.installed for service in services):
        door.programs.run(("systemd-tmpfiles", "--create", "--prefix=/run", "--prefix=/var/run"), timeout=_SECONDS)


def own_unit_findings(services: Iterable[Service]) -> Iterator[Finding]:
    """What a run leaves out of a unit, and which of two limits wins where unit and config set one."""
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
