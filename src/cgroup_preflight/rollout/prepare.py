"""What a rollout would do on this host, and what speaks against it: reads only."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from cgroup_preflight.config.model import Config, Rollout
from cgroup_preflight.core import codes
from cgroup_preflight.core.errors import HostError, UsageError
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.plan.expect import HostNumbers
from cgroup_preflight.plan.safe_sizes import refuse_tiny
from cgroup_preflight.rollout.base import Reader, Shown, UnitPlan
from cgroup_preflight.rollout.drop_ins import later
from cgroup_preflight.rollout.limits import LIMITS, Values, rises, shown, target_of
from cgroup_preflight.rollout.memory import refusals, usage_of
from cgroup_preflight.rollout.stages import Stage, Way, complete, groups, stages

_NOTHING = Remedy(title="name targets in [rollout.slices.NAME], or limits in [slices.NAME]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Units and stages; `findings` that failed speak against the rollout."""

    units: tuple[UnitPlan, ...]
    stages: tuple[Stage, ...]
    findings: tuple[Finding, ...]

    @property
    def refused(self) -> bool:
        """Whether something speaks against it."""
        return any(item.status is Status.FAIL for item in self.findings)


def targets(config: Config, host: HostNumbers) -> dict[str, Values]:
    """The target values by unit: those of `[rollout.slices]`, or without any those of the plan that a rollout can change.

    Raises UsageError, and ConfigError for a target that is too small on this host.
    """
    rollout = config.rollout or Rollout()
    found: dict[str, Values] = {}
    for item in rollout.slices or config.slices:
        chosen = [setting for setting in item.settings if rollout.slices or setting.property in LIMITS]
        try:
            refuse_tiny(chosen, host, config.path, tiny=config.allow_tiny_limits)
            values = {setting.property: target_of(setting, host) for setting in chosen}
        except ValueError as error:
            raise UsageError(str(error), where=f"{config.path}:{item.location.line}", remedy=Remedy(
                title="change this property in the unit file, and leave it out of [rollout.slices]")) from None  # fmt: skip
        if values and item.name not in rollout.control:
            found[f"{item.name}.slice"] = values
    if not found:
        raise UsageError("the config has no limit that a rollout could change", where=config.path, remedy=_NOTHING)
    unknown = [name for name in rollout.order if f"{name}.slice" not in found]
    if unknown:
        raise UsageError(f"order names {unknown[0]}, which has no target", where=config.path, remedy=_NOTHING)
    for name in rollout.control:
        related = next((unit for unit in found if _is_related(name, unit.removesuffix(".slice"))), "")
        if related:
            # What the change does to one is also seen in the other: compared with that, no harm would be seen.
            raise UsageError(f"control names {name}, which is inside of {related} or around it", where=config.path,
                             remedy=Remedy(title="compare with a slice next to those that change"))  # fmt: skip
    return found


def _is_related(one: str, other: str) -> bool:
    """Whether one slice is in the other (systemd.slice(5))."""
    return f"{one}-".startswith(f"{other}-") or f"{other}-".startswith(f"{one}-")


def go_limits(config: Config, unit: str) -> dict[str, int]:
    """GOMEMLIMIT of the services in a slice or below it, by their names, as far as the config says."""
    from cgroup_preflight.golang.runtime_env import MalformedLimitError, parse_gomemlimit

    label, found = unit.removesuffix(".slice"), dict[str, int]()
    for service in config.services:
        name = service.slice or ""
        text = dict(service.environment).get("GOMEMLIMIT", "")
        if name != label and not name.startswith(f"{label}-"):
            continue
        try:
            limit = parse_gomemlimit(text)
        except MalformedLimitError:
            continue
        if limit is not None:
            found[service.name] = limit
    return found


