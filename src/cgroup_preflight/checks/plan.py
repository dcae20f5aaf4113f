"""What the plan alone shows before anything runs (CGP208, CGP212 to CGP215, CGP219); with the numbers of a host, also
what only they show.

Sources: Documentation/admin-guide/cgroup-v2.rst (limits and protections of ancestors, weights), kernel/cgroup/pids.c
(PIDS_MAX), mm/page_counter.c, systemd `cgroup_cpu_adjust_period`.
"""

import itertools
from collections.abc import Iterable, Mapping

from cgroup_preflight.config.model import Setting
from cgroup_preflight.config.rules import ORDER, TINY, TINY_LIMITS
from cgroup_preflight.core.codes import ABOVE_SLICE, BEYOND_KERNEL, CONCURRENCY, PERCENT_LIMIT, WEIGHT_ALONE, Code
from cgroup_preflight.core.quantities import INFINITY, PIDS_MAX, Permyriad, Size, format_bytes, format_cpus
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.plan.expect import HostNumbers, memory_bytes, quota_usec, tasks
from cgroup_preflight.plan.model import Plan, ServicePlan, SlicePlan
from cgroup_preflight.plan.safe_sizes import tiny_findings

Unit = ServicePlan | SlicePlan
#: For each property, those of a slice above that keep it from acting where they are smaller.
_ABOVE = {
    "MemoryMax": ("MemoryMax",), "MemoryHigh": ("MemoryHigh", "MemoryMax"), "MemorySwapMax": ("MemorySwapMax",),
    "MemoryZSwapMax": ("MemoryZSwapMax",), "TasksMax": ("TasksMax",), "CPUQuota": ("CPUQuota",),
    "AllowedCPUs": ("AllowedCPUs",), "MemoryMin": ("MemoryMin", "MemoryMax"), "MemoryLow": ("MemoryLow", "MemoryMax"),
}  # fmt: skip
_PROTECTIONS = ("MemoryMin", "MemoryLow")
_HARD = ("MemoryMax", "MemoryHigh")
_WEIGHTS = ("CPUWeight", "IOWeight")
#: Machines for which a percentage is looked at where no host is known: the smallest in bytes and in tasks.
_SMALL_MEMORY, _SMALL_TASKS = 1 << 30, 1000
#: Of a page of 4096 bytes, for what is beyond the kernel's counter of pages on any host.
_ANY_HOST = HostNumbers(page_size=4096, memory_bytes=1 << 40, tasks_max=PIDS_MAX)
#: Without a host only sizes have a number of bytes.
_NO_HOST = HostNumbers(page_size=4096, memory_bytes=0, tasks_max=0)
_PASSES = {
    ABOVE_SLICE: "no limit is above that of a slice over it",
    WEIGHT_ALONE: "each weight has a sibling to compete with",
    BEYOND_KERNEL: "the kernel takes each value as it is",
    PERCENT_LIMIT: "each percentage is a usable limit",
}


def plan_findings(plan: Plan, host: HostNumbers | None = None, *, tiny: bool = False) -> tuple[Finding, ...]:
    """The findings about `plan`, a pass for each code without one; `host` is the machine that will run it, if known.

    `tiny` is allow_tiny_limits of the config. A plan without any setting has nothing to pass: it is skipped.
    """
    if not plan.every_limit:
        return (ABOVE_SLICE.finding(Status.SKIP, "plan", "the plan has no setting to judge"),)
    found: list[Finding] = []
    for unit in _units(plan):
        own = _own(unit)
        for setting in own.values():
            found += _above_slice(plan, unit, setting, host)
            found += _percent(unit, setting, host, tiny=tiny)
            found += _beyond_kernel(unit, setting, own)
        found += [*_out_of_order(unit, own, host), *_alone(plan, unit), *_concurrency(plan, unit)]
        if isinstance(unit, ServicePlan):
            # The config's own values were judged when it was read.
            found += tiny_findings(unit.unit_settings, host or _NO_HOST, tiny=tiny)
            every = {item.property: item for item in unit.unit_settings} | dict(own)
            for setting in unit.unit_settings:
                found += _beyond_kernel(unit, setting, every)
    seen = {finding.code for finding in found}
    passes = (code.finding(Status.PASS, "plan", text) for code, text in _PASSES.items() if code.code not in seen)
    return (*found, *passes)


def _units(plan: Plan) -> tuple[Unit, ...]:
    return (*plan.slices, *plan.services)


def _own(unit: Unit) -> Mapping[str, Setting]:
    """The settings that the config gives the unit, by property."""
    settings = unit.own_settings if isinstance(unit, ServicePlan) else unit.settings
    return {item.property: item for item in settings}


def _name(unit: Unit) -> str:
    return f"{unit.label}.service" if isinstance(unit, ServicePlan) else unit.name


