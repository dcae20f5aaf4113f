"""Values for systemd that would have been enough, and the commands that set them. Pure."""

from cgroup_preflight.core.report import Remedy
from cgroup_preflight.metrics.window import name_of, parent_of

_UNITS = (".service", ".scope", ".slice", ".socket", ".mount", ".swap")
#: A proposed quota or limit leaves this much more than what was wanted.
_MARGIN = 1.1
_STEP = 16 << 20
_WEIGHT_MAX = 10_000


def quota(cpus: float) -> str:
    """CPUQuota for at least this many CPUs, in whole steps of 5%."""
    return f"{max(-(-round(cpus * 10_000) // 500), 1) * 5}%"


def with_margin(amount: float, most: float) -> float:
    """What was wanted and a margin, at most what can be had."""
    return min(amount * _MARGIN, most)


def size(needed: float) -> str:
    """At least this many bytes, with a margin, in whole steps of 16M, as systemd spells it."""
    megabytes = max(-(-int(needed * _MARGIN) // _STEP), 1) * _STEP >> 20
    return f"{megabytes // 1024}G" if megabytes % 1024 == 0 else f"{megabytes}M"


def weight(wanted: float, available: float, others: int, fallback: int) -> int:
    """CPUWeight with which `wanted` of `available` CPUs are given, next to `others`; `fallback` if that is impossible."""
    if wanted >= 0.9 * available:
        return min(max(fallback, 1), _WEIGHT_MAX)
    return min(max(-(-int(1000 * wanted * others / (available - wanted)) // 1000), 1), _WEIGHT_MAX)


def set_property(path: str, settings: str, why: str) -> Remedy:
    """The remedy that sets one property of the unit of a cgroup; a cgroup below a unit has that of the unit."""
    unit = unit_of(path)
    if not unit:
        return Remedy(title=f"set {settings} for the unit of {path.lstrip('/')}", why=why)
    words = ("systemctl", "set-property", *(("--",) if unit.startswith("-") else ()), unit, settings)
    return Remedy(title=f"set {settings} for {unit}", why=why, commands=(words,), needs_root=True, persistent=True)


def unit_of(path: str) -> str:
    """The nearest systemd unit at or above a cgroup; empty for none.

    systemd puts `_` before names that could be a file of the kernel (systemd.resource-control's `cg_escape`).
    """
    while path:
        name = name_of(path).removeprefix("_")
        if name.endswith(_UNITS):
            return name
        path = parent_of(path)
    return ""