def prepare(
    config: Config, manager: Reader, host: HostNumbers, *, cpus: int, live: Callable[[str], Mapping[str, int]] = lambda _cgroup: {}
) -> Prepared:  # fmt: skip
    """Reads the present values and makes the stages. Raises UsageError, HostError.

    `live` gives GOMEMLIMIT of the processes in a cgroup, in bytes by the name of their service.
    """
    rollout = config.rollout or Rollout()
    wanted = targets(config, host)
    control = [f"{name}.slice" for name in rollout.control]
    present = manager.show((*wanted, *control))
    findings = [item for unit in wanted for item in _unusable(unit, present.get(unit), wanted[unit], manager)]
    findings += [
        _no_control(unit)
        for unit in control
        if not ((item := present.get(unit)) and item.active == "active" and item.cgroup)
    ]
    if any(item.status is Status.FAIL for item in findings):
        return Prepared(units=(), stages=(), findings=tuple(findings))
    old = {unit: {name: present[unit].values.get(name) for name in _names(values)} for unit, values in wanted.items()}
    new = {
        unit: {name: values[name] for name in LIMITS if name in values}
        for unit, values in complete(old, wanted).items()
    }
    units = tuple(_unit_plan(present[unit], old[unit], new[unit], manager) for unit in wanted)
    findings += [
        item
        for unit in units
        for item in _against(
            unit, present[unit.unit], manager, rollout, {**go_limits(config, unit.unit), **live(unit.cgroup)}
        )
    ]
    way = Way(
        steps=rollout.steps, groups=groups(wanted, [f"{name}.slice" for name in rollout.order]),
        capacity=_capacity(host, cpus), page=host.page_size,
    )  # fmt: skip
    found = stages(old, new, way)
    findings += _changes(units, found)
    return Prepared(units=units, stages=found, findings=tuple(findings))


def _names(values: Values) -> list[str]:
    return [name for name in LIMITS if name in values or (name == "MemoryHigh" and "MemoryMax" in values)]


def _capacity(host: HostNumbers, cpus: int) -> dict[str, int]:
    memory = dict.fromkeys((name for name, limit in LIMITS.items() if limit.is_memory), host.memory_bytes)
    return {**memory, "CPUQuota": cpus * 1_000_000, "CPUWeight": 100, "IOWeight": 100, "TasksMax": host.tasks_max}


def _unit_plan(item: Shown, old: Values, new: Values, manager: Reader) -> UnitPlan:
    paths = (*manager.control_files(item.unit, tuple(new)), manager.hold_file(item.unit))
    return UnitPlan(
        unit=item.unit, cgroup=item.cgroup, old=old, new=new, period=item.period,
        files={path: manager.read_file(path) for path in paths},
    )  # fmt: skip


def _unusable(unit: str, item: Shown | None, values: Values, manager: Reader) -> Iterator[Finding]:
    """Why a unit cannot be changed while it runs."""

    def failed(message: str, fix: str) -> Finding:
        return codes.ROLLOUT_UNIT.finding(
            Status.FAIL, unit, message, Remedy(title=fix, commands=(("systemctl", "status", unit),))
        )

    if item is None or item.load != "loaded":
        yield failed(
            f"the manager does not know it ({item.load if item else 'no answer'})",
            "start a service in this slice first",
        )
    elif item.active != "active" or not item.cgroup:
        yield failed(
            f"it is {item.active}, so that a change would not reach the kernel", "start it, with a service in it"
        )
    elif item.transient:
        yield failed("it is transient: a change would go with it", "give the slice a unit file")
    else:
        if manager.attribute(item.cgroup, "cpu.pressure") is None:
            yield codes.ROLLOUT_UNIT.finding(
                Status.WARN, unit, "the kernel shows no pressure (PSI) of this slice, so the judge does not know how long its tasks wait",
                Remedy(title="boot with psi=1 where the kernel has it"), evidence={"file": "cpu.pressure"},
            )  # fmt: skip
        for name, value in values.items():
            if value is not None and manager.attribute(item.cgroup, LIMITS[name].attribute) is None:
                yield codes.ROLLOUT_UNIT.finding(
                    Status.WARN, unit, f"its cgroup has no {LIMITS[name].attribute}: systemd enables the controller with the "
                    "first limit, and the first step shows whether it does", evidence={"property": name},
                )  # fmt: skip


