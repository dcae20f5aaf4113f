"""Whose value it is that is in force: of this rollout, or of somebody else who changed it meanwhile."""

from collections.abc import Iterable, Sequence
from contextlib import suppress

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.rollout.apply import Hands
from cgroup_preflight.rollout.limits import PERCENT, Limits
from cgroup_preflight.rollout.machine import Record, State
from cgroup_preflight.rollout.stages import Stage


def ours(hands: Hands, stages: Sequence[Stage]) -> tuple[Limits, ...]:
    """Every value that the rollout itself may have set."""
    return (hands.old, hands.new, *(stage.values for stage in stages))


def theirs(hands: Hands, stages: Sequence[Stage], state: State, records: Sequence[Record]) -> list[str]:
    """`UNIT PROPERTY` that somebody else has changed, also while no tool ran; without those that `state` has, or cannot be read."""
    with suppress(HostError):
        # Where this rollout has changed nothing since everything was old, every other value is somebody else's.
        was_old = state.stage < 0 or hands.was_restored() or (
            is_another_boot(hands, records) and not is_lasting(records))  # fmt: skip
        found = strange(hands.values(), (hands.old,) if was_old else ours(hands, stages))
        found |= {*hands.taken(also_new=was_old)}
        return sorted(found - {*state.left})
    return []


def is_another_boot(hands: Hands, records: Sequence[Record]) -> bool:
    """Whether the host was started again since the rollout began. Raises HostError."""
    return bool(records[0]["boot"] != hands.manager.boot())


def is_lasting(records: Sequence[Record]) -> bool:
    """Whether the promotion has begun: then a start of the host does not bring back the old values by itself."""
    return any(record["kind"] == "promote" for record in records)


def strange(now: Limits, known: Iterable[Limits]) -> set[str]:
    """`UNIT PROPERTY` of the values in `now` that are none of `known`."""
    every = tuple(known)
    return {
        f"{unit} {name}"
        for unit, values in now.items()
        for name, value in values.items()
        if not any(_is_same(name, value, each[unit].get(name)) for each in every)
    }


def _is_same(name: str, one: int | None, other: int | None) -> bool:
    """Of a quota, systemd keeps whole percents in the drop-ins that it writes."""
    if name != "CPUQuota" or one is None or other is None:
        return one == other
    return one // PERCENT == other // PERCENT
