"""A service manager that is played: its memory, its drop-ins and the kernel's files, with systemd's own oddities.

It can be killed at any of its acts, as the tool that calls it can. The real ones are in the lab.
"""

import os
from collections.abc import Sequence

from cgroup_preflight.config.model import Rollout
from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.cgroup import Effective
from cgroup_preflight.rollout import journal as journals
from cgroup_preflight.rollout.apply import Hands
from cgroup_preflight.rollout.base import DeadMan, Shown, UnitPlan
from cgroup_preflight.rollout.drop_ins import HOLD, control_names
from cgroup_preflight.rollout.judge import Window
from cgroup_preflight.rollout.limits import LIMITS, PERCENT, assignment, kernel_text
from cgroup_preflight.rollout.run import Runner
from cgroup_preflight.rollout.stages import Way, complete, groups, stages

ETC, RUN, UNITS = "/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/system"
M = 1 << 20
QUIET = Window(seconds=10.0, periods=100, throttled=0.0, cpu_waiting=0.01, memory_stalled=0.0, memory_events=0.0)


class KilledError(BaseException):
    """The tool was killed; nothing may catch it."""


class PlayedClock:
    """Time that passes when somebody waits; `each` is called then."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.each = []

    def monotonic(self) -> float:
        return self.now

    wall = monotonic

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 0.001)
        for call in list(self.each):
            call()


class PlayedManager:
    """One manager with slices; `base` are the values of their own unit files."""

    name = "systemd"

    def __init__(self, base: dict[str, dict[str, int | None]], clock: PlayedClock) -> None:
        self.base = base
        self.memory = {unit: dict(values) for unit, values in base.items()}
        self.kernel = {unit: dict(values) for unit, values in base.items()}
        self.files: dict[str, str] = {}
        #: What is on the disk for certain.
        self.synced: dict[str, str] = {}
        self.used: dict[str, int] = {}
        self.clock = clock
        self.boot_id = "boot-1"
        self.timer: tuple[DeadMan, float] | None = None
        #: At which act the tool is killed; acts are counted from 0, twice each: before and after.
        self.kill_at: int | None = None
        self.acts = 0
        self.refuses = ""
        #: Properties whose writes to the kernel are swallowed.
        self.deaf: set[str] = set()
        #: As systemd 257: a reload brings nothing to the kernel, and the next change everything of its unit.
        self.is_lazy = False
        self.missing: set[str] = set()
        #: Slices that somebody stopped: they have no cgroup.
        self.stopped: set[str] = set()
        self.shown: dict[str, dict[str, object]] = {}
        self.above = Effective(memory_bytes=None, memory_at="", cpus=None, cpus_at="", tasks=None, tasks_at="")

    def _tick(self) -> None:
        if self.kill_at is not None and self.acts == self.kill_at:
            raise KilledError
        self.acts += 1

    # --- what the tool asks

    def show(self, units: Sequence[str]) -> dict[str, Shown]:
        return {
            unit: Shown(**{
                "unit": unit, "cgroup": f"/{unit}", "values": dict(self.memory[unit]),
                "drop_ins": tuple(path for path, _ in self._drop_ins(unit)), **self.shown.get(unit, {}),
            })
            for unit in units if unit in self.memory
        }  # fmt: skip

    def values(self, units: Sequence[str]) -> dict[str, dict[str, int | None]]:
        return {unit: dict(self.memory[unit]) for unit in units}

    def set(self, unit: str, values, *, runtime: bool) -> str:
        self._tick()
        if self.refuses:
            return self.refuses
        self.set_by_anybody(unit, values, runtime=runtime)
        self._tick()
        return ""

    def set_by_anybody(self, unit: str, values, *, runtime: bool) -> None:
        for name, value in values.items():
            self.files[f"{RUN if runtime else ETC}/{unit}.d/50-{name}.conf"] = f"[Slice]\n{assignment(name, value)}\n"
            self.memory[unit][name] = value
            if name not in self.deaf:
                self.kernel[unit][name] = value
        if self.is_lazy:
            self.kernel[unit] = {**self.memory[unit], **{name: self.kernel[unit][name] for name in self.deaf}}

    def reload(self) -> None:
        self._tick()
        self.reload_by_anybody()
        self._tick()

    def reload_by_anybody(self) -> None:
        for unit, values in self.base.items():
            found = dict(values)
            for _, text in self._drop_ins(unit):
                for line in text.splitlines():
                    name, _, value = line.partition("=")
                    if name in LIMITS:
                        found[name] = _value(name, value)
            self.memory[unit] = found
            if self.is_lazy:
                continue
            self.kernel[unit] = {**found, **{name: self.kernel[unit][name] for name in self.deaf if name in found}}

    def _drop_ins(self, unit: str) -> list[tuple[str, str]]:
        """By file name; of the same name, that of /etc."""
        names: dict[str, tuple[str, str]] = {}
        for folder in (UNITS, RUN, ETC):
            for path, text in self.files.items():
                if os.path.dirname(path) == f"{folder}/{unit}.d":
                    names[os.path.basename(path)] = (path, text)
        return [names[name] for name in sorted(names)]

    def boot(self) -> str:
        return self.boot_id

    def attribute(self, cgroup: str, name: str) -> str | None:
        unit = cgroup.rpartition("/")[2]
        if name in self.missing or unit in self.stopped:
            return None
        if name == "cgroup.events":
            return "populated 1\nfrozen 0\n"
        if name == "cpu.pressure":
            return "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
        if name == "memory.current":
            return str(self.used.get(unit, 0))
        if name == "memory.stat":
            return f"anon {self.used.get(unit, 0)}\nslab_unreclaimable 0\n"
        limit = next(item for item in LIMITS.values() if item.attribute == name)
        return kernel_text(limit.name, self.kernel[unit].get(limit.name), page=4096)

    def effective(self, cgroup: str) -> Effective:
        return self.above

    def attribute_missing(self, name: str) -> None:
        """A file that no cgroup has."""
        self.missing.add(name)

    def control_files(self, unit: str, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(f"{folder}/{unit}.d/{name}" for folder in (ETC, RUN) for name in control_names(names))

    def hold_file(self, unit: str) -> str:
        return f"{UNITS}/{unit}.d/{HOLD}"

    def read_file(self, path: str) -> str | None:
        return self.files.get(path)

    def write_file(self, path: str, text: str) -> None:
        self._tick()
        self.files[path] = text
        self._tick()

    def remove_files(self, paths: Sequence[str]) -> None:
        for path in paths:
            self._tick()
            self.files.pop(path, None)
        self._tick()

    def sync_files(self, paths: Sequence[str]) -> None:
        self._tick()
        self.synced |= {path: self.files[path] for path in paths if path in self.files}

    # --- the timer

    def arm(self, dead_man: DeadMan) -> None:
        self._tick()
        if self.armed_for() not in ("", dead_man.rollout):
            raise HostError(
                "another rollout of this service manager has begun", where="timer", remedy=Remedy(title="wait")
            )
        self.timer = (dead_man, self.clock.now + dead_man.seconds)
        self._tick()

    def renew(self) -> None:
        self._tick()
        assert self.timer is not None
        self.timer = (self.timer[0], self.clock.now + self.timer[0].seconds)

    def disarm(self) -> None:
        self._tick()
        self.timer = None
        self._tick()

    def armed_for(self) -> str:
        return self.timer[0].rollout if self.timer else ""

    def fire_if_due(self) -> None:
        """What the manager does by itself."""
        if self.timer is None or self.clock.now < self.timer[1]:
            return
        plan, self.timer, self.kill_at = self.timer[0], None, None
        for change in plan.changes:
            self.set_by_anybody(change.unit, change.values, runtime=True)
        for path in plan.removed:
            self.files.pop(path, None)
        for backup, path in plan.copies.items():
            self.files[path] = self.files[backup]
        self.reload_by_anybody()
        self.files[plan.mark] = ""

    def start_again(self) -> None:
        """A restart of the host: a persistent timer begins again."""
        self.boot_id, self.kill_at = "boot-2", None
        lasting = self.timer is not None and self.timer[0].persistent
        self.timer = (self.timer[0], self.clock.now + self.timer[0].seconds) if self.timer and lasting else None
        self.files = {path: text for path, text in self.files.items() if not path.startswith("/run/")}
        self.reload_by_anybody()

    # --- what a test asks

    def control_state(self) -> dict[str, str]:
        """The drop-ins, without what the tool keeps elsewhere."""
        return {path: text for path, text in self.files.items() if path.startswith(("/etc/", "/run/"))}


def _value(name: str, text: str) -> int | None:
    if text in ("", "infinity", "None"):
        return None
    return int(text.removesuffix("%")) * PERCENT if text.endswith("%") else int(text)


class PlayedWatcher:
    """Windows that a test has chosen; the last one comes again and again."""

    def __init__(self, *windows: Window) -> None:
        self.windows = list(windows) or [QUIET]
        self.alarm: list[str] = []

    def begin(self) -> None:
        pass

    def window(self) -> Window:
        return self.windows.pop(0) if len(self.windows) > 1 else self.windows[0]

    def alarms(self) -> tuple[str, ...]:
        return tuple(self.alarm)

    kills = alarms


CONFIG = Rollout(steps=(5000, 10_000), interval=30.0, settle=10.0, soak=30.0, deadline=60.0, restore_after=60.0)
CAPACITY = {"CPUQuota": 4_000_000, "MemoryMax": 8 << 30, "MemoryHigh": 8 << 30, "TasksMax": 30_000}


class Game:
    """A host with two slices, and a rollout on it that can be killed and go on."""

    def __init__(self, folder: str, old, new, *, files: dict[str, str] | None = None, config: Rollout = CONFIG) -> None:
        self.clock = PlayedClock()
        self.manager = PlayedManager(old, self.clock)
        self.manager.files |= files or {}
        self.manager.reload_by_anybody()
        self.folder, self.config = folder, config
        self.path = os.path.join(folder, "r1.journal")
        before = self.manager.values(list(old))
        self.old = {unit: {name: before[unit][name] for name in before[unit]} for unit in new}
        full = complete(self.old, new)
        self.new = {unit: {**self.old[unit], **values} for unit, values in full.items()}
        self.before = self.manager.control_state()
        self.units = tuple(
            UnitPlan(
                unit=unit, cgroup=f"/{unit}", old=self.old[unit], new=self.new[unit],
                files={path: self.manager.read_file(path) for path in (*self.manager.control_files(unit, tuple(values)), self.manager.hold_file(unit))},
            )
            for unit, values in self.new.items()
        )  # fmt: skip
        self.stages = stages(
            self.old, self.new, Way(steps=config.steps, groups=groups(new, ()), capacity=CAPACITY, page=4096)
        )
        self.watcher = PlayedWatcher()
        self.said: list[str] = []
        self.hooks: list[str] = []
        self.clock.each.append(self.manager.fire_if_due)

    def runner(self) -> tuple[Runner, journals.Journal]:
        known = journals.read(self.path)
        if known is None:
            if os.path.exists(self.path):
                os.unlink(self.path)
            journal = journals.create(self.path)
            journal.add("begin", self.clock.wall(), rollout="r1", boot=self.manager.boot_id, manager="systemd", units=[],
                        stages=[{}] * len(self.stages))  # fmt: skip
        else:
            journal = journals.reopen(self.path)
        hands = Hands(
            self.manager, self.units, rollout="r1", folder=self.folder, page=4096, seconds=self.config.restore_after
        )
        return Runner(
            hands, journal, self.stages, (QUIET,) * 3, self.config, watcher=self.watcher, clock=self.clock,
            hook=self.hook, say=self.said.append,
        ), journal  # fmt: skip

    def hook(self, when, _state, _stage) -> str:
        self.hooks.append(when)
        return ""

    def play(self):
        """Runs to the end; None where it was killed."""
        runner, journal = self.runner()
        try:
            return runner.run()
        except KilledError:
            return None
        finally:
            self.manager.kill_at = None
            journal.close()

    def is_old(self) -> bool:
        state = self.manager.control_state()
        return state == self.before and all(
            self.manager.memory[unit][name] == value == self.manager.kernel[unit][name]
            for unit, values in self.old.items()
            for name, value in values.items()
        )

    def is_new(self) -> bool:
        state = self.manager.control_state()
        self.manager.reload_by_anybody()
        return not any(HOLD in path for path in state) and all(
            self.manager.memory[unit][name] == value == self.manager.kernel[unit][name]
            for unit, values in self.new.items()
            for name, value in values.items()
        )
