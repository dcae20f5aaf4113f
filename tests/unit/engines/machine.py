"""A machine and an engine that are played, since a unit test has neither cgroups nor systemd: time passes when somebody
waits, and units do what their program says. The real ones are in the lab.
"""

import errno
import heapq
import itertools
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from urllib.parse import urlsplit

from cgroup_preflight.config.model import ReadyTest
from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Known, Missing, Reading, Why
from cgroup_preflight.engines.base import Exit, How, Launch, Phase, UnitState
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.host.door import Door
from cgroup_preflight.host.local import LocalFiles
from cgroup_preflight.plan.expect import HostNumbers, expectations
from cgroup_preflight.plan.unitfile import DROP_IN
from tests.unit.core.making import settings_of

MOUNT = "/sys/fs/cgroup"
NUMBERS = HostNumbers(page_size=4096, memory_bytes=4 << 30, tasks_max=32768)
#: Above the kernel's most: no process of the real machine has such a number.
_FIRST_PID = 5_000_000
_ABSENT = "absent"


class Process:
    """One process; `ignores` are signals that do nothing to it."""

    def __init__(self, pid: int, comm: str, cgroup: str, parent: int, environ: str) -> None:
        self.pid, self.comm, self.cgroup, self.parent, self.environ = pid, comm, cgroup, parent, environ
        self.alive = True
        self.program, self.flags = "", 0
        #: Its mount namespace; this is the manager's.
        self.mounts = "mnt:[1]"
        self.on_signal: Callable[[int], None] = lambda _number: None


