"""Drop-ins of units: which one decides a property, and the text of ours. Pure.

A manager reads the drop-ins of all folders in the order of their file names; of the same name, only the one in the folder
with the highest precedence (systemd.unit(5)). `systemctl set-property` writes 50-PROPERTY.conf, so that a file such as
override.conf, which comes later, wins at the next reload.
"""

import os
from collections.abc import Mapping, Sequence

from cgroup_preflight.rollout.limits import LIMITS, Values, assignment

#: The drop-in of a rollout that is under way. It is read after those of `set-property`.
HOLD = "90-cgroup-preflight-rollout.conf"
#: Other words for the same property (systemd, src/core/load-fragment-gperf.gperf.in; dbus-cgroup.c for `Scale`).
_ALSO = {"MemoryMax": ("MemoryLimit",), "CPUWeight": ("CPUShares",)}
_SCALED = ("MemoryMax", "MemoryHigh", "MemorySwapMax", "TasksMax")


def control_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names of the files that `set-property` writes for properties; `Scale` has a percentage, and is read later."""
    return tuple(
        f"50-{name}{scale}.conf"
        for name in names
        for scale in (("", "Scale") if name in _SCALED else ("",))
    )  # fmt: skip


def hold_text(unit: str, values: Values) -> str:
    """Our drop-in with the values of a stage."""
    section = "Slice" if unit.endswith(".slice") else "Service"
    lines = [assignment(name, values[name]) for name in LIMITS if name in values]
    return "\n".join([
        "# cgroup-preflight rollout: this file keeps the values of the present step over a daemon-reload.",
        "# It is removed when the rollout ends. `cgroup-preflight rollout abort` takes everything back.",
        f"[{section}]", *lines, "",
    ])  # fmt: skip


def sets(text: str, name: str) -> bool:
    """Whether the text of a unit file has a line for a property."""
    words = (name, *_ALSO.get(name, ()))
    return any(line.lstrip().partition("=")[0].rstrip() in words and "=" in line for line in text.splitlines())


def sets_to(text: str, name: str, value: int | None) -> bool:
    """Whether a drop-in of `set-property` has this value; systemd 257 writes `150.00%` where 252 wrote `150%`."""
    return assignment(name, value) in [line.replace(".00%", "%") for line in text.splitlines()]


def winner(texts: Mapping[str, str], name: str) -> str:
    """The path of the last file that sets a property, of those in `texts`, in their order; empty where none does."""
    return next((path for path in reversed(tuple(texts)) if sets(texts[path], name)), "")


def later(paths: Sequence[str], name: str, texts: Mapping[str, str]) -> tuple[str, ...]:
    """The drop-ins that set a property and are read after the one that `set-property` writes, without ours."""
    own = control_names((name,))
    return tuple(
        path for path in paths
        if (file := os.path.basename(path)) > own[0] and file not in (*own, HOLD) and sets(texts.get(path, ""), name)
    )  # fmt: skip
