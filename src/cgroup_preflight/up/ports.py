"""Addresses that services will listen at: two with the same one, or one that is taken, before anything starts."""

from collections.abc import Callable, Iterable

from cgroup_preflight.config.model import WITH_PORT, ReadyKind, ReadyTest
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.engines.ready import address

if TYPE_CHECKING:
    from cgroup_preflight.plan.model import ServicePlan


def place_of(test: ReadyTest) -> str:
    """Where a service listens as far as its readiness test says: host:port, or a socket; empty without one."""
    if test.kind in WITH_PORT:
        host, port = address(test)
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return test.target if test.kind is ReadyKind.UNIX else ""


def clashes(services: Iterable["ServicePlan"]) -> tuple[str, ...]:
    """One line for each address that two services have, with the names of both."""
    by_place: dict[str, list[str]] = {}
    for service in services:
        if place := place_of(service.smoke.ready):
            by_place.setdefault(place, []).append(service.label)
    return tuple(
        f"{' and '.join(names)} would both listen at {place}" for place, names in by_place.items() if len(names) > 1
    )


def taken(
    services: Iterable["ServicePlan"], listens: Callable[[ReadyTest], bool], holder: Callable[[ReadyTest], str]
) -> tuple[str, ...]:
    """One line for each address of a service at which another program listens already; `holder` names that program."""
    return tuple(
        f"{service.label} cannot listen at {place}: {holder(service.smoke.ready) or 'another program'} does already"
        for service in services
        if (place := place_of(service.smoke.ready)) and listens(service.smoke.ready)
    )