def _no_control(unit: str) -> Finding:
    return codes.ROLLOUT_UNIT.finding(
        Status.WARN, unit, "it does not run, so that the judge compares with the time before the rollout only",
        Remedy(title="start it, or correct its name in control", commands=(("systemctl", "status", unit),)),
    )  # fmt: skip


def _against(
    unit: UnitPlan, item: Shown, manager: Reader, rollout: Rollout, go: Mapping[str, int]
) -> Iterator[Finding]:  # fmt: skip
    """Drop-ins that would win, memory that is in use, and limits above."""
    texts = {path: manager.read_file(path) or "" for path in item.drop_ins}
    changed = [name for name, value in unit.new.items() if value != unit.old[name]]
    for name in changed:
        for path in later(item.drop_ins, name, texts):
            yield codes.ROLLOUT_CONFLICT.finding(
                Status.FAIL, unit.unit, f"{path} sets {name} and is read after the drop-in of a rollout, so it would win at the next "
                "daemon-reload", Remedy(title=f"remove the line {name}= from that file"), evidence={"file": path, "property": name},
            )  # fmt: skip
    current, stat = (manager.attribute(unit.cgroup, file) for file in ("memory.current", "memory.stat"))
    usage = None
    if current is not None and stat is not None:
        try:
            usage = usage_of(int(current), stat)
        except ValueError as error:
            raise HostError(
                str(error), where=f"{unit.cgroup}/memory.stat", remedy=Remedy(title="look at this file")
            ) from None
    for refusal in refusals(unit.unit, unit.old, unit.new, usage=usage, margin=rollout.memory_margin,
                            go_limits=go):  # fmt: skip
        yield codes.ROLLOUT_MEMORY.finding(Status.FAIL, unit.unit, refusal.message, Remedy(title="choose a higher target"),
                                           evidence={"property": refusal.property})  # fmt: skip
    yield from _above(unit, manager)


def _above(unit: UnitPlan, manager: Reader) -> Iterator[Finding]:
    """Targets that a slice above does not allow."""
    parent = unit.cgroup.rpartition("/")[0]
    if not parent:
        return
    least = manager.effective(parent)
    quota, memory = unit.new.get("CPUQuota"), unit.new.get("MemoryMax")
    if quota is not None and least.cpus is not None and quota > least.cpus * 1_000_000:
        yield _allows_less(unit.unit, "CPUQuota", quota, int(least.cpus * 1_000_000), least.cpus_at)
    if memory is not None and least.memory_bytes is not None and memory > least.memory_bytes:
        yield _allows_less(unit.unit, "MemoryMax", memory, least.memory_bytes, least.memory_at)


def _allows_less(unit: str, name: str, value: int, least: int, level: str) -> Finding:
    return codes.ROLLOUT_ABOVE.finding(
        Status.WARN, unit, f"{name}={shown(name, value)} is more than the {shown(name, least)} that {level.rpartition('/')[2]} allows",
        evidence={"property": name, "effective": shown(name, least)},
    )  # fmt: skip


def _changes(units: Sequence[UnitPlan], found: Sequence[Stage]) -> Iterator[Finding]:
    """One line for each value that changes, with its steps."""
    for unit in units:
        for name, value in unit.new.items():
            if value == unit.old[name]:
                continue
            way = dict.fromkeys(shown(name, stage.values[unit.unit][name]) for stage in found if not stage.squeeze)
            way.pop(shown(name, unit.old[name]), None)
            direction = "up" if rises(unit.old[name], value) else "down"
            yield codes.ROLLOUT_PLAN.finding(
                Status.PASS, unit.unit, f"{name}: {shown(name, unit.old[name])} -> {' -> '.join(way)}",
                evidence={"property": name, "old": unit.old[name], "new": value, "direction": direction},
            )  # fmt: skip
    if not found:
        yield codes.ROLLOUT.finding(Status.PASS, "rollout", "nothing to change: every target is in force already")
