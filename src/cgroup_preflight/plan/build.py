"""Config to plan: unit names, implied slices, absolute paths, and what a Go program needs to fit its limits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cgroup_preflight.config.model import Config, Service, Setting
from cgroup_preflight.core.records import replace
from cgroup_preflight.plan.model import Plan, ServicePlan, SlicePlan

if TYPE_CHECKING:
    # At run time only where a program is really a Go program: the reader of build info is a third of the start-up.
    from cgroup_preflight.golang.program import Binary
    from cgroup_preflight.plan.go_settings import GoSettings, Unit


def expand(name: str) -> tuple[str, ...]:
    """A slice name and those it nests in by its dashes, outermost first: `a-b` gives a, a-b.

    Source: systemd.slice(5).
    """
    parts = name.split("-")
    return tuple("-".join(parts[: end + 1]) for end in range(len(parts)))


def binary_paths(config: Config) -> dict[str, str]:
    """The program of each service by its name: what `golang.survey.survey_all` looks at for `build_plan`."""
    return {service.name: os.path.join(config.folder, service.binary) for service in config.services}


def build_plan(config: Config, *, scope: str = "", programs: Mapping[str, Binary] | None = None) -> Plan:
    """The plan of `config`; with `scope` every unit lives below `SCOPE.slice`, for a run of our own.

    A scope makes unit names unique on the host, and nothing else differs from what is shipped. `programs` are what
    the binaries were found to be, by service; without them no Go program gets its settings.
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
        _service(
            service, prefix, declared, (programs or {}).get(service.name), folder=config.folder, slices=roots
            + tuple(f"{prefix}{label}.slice" for label in expand(service.slice or "") if label),
        )
        for service in config.services
    )  # fmt: skip
    return Plan(project=config.project, source=config.path, slices=tuple(slices), services=services)


def _service(
    service: Service, prefix: str, declared: Mapping[str, tuple[Setting, ...]], program: Binary | None,
    *, slices: tuple[str, ...], folder: str,
) -> ServicePlan:  # fmt: skip
    go = _go_settings(service, declared, program)
    return ServicePlan(
        label=service.name, unit=f"{prefix}{service.name}.service", binary=os.path.join(folder, service.binary),
        slices=slices, settings=service.settings + (go.settings if go else ()),
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
    """What the program is tried with: the user's variables, those of its smoke table last, then what is generated."""
    own = tuple((dict(service.environment) | dict(service.smoke.env)).items())
    return go.environment(own) if go else own
