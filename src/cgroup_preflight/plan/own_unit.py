"""What a unit of the project says of itself: its own limits, and how systemd learns that it is ready. Pure."""

import re
from contextlib import suppress

from cgroup_preflight.config.model import ReadyKind, Setting
from cgroup_preflight.config.properties import BY_NAME, Property, Role, Value
from cgroup_preflight.config.unit_source import UnitSource
from cgroup_preflight.core.quantities import Permyriad, QuantityError, Size
from cgroup_preflight.core.report import Location
from cgroup_preflight.core.unit_values import TELLING

#: Parts of a thousand and of ten thousand (systemd, parse_permyriad).
_PARTS = r"(0|[1-9]\d{0,6})(?:(?:\.(\d))?‰|‱)"
#: What may be before a number of a size (strtoull(3), base 10).
_BEFORE = r"(?<![\d.])\+?0*(?=\d)"


def readiness_of(type_: str) -> ReadyKind:
    """How systemd learns that a unit of this Type= is ready."""
    if type_ in TELLING:
        return ReadyKind.NOTIFY
    return ReadyKind.EXIT if type_ == "oneshot" else ReadyKind.STARTED


def own_limits(source: UnitSource) -> tuple[Setting, ...]:
    """Its own limits, of the properties that this tool proves, as systemd reads them: it ignores a line without sense."""
    found: dict[str, Setting] = {}
    for item in source.lines:
        known = BY_NAME.get(item.key)
        if item.section != "Service" or known is None or known.role is Role.START or "Service" not in known.sections:
            continue
        before = found.pop(item.key, None)
        value = _value(known, item.value)
        if value is None:
            if item.value and before is not None:
                found[item.key] = before
            continue
        text = item.value
        if known.kind == "lines":
            value = (*(before.value if before is not None and isinstance(before.value, tuple) else ()), str(value))
            text = ", ".join(value)
        at = Location(file=item.file, line=item.line)
        found[item.key] = Setting(property=item.key, text=text, value=value, location=at)
    return tuple(found[name] for name in BY_NAME if name in found)


def _value(known: Property, text: str) -> Value | None:
    """None for what systemd does not take either, except numbers with a zero before them, which can be octal."""
    with suppress(QuantityError):
        return known.parse(text)
    with suppress(QuantityError):
        value = known.parse(_plain(text))
        return value if isinstance(value, Size | Permyriad) else None
    return None


def _plain(text: str) -> str:
    """A size or a share in the spelling of the config, for those that only systemd takes."""
    text = text.strip()
    if parts := re.fullmatch(_PARTS, text, re.ASCII):
        share = int(parts[1]) if text.endswith("‱") else int(parts[1]) * 10 + int(parts[2] or 0)
        return f"{share // 100}.{share % 100:02}%"
    return text if text.endswith("%") else re.sub(_BEFORE, "", text)
