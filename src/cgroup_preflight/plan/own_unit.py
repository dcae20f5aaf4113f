"""What a unit of the project says of itself: its own limits, and how systemd learns that it is ready. Pure."""

from cgroup_preflight.config.model import ReadyKind, Setting
from cgroup_preflight.config.properties import BY_NAME
from cgroup_preflight.config.unit_source import UnitSource
from cgroup_preflight.core.quantities import QuantityError
from cgroup_preflight.core.report import Location

#: Types whose readiness systemd learns of (systemd.service(5), Type=).
_TELLING = ("notify", "notify-reload", "forking", "dbus")


def readiness_of(source: UnitSource) -> ReadyKind:
    """How systemd learns that the unit is ready."""
    if source.type in _TELLING:
        return ReadyKind.NOTIFY
    return ReadyKind.EXIT if source.type == "oneshot" else ReadyKind.STARTED


def own_limits(source: UnitSource) -> tuple[Setting, ...]:
    """Its own limits, of the properties that this tool proves; a value in another spelling is left out."""
    found: dict[str, Setting] = {}
    for item in source.lines:
        if item.section != "Service" or item.key not in BY_NAME:
            continue
        found.pop(item.key, None)
        try:
            value = BY_NAME[item.key].parse(item.value)
        except QuantityError:
            continue
        at = Location(file=item.file, line=item.line)
        found[item.key] = Setting(property=item.key, text=item.value, value=value, location=at)
    return tuple(found[name] for name in BY_NAME if name in found)
