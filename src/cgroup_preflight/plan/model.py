"""The plan as frozen data."""

from dataclasses import dataclass

from cgroup_preflight.config.model import Setting, Smoke
from cgroup_preflight.report import Location


@dataclass(frozen=True, slots=True, kw_only=True)
class SlicePlan:
    """A slice unit: `unit` is its name with `.slice`; `label` its name in the config."""

    label: str
    unit: str
    settings: tuple[Setting, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePlan:
    """A service unit and the slices above it, outermost first; `binary` is an absolute path."""

    label: str
    unit: str
    binary: str
    slices: tuple[str, ...]
    settings: tuple[Setting, ...]
    smoke: Smoke
    location: Location
    ready_location: Location


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Slices, outermost first, declared or implied by dashes; services by name."""

    project: str
    source: str
    slices: tuple[SlicePlan, ...]
    services: tuple[ServicePlan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitFile:
    """A generated file; `path` is relative to a systemd unit folder."""

    path: str
    content: str
