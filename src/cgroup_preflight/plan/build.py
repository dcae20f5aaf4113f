"""Config to plan: unit names, implied slices, absolute paths, and the settings that make a Go program fit its limits."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from cgroup_preflight.config.model import Config, Service, Setting
from cgroup_preflight.config.places import path_of
from cgroup_preflight.core.records import replace
from cgroup_preflight.plan.model import GoSettings, Plan, ServicePlan, SlicePlan

if TYPE_CHECKING:
    # Not at run time: the reader of build info takes a third of the start-up, and only Go programs need it.
    from cgroup_preflight.golang.program import Binary
    from cgroup_preflight.plan.go_settings import Unit


def expand(name: str) -> tuple[str, ...]:
    """A slice name and the names that its dashes nest it in, outermost first: `a-b` gives a, a-b.

    Source: systemd.slice(5).
    """
    parts = name.split("-")
    return tuple("-".join(parts[: end + 1]) for end in range(len(parts)))


def binary_paths(config: Config) -> dict[str, str]:
    """The absolute path of each service's program, by the name of the service."""
    return {service.name: path_of(config.folder, service.binary) for service in config.services}


def build_plan(config: Config, *, programs: Mapping[str, Binary] | None = None) -> Plan:
    """The plan of `config`. `programs` say what the file of each service is, by the service's name.

    Without them no Go program gets the settings that make it fit its limits.
    """
    declared = {item.name: item.settings for item in config.slices}
    labels = {label for item in config.slices for label in expand(item.name)}
    labels |= {label for service in config.services if service.slice for label in expand(service.slice)}
    slices = [
        SlicePlan(label=label, unit=f"{label}.slice", settings=declared.get(label, ()))
        for label in sorted(labels, key=lambda label: label.split("-"))
    ]
    services = tuple(
        _service(service, declared, (programs or {}).get(service.name), config.folder) for service in config.services
    )
    return Plan(project=config.project, source=config.path, slices=tuple(slices), services=services)


def scoped(plan: Plan, scope: str) -> Plan:
    """The plan for one run: every unit is below `SCOPE.slice`, and its name begins with `SCOPE-`.

    That makes unit names unique on the host. Nothing else differs from the plan that is shipped.
    """
    root = SlicePlan(label="", unit=f"{scope}.slice", settings=())
    slices = (replace(item, unit=f"{scope}-{item.unit}") for item in plan.slices)
    services = (
        replace(item, unit=f"{scope}-{item.unit}", slices=(root.unit, *(f"{scope}-{name}" for name in item.slices)))
        for item in plan.services
    )
    return replace(plan, slices=(root, *slices), services=tuple(services))


def only(plan: Plan, names: Collection[str]) -> Plan:
    """The plan with these services alone, or with all where no name is given; the slices stay as they are."""
    if not names:
        return plan
    return replace(plan, services=tuple(item for item in plan.services if item.label in names))


def _service(
    service: Service, declared: Mapping[str, tuple[Setting, ...]], program: Binary | None, folder: str
) -> ServicePlan:  # fmt: skip
    go = _go_settings(service, declared, program)
    labels = expand(service.slice) if service.slice else ()
    return ServicePlan(
        label=service.name, unit=f"{service.name}.service", path=service.binary,
        binary=path_of(folder, service.binary),
        slices=tuple(f"{label}.slice" for label in labels), settings=service.settings + (go.settings if go else ()),
        smoke=replace(service.smoke, env=_environment(service, go)), location=service.location,
        ready_location=service.ready_location, environment=service.environment,
        own_env=_environment(service, None), variables_at=service.variables_at,
        program=program, go=go,
    )  # fmt: skip


def _go_settings(
    service: Service, declared: Mapping[str, tuple[Setting, ...]], program: Binary | None
) -> GoSettings | None:  # fmt: skip
    if program is None or program.info is None or not service.go_settings:
        return None
    from cgroup_preflight.plan.go_settings import fit_settings

    labels = reversed(expand(service.slice)) if service.slice else ()
    units: list[Unit] = [(f"{service.name}.service", service.settings)]
    units += [(f"{label}.slice", declared.get(label, ())) for label in labels]
    return fit_settings(program.info, units, dict(_environment(service, None)), service.gomemlimit_ratio)


def _environment(service: Service, go: GoSettings | None) -> tuple[tuple[str, str], ...]:
    """The environment of a run: the user's variables, those of the smoke table over them, then what is generated."""
    own = tuple((dict(service.environment) | dict(service.smoke.env)).items())
    return go.environment(own) if go else own
