"""Addresses that services will listen at, and who listens there already: asked before anything starts.

The loader of the config refuses two services with one address.
"""

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


def taken(
    services: Iterable["ServicePlan"], listens: Callable[[ReadyTest], bool], holder: Callable[[ReadyTest], str]
) -> tuple[str, ...]:
    """One line for each address of a service at which another program listens already; `holder` names that program."""
    return tuple(
        f"{service.label} cannot listen at {place}: {holder(service.smoke.ready) or 'another program'} does already"
        for service in services
        if (place := place_of(service.smoke.ready)) and listens(service.smoke.ready)
    )
