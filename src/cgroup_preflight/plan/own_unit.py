"""What a unit of the project says of itself: its own limits, and how systemd learns that it is ready. Pure."""

from cgroup_preflight.config.model import ReadyKind, Setting
from cgroup_preflight.config.properties import BY_NAME, Role
from cgroup_preflight.config.unit_source import UnitSource
from cgroup_preflight.core.quantities import QuantityError
from cgroup_preflight.core.report import Location
from cgroup_preflight.core.unit_values import TELLING


def readiness_of(type_: str) -> ReadyKind:
    """How systemd learns that a unit of this Type= is ready."""
    if type_ in TELLING:
        return ReadyKind.NOTIFY
    return ReadyKind.EXIT if type_ == "oneshot" else ReadyKind.STARTED


def own_limits(source: UnitSource) -> tuple[Setting, ...]:
    """Its own limits, of the properties that this tool proves; a value in another spelling is left out."""
    found: dict[str, Setting] = {}
    for item in source.lines:
        known = BY_NAME.get(item.key)
        if item.section != "Service" or known is None or known.role is Role.START or "Service" not in known.sections:
            continue
        before = found.pop(item.key, None)
        try:
            value = known.parse(item.value)
        except QuantityError:
            continue
        text = item.value
        if known.kind == "lines":
            value = (*(before.value if before is not None and isinstance(before.value, tuple) else ()), str(value))
            text = ", ".join(value)
        at = Location(file=item.file, line=item.line)
        found[item.key] = Setting(property=item.key, text=text, value=value, location=at)
    return tuple(found[name] for name in BY_NAME if name in found)
