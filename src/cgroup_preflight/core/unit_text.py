"""Reads the text of unit files as systemd does (systemd.syntax(7)): sections, keys, continued lines, lists, specifiers."""

import re
from collections.abc import Iterable

from cgroup_preflight.core.records import dataclass

_SPECIFIER = r"%(.)"
_ESCAPED = r"\\x([0-9a-f]{2})"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitLine:
    """One assignment: `line` is the number of its first line, from 1, in the file named `file`."""

    section: str
    key: str
    value: str
    file: str = ""
    line: int = 0


def parse_unit(text: str, file: str = "") -> tuple[UnitLine, ...]:
    """Every assignment of a unit file, in order; what is no assignment is left out, as systemd ignores it.

    A line that ends in a backslash goes on in the next one; comments between the two are skipped.
    """
    found, section, parts, begun = [], "", list[str](), 0
    for number, raw in enumerate(text.split("\n"), 1):
        stripped = raw.strip()
        if stripped.startswith(("#", ";")) or (not stripped and not parts):
            continue
        begun = begun or number
        parts.append(stripped.removesuffix("\\").rstrip() if stripped.endswith("\\") else stripped)
        if stripped.endswith("\\"):
            continue
        line, first = " ".join(parts).strip(), begun
        parts, begun = [], 0
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            continue
        key, equals, value = line.partition("=")
        if equals and section:
            found.append(UnitLine(section=section, key=key.strip(), value=value.strip(), file=file, line=first))
    return tuple(found)


def values(lines: Iterable[UnitLine], section: str, key: str) -> tuple[UnitLine, ...]:
    """The assignments of a list, in order; an empty one forgets those before it."""
    found: list[UnitLine] = []
    for item in lines:
        if item.section == section and item.key == key:
            found = [*found, item] if item.value else []
    return tuple(found)


def last(lines: Iterable[UnitLine], section: str, key: str, default: str = "") -> str:
    """The value of a key of which the last assignment counts; an empty one means the default."""
    found = values(lines, section, key)
    return found[-1].value if found else default


def with_names(text: str, unit: str) -> str:
    """The text with the specifiers that stand for the name of `unit` replaced; all others stay (systemd.unit(5))."""
    stem = unit.rpartition(".")[0]
    prefix, at, instance = stem.partition("@")
    last_part = prefix.rpartition("-")[2]
    names = {
        "n": unit, "N": stem, "p": prefix, "P": _unescaped(prefix), "i": instance, "I": _unescaped(instance),
        "j": last_part, "J": _unescaped(last_part), "f": f"/{_unescaped(instance if at else prefix)}",
    }  # fmt: skip
    return re.sub(_SPECIFIER, lambda match: names.get(match[1], match[0]), text)


def _unescaped(name: str) -> str:
    r"""The text that systemd-escape(1) made a name of: `-` is a slash, `\\x2d` a character."""
    return re.sub(_ESCAPED, lambda match: chr(int(match[1], 16)), name.replace("-", "/"))
