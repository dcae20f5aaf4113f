"""The engine without a service manager: it makes cgroups below one that this job was given, and starts programs in them.

For hosts where no systemd can be asked: containers with a delegated cgroup, other init systems, and jobs inside
`systemd-run -p Delegate=yes`. Slices are folders, nested by their dashes as systemd nests them (systemd.slice(5)). What
it cannot give is said: the journal, the settings of a sandbox, folders and users of a unit, units with their own file.
"""

import os
import re
import shutil
import signal
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from cgroup_preflight.core.env_file import variables_of_file
from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.quantities import QuantityError
from cgroup_preflight.core.records import TYPE_CHECKING, replace
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.engines.answers import cannot_write
from cgroup_preflight.engines.base import Exit, Launch, Phase, UnitState
from cgroup_preflight.engines.cgroup_keeper import Keeper
from cgroup_preflight.engines.cgroup_program import NOT_INSIDE, Program, environment
from cgroup_preflight.engines.cgroup_result import result_of
from cgroup_preflight.engines.cgroup_shared import Shared
from cgroup_preflight.engines.cgroup_tree import Subtree
from cgroup_preflight.plan.build import expand
from cgroup_preflight.plan.cgroup_files import Attribute, attributes, pairs_of, unsupported

if TYPE_CHECKING:
    from cgroup_preflight.plan.expect import HostNumbers
    from cgroup_preflight.plan.model import UnitFile

#: These are enabled wherever they exist: without them nothing is counted.
_COUNTED = ("cpu", "memory", "pids")
_REAP_SECONDS = 5.0
_RUN = re.compile(r"cgpf[0-9a-f]{12}\.slice")
_OTHERS = "use the engine systemd or user, or the guest"


