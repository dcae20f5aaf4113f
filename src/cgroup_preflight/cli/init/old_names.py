"""The limits of a unit's text as settings of the config; names of cgroup v1 become those of cgroup v2. Pure.

Source: systemd.resource-control(5), "Deprecated options".
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cgroup_preflight.config.other_keys import RENAMED, SCALED, renewed
from cgroup_preflight.config.properties import BY_NAME, FOLDERS, PROPERTIES
from cgroup_preflight.core.quantities import QuantityError
from cgroup_preflight.core.unit_text import UnitLine, values

_ACCOUNTING = re.compile(r"(?:CPU|Memory|IO|BlockIO|Tasks|IP)Accounting")
#: Properties whose assignments add up to one value (systemd.resource-control(5), systemd.exec(5)).
_JOINED = (
    "AllowedCPUs", "AllowedMemoryNodes", "AmbientCapabilities", "SuccessExitStatus", *FOLDERS,
)  # fmt: skip
#: Properties of which each assignment is a value of its own: a device and its limit, a file.
_LINES = (
    *(item.name for item in PROPERTIES if item.kind == "lines"),
    "IODeviceWeight", *(old for old in RENAMED if old.startswith("BlockIO")),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One setting: its name and value in the config, and a word on where it comes from if that is no plain copy.

    A property with several lines has each as a line of `value`.
    """

    name: str
    value: str
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a section of a unit becomes: `notes` say what was not taken over, and why."""

    taken: tuple[Taken, ...]
    notes: tuple[str, ...]


def settings_of(lines: Sequence[UnitLine], section: str, *, limits_only: bool = False) -> Settings:
    """The settings in `section` ("Service" or "Slice") that are keys of the config, in the order of its table.

    `limits_only`: without those that control no cgroup, because the unit itself keeps them.
    """
    keys = dict.fromkeys(item.key for item in lines if item.section == section)
    given = {key: text for key in keys if (text := _text(lines, section, key))}
    found = {
        key: Taken(name=key, value=text)
        for key, text in given.items()
        if key in BY_NAME and (BY_NAME[key].controller or not limits_only)
    }
    notes: list[str] = []
    for old, text in given.items():
        new = RENAMED.get(old) or (SCALED[old][0] if old in SCALED else "")
        if new and new in given:
            notes.append(f"{old}={text}: the old name of {new}, which the unit sets, too, and which counts")
        elif new and new not in BY_NAME:
            notes.append(f"{old}={text}: the old name of {new}, which is no key of this file")
        elif new:
            item = _renewed(old, text, new)
            if item is None:
                low, high = SCALED[old][1].start, SCALED[old][1].stop - 1
                notes.append(f"{old}={text}: not a number from {low} to {high}, so systemd ignores the line")
            else:
                found[new] = item
    notes += _accounting(given)
    if section == "Slice":
        notes += _others(given)
    wrong = {name: words for name, item in found.items() if (words := _wrong(item))}
    notes += (f"{found[name].name}={found[name].value}: {words}" for name, words in wrong.items())
    taken = (found[name] for name in BY_NAME if name in found and name not in wrong)
    return Settings(taken=tuple(taken), notes=tuple(notes))


def _wrong(item: Taken) -> str:
    """What is wrong with the value; systemd logs a warning for most of these, and ignores the line."""
    try:
        for line in item.value.split("\n"):
            BY_NAME[item.name].parse(line)
    except QuantityError as error:
        return f"{error}; use {error.hint}; `systemd-analyze verify` shows whether systemd ignores the line"
    return ""


def is_limit(key: str) -> bool:
    """Whether `settings_of` takes the key over, or has a word on it."""
    return key in BY_NAME or key in RENAMED or key in SCALED or _ACCOUNTING.fullmatch(key) is not None


def _text(lines: Iterable[UnitLine], section: str, key: str) -> str:
    found = [item.value for item in values(lines, section, key)]
    if key in _LINES:
        return "\n".join(found)
    return " ".join(found) if key in _JOINED else found[-1] if found else ""


def _renewed(old: str, text: str, new: str) -> Taken | None:
    """The setting with its new name; None for a number out of range."""
    found = renewed(old, text)
    if found is None:
        return None
    if old in RENAMED:
        return Taken(name=new, value=text, comment=f"{old}={text} of the unit: {old} is the old name of {new}")
    words = f"{old}={text} of the unit, on the scale where {SCALED[old][2]} is the default; here that is 100"
    return Taken(name=new, value=found[1], comment=words)


def _accounting(given: Iterable[str]) -> Iterator[str]:
    names = [key for key in given if _ACCOUNTING.fullmatch(key)]
    if names:
        yield f"{', '.join(names)}: not needed, because a limit turns the accounting on"


def _others(given: dict[str, str]) -> Iterator[str]:
    """A slice has no program, so that all of its section is limits; what is no key here is lost."""
    for key, text in given.items():
        if not is_limit(key):
            yield f"{key}={text}: no key of this file; it stays in the slice's own file, and no run proves it"
