"""Shows that each limit acts: runs the payload against it, in the slice tree of the run."""

import ast
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from types import MappingProxyType

from cgroup_preflight.config.properties import BY_NAME
from cgroup_preflight.core.reading import Known, parsed, value_or
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass, replace
from cgroup_preflight.engines.base import Engine
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.host.cgroupfs import parse_flat_keyed, parse_limit
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
from cgroup_preflight.smoke.probe_plan import Capacity, Probe, ProbeUnit, has_room, lanes, probe_units

if TYPE_CHECKING:
    from cgroup_preflight.host.door import Door, Files

_DEADLINE = 15.0
#: Seconds that a slow kernel takes to start one task, and the longest that a probe of tasks may take.
_TASK_SECONDS = 0.05
_TASKS_DEADLINE = 60.0
_UP_SECONDS = 20.0
#: The longest time before the first push.
_MEANWHILE_SECONDS = 60.0
_PAUSE = 0.02
_LOOK = 0.5
_OUTPUT_MAX = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeEvidence:
    """What one probe saw: `said` its own lines, `before` and `after` the target's counters.

    `beside` is what became of a neighbour meanwhile; None where there was none.
    """

    probe: Probe
    cgroup: str
    in_force: str | None
    said: tuple[Mapping[str, object], ...]
    before: Mapping[str, int]
    after: Mapping[str, int]
    refused: str = ""
    beside: Beside | None = None