def _finding(code: Code, status: Status, unit: Unit, setting: Setting, message: str, remedy: str) -> Finding:
    text = f"{setting.property} = {setting.text} of {_name(unit)} {message}"
    return code.finding(status, unit.label, text, Remedy(title=remedy), location=setting.location,
                        evidence={"property": setting.property, "value": setting.text})  # fmt: skip


def _above_slice(plan: Plan, unit: Unit, setting: Setting, host: HostNumbers | None) -> Iterable[Finding]:
    """At most one: the nearest slice above that keeps the setting from acting."""
    if setting.value == INFINITY or setting.property not in _ABOVE:
        return ()
    for item in plan.above(unit):
        by_name = _own(item)
        for name in _ABOVE[setting.property]:
            if name in by_name:
                found = _compared(unit, setting, item, by_name[name], host)
            elif name in _PROTECTIONS and setting.value != Size(0):
                found = _unprotected(unit, setting, _name(item))
            else:
                continue
            if found is not None:
                return (found,)
    unplaced = isinstance(unit, ServicePlan) and not unit.slices
    if unplaced and setting.property in _PROTECTIONS and setting.value != Size(0):
        return (_unprotected(unit, setting, "system.slice"),)
    return ()


def _unprotected(unit: Unit, setting: Setting, name: str) -> Finding:
    return _finding(ABOVE_SLICE, Status.WARN, unit, setting, f"protects nothing: {name} above it has no {setting.property}",
                    f"set {setting.property} on {name}, too")  # fmt: skip


def _compared(
    unit: Unit, setting: Setting, item: SlicePlan, above: Setting, host: HostNumbers | None
) -> Finding | None:  # fmt: skip
    limit = f"{above.property} = {above.text} of {_name(item)}"
    if isinstance(setting.value, frozenset) and isinstance(above.value, frozenset):
        outside = frozenset(setting.value - above.value)
        return _finding(
            ABOVE_SLICE, Status.WARN, unit, setting, f"has CPU {format_cpus(outside)}, which {limit} does not have",
            f"use CPUs of {above.text}, or allow more in {_name(item)}",
        ) if outside else None  # fmt: skip
    mine, theirs = _number(setting, host), _number(above, host)
    if mine is not None and theirs is not None:
        return _finding(
            ABOVE_SLICE, Status.WARN, unit, setting, f"is above {limit}: it can never act",
            f"lower it to at most {above.text}, or raise {above.property} of {_name(item)}",
        ) if mine > theirs else None  # fmt: skip
    return _depends(unit, setting, above, limit) if host is None else None


def _number(setting: Setting, host: HostNumbers | None) -> int | None:
    """What two settings of one property are compared by; a percentage of an unknown machine has no number (None)."""
    value = setting.value
    if setting.property == "CPUQuota" and isinstance(value, Permyriad):
        return value.value
    if setting.property == "TasksMax":
        return tasks(value, host)
    return memory_bytes(value, host)


def _depends(unit: Unit, setting: Setting, above: Setting, limit: str) -> Finding | None:
    """Percentages where no host is known: two are compared as they are; with one, the size of the machine decides."""
    mine, theirs = setting.value, above.value
    if isinstance(mine, Permyriad) and isinstance(theirs, Permyriad):
        return _finding(
            ABOVE_SLICE, Status.WARN, unit, setting, f"is above {limit}: it can never act", f"lower it to {above.text}"
        ) if mine.value > theirs.value else None  # fmt: skip
    if isinstance(mine, Permyriad) and isinstance(theirs, Size | int):
        share, amount, words = mine, theirs, "more"
    elif isinstance(theirs, Permyriad) and isinstance(mine, Size | int):
        share, amount, words = theirs, mine, "less"
    else:
        return None
    count = amount.bytes if isinstance(amount, Size) else amount
    if not share.value or not count:
        return None
    machine = count * 10000 // share.value
    shown = f"with {words} than {format_bytes(machine)} of memory"
    if setting.property == "TasksMax":
        shown = f"that allows {words} than {machine} tasks"
    message = f"is above {limit} on a machine {shown}: a percentage is a share of the machine"
    return _finding(PERCENT_LIMIT, Status.WARN, unit, setting, message, "give both as absolute values")


def _out_of_order(unit: Unit, own: Mapping[str, Setting], host: HostNumbers | None) -> Iterable[Finding]:
    """A size and a percentage of one unit in the wrong order; two of one form are a mistake of the config (CGP210)."""
    for low, high in itertools.combinations([own[name] for name in ORDER if name in own], 2):
        if {type(low.value), type(high.value)} != {Size, Permyriad}:
            continue
        limit = f"its {high.property} = {high.text}"
        if host is None:
            found = _depends(unit, low, high, limit)
            yield from (found,) if found is not None else ()
        elif (memory_bytes(low.value, host) or 0) > (memory_bytes(high.value, host) or 0):
            yield _finding(PERCENT_LIMIT, Status.WARN, unit, low,
                           f"is above {limit} on this host, which has {format_bytes(host.memory_bytes)} of memory",
                           "give both as absolute values, or both as percentages")  # fmt: skip


