"""A rollout as the first record of its journal has it: everything that `resume` and `abort` need, on any day. Pure.

What is read is checked: names, values and paths of a journal end in calls to the manager.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cgroup_preflight.config.model import Rollout
from cgroup_preflight.config.rollout import Hook, Prometheus, Query, Thresholds
from cgroup_preflight.core.records import dataclass, field
from cgroup_preflight.rollout.base import UnitPlan
from cgroup_preflight.rollout.judge import Window
from cgroup_preflight.rollout.limits import LIMITS, Values
from cgroup_preflight.rollout.machine import Record
from cgroup_preflight.rollout.stages import Stage

_UNIT = re.compile(r"[A-Za-z0-9_.@:-]{1,200}\.slice", re.ASCII)
_ROLLOUT = re.compile(r"[0-9a-f-]{8,40}", re.ASCII)
_SIGN = re.compile(r"<=|>=|<|>")
_SPANS = ("interval", "settle", "soak", "deadline", "restore_after", "memory_margin")
_COUNTS = ("samples_min", "periods_min", "failures_max", "errors_max")
_NUMBERS = (
    "periods",
    "throttled",
    "cpu_waiting",
    "memory_stalled",
    "memory_events",
    "control_throttled",
    "control_waiting",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """One rollout: `control` are paths of cgroups, `baseline` the windows before the first change.

    `kills` are the OOM kills until then by cgroup, and `services` what the manager said of each service: what happens while
    no tool runs counts, too.
    """

    rollout: str
    boot: str
    manager: str
    units: tuple[UnitPlan, ...]
    stages: tuple[Stage, ...]
    baseline: tuple[Window, ...]
    control: tuple[str, ...]
    config: Rollout
    kills: Mapping[str, int] = field(default_factory=dict)
    services: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def fields(saved: Saved) -> dict[str, Any]:
    """The fields of the record."""
    config = saved.config
    return {
        "rollout": saved.rollout, "boot": saved.boot, "manager": saved.manager, "control": list(saved.control),
        "kills": dict(saved.kills), "services": {unit: dict(state) for unit, state in saved.services.items()},
        "units": [
            {"unit": unit.unit, "cgroup": unit.cgroup, "old": dict(unit.old), "new": dict(unit.new), "period": unit.period,
             "files": dict(unit.files)}
            for unit in saved.units
        ],
        "stages": [
            {"values": {unit: dict(values) for unit, values in stage.values.items()}, "share": stage.share,
             "slices": list(stage.slices), "squeeze": stage.squeeze}
            for stage in saved.stages
        ],
        "baseline": [{"seconds": item.seconds, "slack": item.slack, "void": item.void, "neighbours": dict(item.neighbours),
                      **{name: getattr(item, name) for name in _NUMBERS}} for item in saved.baseline],
        "config": {
            **{name: getattr(config, name) for name in _SPANS},
            "thresholds": {name: getattr(config.thresholds, name) for name in Thresholds.__slots__},
            "hook": {"before": list(config.hook.before), "after": list(config.hook.after), "back": list(config.hook.back),
                     "timeout": config.hook.timeout},
            "prometheus": {"url": config.prometheus.url, "queries": [
                [item.expression, item.operator, item.bound] for item in config.prometheus.queries]},
        },
    }  # fmt: skip


def saved_of(record: Record) -> Saved:
    """The rollout of a first record. Raises ValueError."""
    try:
        return _saved(record)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the first record is incomplete: {type(error).__name__} {str(error)[:100]}") from None


def _saved(record: Record) -> Saved:
    config = record["config"]
    units = tuple(_unit(item) for item in record["units"])
    names = {unit.unit: frozenset(unit.new) for unit in units}
    rollout = _matching(_ROLLOUT, record["rollout"])
    found = tuple(_stage(item, names) for item in record["stages"])
    if (
        not units
        or not found
        or {unit.unit: dict(unit.new) for unit in units}
        != {name: dict(values) for name, values in found[-1].values.items()}
    ):
        raise ValueError("the last stage is not the target")
    return Saved(
        rollout=rollout, boot=_text(record["boot"]), manager=_text(record["manager"]), units=units, stages=found,
        baseline=tuple(_window(item) for item in record["baseline"]), control=_texts(record["control"]),
        kills={_text(path): _count(number) for path, number in record["kills"].items()},
        services={
            _text(unit): {_text(name): _text(value) for name, value in state.items()} for unit, state in record["services"].items()
        },
        config=Rollout(
            **{name: _number(config[name]) for name in _SPANS},  # type: ignore[arg-type]
            thresholds=Thresholds(**{
                name: int(_number(value)) if name in _COUNTS else _number(value) for name, value in config["thresholds"].items()
            }),  # type: ignore[arg-type]
            hook=Hook(**{name: _texts(config["hook"][name]) for name in ("before", "after", "back")}, timeout=_number(config["hook"]["timeout"])),
            prometheus=Prometheus(url=_text(config["prometheus"]["url"]), queries=tuple(
                Query(expression=_text(expression), operator=_matching(_SIGN, sign), bound=_bound(bound))
                for expression, sign, bound in config["prometheus"]["queries"]
            )),
        ),
    )  # fmt: skip


def _unit(item: Mapping[str, Any]) -> UnitPlan:
    unit = _matching(_UNIT, item["unit"])
    old, new = _values(item["old"]), _values(item["new"])
    if old.keys() != new.keys() or not new:
        raise ValueError(f"{unit} has not the same properties before and after")
    for path, text in item["files"].items():
        # Only drop-ins of that unit are written and removed.
        if (
            not re.fullmatch(rf"/[^\0]+/{re.escape(unit)}\.d/[0-9A-Za-z-]+\.conf", path)
            or "/../" in path
            or not isinstance(text, str | None)
        ):
            raise ValueError(f"{path[:80]!r} is not a drop-in of {unit}")
    cgroup = _text(item["cgroup"])
    if not cgroup.startswith("/") or ".." in cgroup.split("/"):
        raise ValueError(f"{cgroup[:80]!r} is not a cgroup")
    period = item["period"]
    return UnitPlan(
        unit=unit,
        cgroup=cgroup,
        old=old,
        new=new,
        period=None if period is None else _count(period),
        files=dict(item["files"]),
    )


def _stage(item: Mapping[str, Any], names: Mapping[str, frozenset[str]]) -> Stage:
    values = {unit: _values(found) for unit, found in item["values"].items()}
    if {unit: frozenset(found) for unit, found in values.items()} != names:
        raise ValueError("a stage has other units or properties")
    return Stage(
        values=values, share=_count(item["share"]), slices=_texts(item["slices"]), squeeze=item["squeeze"] is True
    )


def _values(found: Mapping[str, Any]) -> Values:
    if not found.keys() <= LIMITS.keys():
        raise ValueError(f"unknown properties {sorted(found.keys() - LIMITS.keys())[:3]}")
    return {name: None if value is None else _count(value) for name, value in found.items()}


def _window(item: Mapping[str, Any]) -> Window:
    numbers: dict[str, Any] = {name: None if item[name] is None else _number(item[name]) for name in _NUMBERS}
    numbers["periods"] = int(numbers["periods"] or 0)
    neighbours = {_text(name): _number(value) for name, value in item["neighbours"].items()}
    # Journals of earlier versions have no slack.
    slack = _number(item.get("slack", 0.0))
    return Window(
        seconds=_number(item["seconds"]), slack=slack, void=_text(item["void"]), neighbours=neighbours, **numbers
    )


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 100_000:
        raise ValueError("not a text")
    return value


def _texts(values: Sequence[object]) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise ValueError("not a list")  # noqa: TRY004
    return tuple(map(_text, values))


def _matching(pattern: re.Pattern[str], value: object) -> str:
    text = _text(value)
    if not pattern.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is not a name")
    return text


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e18:
        raise ValueError(f"{str(value)[:40]!r} is not a number")
    return float(value)


def _bound(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise ValueError(f"{str(value)[:40]!r} is not a bound")


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 64:
        raise ValueError(f"{str(value)[:40]!r} is not a whole number")
    return value
