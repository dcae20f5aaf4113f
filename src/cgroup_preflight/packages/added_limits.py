"""The limits of the plan that packages do not have, which a run adds to their units. Pure."""

from cgroup_preflight.packages.selection import Selection
from cgroup_preflight.plan.model import Plan, UnitFile
from cgroup_preflight.plan.unitfile import drop_in_files, slice_drop_in_files


def added_files(plan: Plan, selection: Selection) -> tuple[UnitFile, ...]:
    """The drop-ins of the plan for the units of which no package has one."""
    limited = {unit for item in selection.packages for unit in item.package.limited}
    wanted = {item.unit for item in plan.services if item.label in selection.units}
    wanted |= {unit for item in plan.services if item.unit in wanted for unit in item.slices}
    files = (*drop_in_files(plan), *slice_drop_in_files(plan))
    return tuple(file for file in files if _unit(file) in wanted - limited)


def added_units(plan: Plan, selection: Selection) -> tuple[str, ...]:
    """The units of these drop-ins, without those that set nothing."""
    limited = {item.unit for item in plan.slices if item.settings}
    limited |= {item.unit for item in plan.services if item.own_settings or item.slices}
    return tuple(_unit(file) for file in added_files(plan, selection) if _unit(file) in limited)


def _unit(file: UnitFile) -> str:
    return file.path.partition("/")[0].removesuffix(".d")