def _percent(unit: Unit, setting: Setting, host: HostNumbers | None, *, tiny: bool) -> Iterable[Finding]:
    value = setting.value
    if not isinstance(value, Permyriad):
        return
    if setting.property in TINY_LIMITS and not tiny:
        machine = TINY * 10000 // max(value.value, 1)
        size = memory_bytes(value, host) if host is not None else None
        if host is not None and size is not None and size < TINY:
            yield _finding(PERCENT_LIMIT, Status.FAIL, unit, setting,
                           f"is {size >> 10}K of this host's {format_bytes(host.memory_bytes)}, below 16M",
                           "use at least 16M, or set allow_tiny_limits = true in [smoke]")  # fmt: skip
        elif host is None and machine > _SMALL_MEMORY:
            yield _finding(PERCENT_LIMIT, Status.WARN, unit, setting,
                           f"is below 16M on a machine with less than {format_bytes(machine)}",
                           "use at least 16M, or a larger share")  # fmt: skip
    if setting.property == "TasksMax":
        least = -(-10000 // max(value.value, 1))
        if host is not None and tasks(value, host) == 0:
            yield _finding(PERCENT_LIMIT, Status.FAIL, unit, setting,
                           f"is no task at all here: this host allows {host.tasks_max}", "use a whole number")  # fmt: skip
        elif host is None and least > _SMALL_TASKS:
            yield _finding(PERCENT_LIMIT, Status.WARN, unit, setting,
                           f"is no task at all on a machine that allows fewer than {least}", "use a whole number")  # fmt: skip


def _beyond_kernel(unit: Unit, setting: Setting, own: Mapping[str, Setting]) -> Iterable[Finding]:
    value = setting.value
    if setting.property == "TasksMax" and isinstance(value, int) and value > PIDS_MAX:
        yield _finding(BEYOND_KERNEL, Status.FAIL, unit, setting,
                       f"is above {PIDS_MAX}: the kernel refuses it, and no limit is in force",
                       f"use at most {PIDS_MAX}, or infinity for no limit")  # fmt: skip
    if setting.property in _HARD and isinstance(value, Size) and memory_bytes(value, _ANY_HOST) is None:
        yield _finding(BEYOND_KERNEL, Status.FAIL, unit, setting, "is more than the kernel counts: it is no limit at all",
                       "use what the unit may have, or infinity for no limit")  # fmt: skip
    if setting.property == "CPUQuota":
        yield from _quota(unit, setting, own)


def _quota(unit: Unit, setting: Setting, own: Mapping[str, Setting]) -> Iterable[Finding]:
    in_force, wanted = quota_usec(own), own.get("CPUQuotaPeriodSec")
    if in_force is None or not isinstance(setting.value, Permyriad):
        return
    quota, period = in_force
    if quota * 10000 > setting.value.value * period + 10000:  # the kernel counts in microseconds
        yield _finding(BEYOND_KERNEL, Status.WARN, unit, setting,
                       f"becomes {quota * 100 / period:g}%: {quota} us in {period} us is the least that the kernel takes",
                       "use at least 0.1%")  # fmt: skip
    if wanted is not None and wanted.value != period:
        yield _finding(BEYOND_KERNEL, Status.WARN, unit, wanted,
                       f"becomes {period} us: a quota is at least 1ms in each period", "use a longer period")  # fmt: skip


def _concurrency(plan: Plan, unit: Unit) -> Iterable[Finding]:
    """More services in a slice, or below it, than systemd lets be active there at the same time (systemd.slice(5))."""
    if isinstance(unit, ServicePlan):
        return
    inside = [item.label for item in plan.services if unit.unit in item.slices]
    for name, setting in _own(unit).items():
        if not name.startswith("Concurrency") or not isinstance(setting.value, int) or setting.value >= len(inside):
            continue
        hard = name == "ConcurrencyHardMax"
        happens = "refuses to start the others" if hard else "starts the others only when one of them has ended"
        yield _finding(CONCURRENCY, Status.FAIL if hard else Status.WARN, unit, setting,
                       f"is less than the {len(inside)} services in it: systemd {happens}",
                       f"use at least {len(inside)}")  # fmt: skip


def _alone(plan: Plan, unit: Unit) -> Iterable[Finding]:
    """A weight in a slice in which nothing else of the plan is; outside of slices there is always something else."""
    parent = next(iter(plan.above(unit)), None)
    if parent is None:
        return
    others = (item for item in _units(plan) if item is not unit)
    if any(next(iter(plan.above(item)), None) == parent for item in others):
        return
    for name, setting in _own(unit).items():
        if name in _WEIGHTS:
            yield _finding(WEIGHT_ALONE, Status.WARN, unit, setting,
                           f"has no effect: nothing else of this config is in {_name(parent)}",
                           f"set {name} on {_name(parent)}, or remove it")  # fmt: skip
