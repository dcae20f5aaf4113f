"""The settings of a unit as the files of its cgroup: what an engine without a service manager writes. Pure.

What each file must say is the same text that the proof compares with (`plan.expect`), so both have one source.
"""

from collections.abc import Iterable

from cgroup_preflight.config.model import Setting
from cgroup_preflight.config.properties import BY_NAME, Role
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Location
from cgroup_preflight.core.unit_text import parse_unit
from cgroup_preflight.plan.expect import HostNumbers, expectations

_NOWHERE = Location(file="", line=0)
#: Settings of the start that mean something without a service manager. `Type` is judged by its value.
_STARTS = ("Type", "WorkingDirectory", "EnvironmentFile", "LimitNOFILE", "SuccessExitStatus")
#: Types of service whose program says nothing to a manager.
_PLAIN_TYPES = ("simple", "exec", "oneshot", "idle")
#: What the kernel itself has in each new cgroup.
_DEFAULT = {"memory.oom.group": "0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One write: the file, its text, and its controller; a `share` does nothing where its controller is missing."""

    file: str
    text: str
    controller: str
    share: bool = False


def attributes(pairs: Iterable[tuple[str, str]], numbers: HostNumbers) -> tuple[Attribute, ...]:
    """The writes for settings (property, text), in the order of the settings. Raises QuantityError for a broken text."""
    found = []
    for item in expectations(settings_of(pairs), numbers):
        if item.attribute.endswith(".effective") or _DEFAULT.get(item.attribute) == item.text:
            continue
        share = item.property.role in (Role.SHARE, Role.POLICY, Role.PARAMETER)
        found.append(
            Attribute(file=item.attribute, text=item.text, controller=item.property.controller, share=share)
        )  # fmt: skip
    return tuple(found)


def settings_of(pairs: Iterable[tuple[str, str]]) -> tuple[Setting, ...]:
    """Settings from (property, text): the last one of a property counts, of a list all. Raises QuantityError."""
    texts: dict[str, list[str]] = {}
    for name, text in pairs:
        if name in BY_NAME:
            texts.setdefault(name, []).append(text)
    return tuple(_setting(name, lines) for name, lines in texts.items())


def _setting(name: str, lines: list[str]) -> Setting:
    item = BY_NAME[name]
    parsed = [item.parse(line) for line in lines]
    value = tuple(str(one) for one in parsed) if item.kind == "lines" else parsed[-1]
    return Setting(property=name, text=lines[-1], value=value, location=_NOWHERE)


def pairs_of(text: str) -> tuple[tuple[str, str], ...]:
    """The settings of the text of a unit file."""
    return tuple((item.key, item.value) for item in parse_unit(text) if item.section in ("Slice", "Service"))


def unsupported(pairs: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """The settings, as `Name=text`, that only a service manager can give a program."""
    found = []
    for name, text in pairs:
        item = BY_NAME.get(name)
        if item is None or item.role is not Role.START:
            continue
        if name not in _STARTS or (name == "Type" and text not in _PLAIN_TYPES):
            found.append(f"{name}={text}")
    return tuple(found)
