"""Before a run of units of the project: what this machine must not do with them, and the users that they need."""

from collections.abc import Iterable, Iterator

from cgroup_preflight.config.model import Service
from cgroup_preflight.core import codes
from cgroup_preflight.core.errors import ConfigError, HostError
from cgroup_preflight.core.reading import Missing
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.plan.own_unit import own_limits
from cgroup_preflight.plan.run_unit import host_conflicts, users

if TYPE_CHECKING:
    from cgroup_preflight.host.door import Door

_IN_GUEST = Remedy(
    title="run it in a guest, whose files and names are its own",
    commands=(("cgroup-preflight", "run", "--engine", "guest"),),
)
_SECONDS = 30.0


def refuse_on_host(services: Iterable[Service], source: str) -> None:
    """Raises ConfigError where a copy of a unit would use folders, names or sockets of the unit that the host may run."""
    findings = [
        codes.UNIT_FILE.finding(
            Status.FAIL, service.name,
            f"{service.unit} has {', '.join(conflicts)}, which on this host may belong to the real unit", _IN_GUEST,
            location=service.unit_location,
        )
        for service in services
        if service.source is not None and (conflicts := host_conflicts(service.source))
    ]  # fmt: skip
    if findings:
        raise ConfigError(
            f"{len(findings)} unit(s) cannot be tried on a host",
            where=source,
            findings=tuple(findings),
            remedy=_IN_GUEST,
        )


def create_users(door: "Door", services: Iterable[Service]) -> None:
    """Creates the system users and groups that units name and this guest lacks (sysusers.d(5)). Raises HostError."""
    lines: dict[str, None] = {}
    for service in services:
        if service.source is not None:
            named, groups = users(service.source)
            lines |= dict.fromkeys((*(f"g {name} -" for name in groups), *(f"u {name} -" for name in named)))
    if not lines:
        return
    done = door.programs.run(
        ("systemd-sysusers", "-"), timeout=_SECONDS, stdin="".join(f"{line}\n" for line in lines).encode()
    )
    if isinstance(done, Missing) or done.value.returncode != 0:
        why = str(done) if isinstance(done, Missing) else done.value.stderr.strip()[:200]
        raise HostError(
            f"cannot create the users of the units: {why}", where="systemd-sysusers",
            remedy=Remedy(title="name a user of the guest in User= and Group="),
        )  # fmt: skip


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
        ours = {item.property: item for item in service.settings}
        for item in own_limits(service.source):
            own = ours.get(item.property)
            if own is not None and own.value != item.value:
                message = (
                    f"{item.property}={own.text} of the config wins over {item.property}={item.text} of {service.unit}"
                )
                yield codes.LIMITS_IN_FORCE.finding(Status.SKIP, service.name, message, location=item.location)
