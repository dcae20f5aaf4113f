"""The plan as frozen data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cgroup_preflight.config.model import Setting, Smoke
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Location

if TYPE_CHECKING:
    # Not at run time: the reader of build info takes a third of the start-up.
    from cgroup_preflight.config.unit_source import UnitSource
    from cgroup_preflight.golang.program import Binary
    from cgroup_preflight.plan.run_unit import RunUnit


@dataclass(frozen=True, slots=True, kw_only=True)
class SlicePlan:
    """A slice unit: `unit` is its name with `.slice`; `label` is its name in the config, empty for a run's own slice."""

    label: str
    unit: str
    settings: tuple[Setting, ...]

    @property
    def name(self) -> str:
        """The unit by its name in the config: `api.slice`, and `run.slice` for the slice of a run."""
        return f"{self.label or 'run'}.slice"


@dataclass(frozen=True, slots=True, kw_only=True)
class GoItem:
    """One generated setting and the reason for it: a variable with its value, or settings of a slice again."""

    why: str
    variable: str = ""
    value: str = ""
    settings: tuple[Setting, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GoSettings:
    """What one Go service gets. `notes` say what is left as it is, and why; `godebug` is appended to any GODEBUG."""

    version: str
    items: tuple[GoItem, ...] = ()
    notes: tuple[str, ...] = ()
    godebug: str = ""

    @property
    def settings(self) -> tuple[Setting, ...]:
        """The settings of a slice that the unit gets again."""
        return tuple(setting for item in self.items for setting in item.settings)

    def environment(self, base: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """`base` with the generated variables. A variable of `base` keeps its value, except that GODEBUG grows."""
        found = dict(base)
        for item in self.items:
            if item.variable and item.variable != "GODEBUG":
                found.setdefault(item.variable, item.value)
        if self.godebug:
            from cgroup_preflight.golang.runtime_env import append_godebug

            found["GODEBUG"] = append_godebug(found.get("GODEBUG", ""), self.godebug)
        return tuple(found.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePlan:
    """A service unit and the slices above it, outermost first.

    `path` names the program as the config does, `binary` is its absolute path, `program` says what that file is (None:
    nobody looked). `settings` and `smoke.env` are everything that applies, also what was generated for a Go program;
    `go` has that alone. `environment` is the user's own, for the drop-in; `own_env` has the smoke table's, too.
    `variables_at` gives the line of the config for each variable. `source` is the unit of the project, if there is one,
    `run_unit` its copy for a run, and `unit_settings` are those of its limits that the plan does not set.
    """

    label: str
    unit: str
    path: str
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
    source: UnitSource | None = None
    run_unit: RunUnit | None = None
    unit_settings: tuple[Setting, ...] = ()

    @property
    def own_settings(self) -> tuple[Setting, ...]:
        """The settings of the config alone, without what was generated and what the unit file has."""
        others = (*(self.go.settings if self.go is not None else ()), *self.unit_settings)
        return tuple(item for item in self.settings if item not in others)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Slices, outermost first, declared or implied by dashes; services by name."""

    project: str
    source: str
    slices: tuple[SlicePlan, ...]
    services: tuple[ServicePlan, ...]

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Every setting of the config, those of slices first, without what was generated for Go programs."""
        groups = [*(item.settings for item in self.slices), *(item.own_settings for item in self.services)]
        return tuple(setting for settings in groups for setting in settings)

    @property
    def every_limit(self) -> tuple[Setting, ...]:
        """As `settings`, and those that only the units of services have."""
        return (*self.settings, *(setting for item in self.services for setting in item.unit_settings))

    def above(self, unit: ServicePlan | SlicePlan) -> tuple[SlicePlan, ...]:
        """The slices that contain a unit of this plan, the innermost first (systemd.slice(5): dashes nest)."""
        if isinstance(unit, ServicePlan):
            by_unit = {item.unit: item for item in self.slices}
            return tuple(by_unit[name] for name in reversed(unit.slices))
        nested = (item for item in self.slices if unit.unit.startswith(f"{item.unit.removesuffix('.slice')}-"))
        return tuple(sorted(nested, key=lambda item: len(item.unit), reverse=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitFile:
    """A generated file; `path` is relative to a systemd unit folder."""

    path: str
    content: str
