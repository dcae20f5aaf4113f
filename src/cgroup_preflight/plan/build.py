"""Config to plan: unit names, implied slices, absolute paths, and the settings that make a Go program fit its limits."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from cgroup_preflight.config.model import Config, ReadyKind, ReadyTest, Service, Setting
from cgroup_preflight.config.places import path_of
from cgroup_preflight.core.records import replace
from cgroup_preflight.plan.model import GoSettings, Plan, ServicePlan, SlicePlan

if TYPE_CHECKING:
    # Not at run time: the reader of build info takes a third of the start-up, and only Go programs need it.
    from cgroup_preflight.golang.program import Binary
    from cgroup_preflight.plan.go_settings import Unit


def expand(name: str) -> tuple[str, ...]:
    """A slice name and the names that its dashes nest it in, outermost first: `a-b` gives a, a-b.

    An empty name is in none.

    Source: systemd.slice(5).
    """
    parts = name.split("-") if name else []
    return tuple("-".join(parts[: end + 1]) for end in range(len(parts)))


def binary_paths(config: Config) -> dict[str, str]:
    """The absolute path of each service's program in the project, by the name of the service."""
    return {item.name: path_of(config.folder, item.binary) for item in config.services if item.binary}


def build_plan(config: Config, *, programs: Mapping[str, Binary] | None = None) -> Plan:
    """The plan of `config`. `programs` say what the file of each service is, by the service's name.

    Without them no Go program gets the settings that make it fit its limits.
    """
    declared = {item.name: item.settings for item in config.slices}
    labels = {label for item in config.slices for label in expand(item.name)}
    labels |= {label for service in config.services for label in expand(_slice(service, declared))}
    slices = [
        SlicePlan(label=label, unit=f"{label}.slice", settings=declared.get(label, ()))
        for label in sorted(labels, key=lambda label: label.split("-"))
    ]
    services = tuple(
        _service(service, declared, (programs or {}).get(service.name), config.folder) for service in config.services
    )
    return Plan(project=config.project, source=config.path, slices=tuple(slices), services=services)


def scoped(plan: Plan, scope: str, *, in_place: bool = False) -> Plan:
    """The plan for one run: every unit is below `SCOPE.slice`, and its name begins with `SCOPE-`.

    That makes unit names unique on the host. Nothing else differs from the plan that is shipped. Of a unit of the project
    there is a copy; with `in_place` its program is where ExecStart= has it, else it is the one of the project.
    """
    root = SlicePlan(label="", unit=f"{scope}.slice", settings=())
    slices = (replace(item, unit=f"{scope}-{item.unit}") for item in plan.slices)
    services = (_scoped_service(item, scope, root.unit, in_place=in_place) for item in plan.services)
    return replace(plan, slices=(root, *slices), services=tuple(services))


def _scoped_service(service: ServicePlan, scope: str, root: str, *, in_place: bool) -> ServicePlan:
    unit, slices = f"{scope}-{service.unit}", (root, *(f"{scope}-{name}" for name in service.slices))
    copy = None
    if service.source is not None:
        from cgroup_preflight.plan.run_unit import run_unit  # most services have no unit of their own

        # The place of a program that takes that of an installed one is known only where the unit is.
        stays = (in_place and not service.source.installed) or service.binary == service.source.program
        program = "" if stays else service.binary
        copy = run_unit(service.source, unit, slices[-1], program=program)
    return replace(service, unit=unit, slices=slices, run_unit=copy)


def only(plan: Plan, names: Collection[str]) -> Plan:
    """The plan with these services alone, or with all where no name is given; the slices stay as they are."""
    if not names:
        return plan
    return replace(plan, services=tuple(item for item in plan.services if item.label in names))


def _service(
    service: Service, declared: Mapping[str, tuple[Setting, ...]], program: Binary | None, folder: str
) -> ServicePlan:  # fmt: skip
    go = _go_settings(service, declared, program)
    labels, source = expand(_slice(service, declared)), service.source
    smoke = replace(service.smoke, env=_environment(service, go))
    if smoke.ready.kind is ReadyKind.STARTED:
        smoke = replace(smoke, ready=ReadyTest(kind=_readiness(service)))
    return ServicePlan(
        label=service.name, unit=_unit_name(service), path=service.binary or service.unit,
        binary=path_of(folder, service.binary) if service.binary else source.program if source is not None else "",
        source=source, unit_settings=_unit_settings(service),
        slices=tuple(f"{label}.slice" for label in labels),
        settings=service.settings + (go.settings if go else ()) + _unit_settings(service),
        smoke=smoke, location=service.location,
        ready_location=service.ready_location, environment=service.environment,
        own_env=_environment(service, None), variables_at=service.variables_at,
        program=program, go=go,
    )  # fmt: skip


def _unit_name(service: Service) -> str:
    if service.source is not None:
        return service.source.name
    # Of a unit that another machine has installed, the name is all that is known.
    named = service.unit if "/" not in service.unit else ""
    own = named.replace("@.", f"@{service.instance}.") if service.instance else named
    return own or f"{service.name}.service"


def _slice(service: Service, declared: Mapping[str, tuple[Setting, ...]]) -> str:
    """The slice of the config, else that of the unit if the config declares it; empty without one."""
    own = service.source.last("Slice").removesuffix(".slice") if service.source is not None else ""
    return service.slice or (own if own in declared else "")


def _readiness(service: Service) -> ReadyKind:
    own = next((item.text for item in service.settings if item.property == "Type"), "")
    if service.source is None and not own:
        return ReadyKind.STARTED
    from cgroup_preflight.plan.own_unit import readiness_of  # most services say nothing of it

    return readiness_of(service.source.type if service.source is not None else own)


def _unit_settings(service: Service) -> tuple[Setting, ...]:
    """The limits of the unit that the config does not set, which stay in force next to those of the config."""
    ours = {item.property for item in service.settings}
    if service.source is None:
        return ()
    from cgroup_preflight.plan.own_unit import own_limits  # most services have no unit of their own

    return tuple(item for item in own_limits(service.source) if item.property not in ours)


def _go_settings(
    service: Service, declared: Mapping[str, tuple[Setting, ...]], program: Binary | None
) -> GoSettings | None:  # fmt: skip
    if program is None or program.info is None or not service.go_settings:
        return None
    from cgroup_preflight.plan.go_settings import fit_settings

    labels = reversed(expand(_slice(service, declared)))
    units: list[Unit] = [(_unit_name(service), service.settings + _unit_settings(service))]
    units += [(f"{label}.slice", declared.get(label, ())) for label in labels]
    return fit_settings(program.info, units, dict(_environment(service, None)), service.gomemlimit_ratio)


def _environment(service: Service, go: GoSettings | None) -> tuple[tuple[str, str], ...]:
    """The environment of a run: the user's variables, those of the smoke table over them, then what is generated."""
    own = tuple((dict(service.environment) | dict(service.smoke.env)).items())
    return go.environment(own) if go else own
