"""The tables of `[rollout]` as frozen data, and their rules."""

from collections.abc import Mapping
from typing import Any

from cgroup_preflight.config.tables import Mistakes, Parsed, read_table
from cgroup_preflight.core import codes
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.core.report import Location

if TYPE_CHECKING:
    from cgroup_preflight.config.model import Slice

#: Hundredths of a percent.
_WHOLE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What the judge allows; shares are 0 to 1. `config.rollout_keys` gives the reason of each default."""

    samples_min: int = 3
    periods_min: int = 50
    failures_max: int = 0
    errors_max: int = 4
    throttled_margin: float = 0.05
    pressure_factor: float = 2.0
    pressure_floor: float = 0.1
    memory_stalled_max: float = 0.1
    memory_events_max: float = 1.0
    neighbour_margin: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """Commands as argv, empty for none: before and after each step, and after a rollback; `timeout` in seconds."""

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    back: tuple[str, ...] = ()
    timeout: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A PromQL expression and the bound of its value: an operator (`<`, `<=`, `>`, `>=`) and a number."""

    expression: str
    operator: str
    bound: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prometheus:
    """The address of a server, and what is asked after each window."""

    url: str = ""
    queries: tuple[Query, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How limits change on running hosts. Spans are in seconds, `steps` in hundredths of a percent of the way.

    `slices` are the targets; without them, those of the plan are. `order` names slices that go one after another, and
    `control` slices that are compared with and never changed.
    """

    steps: tuple[int, ...] = (500, 2500, 5000, _WHOLE)
    interval: float = 30.0
    settle: float = 10.0
    soak: float = 300.0
    deadline: float = 600.0
    restore_after: float = 60.0
    memory_margin: float = 0.05
    order: tuple[str, ...] = ()
    control: tuple[str, ...] = ()
    slices: "tuple[Slice, ...]" = ()
    thresholds: Thresholds = Thresholds()
    hook: Hook = Hook()
    prometheus: Prometheus = Prometheus()
    location: Location | None = None


def read_rollout(tables: Mapping[str, Any], slices: "tuple[Slice, ...]", mistakes: Mistakes) -> Rollout:
    """`[rollout]` of the file, with the targets that `[rollout.slices]` gave; `mistakes` gets what is wrong."""
    raw = tables.get("rollout", {})
    own = {key: value for key, value in raw.items() if key != "slices"} if isinstance(raw, dict) else raw
    table = read_table("rollout", ("rollout",), own, mistakes)
    hook, prometheus = (
        read_table(f"rollout.{name}", ("rollout", name), raw.get(name, {}) if isinstance(raw, dict) else {}, mistakes)
        for name in ("hook", "prometheus")
    )
    values = {name: item.value for name, item in table.items()}
    limits = {name: values.pop(name) for name in Thresholds.__slots__ if name in values}
    rollout = Rollout(
        **values,  # type: ignore[arg-type]
        slices=slices,
        thresholds=Thresholds(**limits),  # type: ignore[arg-type]
        hook=Hook(**_values(hook)),
        prometheus=Prometheus(**_values(prometheus)),
        location=mistakes.at(("rollout",)) if "rollout" in tables else None,
    )
    _check(rollout, table, mistakes)
    return rollout


def _values(table: Mapping[str, Parsed]) -> dict[str, Any]:
    return {name: item.value for name, item in table.items()}


def _check(rollout: Rollout, table: Mapping[str, Parsed], mistakes: Mistakes) -> None:
    steps = rollout.steps
    if "steps" in table and (not steps or steps[-1] != _WHOLE or list(steps) != sorted(set(steps))):
        mistakes.add(codes.BAD_VALUE, ("rollout", "steps"), "steps: they must ascend and end with 100%",
                     'use steps such as ["5%", "25%", "50%", "100%"]')  # fmt: skip
    for name in sorted(set(rollout.order) & set(rollout.control)):
        mistakes.add(codes.BAD_VALUE, ("rollout", "control"), f"control: {name} is also in order",
                     "name a slice that the rollout does not change")  # fmt: skip
    names = {item.name for item in rollout.slices}
    for name in rollout.control:
        if name in names:
            mistakes.add(codes.BAD_VALUE, ("rollout", "control"), f"control: [rollout.slices.{name}] changes this slice",
                         "name a slice that the rollout does not change")  # fmt: skip
    if rollout.prometheus.queries and not rollout.prometheus.url:
        mistakes.add(codes.MISSING_KEY, ("rollout", "prometheus"), "the key url is missing",
                     'add url = "http://127.0.0.1:9090"')  # fmt: skip