class Probes:
    """Runs probes: their processes, a few units at a time, wait in their cgroups and push when they are asked."""

    def __init__(
        self, engine: Engine, observer: Observer, door: "Door", slices: Mapping[str, str], mount: str,
        payloads: "Payloads",
    ) -> None:  # fmt: skip
        self._engine = engine
        self._observer = observer
        self._files, self._clock = door.files, door.clock
        self._slices = slices
        self._mount = mount.rstrip("/")
        self._payloads = payloads

    def run_all(
        self, scope: str, probes: tuple[Probe, ...], say: Callable[[str], None], meanwhile: Callable[[], None],
        capacity: Capacity, peaks: Mapping[str, int] = MappingProxyType({}),
    ) -> tuple[ProbeEvidence, ...]:  # fmt: skip
        """One evidence for each probe, in order; calls `meanwhile` while their processes start. Raises HostError.

        `peaks`: the most memory that services had, in bytes, by unit.
        """
        units = probe_units(scope, probes)
        if not units:
            meanwhile()
            return ()
        by_number = {number: unit for unit in units for number in unit.probes}
        roof = {
            self._slices[item.target]: int(item.limit) for item in probes if item.is_slice and item.kind == "max"
        }  # fmt: skip
        seen: dict[int, ProbeEvidence] = {}
        running: set[int] = set()

        def lane(numbers: Sequence[int]) -> Iterator[None]:
            todo = list(numbers)
            while todo:
                others = [probes[number] for number in running]
                number = next((one for one in todo if has_room(probes[one], others, capacity)), None)
                if number is None:
                    yield
                    continue
                probe = probes[number]
                limit = probe.expectation.property.name
                say(f"testing {limit} of {probe.label} ({len(seen) + 1}/{len(probes)})")
                todo.remove(number)
                running.add(number)
                unit = by_number[number]
                usable = [one for one in some if one.unit not in refused]
                mate = neighbour_of(unit, probe, usable, probes, peaks)
                seen[number] = yield from self._push(unit, probe, refused.get(unit.unit, ""), mate, roof)
                running.remove(number)

        longest = _MEANWHILE_SECONDS + _UP_SECONDS + sum(_deadline(probe) * 2 + 1 for probe in probes)
        for first in range(0, len(units), AT_ONCE):
            some = units[first : first + AT_ONCE]
            with self._payloads.started(some, longest) as refused:
                if not first:
                    meanwhile()
                self._together([lane(numbers) for numbers in lanes(scope, some)])
        return tuple(seen[number] for number in range(len(probes)))

    def _push(
        self, item: ProbeUnit, probe: Probe, refused: str, mate: Neighbour | None, roof: Mapping[str, int]
    ) -> Generator[None, None, ProbeEvidence]:  # fmt: skip
        own = self._payloads.cgroup(item)
        target = self._slices[probe.target] if probe.is_slice else own
        said = _Said(self._files, self._payloads.output(item))
        if not refused:
            yield from self._until(said.up, _UP_SECONDS)
        if refused or not said.up():
            return ProbeEvidence(probe=probe, cgroup=target, in_force=None, said=(), before={}, after={},
                                 refused=refused or "it did not start in time")  # fmt: skip
        reading = self._observer.read(target, probe.expectation.attribute)
        in_force = reading.value.strip() if isinstance(reading, Known) else None
        seen = ProbeEvidence(probe=probe, cgroup=target, in_force=in_force, said=(), before={}, after={})
        if in_force is None or not agrees(probe.expectation, in_force):
            return seen
        if mate is None or not (yield from self._keep(mate)):
            return (yield from self._pushed(item, seen))
        return (yield from self._next_to(mate, item, seen, roof))

    def _pushed(self, item: ProbeUnit, seen: ProbeEvidence, kind: str = "") -> Generator[None, None, ProbeEvidence]:
        """Pushes once, as `kind` where it is another than that of the probe."""
        probe, target, own = seen.probe, seen.cgroup, self._payloads.cgroup(item)
        before = self._events(target, own, probe.kind)
        seconds = _deadline(probe)
        with lifted(self._engine, self._observer, self._in_the_way(item, probe, own, target)):
            said = yield from self._ask(item, f"{kind or probe.kind} {probe.amount}", seconds, f"{self._mount}{target}")
        return replace(seen, said=said, before=before, after=self._events(target, own, probe.kind))

    def _ask(
        self, item: ProbeUnit, words: str, seconds: float, folder: str
    ) -> Generator[None, None, tuple[Mapping[str, object], ...]]:
        """Gives a payload a line, and waits until it has answered, twice `seconds` at most; the answer."""
        said, own = _Said(self._files, self._payloads.output(item)), self._payloads.cgroup(item)
        already = len(said.lines())
        self._payloads.ask(item, f"{words} {seconds:g} {folder}")
        yield from self._until(lambda: said.over(already), seconds * 2, gone=lambda: not self._observer.processes(own))
        return said.lines()[already:]

    def _keep(self, mate: Neighbour, kind: str = "keep") -> Generator[None, None, bool]:
        """Lets a neighbour keep memory; whether it does. With the kind `own` it is in page tables as that of a program."""
        said = _Said(self._files, self._payloads.output(mate.unit))
        yield from self._until(said.up, _UP_SECONDS)
        answer = (yield from self._ask(mate.unit, f"{kind} {mate.amount}", _DEADLINE, self._mount)) if said.up() else ()
        return any(line.get("kept") for line in answer)

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
        now = yield from self._pushed(item, seen, kind)
        after = levels_above(observer, own)
        found = beside(mate, (states, state_of(observer, place)), before, after, seen.probe, roof)
        yield from self._ask(mate.unit, "drop 0", _DEADLINE, self._mount)
        return now, reached_first(before, after) is not None, found

    def _in_the_way(self, item: ProbeUnit, probe: Probe, own: str, target: str) -> Iterator[tuple[str, str]]:
        """Limits that act before this one: cgroups and their files.

        Beyond memory.high the kernel slows down; and the probe of a slice runs in a unit with limits of its own.
        """
        if probe.is_slice and probe.kind in ("max", "swap"):
            yield target, "memory.high"
        if probe.is_slice:
            carried = (BY_NAME[setting.property].attribute for setting in item.settings)
            yield from ((own, attribute) for attribute in carried if attribute)

    def _events(self, target: str, own: str, kind: str) -> Mapping[str, int]:
        """The counters that tell whether the limit of `target` acted.

        A refused fork counts at the cgroup that tried it before kernel 6.11, and at that of the limit since. A memory
        limit can end a probe of tasks first, which the count of kills tells.
        """
        if kind == "cpu":
            return {}
        if kind == "tasks":
            return {
                "max": sum(self._keyed(cgroup, "pids.events").get("max", 0) for cgroup in {own, target}),
                "oom_kill": max(self._keyed(cgroup, "memory.events").get("oom_kill", 0) for cgroup in {own, target}),
            }
        if kind == "swap":
            peak = parsed(self._observer.read(target, "memory.swap.peak"), parse_limit)
            return {
                "oom_kill": self._keyed(own, "memory.events").get("oom_kill", 0),
                "swap max": self._keyed(target, "memory.swap.events").get("max", 0),
                "swap peak": value_or(peak, None) or 0,
            }
        local = self._keyed(target, "memory.events.local")
        return {**local, "oom_kill": self._keyed(target, "memory.events").get("oom_kill", 0)}

    def _keyed(self, cgroup: str, attribute: str) -> Mapping[str, int]:
        reading = parsed(self._observer.read(cgroup, attribute), parse_flat_keyed)
        return reading.value if isinstance(reading, Known) else {}

    def _until(
        self, done: Callable[[], bool], seconds: float, *, gone: Callable[[], bool] = lambda: False
    ) -> Iterator[None]:  # fmt: skip
        """Lets other lanes have their turn until `done`, or the time is over, or the process under test is `gone`.

        Asking takes CPU time from the processes under test, so `gone` is asked twice a second.
        """
        now = self._clock.monotonic()
        deadline, look_at = now + seconds, now + _LOOK
        while not done() and now < deadline:
            if now > look_at and gone():
                return
            look_at = now + _LOOK if now > look_at else look_at
            yield
            now = self._clock.monotonic()

    def _together(self, lanes: Sequence[Iterator[None]]) -> None:
        """Gives each lane a turn, again and again, until all have ended."""
        active = list(lanes)
        while active:
            looked = self._clock.monotonic()
            active = [lane for lane in active if next(lane, _END) is not _END]
            if active:
                # On an emulated CPU a look takes long, and the processes under test need that CPU.
                self._clock.sleep(max(_PAUSE, 2 * (self._clock.monotonic() - looked)))


def _deadline(probe: Probe) -> float:
    """Seconds that a probe may push; starting many tasks takes long."""
    return min(_DEADLINE + probe.amount * _TASK_SECONDS, _TASKS_DEADLINE) if probe.kind == "tasks" else _DEADLINE


class _Said:
    """What one unit's payload has said so far: a Python literal on each line; other lines are left out."""

    def __init__(self, files: "Files", path: str) -> None:
        self._files, self._path = files, path
        self._data = b""
        self._lines: tuple[Mapping[str, object], ...] = ()

    def lines(self) -> tuple[Mapping[str, object], ...]:
        size = len(self._data)
        self._data += value_or(self._files.tail(self._path, size, _OUTPUT_MAX - size), b"")
        if len(self._data) > size:
            text = self._data.decode("utf-8", "replace")
            self._lines = tuple(item for item in map(_literal, text.splitlines()) if item)
        return self._lines

    def up(self) -> bool:
        return any("up" in line for line in self.lines())

    def over(self, already: int) -> bool:
        return any("over" in line for line in self.lines()[already:])


def _literal(line: str) -> Mapping[str, object]:
    try:
        value = ast.literal_eval(line)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


_END = object()
