"""Shows that each limit acts: runs the payload against it, in the slice tree of the run."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType

from cgroup_preflight.config.properties import BY_NAME
from cgroup_preflight.core.reading import Known
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass, replace
from cgroup_preflight.engines.base import Engine
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.plan.expect import agrees
from cgroup_preflight.smoke.lifted import lifted
from cgroup_preflight.smoke.neighbour import (
    Beside,
    Neighbour,
    beside,
    levels_above,
    neighbour_of,
    reached_first,
    state_of,
)
from cgroup_preflight.smoke.payloads import AT_ONCE, Payloads
from cgroup_preflight.smoke.probe_plan import Capacity, Probe, ProbeUnit, lanes, probe_units
from cgroup_preflight.smoke.pushes import LONGEST, UP_SECONDS, Pushes, deadline
from cgroup_preflight.smoke.turns import Turns

if TYPE_CHECKING:
    from cgroup_preflight.host.door import Door

#: The longest time before the first push.
_MEANWHILE_SECONDS = 60.0
_PAUSE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeEvidence:
    """What one probe saw: `said` what was read while it pushed, `before` and `after` the target's counters.

    `in_force` is what the target's file had before, or after if that is no more the limit. `unread`: counters could not be
    read. `beside` is what became of a neighbour meanwhile; None where there was none.
    """

    probe: Probe
    cgroup: str
    in_force: str | None
    said: tuple[Mapping[str, object], ...]
    before: Mapping[str, int]
    after: Mapping[str, int]
    refused: str = ""
    unread: bool = False
    beside: Beside | None = None


class Probes:
    """Runs probes: their processes, a few units at a time, wait in their cgroups and push when they are asked."""

    def __init__(
        self, engine: Engine, observer: Observer, door: "Door", slices: Mapping[str, str], payloads: "Payloads"
    ) -> None:  # fmt: skip
        self._engine = engine
        self._observer = observer
        self._clock = door.clock
        self._slices = slices
        self._payloads = payloads
        self._pushes = Pushes(observer, door, payloads)
        #: How many processes use CPU time against quotas now.
        self.burning = 0
        #: Whether quotas are tested: they are in the way of all other probes, and these in theirs.
        self._has_quotas = False

    def run_all(
        self, scope: str, probes: tuple[Probe, ...], say: Callable[[str], None], meanwhile: Iterator[None],
        capacity: Capacity, peaks: Mapping[str, int] = MappingProxyType({}),
        may_begin: Callable[[Probe], bool] = lambda _: True,
    ) -> tuple[ProbeEvidence, ...]:  # fmt: skip
        """One evidence for each probe, in order. Raises HostError.

        Until `meanwhile` ends, which has its turns among the probes, there are only those of CPU quotas, and of them those
        that `may_begin`: what it does must not be refused memory or tasks. `peaks`: the most memory that services had, in
        bytes, by unit; known when `meanwhile` has ended.
        """
        units = probe_units(scope, probes)
        by_number = {number: unit for unit in units for number in unit.probes}
        roof = self._roof(probes)
        self._has_quotas = any(item.kind == "cpu" for item in probes)
        seen: dict[int, ProbeEvidence] = {}
        ended = False

        def first_lane() -> Iterator[None]:
            nonlocal ended
            yield from meanwhile
            ended = True

        def may(number: int) -> bool:
            return ended or (probes[number].kind == "cpu" and may_begin(probes[number]))

        def lane(turns: Turns, mine: int) -> Iterator[None]:
            while turns.are_left(mine):
                number = turns.begin(mine, may)
                if number is None:
                    yield
                    continue
                probe, unit = probes[number], by_number[number]
                say(f"testing {probe.expectation.property.name} of {probe.label} ({len(seen) + 1}/{len(probes)})")
                usable = [one for one in some if one.unit not in refused]
                mate = neighbour_of(unit, probe, usable, probes, peaks)
                after, early = turns.after(mine), not ended
                # The next one needs some tasks more.
                stay = probe.kind == "tasks" and after in unit.probes and probes[after].kind == "tasks"
                seen[number] = yield from self._push(unit, probe, refused.get(unit.unit, ""), mate, roof, stay=stay)
                if early and _lacked_cpu(seen[number]):
                    # The services that were stopping may have had its CPU time: it gets another turn.
                    del seen[number]
                    turns.put_back(mine, number)
                    while not ended:
                        yield
                else:
                    turns.end(mine, number, lacked_cpu=_lacked_cpu(seen[number]))

        longest = _MEANWHILE_SECONDS + UP_SECONDS + sum(deadline(probe) + LONGEST + 1 for probe in probes)
        for first in range(0, len(units), AT_ONCE):
            some = units[first : first + AT_ONCE]
            with self._payloads.started(some, longest) as refused:
                ways = lanes(scope, some, probes)
                turns = Turns(probes, ways, capacity)
                self._together([first_lane(), *(lane(turns, mine) for mine in range(len(ways)))])
        self._together([first_lane()])
        return tuple(seen[number] for number in range(len(probes)))

    def _roof(self, probes: Sequence[Probe]) -> dict[str, int]:
        """Memory limits of slices in bytes, by cgroup."""
        return {self._slices[item.target]: int(item.limit) for item in probes if item.is_slice and item.kind == "max"}

    def _push(
        self, item: ProbeUnit, probe: Probe, refused: str, mate: Neighbour | None, roof: Mapping[str, int], *, stay: bool
    ) -> Generator[None, None, ProbeEvidence]:  # fmt: skip
        own = self._payloads.cgroup(item)
        target = self._slices[probe.target] if probe.is_slice else own
        refused = refused or self._payloads.enter(item)
        is_up = False if refused else (yield from self._pushes.is_up(item))
        if not is_up:
            return ProbeEvidence(probe=probe, cgroup=target, in_force=None, said=(), before={}, after={},
                                 refused=refused or "it did not start in time")  # fmt: skip
        in_force = yield from self._limit_soon(probe, target)
        seen = ProbeEvidence(probe=probe, cgroup=target, in_force=in_force, said=(), before={}, after={})
        if in_force is None and self._pushes.is_gone(item):
            return replace(seen, refused="its process ended before its turn")
        if in_force is None or not agrees(probe.expectation, in_force):
            return seen
        if mate is None or not (yield from self._keep(mate)):
            return (yield from self._pushed(item, seen, stay=stay))
        return (yield from self._next_to(mate, item, seen, roof))

    def _pushed(
        self, item: ProbeUnit, seen: ProbeEvidence, kind: str = "", *, stay: bool = False, alone: bool = True
    ) -> Generator[None, None, ProbeEvidence]:
        """Pushes once, as `kind` where it is another than that of the probe; tasks can `stay`. `alone`: without a neighbour."""
        probe, target, own = seen.probe, seen.cgroup, self._payloads.cgroup(item)
        first = [*self._in_the_way(item, probe, own, target), *(self._roofs(probe, own) if alone else ())]
        with lifted(self._engine, self._observer, first), self._polite(probe, own):
            # Not sooner: tasks that stay may still be refused by a limit that is lifted now.
            before = self._pushes.events(target, own, probe.kind)
            if not before and probe.kind != "cpu":
                return replace(seen, unread=True)
            self.burning += probe.amount if probe.kind == "cpu" else 0
            said = yield from self._pushes.push(item, probe, target, before, kind, stay=stay)
            self.burning -= probe.amount if probe.kind == "cpu" else 0
        after, now = self._pushes.events(target, own, probe.kind), self._limit(probe, target)
        if probe.kind == "cpu" and said:
            # They could not end before their next period begins, and the next quota would wait for that.
            # While services stop, the limits of slices are watched.
            places = self._quotas(own) if probe.is_slice else [(own, "cpu.max")]
            with lifted(self._engine, self._observer, places):
                yield from self._pushes.drop(item)
        # One that somebody has set meanwhile is not the limit that was to be proven.
        in_force = seen.in_force if now is None or agrees(probe.expectation, now) else now
        return replace(
            seen, said=said, before=before, after=after, in_force=in_force, unread=bool(before and not after)
        )

    def _limit_soon(self, probe: Probe, target: str) -> Generator[None, None, str | None]:
        """The limit. Its file was seen to be absent for a moment on a busy machine, so it is looked for a few times."""
        for _ in range(_LOOKS):
            if (limit := self._limit(probe, target)) is not None:
                return limit
            yield
        return None

    def _limit(self, probe: Probe, target: str) -> str | None:
        """What the kernel has as the limit; None where that cannot be read."""
        reading = self._observer.read(target, probe.expectation.attribute)
        return reading.value.strip() if isinstance(reading, Known) else None

    def _keep(self, mate: Neighbour, kind: str = "keep") -> Generator[None, None, bool]:
        """Lets a neighbour keep memory; whether it does. With the kind `own` it is in page tables as that of a program."""
        if self._payloads.enter(mate.unit):
            return False
        is_up = yield from self._pushes.is_up(mate.unit)
        if is_up and (yield from self._pushes.keep(mate.unit, kind, mate.amount)):
            return True
        if is_up:
            yield from self._pushes.drop(mate.unit)
        return False

    def _next_to(
        self, mate: Neighbour, item: ProbeUnit, seen: ProbeEvidence, roof: Mapping[str, int]
    ) -> Generator[None, None, ProbeEvidence]:  # fmt: skip
        """Pushes while a neighbour has memory.

        Where another limit is in the way then, once more without the neighbour, for the limit itself. Where it is one
        around both, also once as a program does it, for whom the kernel kills.
        """
        now, first, found = yield from self._watched(mate, item, seen, roof)
        if now.after.get("oom", 0) > now.before.get("oom", 0):
            return replace(now, beside=found)
        if any(line.get("finished") for line in now.said):
            return now
        alone = yield from self._pushed(item, seen)
        if not first:
            return alone
        if (yield from self._keep(mate, "own")):
            _, again, hit = yield from self._watched(mate, item, seen, roof, "rival")
            found = hit if again else found
        return replace(alone, beside=found)

    def _watched(
        self, mate: Neighbour, item: ProbeUnit, seen: ProbeEvidence, roof: Mapping[str, int], kind: str = ""
    ) -> Generator[None, None, tuple[ProbeEvidence, bool, Beside | None]]:  # fmt: skip
        """One push next to a neighbour, which drops its memory then; whether a limit around both acted first."""
        observer, own, place = self._observer, self._payloads.cgroup(item), self._payloads.cgroup(mate.unit)
        states, before = state_of(observer, place), levels_above(observer, own)
        now = yield from self._pushed(item, seen, kind, alone=False)
        after = levels_above(observer, own)
        found = beside(mate, (states, state_of(observer, place)), before, after, seen.probe, roof)
        yield from self._pushes.drop(mate.unit)
        return now, reached_first(before, after) is not None, found

    def _in_the_way(self, item: ProbeUnit, probe: Probe, own: str, target: str) -> Iterator[tuple[str, str]]:
        """Limits that act before this one: cgroups and their files.

        Beyond memory.high the kernel slows down; and the probe of a slice runs in a unit with limits of its own. Under a
        quota, what starts many processes would take many periods.
        """
        if probe.kind != "cpu":
            yield from self._quotas(own)
        if probe.is_slice and probe.kind in ("max", "swap"):
            yield target, "memory.high"
        if probe.is_slice:
            carried = (BY_NAME[setting.property].attribute for setting in item.settings)
            yield from ((own, attribute) for attribute in carried if attribute)

    def _roofs(self, probe: Probe, own: str) -> Iterator[tuple[str, str]]:
        """The memory limits of the slices around a limit that is smaller.

        Files in memory (tmpfs) that a service left there stay charged to its slice, and would take the room that is needed.
        """
        if probe.kind in ("max", "high") and not probe.is_slice:
            yield from ((cgroup, "memory.max") for cgroup in self._around(own))

    def _quotas(self, own: str) -> Iterator[tuple[str, str]]:
        """Where this cgroup and the slices around it have quotas."""
        if self._has_quotas:
            yield from ((cgroup, "cpu.max") for cgroup in (*self._around(own), own))

    def _around(self, own: str) -> list[str]:
        """The slices of the run around a cgroup, the outermost first."""
        return sorted(cgroup for cgroup in self._slices.values() if own.startswith(f"{cgroup}/"))

    @contextmanager
    def _polite(self, probe: Probe, own: str) -> Iterator[None]:
        """The least weight for a probe that is no quota's: a quota is reached in time, and others use what it leaves.

        Next to one of the same weight, what a quota's processes use would be lost until they have more than the quota.
        """
        place = ([*self._around(own), own][:2][-1], "cpu.weight")
        reading = self._observer.read(*place) if self._has_quotas and probe.kind != "cpu" else None
        # One that is idle (cpu.idle) has a weight of 0 that cannot be set.
        if isinstance(reading, Known) and reading.value.strip() not in ("0", "1"):
            with lifted(self._engine, self._observer, (place,), to="1"):
                yield
        else:
            yield

    def _together(self, lanes: Sequence[Iterator[None]]) -> None:
        """Gives each lane a turn, again and again, until all have ended."""
        active = list(lanes)
        while active:
            looked, before = self._clock.monotonic(), len(active)
            active = [lane for lane in active if next(lane, _END) is not _END]
            # One that has ended makes room for others.
            if active and len(active) == before:
                # On an emulated CPU a look takes long, and the processes under test need that CPU.
                pause = max(_PAUSE, 2 * (self._clock.monotonic() - looked))
                if not self._payloads.heard(pause):
                    self._clock.sleep(pause)


def _lacked_cpu(seen: ProbeEvidence) -> bool:
    """Whether a probe of a quota received so little CPU time that the quota could not act."""
    stat, window = next(((line["stat"], line["longest"]) for line in seen.said if "stat" in line), (None, 0.0))
    if not isinstance(stat, Mapping) or not isinstance(window, float):
        return False
    return not stat.get("nr_throttled") and bool(stat.get("usage_usec", 0) < seen.probe.limit * window * 1e6)


_END = object()
#: How often the file of a limit is looked for.
_LOOKS = 20
