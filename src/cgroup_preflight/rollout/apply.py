"""Applies values to units, reads them back in three ways, and restores what was in force before.

The success of `systemctl set-property` proves nothing: errors of writing cgroup files are logged and swallowed
(systemd/systemd#22211), and a limit below the usage can be written without being in force (cgroup-v2.rst).
"""

import enum
import os
from collections.abc import Iterator, Mapping, Sequence

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.rollout.base import Clock, DeadMan, Manager, UnitPlan
from cgroup_preflight.rollout.dead_man import restoring
from cgroup_preflight.rollout.drop_ins import control_names, hold_text, sets_to, winner
from cgroup_preflight.rollout.limits import LIMITS, Limits, Values, kernel_says, kernel_text, shown
from cgroup_preflight.rollout.stages import changes

#: The kernel has the value a moment after the manager's answer: systemd writes cgroup files from its event loop.
VERIFY_SECONDS = 10.0
#: How often the host is looked at.
POLL = 0.25


class Where(enum.StrEnum):
    """Which of the ways to read a value back disagrees. USAGE: the limit is in the kernel, and not in force yet."""

    MANAGER = "manager"
    FILE = "file"
    KERNEL = "kernel"
    USAGE = "usage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """One value that does not read back: what was expected, what was read, and for a conflict the file that decides."""

    unit: str
    setting: str
    where: Where
    expected: str
    actual: str
    winner: str = ""
    #: What the manager has, where it is the manager that disagrees.
    number: int | None = None

    @property
    def name(self) -> str:
        """`UNIT PROPERTY`, as the journal has it."""
        return f"{self.unit} {self.setting}"

    def __str__(self) -> str:
        if self.where is Where.USAGE:
            return f"{self.unit}: {self.setting}={self.expected} is not in force yet: {self.actual} are in use"
        words = {Where.MANAGER: "systemd shows", Where.FILE: "its drop-in has", Where.KERNEL: "the kernel's file says"}
        won = f" (set by {self.winner})" if self.winner else ""
        return f"{self.unit}: {self.setting} must be {self.expected}, and {words[self.where]} {self.actual}{won}"


class Hands:
    """Changes the units of one rollout; `folder` is where the texts of files before the rollout are kept for the timer."""

    def __init__(
        self, manager: Manager, units: Sequence[UnitPlan], *, rollout: str, folder: str, page: int, seconds: float
    ) -> None:
        self.manager = manager
        self.units = tuple(units)
        self.rollout = rollout
        self._folder = folder
        self._page = page
        self._seconds = seconds
        self._by_name = {item.unit: item for item in units}

    @property
    def old(self) -> Limits:
        """The values before the rollout."""
        return {item.unit: item.old for item in self.units}

    @property
    def new(self) -> Limits:
        """The target values."""
        return {item.unit: item.new for item in self.units}

    @property
    def mark(self) -> str:
        """The file that the timer creates when it has restored the old values."""
        return os.path.join(self._folder, f"{self.rollout}.restored")

    def was_restored(self) -> bool:
        """Whether the timer has restored the old values."""
        return self.manager.read_file(self.mark) is not None

    def arm(self, left: Sequence[str] = (), *, persistent: bool = False) -> None:
        """Starts the timer; what it needs is on the disk before. `persistent`: a start of the host starts it, too."""
        copies, removed = dict[str, str](), list[str]()
        needed = dict(self._files(left))
        # Numbered whatever is left out: a timer that runs already has the names.
        for number, (path, text) in enumerate(self._files(())):
            if path not in needed:
                continue
            if text is None:
                removed.append(path)
            else:
                backup = os.path.join(self._folder, f"{self.rollout}.{number}.before")
                self.manager.write_file(backup, text)
                copies[backup] = path
        self.manager.arm(DeadMan(
            rollout=self.rollout, seconds=self._seconds, changes=restoring(self.units, left), copies=copies,
            removed=tuple(removed), mark=self.mark, persistent=persistent,
        ))  # fmt: skip

    def disarm(self) -> None:
        """Stops the timer; never that of another rollout, which began at the same moment."""
        if self.manager.armed_for() in ("", self.rollout):
            self.manager.disarm()

    def clean(self) -> None:
        """Removes what only the timer needed."""
        count = sum(len(item.files) for item in self.units)
        self.manager.remove_files(
            [os.path.join(self._folder, f"{self.rollout}.{number}.before") for number in range(count)]
        )

    def step(self, before: Limits, after: Limits) -> str:
        """Brings the values of a stage into force, at run time; the manager's words where it refused."""
        for unit, values in after.items():
            if values != self._by_name[unit].old or before[unit] != values:
                self.manager.write_file(self.manager.hold_file(unit), hold_text(unit, values))
        for change in changes(before, after):
            words = self.manager.set(change.unit, change.values, runtime=True)
            if words:
                return f"{change.unit}: {words}"
        return ""

    def promote(self) -> str:
        """Makes the new values persistent, and removes what only the rollout needed; the manager's words where it refused."""
        for item in self.units:
            changed = {name: value for name, value in item.new.items() if value != item.old[name]}
            words = self.manager.set(item.unit, changed, runtime=False) if changed else ""
            if words:
                return f"{item.unit}: {words}"
        self.manager.remove_files([path for item in self.units for path in self._surplus(item)])
        self.manager.reload()
        self.sync()
        return ""

    def sync(self) -> None:
        """Without this, a power failure after the last record of the journal could bring back what was before."""
        self.manager.sync_files([path for item in self.units for path in item.files])

    def _surplus(self, item: UnitPlan) -> Iterator[str]:
        """Our own drop-in, those of the steps, and those with a percentage, which would win at the next reload."""
        changed = [name for name, value in item.new.items() if value != item.old[name]]
        persistent = set(self._persistent(item))
        for path in item.files:
            name = os.path.basename(path)
            is_stale = name.endswith("Scale.conf") and name in control_names(changed)
            was_there = item.files[path] is not None
            if (
                path == self.manager.hold_file(item.unit)
                or is_stale
                or (path not in persistent and (not was_there or name in control_names(changed)))
            ):
                yield path

    def _persistent(self, item: UnitPlan) -> tuple[str, ...]:
        """The persistent drop-ins: the first half of what the manager names."""
        paths = self.manager.control_files(item.unit, tuple(item.new))
        return paths[: len(paths) // 2]

    def restore(self, left: Sequence[str] = ()) -> str:
        """Brings the old values back at once, then the files as they were; the manager's words where it refused."""
        refused = [
            f"{call.unit}: {words}"
            for call in restoring(self.units, left)
            if (words := self.manager.set(call.unit, call.values, runtime=True))
        ]
        files = dict(self._files(left))
        self.manager.remove_files([path for path, text in files.items() if text is None])
        for path, text in files.items():
            if text is not None:
                self.manager.write_file(path, text)
        self.manager.reload()
        return "; ".join(refused)

    def release(self, left: Sequence[str]) -> None:
        """Removes our drop-ins of units of which somebody else has changed a value: at a reload they would win over it."""
        units = {name.partition(" ")[0] for name in left}
        self.manager.remove_files([self.manager.hold_file(item.unit) for item in self.units if item.unit in units])

    def bring(self, left: Sequence[str]) -> None:
        """Brings values of somebody else to the kernel where only the manager has them: at a reload, systemd 257 does not.

        The same value is set once more. What this, or a step of the rollout, leaves behind a persistent drop-in is removed.
        """
        for unit, name in self.late(left):
            self.manager.set(unit, {name: self.values()[unit][name]}, runtime=True)
        surplus = [
            path
            for item in self.units
            for name in item.old
            if f"{item.unit} {name}" in left
            for lasting, path in self._pairs(item, name)
            if item.files[path] is None and None not in (self.manager.read_file(path), self.manager.read_file(lasting))
        ]
        if surplus:
            self.manager.remove_files(surplus)
            self.manager.reload()

    def late(self, left: Sequence[str]) -> list[tuple[str, str]]:
        """Unit and property of `left` where the kernel's file has not what the manager has."""
        found = self.values() if left else {}
        return [
            (item.unit, name)
            for item in self.units
            for name in item.old
            if f"{item.unit} {name}" in left
            and (text := self.manager.attribute(item.cgroup, LIMITS[name].attribute)) is not None
            and not self._is_in_kernel(item, name, found[item.unit][name], text)
        ]

    def _pairs(self, item: UnitPlan, name: str) -> Iterator[tuple[str, str]]:
        """The persistent drop-ins of a property, each with the one of the same name until the next start of the host."""
        paths = self.manager.control_files(item.unit, tuple(item.new))
        half = len(paths) // 2
        names = control_names((name,))
        yield from (pair for pair in zip(paths[:half], paths[half:], strict=True) if os.path.basename(pair[0]) in names)

    def _is_in_kernel(self, item: UnitPlan, name: str, value: int | None, text: str) -> bool:
        return kernel_says(name, kernel_text(name, value, page=self._page, period=item.period), text)

    def _files(self, left: Sequence[str]) -> Iterator[tuple[str, str | None]]:
        """The files before the rollout, without those of properties that somebody else has changed."""
        for item in self.units:
            theirs = control_names([name for name in item.old if f"{item.unit} {name}" in left])
            yield from ((path, text) for path, text in item.files.items() if os.path.basename(path) not in theirs)

    def taken(self, *, also_new: bool = False) -> tuple[str, ...]:
        """`UNIT PROPERTY` with a persistent drop-in that somebody else wrote or removed since the rollout began.

        `also_new`: one with the new value is somebody else's, too.
        """
        return tuple(
            f"{item.unit} {name}"
            for item in self.units
            for path in self._persistent(item)
            for name in item.new
            if os.path.basename(path) in control_names((name,))
            and (text := self.manager.read_file(path)) != item.files[path]
            # Of a promotion that this journal does not know of any more, or the same value.
            and (also_new or not sets_to(text or "", name, item.new[name]))
        )

    # --- reading back

    def values(self) -> dict[str, Values]:
        """The values that the manager has now, of the properties of the rollout. Raises HostError."""
        found = self.manager.values([item.unit for item in self.units])
        for item in self.units:
            lacking = [name for name in item.old if name not in found.get(item.unit, {})]
            if lacking:
                # None would be "no limit", and somebody else's.
                raise HostError(f"the manager does not show {lacking[0]}", where=item.unit, remedy=Remedy(
                    title="look at the slice", commands=(("systemctl", "status", item.unit),)))  # fmt: skip
        return {item.unit: {name: found[item.unit][name] for name in item.old} for item in self.units}

    def read_back(self, values: Limits, *, held: bool) -> tuple[Mismatch, ...]:
        """What does not agree with `values`; `held`: our drop-in must have them, too. Manager first, then file and kernel."""
        found = self.values()
        return tuple(
            mismatch
            for item in self.units
            for mismatch in self._of_unit(item, values[item.unit], found[item.unit], held=held)
        )

    def _of_unit(self, item: UnitPlan, values: Values, found: Values, *, held: bool) -> Iterator[Mismatch]:
        for name, value in values.items():
            expected = shown(name, value)
            if not self._same(name, found[name], value):
                yield Mismatch(unit=item.unit, setting=name, expected=expected, where=Where.MANAGER,
                               actual=shown(name, found[name]), winner=self._winner(item.unit, name), number=found[name])  # fmt: skip
                continue
            text = self.manager.attribute(item.cgroup, LIMITS[name].attribute)
            if text is None and (value is None or (not held and self._is_stopped(item))):
                # Without the controller there is no file, and no limit; a slice that does not run has neither, and the
                # manager's values when it starts.
                continue
            if text is None or not self._is_in_kernel(item, name, value, text):
                actual = "nothing" if text is None else " ".join(text.split())[:80]
                yield Mismatch(unit=item.unit, setting=name, expected=expected, where=Where.KERNEL, actual=actual)
        if held and values != item.old:
            text = self.manager.read_file(self.manager.hold_file(item.unit))
            if text != hold_text(item.unit, values):
                yield Mismatch(unit=item.unit, setting="drop-in", where=Where.FILE, expected="the values of this step",
                               actual="nothing" if text is None else "another text")  # fmt: skip

    def _is_stopped(self, item: UnitPlan) -> bool:
        return self.manager.attribute(item.cgroup, "cgroup.events") is None

    def _same(self, name: str, found: int | None, value: int | None) -> bool:
        if found is None or value is None or not LIMITS[name].is_memory:
            return found == value
        return found // self._page == value // self._page

    def over_usage(self, values: Limits) -> tuple[Mismatch, ...]:
        """Memory limits below the present usage: written, and not in force (cgroup-v2.rst, memory.max and O_NONBLOCK)."""
        return tuple(
            Mismatch(unit=item.unit, setting="MemoryMax", where=Where.USAGE, expected=format_bytes(limit), actual=format_bytes(used))
            for item in self.units
            if (limit := values[item.unit].get("MemoryMax")) is not None
            and (used := self.used(item.unit)) is not None
            and used > limit
        )  # fmt: skip

    def effective(self) -> dict[str, dict[str, float | int | str | None]]:
        """What holds over a unit and all above it: CPUs, bytes of memory, and the level that decides, by unit."""
        found = {item.unit: self.manager.effective(item.cgroup) for item in self.units}
        return {
            unit: {"cpus": item.cpus, "cpus_at": item.cpus_at, "memory": item.memory_bytes, "memory_at": item.memory_at}
            for unit, item in found.items()
        }

    def used(self, unit: str) -> int | None:
        """memory.current of a unit, in bytes."""
        text = self.manager.attribute(self._by_name[unit].cgroup, "memory.current")
        return int(text) if text is not None and text.strip().isdigit() else None

    def changed_files(self, left: Sequence[str] = ()) -> tuple[str, ...]:
        """The files that are not as they were before the rollout."""
        return tuple(path for path, text in self._files(left) if self.manager.read_file(path) != text)

    def unpromoted(self) -> tuple[str, ...]:
        """What is missing after `promote`: persistent drop-ins without the value, and files that should be gone."""
        missing = []
        for item in self.units:
            changed = [name for name, value in item.new.items() if value != item.old[name]]
            texts: Mapping[str, str | None] = {path: self.manager.read_file(path) for path in self._persistent(item)}
            for name in changed:
                files = [text for path, text in texts.items() if os.path.basename(path) == f"50-{name}.conf"]
                if not any(text and f"{name}=" in text for text in files):
                    missing.append(f"{item.unit}: no persistent drop-in with {name}")
            missing += [
                f"{path} still exists" for path in self._surplus(item) if self.manager.read_file(path) is not None
            ]
        return tuple(missing)

    def _winner(self, unit: str, name: str) -> str:
        item = self.manager.show([unit]).get(unit)
        texts = {path: self.manager.read_file(path) or "" for path in (item.drop_ins if item else ())}
        return winner(texts, name)


def looks(clock: Clock, seconds: float) -> Iterator[bool]:
    """Moments to look at the host, with pauses, and whether each is the last one, without an end of its own.

    The last one begins after the time is over: an answer of another machine can be seconds old when it comes.
    """
    until = clock.monotonic() + seconds
    while True:
        yield clock.monotonic() > until
        clock.sleep(POLL)


def restored(hands: Hands, clock: Clock, left: Sequence[str]) -> str:
    """Restores the old values but those of `left`; why they are not back, empty when they are. Raises HostError."""
    words = hands.restore(left)
    for is_last in looks(clock, VERIFY_SECONDS):
        found = [item for item in hands.read_back(hands.old, held=False) if item.name not in left]
        # Where more memory was allowed meanwhile, the old limit can be below what is in use now.
        found += [item for item in hands.over_usage(hands.old) if item.name not in left]
        files = hands.changed_files(left)
        if not found and not files:
            if left:
                clock.sleep(POLL)
                hands.bring(left)
            return ""
        if is_last:
            break
    return "; ".join([words, *map(str, found), *(f"{path} is not as it was" for path in files)]).strip("; ")
