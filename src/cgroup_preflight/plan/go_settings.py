"""The settings that make a Go program fit its limits, and the reason for each. Pure.

Source of the rules: golang/go#75164 (no Go version takes a memory limit from the cgroup), golang/go#81180 (it sees
only the quota of its own cgroup), golang/go#73193 (the floor of 2), and the practice of automemlimit (0.9 of
the limit) and of mondoohq/cnspec#3177 (none below 64 MiB, where it does more harm than good).

GOMAXPROCS is the quota rounded down, as automaxprocs does it: a number above the quota is throttled in each period.
Where rounding down would leave more than a quarter of the quota unused, it is rounded up.
"""

import math
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction

from cgroup_preflight.config.model import Setting
from cgroup_preflight.core.limits import Chain
from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.golang.modinfo import BuildInfo
from cgroup_preflight.golang.runtime import awareness, switched_off_by_author
from cgroup_preflight.golang.runtime_env import parse_godebug
from cgroup_preflight.golang.runtime_libs import AUTOMEMLIMIT, effects
from cgroup_preflight.golang.runtime_rules import rules_for
from cgroup_preflight.plan.limits import chain_of
from cgroup_preflight.plan.model import GoItem, GoSettings

#: A GOMEMLIMIT below this makes the garbage collector run all the time, and saves little memory; bytes.
LEAST_MEMORY_LIMIT = 64 << 20
_LEAST_USE = 0.75
_QUOTA = ("CPUQuota", "CPUQuotaPeriodSec")
#: A unit and its settings, by name.
Unit = tuple[str, tuple[Setting, ...]]


def fit_settings(info: BuildInfo, units: Sequence[Unit], environment: Mapping[str, str], ratio: float) -> GoSettings:
    """What the plan adds to a Go service; `units` go from the service outwards, `environment` is the user's own."""
    chain = chain_of(units)
    memory, memory_note = _memory(info, chain, environment, ratio)
    cpu, cpu_note = _cpu(info, units, chain, environment)
    godebug = next((item.value for item in cpu if item.variable == "GODEBUG"), "")
    version = re.sub(r"[^ -~]|\\", "?", info.go_version)[:60]
    return GoSettings(
        version=version,
        items=(*memory, *cpu),
        notes=tuple(note for note in (memory_note, cpu_note) if note),
        godebug=godebug,
    )


def procs_for(quota: float) -> int:
    """GOMAXPROCS for a quota in CPUs: rounded down, unless that leaves more than a quarter of it unused."""
    down = max(1, math.floor(quota))
    return down if down >= _LEAST_USE * quota else math.ceil(quota)


_Items = tuple[tuple[GoItem, ...], str]


def _memory(info: BuildInfo, chain: Chain, environment: Mapping[str, str], ratio: float) -> _Items:
    limit, level, name = chain.memory()
    rules = rules_for(info.go_version)
    if limit is None or level is None:
        return (), _percentage(chain)
    if "GOMEMLIMIT" in environment:
        return (), "GOMEMLIMIT stays as it was set."
    if rules is not None and not rules.memory_limit:
        return (), "GOMEMLIMIT is not set: this Go version does not support it (Go >= 1.19 does)."
    for effect in effects(info, environment, chain):
        if effect.module == AUTOMEMLIMIT and effect.gomemlimit_bytes is not None and effect.gomemlimit_bytes <= limit:
            return (), "GOMEMLIMIT is not set: the program links automemlimit, which sets it at its start."
    value = math.floor(Fraction(repr(ratio)) * limit)
    where = f"{name}={format_bytes(limit)} of {level.name}"
    if value < LEAST_MEMORY_LIMIT:
        return (
            (),
            f"GOMEMLIMIT is not set: {ratio:g} of {where} is below 64M, and such a small limit does more harm than good.",
        )
    why = (
        f"{ratio:g} of {where}: the Go runtime does not read the memory limit of its cgroup, and by default "
        "its heap grows to twice of what is in use before it collects garbage."
    )
    return (GoItem(variable="GOMEMLIMIT", value=str(value), why=why),), ""


def _percentage(chain: Chain) -> str:
    """A note about a limit that depends on the memory of the host, so that it has no number here."""
    relative = [name for level in chain.levels for name in ("MemoryMax", "MemoryHigh") if name in level.at]
    return (
        f"GOMEMLIMIT is not set: {relative[0]} is a percentage of the host's memory, which is not known here."
        if relative
        else ""
    )


def _cpu(info: BuildInfo, units: Sequence[Unit], chain: Chain, environment: Mapping[str, str]) -> _Items:
    quota, level = chain.cpus()
    if quota is None or level is None:
        return (), ""
    if "GOMAXPROCS" in environment:
        return (), "GOMAXPROCS stays as it was set."
    if "containermaxprocs" in parse_godebug(environment.get("GODEBUG", "")):
        return (), "GOMAXPROCS is not set: GODEBUG has a setting of containermaxprocs, which stays."
    if switched_off_by_author(info):
        return (), "GOMAXPROCS is not set: the program's own source sets containermaxprocs=0."
    where = f"the quota of {quota:g} CPUs at {level.name}"
    allowed = chain.allowed_cpus()
    if allowed is not None and allowed <= procs_for(quota):
        return (), f"GOMAXPROCS is not set: Go never uses more than the {allowed} CPUs that AllowedCPUs leaves it."
    rules = rules_for(info.go_version)
    if rules is None or not rules.reads_cpu_max:
        return (_number(quota, where, "this Go version does not read cpu.max and uses all CPUs of the machine"),), ""
    if quota <= 1:
        why = "Go itself never goes below 2, and then the kernel stops it for a part of each period"
        return (_number(quota, where, why),), ""
    items: list[GoItem] = []
    if not awareness(info, environment)[0]:
        items.append(_switch(environment))
    if level is not chain.leaf:
        if chain.leaf.cpus is not None:
            why = f"Go sees only the quota of its own unit, which is larger ({chain.leaf.cpus:g} CPUs)"
            return (_number(quota, where, why),), ""
        items.append(_repeated(units, level.name))
    return tuple(items), ""


def _number(quota: float, where: str, why: str) -> GoItem:
    procs = procs_for(quota)
    words = "rounded down" if procs < quota else "rounded up" if procs > quota else "in whole CPUs"
    return GoItem(variable="GOMAXPROCS", value=str(procs), why=f"{where}, {words}: {why}.")


def _switch(environment: Mapping[str, str]) -> GoItem:
    names = ["containermaxprocs=1"]
    if "updatemaxprocs" not in parse_godebug(environment.get("GODEBUG", "")):
        names.append("updatemaxprocs=1")
    why = "the go line of go.mod is below 1.25, so Go does not read its CPU quota by default."
    return GoItem(variable="GODEBUG", value=",".join(names), why=why)


def _repeated(units: Sequence[Unit], name: str) -> GoItem:
    settings = next(settings for unit, settings in units if unit == name)
    own = {item.property for item in units[0][1]}
    again = tuple(item for item in settings if item.property in _QUOTA and item.property not in own)
    return GoItem(
        settings=again,
        why=f"the quota of {name} again, because Go sees only that of its own unit. It takes nothing away.",
    )
