"""A whole service unit for an artifact that has none: exactly the command line that was smoke-tested. Pure."""

from collections.abc import Sequence
from typing import Protocol

from cgroup_preflight.artifacts.model import PackedProgram, unsupported
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.plan.model import Plan, ServicePlan
from cgroup_preflight.plan.unitfile import whole_service


class Place(Protocol):
    """What of a request decides a service unit."""

    @property
    def plan(self) -> Plan:
        """The plan that the service belongs to."""

    @property
    def layout(self) -> str:
        """`system` or `user`."""

    @property
    def prefix(self) -> str:
        """The folder of the artifact that is unpacked elsewhere."""

    @property
    def user(self) -> str:
        """The user of the service; empty for the manager's default."""


def service_unit(service: ServicePlan, programs: Sequence[PackedProgram], place: Place) -> str:
    """The unit of a service whose program is in the artifact.

    Raises ArtifactError (CGP306) where the artifact does not hold exactly one program of that name.
    """
    if len({program.sha256 for program in programs}) != 1:
        held = ", ".join(program.path for program in programs) or "no file of that name"
        raise unsupported(
            f"no unit can be written for {service.label}: the artifact holds {held}",
            Remedy(title=f"pack its program once, ship {service.unit} in the artifact, or set service_units = false"),
        )
    path = programs[0].path.removeprefix(f"{place.prefix}/") if place.prefix else programs[0].path
    system = place.layout == "system"
    return whole_service(
        place.plan, service, program=f"/{path}", user=place.user if system else "",
        target="multi-user.target" if system else "default.target",
    )  # fmt: skip
