"""The limits of the plan that packages do not have, which a run adds to their units. Pure."""

import os
from collections.abc import Iterable

from cgroup_preflight.config.model import Setting
from cgroup_preflight.config.properties import BY_NAME
from cgroup_preflight.core.quantities import QuantityError
from cgroup_preflight.core.unit_text import parse_unit
from cgroup_preflight.packages.selection import Selection
from cgroup_preflight.plan.model import Plan, ServicePlan, UnitFile
from cgroup_preflight.plan.own_unit import own_limits
from cgroup_preflight.plan.unitfile import drop_in_files, slice_drop_in_files


def added_files(plan: Plan, selection: Selection) -> tuple[UnitFile, ...]:
    """The drop-ins of the plan for the units whose limits no package has, in a drop-in of this tool or in the unit."""
    limited = {unit for item in selection.packages for unit in item.package.limited}
    tested = [item for item in plan.services if item.label in selection.units]
    slices = {unit for item in tested for unit in item.slices}
    missing = {item.unit for item in tested if not _is_carried(item)}
    missing |= {
        item.unit for item in plan.slices if item.unit in slices and not _has(selection, item.unit, item.settings)
    }
    files = (*drop_in_files(plan), *slice_drop_in_files(plan))
    return tuple(file for file in files if _unit(file) in missing - limited)


def added_units(plan: Plan, selection: Selection) -> tuple[str, ...]:
    """The units of these drop-ins."""
    return tuple(_unit(file) for file in added_files(plan, selection))


def _is_carried(service: ServicePlan) -> bool:
    """Whether the unit sets itself all that the plan sets."""
    source = service.source
    if source is None or service.environment:
        return False
    own = {item.property: item.value for item in own_limits(source)}
    in_slice = not service.slices or source.last("Slice") == service.slices[-1]
    return in_slice and all(own.get(item.property) == item.value for item in service.own_settings)


def _has(selection: Selection, unit: str, settings: Iterable[Setting]) -> bool:
    """Whether the packages set these limits of a slice."""
    own: dict[str, object] = {}
    for item in selection.packages:
        for path, text in item.package.units.items():
            if unit not in (os.path.basename(path), os.path.basename(os.path.dirname(path)).removesuffix(".d")):
                continue
            for line in parse_unit(text):
                if line.section == "Slice" and line.key in BY_NAME:
                    own[line.key] = _value(line.key, line.value)
    return all(own.get(item.property) == item.value for item in settings)


def _value(key: str, text: str) -> object:
    try:
        return BY_NAME[key].parse(text)
    except QuantityError:
        return None


def _unit(file: UnitFile) -> str:
    return file.path.partition("/")[0].removesuffix(".d")
