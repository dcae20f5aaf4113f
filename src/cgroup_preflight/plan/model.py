"""The plan as frozen data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cgroup_preflight.config.model import Setting, Smoke
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Location

if TYPE_CHECKING:
    # At run time only where a program is really a Go program: the reader of build info is a third of the start-up.
    from cgroup_preflight.golang.program import Binary
    from cgroup_preflight.plan.go_settings import GoSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class SlicePlan:
    """A slice unit: `unit` is its name with `.slice`; `label` its name in the config."""

    label: str
    unit: str
    settings: tuple[Setting, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePlan:
    """A service unit and the slices above it, outermost first; `binary` is an absolute path.

    `settings` and `smoke.env` hold everything that applies, what was generated for a Go program included; `go` says
    what that is. `environment` is the user's own, for the drop-in, `own_env` with that of its smoke table;
    `variables_at` are lines of the config.
    `program` is what the file was found to be, None where nobody looked.
    """

    label: str
    unit: str
    binary: str
    slices: tuple[str, ...]
    settings: tuple[Setting, ...]
    smoke: Smoke
    location: Location
    ready_location: Location
    environment: tuple[tuple[str, str], ...] = ()
    own_env: tuple[tuple[str, str], ...] = ()
    variables_at: tuple[tuple[str, Location], ...] = ()
    program: Binary | None = None
    go: GoSettings | None = None

    @property
    def own_settings(self) -> tuple[Setting, ...]:
        """The settings of the config alone, without what was generated."""
        generated = self.go.settings if self.go is not None else ()
        return tuple(item for item in self.settings if item not in generated)


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
