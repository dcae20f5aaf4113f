"""Config to plan: unit names, implied slices, absolute paths."""

import os

from cgroup_preflight.config.model import Config
from cgroup_preflight.plan.model import Plan, ServicePlan, SlicePlan


def expand(name: str) -> tuple[str, ...]:
    """A slice name and those it nests in by its dashes, outermost first: `a-b` gives a, a-b.

    Source: systemd.slice(5).
    """
    parts = name.split("-")
    return tuple("-".join(parts[: end + 1]) for end in range(len(parts)))


def build_plan(config: Config, *, scope: str = "") -> Plan:
    """The plan of `config`; with `scope` every unit lives below `SCOPE.slice`, for a run of our own.

    A scope makes unit names unique on the host, and nothing else differs from what is shipped.
    """
    prefix = f"{scope}-" if scope else ""
    declared = {item.name: item.settings for item in config.slices}
    labels = {label for item in config.slices for label in expand(item.name)}
    labels |= {label for service in config.services if service.slice for label in expand(service.slice)}
    slices = [
        SlicePlan(label=label, unit=f"{prefix}{label}.slice", settings=declared.get(label, ()))
        for label in sorted(labels, key=lambda label: label.split("-"))
    ]
    roots: tuple[str, ...] = ()
    if scope:
        roots = (f"{scope}.slice",)
        slices.insert(0, SlicePlan(label="", unit=f"{scope}.slice", settings=()))
    services = tuple(
        ServicePlan(
            label=service.name,
            unit=f"{prefix}{service.name}.service",
            binary=os.path.join(config.folder, service.binary),
            slices=roots + tuple(f"{prefix}{label}.slice" for label in expand(service.slice or "") if label),
            settings=service.settings,
            smoke=service.smoke,
            location=service.location,
            ready_location=service.ready_location,
        )
        for service in config.services
    )
    return Plan(project=config.project, source=config.path, slices=tuple(slices), services=services)
