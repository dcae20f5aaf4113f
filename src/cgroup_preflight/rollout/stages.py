"""The stages of a rollout: from the old values to the new ones, and in which order units change within a stage. Pure.

A stage has the values of all units, so that whoever knows the last stage in force knows what must be in force.
"""

from collections.abc import Iterable, Mapping, Sequence

from cgroup_preflight.core.records import dataclass
from cgroup_preflight.rollout.limits import LIMITS, Limits, Values, grain, rises

#: MemoryHigh before MemoryMax goes down, as a share of the new MemoryMax: MemoryMax follows when the usage is below it.
SQUEEZE = 95
#: The share of the way that is the whole way.
WHOLE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What must be in force while the judge watches; `share` is in hundredths of a percent of the way.

    `slices` are those that this stage moves. A stage with `squeeze` only lowers MemoryHigh, so that the memory is
    reclaimed before MemoryMax goes down: the kernel kills at MemoryMax, and never at MemoryHigh.
    """

    values: Limits
    share: int
    slices: tuple[str, ...]
    squeeze: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What decides the stages: shares of the way, ascending to WHOLE; groups of units that go one after another.

    `capacity` stands for "no limit" between two stages, by property: what the host has. `page` is in bytes.
    """

    steps: Sequence[int]
    groups: Sequence[Sequence[str]]
    capacity: Mapping[str, int]
    page: int


def complete(old: Limits, new: Limits) -> dict[str, Values]:
    """The targets `new` with MemoryHigh as it is for each unit whose MemoryMax changes, so that stages can lower it meanwhile."""
    return {
        unit: {"MemoryHigh": old[unit]["MemoryHigh"], **values} if "MemoryMax" in values else dict(values)
        for unit, values in new.items()
    }


def stages(old: Limits, new: Limits, way: Way) -> tuple[Stage, ...]:
    """All stages, each with at least one changed value; the last one has the values of `new`.

    Both have the same keys, and MemoryHigh wherever MemoryMax is (see `complete`).
    """
    found: list[Stage] = []
    now: dict[str, Values] = {unit: dict(values) for unit, values in old.items()}
    for group in way.groups:
        for share in way.steps:
            after = now | {unit: _values(old[unit], new[unit], share, way) for unit in group}
            squeezed = _squeezed(now, after, group, way.page)
            if squeezed != now:
                found.append(Stage(values=squeezed, share=share, slices=tuple(group), squeeze=True))
            if after != now:
                found.append(Stage(values=after, share=share, slices=tuple(group)))
            now = after
    return tuple(found)


def _values(old: Values, new: Values, share: int, way: Way) -> Values:
    return {name: interpolate(name, old[name], value, share, way) for name, value in new.items()}


def interpolate(name: str, old: int | None, new: int | None, share: int, way: Way) -> int | None:
    """The value after `share` of the way, rounded to what systemd and the kernel keep, towards the old value."""
    if share >= WHOLE or old == new:
        return new
    begin = way.capacity[name] if old is None else old
    end = way.capacity[name] if new is None else new
    if (old is None and end >= begin) or (new is None and end <= begin):
        # The way begins or ends beyond what the host has: nothing between the two means anything.
        return old
    size = grain(name, way.page)
    moved = abs(end - begin) * share // WHOLE // size * size
    if not moved:
        return old
    value = begin + moved if end > begin else begin - moved
    # From a value that is no whole number of grains, such as 12.5%.
    whole = value // size * size if end > begin else -(-value // size) * size
    return old if old is not None and (whole <= old) == (end > begin) else max(whole, size)


def _squeezed(now: Limits, after: Limits, group: Iterable[str], page: int) -> dict[str, Values]:
    """`now` with MemoryHigh below every MemoryMax that is about to go down."""
    changed = dict(now)
    for unit in group:
        maximum = after[unit].get("MemoryMax")
        if maximum is None or "MemoryMax" not in now[unit] or not rises(maximum, now[unit]["MemoryMax"]):
            continue
        high = maximum * SQUEEZE // 100 // page * page
        present = now[unit].get("MemoryHigh")
        if high and (present is None or present > high):
            changed[unit] = {**now[unit], "MemoryHigh": high}
    return changed


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One call: properties of one unit that change together, all or none."""

    unit: str
    values: Values


def changes(before: Limits, after: Limits) -> tuple[Change, ...]:
    """The calls that lead from one stage to the next; both have the same keys.

    What gives more comes first, from the outermost slice inwards, and then what gives less, from the innermost outwards:
    at no moment has a slice less than before because of the order.
    """
    more: dict[str, Values] = {}
    less: dict[str, Values] = {}
    for unit, values in after.items():
        old = before[unit]
        more[unit] = {name: value for name, value in values.items() if rises(old[name], value)}
        less[unit] = {name: value for name, value in values.items() if value != old[name] and name not in more[unit]}
    return (
        *(Change(unit=unit, values=_in_order(more[unit])) for unit in sorted(more, key=depth) if more[unit]),
        *(Change(unit=unit, values=_in_order(less[unit])) for unit in sorted(less, key=lambda unit: (-depth(unit)[0], unit)) if less[unit]),
    )  # fmt: skip


def depth(unit: str) -> tuple[int, str]:
    """How many slices are above a slice (`a-b.slice` is in `a.slice`), and its name."""
    return unit.count("-") if unit.endswith(".slice") else 1 << 10, unit


def _in_order(values: Values) -> Values:
    return {name: values[name] for name in LIMITS if name in values}


def groups(slices: Iterable[str], order: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The slices of `order` one after another, then all others together."""
    rest = tuple(sorted((unit for unit in slices if unit not in order), key=depth))
    return (*((unit,) for unit in order), *((rest,) if rest else ()))