def run_folder(uid: int, base: str) -> str:
    """Where the files of runs below `base` are, which say whose a run is: one folder for each base."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}"
    top = "/run" if uid == 0 else runtime if os.path.isdir(runtime) else os.path.expanduser("~/.cache")
    name = base.strip("/").replace("/", "_")[-60:]
    return os.path.join(top, "cgroup-preflight", "cgroupfs", f"{zlib.crc32(base.encode()):08x}-{name}")


class Cgroups:
    """An `Engine` of the kernel's files alone; methods raise HostError where the kernel refuses something."""

    name = "cgroupfs"
    keeps_cgroups = True
    has_journal = False

    def __init__(
        self, subtree: Subtree, shared: Shared, numbers: "HostNumbers", *, uid: int, unit_folder: str
    ) -> None:  # fmt: skip
        self._tree, self._numbers = subtree, numbers
        self.user = uid != 0
        self.unit_folder = unit_folder
        self._slices: dict[str, str] = {}
        #: Controllers that each level of the run enables.
        self._enabled: tuple[str, ...] = ()
        self._programs: dict[str, Program] = {}
        self._shared = shared
        #: What the end of a run could not undo.
        self._left: tuple[str, ...] = ()
        self._keeper: Keeper | None = None

    # --- slices

    def create_slices(self, files: Sequence["UnitFile"], units: Sequence[str]) -> dict[str, str]:
        """Makes the cgroups of the slices `units`, the outermost first, with the limits of their files."""
        by_unit = {file.path: file.content for file in files}
        scope = min(units, key=len)
        values = {unit: self._values(unit, pairs_of(by_unit.get(unit, ""))) for unit in units}
        with self._shared.turn():
            if not self._slices:
                self._begin(scope, files, by_unit[scope])
            for unit in sorted(units, key=lambda unit: unit.count("-")):
                cgroup = self._cgroup_of_slice(unit)
                self._tree.add(cgroup, values[unit], self._enabled)
                self._slices[unit] = cgroup
                if unit == scope:
                    self._shared.claim(self._tree.path(cgroup))
        try:
            self._keeper = self._keeper or Keeper(self._tree.path(self._slices[scope], "cgroup.kill"))
        except OSError as error:
            raise HostError(f"cannot start a shell: {error.strerror or error}", where="/bin/sh",
                            remedy=Remedy(title="install a shell in this container, or use the guest")) from None  # fmt: skip
        return {unit: self._slices[unit] for unit in units}

    def _other_runs(self, scope: str) -> list[str]:
        """The cgroups of other runs below the same base."""
        names = self._tree.children(self._tree.base)
        return [f"{self._tree.base}/{name}" for name in names if _RUN.fullmatch(name) and name != f"{scope}.slice"]

    def _remove_dead(self, scope: str) -> None:
        """Removes runs whose tool was killed, perhaps in a container whose files are gone."""
        for cgroup in self._other_runs(scope):
            if not self._shared.is_claimed(self._tree.path(cgroup)):
                self._tree.remove(cgroup, _REAP_SECONDS)

    def _begin(self, scope: str, files: Sequence["UnitFile"], text: str) -> None:
        self._remove_dead(scope)
        self._write_owner(scope, text)
        offered = self._tree.offered()
        wanted = {
            item.controller
            for file in files
            for item in self._values(file.path, pairs_of(file.content))
            if item.controller and (not item.share or item.controller in offered)
        }
        self._enabled = tuple(sorted(wanted | {name for name in _COUNTED if name in offered}))
        enabled = self._tree.prepare(self._enabled)
        try:
            self._shared.note(enabled)
        except OSError as error:
            raise cannot_write(self.unit_folder, error.strerror or str(error)) from None

    def _values(self, unit: str, pairs: Iterable[tuple[str, str]]) -> tuple[Attribute, ...]:
        try:
            return attributes(pairs, self._numbers)
        except QuantityError as error:
            raise HostError(str(error), where=unit, remedy=Remedy(title=error.hint)) from None

    def _cgroup_of_slice(self, unit: str) -> str:
        """The path of a slice: each dash of its name is a level, and the first part is the run's own slice."""
        return "/".join((self._tree.base, *(f"{name}.slice" for name in expand(unit.removesuffix(".slice")))))

    def _write_owner(self, unit: str, text: str) -> None:
        """The file that tells a later run whose this one was."""
        try:
            os.makedirs(self.unit_folder, mode=0o700, exist_ok=True)
            with open(os.path.join(self.unit_folder, unit), "x", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise cannot_write(self.unit_folder, error.strerror or str(error)) from None

    # --- services

    def start(self, launches: Iterable[Launch]) -> dict[str, str]:
        """Starts services, which wait at their gates; why by unit, for those that cannot be started."""
        refused = {}
        for launch in launches:
            try:
                reason = self._start(launch)
            except HostError as error:
                reason = str(error)
            except OSError as error:
                reason = f"{error.filename or launch.command[0]}: {error.strerror or error}"
            if reason:
                refused[launch.unit] = reason
        return refused

    @contextmanager
    def started(self, launches: Sequence[Launch]) -> Iterator[dict[str, str]]:
        """Starts services; nothing describes them but their cgroups, which the end of the run removes."""
        yield self.start(launches)

    def _start(self, launch: Launch) -> str:
        """Starts one service; why not, empty where it was started. Raises OSError, HostError."""
        if reason := why_unsupported(launch):
            return reason
        files = _environment_files(launch)
        if isinstance(files, str):
            return files
        cgroup = f"{self._slices[launch.slice]}/{launch.unit}"
        self._tree.add(cgroup, self._values(launch.unit, launch.settings))
        variables = environment(launch, os.urandom(16).hex(), files)
        program = Program(launch, cgroup, self._tree.path(cgroup, "cgroup.procs"), variables)
        self._programs[launch.unit] = program
        if not launch.hold_before:
            program.open_gate()
        return ""

    def states(self, units: Iterable[str]) -> dict[str, UnitState]:
        """The state of each unit, from its process and its cgroup."""
        return {unit: self._state(self._programs[unit]) for unit in units if unit in self._programs}

    def changed(self, known: Mapping[str, UnitState]) -> dict[str, UnitState]:
        """As `states`: nobody has to be asked."""
        return {unit: self.states([unit]).get(unit, UnitState()) for unit in known}

    def phases(self, units: Iterable[str]) -> dict[str, Phase]:
        """As `states`, the phase alone."""
        return {unit: state.phase for unit, state in self.states(units).items()}

    def _state(self, program: Program) -> UnitState:
        ended, inside = program.exit, self._tree.processes(program.cgroup)
        base = UnitState(cgroup=program.cgroup, invocation=program.invocation)
        if ended is not None:
            return _marked(self._ended(base, program, ended, left=bool(inside)))
        if program.stopping:
            return _marked(replace(base, phase=Phase.STOPPING, word="deactivating", main_pid=program.pid))
        if program.has_begun:
            return _marked(replace(base, phase=Phase.STARTED, word="active", main_pid=program.pid))
        return _marked(replace(base, phase=Phase.AT_GATE if program.pid in inside else Phase.QUEUED, word="activating"))

    def _ended(self, base: UnitState, program: Program, ended: Exit, *, left: bool) -> UnitState:
        kills = self._tree.count(program.cgroup, "memory.events", "oom_kill")
        success = " ".join(text for name, text in program.launch.settings if name == "SuccessExitStatus")
        result = result_of(ended, kills, success)
        if not program.has_begun and ended.status == NOT_INSIDE:
            result = "resources"
        still = Phase.STOPPING if program.stopping else Phase.ENDED
        phase = still if left else Phase.OVER
        word = "deactivating" if left else "inactive" if result == "success" else "failed"
        return replace(base, phase=phase, word=word, result=result, exit=ended)

    def open_gates(self, units: Sequence[str]) -> None:
        """Lets programs begin."""
        for unit in units:
            if unit in self._programs:
                self._programs[unit].open_gate()

    def stop(self, units: Sequence[str]) -> None:
        """Sends SIGTERM to every process of units (systemd.kill(5), KillMode=control-group)."""
        for unit in units:
            if program := self._programs.get(unit):
                program.stopping = True
                program.abandon()
        for cgroup in self._cgroups_of(units):
            self._tree.signal(cgroup, signal.SIGTERM)
            # A process that was stopped takes its signal only when it goes on.
            self._tree.signal(cgroup, signal.SIGCONT)

    def kill(self, units: Sequence[str]) -> None:
        """Kills every process of units."""
        for cgroup in self._cgroups_of(units):
            self._tree.kill(cgroup)

    def forget(self, units: Sequence[str]) -> None:
        """Removes the cgroups of units that have ended."""
        for unit in units:
            if program := self._programs.pop(unit, None):
                self._tree.remove(program.cgroup, _REAP_SECONDS)
                program.reap(_REAP_SECONDS)

    def _cgroups_of(self, units: Sequence[str]) -> list[str]:
        """The cgroups of units; of a run that crashed they are found by their names."""
        known = [self._programs[unit].cgroup for unit in units if unit in self._programs]
        others = {unit for unit in units if unit not in self._programs}
        scopes = sorted({f"{unit.partition('-')[0]}.slice" for unit in others})
        found = (cgroup for name in scopes for cgroup in self._tree.below(f"{self._tree.base}/{name}"))
        return [*known, *(cgroup for cgroup in found if cgroup.rpartition("/")[2] in others)]

    # --- the end of a run

    def active(self, scope: str, suffix: str = "") -> list[str]:
        """Cgroups of a run that still exist; of services those with processes."""
        top, found = f"{self._tree.base}/{scope}.slice", []
        for cgroup in self._tree.below(top) if self._tree.exists(top) else ():
            unit = cgroup.rpartition("/")[2]
            is_service = unit.endswith(".service")
            if unit.startswith(scope) and unit.endswith(suffix) and (not is_service or self._tree.processes(cgroup)):
                found.append(unit)
        return found if suffix else [*found, *self._left]

    def end_slice(self, scope: str, seconds: float) -> None:
        """Kills what is left of a run and removes its cgroups; the processes of the job go back to where they were."""
        for program in self._programs.values():
            program.abandon()
        self._tree.remove(f"{self._tree.base}/{scope}.slice", seconds)
        if self._keeper is not None:
            self._keeper.end()
            self._keeper = None
        for program in self._programs.values():
            program.reap(_REAP_SECONDS)
        self._programs.clear()
        self._slices.clear()
        self._give_back(scope)

    def _give_back(self, scope: str) -> None:
        """The last of several runs below the same base leaves it as the first one found it."""
        try:
            with self._shared.turn():
                self._shared.release()
                self._remove_dead(scope)
                if not self._other_runs(scope):
                    self._left = self._tree.restore(self._shared.noted())
                    self._shared.forget()
        except HostError as error:
            self._left = (str(error),)

    def remove_files(self, names: Iterable[str]) -> None:
        """Removes files of `unit_folder`, and the folder when it is empty."""
        for name in names:
            with suppress(FileNotFoundError):
                path = os.path.join(self.unit_folder, name)
                shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
        with suppress(OSError):
            os.rmdir(self.unit_folder)

    def write_attribute(self, path: str, text: str) -> None:
        """Writes a cgroup file of the run, and no other."""
        mount = self._tree.path(self._tree.base).removesuffix(self._tree.base)
        cgroup, _, file = path.removeprefix(mount).rpartition("/")
        if cgroup.startswith(f"{self._tree.base}/cgpf"):
            self._tree.write(cgroup, file, text)

    # --- what only a service manager has

    def unmet(self, unit: str) -> tuple[str, ...]:  # noqa: ARG002 - units without a file have no conditions
        """None."""
        return ()

    def main_processes(self, unit: str) -> frozenset[int]:  # noqa: ARG002 - it starts no units but those of the run
        """None."""
        return frozenset()

    def log(self, invocation: str, lines: int, pid: int = 0) -> tuple[str, ...]:  # noqa: ARG002 - output goes to files
        """None: there is no journal."""
        return ()

    def settings_of(self, units: Iterable[str], names: Iterable[str]) -> dict[str, dict[str, str]]:  # noqa: ARG002 - the same
        """None: no manager keeps settings that the kernel has no file for."""
        return {}

    def system_runs(self, unit: str) -> bool:  # noqa: ARG002 - the same
        """No."""
        return False


def why_unsupported(launch: Launch) -> str:
    """Why a service cannot be started without a service manager; empty where it can."""
    if launch.own is not None:
        return f"it has a unit file of its own, which only systemd can run: {_OTHERS}"
    if found := unsupported(launch.settings):
        return f"{', '.join(found)} is a setting that only systemd can give: {_OTHERS}"
    if launch.type not in ("exec", "simple", "oneshot", "idle"):
        return f"Type={launch.type} needs a service manager to tell: {_OTHERS}"
    if not os.access(launch.command[0], os.X_OK):
        return f"{launch.command[0]} cannot be executed"
    return ""


def _environment_files(launch: Launch) -> dict[str, str] | str:
    """The variables of EnvironmentFile=; a text says which file cannot be read."""
    import glob  # few services have such a file

    found: dict[str, str] = {}
    for name, text in launch.settings:
        if name != "EnvironmentFile":
            continue
        paths = sorted(glob.glob(text.removeprefix("-")))
        if not paths and not text.startswith("-"):
            return f"EnvironmentFile={text}: no such file"
        for path in paths:
            try:
                with open(path, "rb") as file:
                    found |= variables_of_file(file.read(1 << 20).decode("utf-8", "replace"))
            except OSError as error:
                if not text.startswith("-"):
                    return f"EnvironmentFile={path}: {error.strerror}"
    return found


def _marked(state: UnitState) -> UnitState:
    return replace(state, mark=f"{state.phase}/{state.word}")
