"""Units of made-up services."""

from collections.abc import Sequence

from cgroup_preflight.config.model import Config
from cgroup_preflight.core.records import replace
from cgroup_preflight.plan.build import build_plan
from cgroup_preflight.plan.unitfile import whole_service


def wanted_service(
    config: Config, arguments: Sequence[str], *, user: str = "", target: str = "multi-user.target"
) -> str:
    """The whole unit of the config's only service, with these arguments."""
    plan = build_plan(config)
    (service,) = plan.services
    service = replace(service, smoke=replace(service.smoke, args=tuple(arguments)))
    return whole_service(plan, service, program="/usr/bin/x", user=user, target=target)