class Machine(LocalFiles):
    """Files, processes, clock and network of one machine, all in one; `door()` hands them in.

    What a run writes goes to the test's own disk.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.files: dict[str, str] = {}
        self.cgroups: set[str] = {""}
        self.processes: dict[int, Process] = {}
        self.handles: dict[int, int] = {}
        self.held: dict[int, str] = {}
        self.signals: list[tuple[int, int]] = []
        self.denied: set[int] = set()
        self.answers: dict[str, str] = {}
        #: When each HTTP or gRPC address was asked.
        self.asked: list[tuple[float, str]] = []
        self.listening: set[str] = set()
        #: Sockets by address: an inode, and the process that has it open (0: nobody who can be seen).
        self.sockets: dict[str, tuple[int, int]] = {}
        self.pages: dict[str, bytes] = {}
        self.ticks: list[Callable[[], None]] = []
        #: Names in folders of the machine that the test's own disk does not have.
        self.folders_of: dict[str, tuple[str, ...]] = {}
        #: Folders with a file system in memory; it can have no more where it `mounts` none.
        self.mounted: list[str] = []
        self.mounts = True
        self._numbers = itertools.count(1)
        self._due: list[tuple[float, int, Callable[[], object]]] = []

    def door(self) -> Door:
        return Door(files=self, processes=self, programs=SimpleNamespace(started=0), clock=self, network=self)

    def observer(self) -> Observer:
        return Observer(self, MOUNT)

    # --- time

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        heapq.heappush(self._due, (self.now + seconds, next(self._numbers), action))

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        end = self.now + seconds
        while self._due and self._due[0][0] <= end:
            self.now, _, action = heapq.heappop(self._due)
            action()
        self.now = end
        for tick in self.ticks:
            tick()

    def own_cpu(self) -> float:
        return 0.0

    def wall(self) -> float:
        return time.time()

    # --- processes

    def own(self) -> int:
        return os.getpid()

    def cpus(self) -> frozenset[int]:
        return frozenset(os.sched_getaffinity(0))

    def count_cpus(self) -> int:
        return os.cpu_count() or 1

    def memory(self, pid: int, address: int, size: int) -> bytes:
        return b""

    def spawn(self, comm: str, cgroup: str, *, parent: int = 1, environ: str = "") -> Process:
        pid = _FIRST_PID + next(self._numbers)
        made = Process(pid, comm, cgroup, parent, environ)
        self.processes[pid] = made
        return made

    def end(self, process: Process) -> None:
        process.alive = False
        self.processes.pop(process.pid, None)

    def open(self, pid: int) -> int | None:
        if pid <= 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if pid not in self.processes:
            return None
        handle = 100_000 + next(self._numbers)
        self.handles[handle] = pid
        return handle

    def close(self, handle: int) -> None:
        del self.handles[handle]

    def signal(self, handle: int, number: signal.Signals) -> None:
        pid = self.handles[handle]
        if pid in self.denied:
            raise PermissionError(1, "Operation not permitted")
        self.signals.append((pid, number))
        if process := self.processes.get(pid):
            process.on_signal(number)

    def wait(self, handles: Sequence[int], seconds: float, pipes: Sequence[int] = ()) -> Sequence[int]:
        end = self.now + seconds
        while True:
            ended = [
                handle for handle in handles if handle in self.handles and self.handles[handle] not in self.processes
            ]
            if ended or self.now >= end:
                return ended
            self.sleep(min((self._due[0][0] - self.now) if self._due else seconds, end - self.now))

    # --- files

    def data(self, path: str) -> Reading[bytes]:
        text = self._text(path)
        return Missing(source=path, why=Why.ABSENT) if text is None else Known(value=text.encode(), source=path)

    quick = data

    def identity(self, path: str) -> Reading[tuple[int, int]]:
        if path.startswith("/proc/"):
            process = self.processes.get(int(path.split("/")[2]))
            path = process.program if process else ""
        return Known(value=(1, hash(path)), source=path) if path else Missing(source=path, why=Why.ABSENT)

    def read(self, path: str) -> Reading[str]:
        text = self._text(path)
        return Missing(source=path, why=Why.ABSENT) if text is None else Known(value=text, source=path)

    def listen(self, address: str, process: Process | None) -> None:
        """The process answers at an address from now on."""
        self.listening.add(address)
        self.sockets[address] = (next(self._numbers), process.pid if process else 0)

    def _table(self) -> str:
        """/proc/net/tcp of a little-endian machine."""
        ports = [
            (urlsplit(item if "//" in item else f"//{item}").port or 80, inode)
            for item, (inode, _) in self.sockets.items()
            if item[0] not in "/@"
        ]
        rows = [f"   0: 0100007F:{port:04X} 00000000:0000 0A 0:0 00:0 0 0 0 {inode} 1\n" for port, inode in ports]
        return "".join(["  sl  local_address\n", *rows])

    def _unix_table(self) -> str:
        """/proc/net/unix; a path can be bound twice, and `+` at the end of one is left out."""
        rows = [f"0000: 00000002 00000000 00010000 0001 01 {inode:5} {item.rstrip('+')}\n"
                for item, (inode, _) in self.sockets.items() if item[0] in "/@"]  # fmt: skip
        return "".join(["Num       RefCount Protocol Flags    Type St Inode Path\n", *rows])

    def _text(self, path: str) -> str | None:
        if path == "/proc/net/unix":
            return self.files.get(path, self._unix_table())
        if path == "/proc/stat":  # not that of the machine below the tests
            return self.files.get(path)
        if path == "/proc/net/tcp":
            return self.files.get(path, self._table())
        parts = path.split("/")
        if path.startswith("/proc/") and parts[2].isdigit():
            process = self.processes.get(int(parts[2]))
            return self.files.get(path) if process is None else self.files.get(path, _proc(process, parts[3]))
        folder, _, name = path.removeprefix(MOUNT).rpartition("/")
        if name == "cgroup.procs" and folder in {"", *self.cgroups}:
            return "".join(f"{item.pid}\n" for item in self.processes.values() if item.cgroup.rstrip("/") == folder)
        if path in self.files or path.startswith(MOUNT):
            return self.files.get(path)
        try:
            with open(path) as file:  # of the test's own folder
                return file.read()
        except OSError:
            return None

    def exists(self, path: str) -> Reading[bool]:
        if path.startswith(MOUNT):
            return Known(value=path.removeprefix(MOUNT) in self.cgroups, source=path)
        return super().exists(path)

    def page_size(self) -> Reading[int]:
        return Known(value=4096, source="page size")

    def device(self, path: str) -> Reading[str]:
        return Known(value="0:26", source=path)

    def hold(self, path: str, device: str) -> Reading[int]:
        if self._text(path) is None:
            return Missing(source=path, why=Why.ABSENT)
        handle = 100_000 + next(self._numbers)
        self.held[handle] = path
        return Known(value=handle, source=path)

    def reread(self, handle: int, path: str) -> Reading[str]:
        assert self.held[handle] == path
        return self.read(path)

    def release(self, handle: int) -> None:
        del self.held[handle]

    def names(self, path: str, keep: object = None) -> Reading[tuple[str, ...]]:
        if path.endswith("/fd"):
            pid = int(path.split("/")[2])
            if pid in self.denied:
                return Missing(source=path, why=Why.DENIED, errno=13)
            return Known(value=tuple(str(inode) for inode, owner in self.sockets.values() if owner == pid), source=path)
        if path == "/proc":
            return Known(value=("self", *map(str, self.processes)), source=path)
        if path.startswith(MOUNT):
            known = path.removeprefix(MOUNT) in self.cgroups
            return Known(value=("cgroup.procs",), source=path) if known else Missing(source=path, why=Why.ABSENT)
        if path in self.folders_of:
            return Known(value=self.folders_of[path], source=path)
        try:
            return Known(value=tuple(sorted(os.listdir(path))), source=path)
        except OSError:
            return Missing(source=path, why=Why.ABSENT)

    def folders(self, path: str) -> Reading[tuple[str, ...]]:
        top = path.removeprefix(MOUNT) + "/"
        below = [item.removeprefix(top) for item in self.cgroups if item.startswith(top)]
        return Known(value=tuple(item for item in below if "/" not in item), source=path)

    def link(self, path: str) -> Reading[str]:
        if "/fd/" in path:
            return Known(value=f"socket:[{path.rpartition('/')[2]}]", source=path)
        if path.endswith("/ns/mnt"):
            process = self.processes.get(int(name)) if (name := path.split("/")[2]) != "self" else None
            return Known(value=process.mounts if process else "mnt:[1]", source=path)
        return (
            Known(value="pid:[42]", source=path)
            if path == "/proc/self/ns/pid"
            else Missing(source=path, why=Why.ABSENT)
        )

    def write(self, cgroup: str, **values: str) -> None:
        """Attribute files: `memory_max="max"` is memory.max."""
        for name, text in values.items():
            self.files[f"{MOUNT}{cgroup}/{name.replace('_', '.', 1)}"] = text

    def mount_memory(self, folder: str) -> None:
        if not self.mounts:
            raise HostError("cannot mount", where=folder, remedy=None)
        self.mounted.append(folder)

    def unmount(self, folder: str) -> None:
        self.mounted.remove(folder)

    # --- network

    def listens(self, test: ReadyTest) -> bool:
        return test.target in self.listening

    def ask(self, test: ReadyTest) -> str:
        self.asked.append((self.now, test.target))
        return self.answers.get(test.target, "" if test.target in self.listening else "connection refused")

    def fetch(self, test: ReadyTest, path: str, most: int) -> bytes:
        parts = urlsplit(test.target)
        return self.pages.get(f"{parts.scheme}://{parts.netloc}{path}", b"")[:most]


def _proc(process: Process, name: str) -> str | None:
    return {
        "cgroup": f"0::{process.cgroup}\n", "comm": f"{process.comm}\n", "environ": process.environ,
        "cmdline": f"{process.comm}\0--work\0",
        "stat": f"{process.pid} ({process.comm}) S {process.parent} 0 0 0 0 {process.flags} " + "0 " * 12 + "77 0\n",
        "status": "Name:\tx\nCpus_allowed_list:\t0-1\n",
    }.get(name)  # fmt: skip


class Program:
    """What a unit does: seconds after its start. None: never; `stop_after` None: it ignores SIGTERM."""

    def __init__(
        self, *, address: str = "", listens_after: float | None = 0.3, hangs_after: float | None = None,
        ends_after: float | None = None, ended: Exit | None = None, result: str = "success",
        stop_after: float | None = 0.1, does: "Callable[[Units, Unit], None] | None" = None, gate: bool = True,
        refused: str = "", never_runs: bool = False, dies_at_kill: bool = True, signal_after: float = 0.01,
    ) -> None:  # fmt: skip
        self.address, self.listens_after, self.hangs_after = address, listens_after, hangs_after
        self.ends_after, self.ended, self.result = ends_after, ended or Exit(how=How.EXITED, status=0), result
        self.signal_after = signal_after
        self.stop_after, self.does, self.gate = stop_after, does, gate
        self.refused, self.never_runs, self.dies_at_kill = refused, never_runs, dies_at_kill


class Unit:
    """One unit of `Units`, and its state."""

    def __init__(self, name: str, cgroup: str, invocation: str, program: Program) -> None:
        self.name, self.cgroup, self.invocation, self.program = name, cgroup, invocation, program
        self.phase = Phase.QUEUED
        self.main: Process | None = None
        self.gate: Process | None = None
        self.result, self.exit = "", None

    def state(self) -> UnitState:
        return UnitState(
            phase=self.phase, word=self.phase.value, mark=self.phase.value, cgroup=self.cgroup, invocation=self.invocation,
            gate_pid=self.gate.pid if self.gate and self.phase in (Phase.AT_GATE, Phase.AFTER_END) else 0,
            main_pid=self.main.pid if self.main and self.main.alive else 0, result=self.result, exit=self.exit,
        )  # fmt: skip


class Units:
    """An `Engine`: `programs` by unit name say what units do, and `wrong` changes what the kernel holds of a unit.

    `keeps` is what is not removed at the end: "units", "files", "cgroups".
    """

    user = False
    keeps_cgroups = False
    has_journal = True

    def __init__(self, machine: Machine, folder: str, programs: Mapping[str, Program] | None = None) -> None:
        self.machine, self.unit_folder, self.name = machine, folder, "systemd"
        self.programs = dict(programs or {})
        self.wrong: dict[str, dict[str, str]] = {}
        self.keeps: set[str] = set()
        self.units: dict[str, Unit] = {}
        self.mains: dict[str, tuple[int, ...]] = {}
        self.slices: dict[str, str] = {}
        self.drop_ins: dict[str, list[tuple[str, str]]] = {}
        self.calls: list[tuple[str, tuple[str, ...]]] = []
        self.held_settings: dict[str, dict[str, str]] = {}
        self.on_started: Callable[[Launch, Unit], None] = lambda _launch, _unit: None
        self.refuses: dict[str, str] = {}
        self.conditions: dict[str, tuple[str, ...]] = {}
        self.written: list[tuple[str, str]] = []
        self.last_lines = "log of"

    def _called(self, name: str, units: Iterable[str]) -> None:
        self.calls.append((name, tuple(units)))

    # --- slices

    def create_slices(self, files: Sequence[object], units: Sequence[str]) -> dict[str, str]:
        for file in files:
            path = os.path.join(self.unit_folder, file.path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as opened:
                opened.write(file.content)
            lines = [line.split("=", 1) for line in file.content.splitlines() if "=" in line and line[0] not in "#["]
            settings = [(name, text) for name, text in lines if name not in ("Description", "Slice", "Environment")]
            if file.path.endswith(".slice"):
                self.make(file.path, slice_cgroup(file.path), settings)
            elif file.path.endswith(DROP_IN):
                self.drop_ins[file.path.partition(".d/")[0]] = settings
        self.slices = {unit: slice_cgroup(unit) for unit in units}
        return self.slices

    def make(self, unit: str, cgroup: str, settings: Iterable[tuple[str, str]]) -> None:
        """A cgroup whose files hold what `settings` ask for, but for what is `wrong`; `absent` is no file."""
        self.machine.cgroups.add(cgroup)
        texts = {"cgroup.controllers": "cpu memory pids io"}
        for item in expectations(settings_of(**dict(settings)), NUMBERS):
            texts[item.attribute] = f"default {item.text}" if item.attribute == "io.weight" else item.text
        texts |= {"memory.events": "oom_kill 0\n", "cpu.stat": "usage_usec 1000\n", "memory.peak": "4096\n"}
        texts |= self.wrong.get(unit, {})
        for name, text in texts.items():
            if text != _ABSENT:
                self.machine.files[f"{MOUNT}{cgroup}/{name}"] = text

    def active(self, scope: str, suffix: str = "") -> list[str]:
        alive = [name for name, unit in self.units.items() if unit.phase is not Phase.OVER]
        return [name for name in (*alive, *self.slices) if name.startswith(scope) and name.endswith(suffix)]

    def end_slice(self, scope: str, seconds: float) -> None:
        if "units" not in self.keeps:
            self.slices = {}
            self.units = {}
        if "cgroups" not in self.keeps:
            self.machine.cgroups = {item for item in self.machine.cgroups if scope not in item}

    def remove_files(self, names: Iterable[str]) -> None:
        for name in names:
            path = os.path.join(self.unit_folder, name)
            if "files" in self.keeps or not os.path.lexists(path):
                continue
            if os.path.isdir(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)

    # --- services

    def start(self, launches: Iterable[Launch]) -> dict[str, str]:
        refused = {}
        for launch in launches:
            program = self.programs.get(launch.unit) or Program()
            if program.refused:
                refused[launch.unit] = program.refused
                continue
            unit = self._unit(launch, program)
            if program.never_runs:
                unit.phase, unit.cgroup = Phase.OVER, ""
            elif program.gate and launch.hold_before:
                self.machine.later(0.02, lambda unit=unit: self._to_gate(unit))
            else:
                self.machine.later(0.02, lambda unit=unit: self._run(unit))
        return refused

    def unmet(self, unit: str) -> tuple[str, ...]:
        return self.conditions.get(unit, ())

    @contextmanager
    def started(self, launches: Sequence[Launch]) -> Iterator[dict[str, str]]:
        refused = {launch.unit: words for launch in launches for words in [self._refusal(launch)] if words}
        for launch in launches:
            if launch.unit not in refused:
                unit = self._unit(launch, Program())
                self._run(unit)
                self.on_started(launch, unit)
        yield refused
        self._called("removed", [launch.unit for launch in launches])

    def _refusal(self, launch: Launch) -> str:
        return next((words for part, words in self.refuses.items() if part in launch.unit), "")

    def _unit(self, launch: Launch, program: Program) -> Unit:
        cgroup = f"{self.slices[launch.slice]}/{launch.unit}"
        settings = self.drop_ins.get(launch.unit, launch.settings)
        self.make(launch.unit, cgroup, [(name, text) for name, text in settings if name != "OOMPolicy"])
        made = Unit(launch.unit, cgroup, f"{len(self.units):032x}", program)
        self.units[launch.unit] = made
        return made

    def _to_gate(self, unit: Unit) -> None:
        unit.phase = Phase.AT_GATE
        # The manager names the process before it is the `sleep` in its cgroup.
        gate = unit.gate = self.machine.spawn("(sleep)", "")
        gate.on_signal = lambda _number: self._gate_ends(unit)

        def settle() -> None:
            gate.comm, gate.cgroup = "sleep", unit.cgroup

        self.machine.later(0.03, settle)

    def _gate_ends(self, unit: Unit) -> None:
        if unit.gate and unit.gate.alive:
            self.machine.end(unit.gate)
            if unit.phase is Phase.AFTER_END:
                unit.phase = Phase.OVER
                return
            self.machine.later(0.01, lambda: self._run(unit))

    def _run(self, unit: Unit) -> None:
        machine, program = self.machine, unit.program
        unit.phase = Phase.STARTED
        unit.main = machine.spawn("app", unit.cgroup, environ=f"INVOCATION_ID={unit.invocation}\0")
        if program.address and program.listens_after is not None:
            machine.later(program.listens_after, lambda: machine.listen(program.address, unit.main))
        if program.hangs_after is not None:
            machine.later(program.hangs_after, lambda: machine.listening.discard(program.address))
        if program.ends_after is not None:
            machine.later(program.ends_after, lambda: self._ends(unit))
        if program.does:
            program.does(self, unit)

    def _ends(self, unit: Unit) -> None:
        """By itself: with success the unit stays, with what else runs in its cgroup."""
        program = unit.program
        if program.ended != Exit(how=How.EXITED, status=0) or unit.main is None or not unit.main.alive:
            self.finish(unit, program.ended, program.result)
            return
        self.machine.end(unit.main)
        unit.exit, unit.result, unit.phase = program.ended, program.result, Phase.ENDED
        self.machine.listening.discard(program.address)

    def _after_end(self, unit: Unit) -> None:
        for process in [item for item in self.machine.processes.values() if item.cgroup.startswith(unit.cgroup)]:
            self.machine.end(process)
        unit.phase = Phase.AFTER_END
        unit.gate = self.machine.spawn("sleep", unit.cgroup)

    def finish(self, unit: Unit, ended: Exit, result: str) -> None:
        """The main process ends, and the gate after it begins."""
        if unit.main is None or not unit.main.alive:
            return
        unit.main.alive = False
        unit.exit, unit.result = ended, result
        self.machine.listening.discard(unit.program.address)
        self._after_end(unit)

    def states(self, units: Iterable[str]) -> dict[str, UnitState]:
        return {name: self.units[name].state() for name in units if name in self.units}

    def changed(self, known: Mapping[str, UnitState]) -> dict[str, UnitState]:
        return {name: state for name, state in self.states(known).items() if state.mark != known[name].mark}

    def phases(self, units: Iterable[str]) -> dict[str, Phase]:
        return {name: state.phase for name, state in self.states(units).items()}

    def open_gates(self, units: Sequence[str]) -> None:
        self._called("open_gates", units)
        for name in units:
            self._gate_ends(self.units[name])

    def forget(self, units: Sequence[str]) -> None:
        self._called("forget", units)
        for name in units:
            assert self.units[name].phase is Phase.OVER, "systemd keeps what has not ended"
            del self.units[name]

    def stop(self, units: Sequence[str]) -> None:
        self._called("stop", units)
        for unit in [self.units[name] for name in units if name in self.units]:
            if unit.phase is Phase.ENDED:
                self.machine.later(0.02, lambda unit=unit: self._after_end(unit))
                continue
            if unit.phase is not Phase.STARTED:
                continue
            unit.phase = Phase.BEFORE_SIGNAL
            self.machine.later(unit.program.signal_after, lambda unit=unit: self._signal(unit))
            if unit.program.stop_after is not None:
                ended = Exit(how=How.KILLED, status=15)
                self.machine.later(
                    unit.program.signal_after + unit.program.stop_after,
                    lambda unit=unit, ended=ended: self.finish(unit, ended, "success"),
                )

    def _signal(self, unit: Unit) -> None:
        if unit.phase is Phase.BEFORE_SIGNAL:
            unit.phase = Phase.STOPPING

    def kill(self, units: Sequence[str]) -> None:
        self._called("kill", units)
        for unit in [self.units[name] for name in units if name in self.units]:
            if unit.program.dies_at_kill:
                self.finish(unit, Exit(how=How.KILLED, status=9), "signal")
                unit.phase = Phase.OVER if "stubborn" not in self.keeps and not unit.program.gate else unit.phase

    def log(self, invocation: str, lines: int, pid: int = 0) -> tuple[str, ...]:
        return (f"{self.last_lines} {invocation[-1]}",) if invocation else ()

    def write_attribute(self, path: str, text: str) -> None:
        self.written.append((path, text))
        self.machine.files[path] = text

    def main_processes(self, unit: str) -> frozenset[int]:
        return frozenset(self.mains.get(unit, ()))

    def settings_of(self, units: Iterable[str], names: Iterable[str]) -> dict[str, dict[str, str]]:
        return {name: self.held_settings[name] for name in units if name in self.held_settings}

    def system_runs(self, unit: str) -> bool:
        return False


def slice_cgroup(unit: str) -> str:
    """`a-b.slice` is in `a.slice` (systemd.slice(5))."""
    parts = unit.removesuffix(".slice").split("-")
    return "".join(f"/{'-'.join(parts[: count + 1])}.slice" for count in range(len(parts)))
