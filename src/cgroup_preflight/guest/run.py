"""Runs this package in a guest on a project, and returns its report (`guest.answer`): the engine `guest`."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from cgroup_preflight.config.model import Config
from cgroup_preflight.core.codes import PACKAGES
from cgroup_preflight.core.errors import ConfigError, ExitStatus
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass, replace
from cgroup_preflight.core.report import Remedy, Report, Status
from cgroup_preflight.engines.fair_time import SLOWEST
from cgroup_preflight.guest import bytecode, image, programs, units
from cgroup_preflight.guest.available import programs_of, recipe_of
from cgroup_preflight.guest.capacity import host_capacity
from cgroup_preflight.guest.overlay import ALL_UNITS
from cgroup_preflight.guest.package_status import status_file
from cgroup_preflight.guest.project import Project, project_of
from cgroup_preflight.guest.qemu import accelerator
from cgroup_preflight.guest.requirements import GuestMachine, choose_machine, requirements_of
from cgroup_preflight.guest.saved_start import states_for
from cgroup_preflight.guest.session import Guest, input_path
from cgroup_preflight.guest.spec import Background, CommandResult, GuestEngine, GuestError, GuestSpec

if TYPE_CHECKING:
    # At run time what reads and shows the report is loaded while the guest works.
    from cgroup_preflight.guest.bare import BareGuest
    from cgroup_preflight.guest.findings import GuestRun

Say = Callable[[str], None]
#: Makes a guest that boots when its `with` block is entered.
Boot = Callable[[GuestSpec, image.RootImage], Guest]
Now = Callable[[], float]
AnyGuest = TypeVar("AnyGuest", Guest, "BareGuest")

_POLL_SECONDS = 5.0
#: Seconds for the whole run, besides what the services may take, and for each probe; probes that are counted at most.
_BASE_SECONDS = 180.0
_PROBE_SECONDS = 35.0
_SERVICE_SECONDS = 3.0
_PROBES_MAX = 40
BOOT_SECONDS = {GuestEngine.UML: 120.0, GuestEngine.QEMU: 300.0}
#: A guest that ends sooner than this while it boots is booted once more.
_BOOT_AGAIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestPackages:
    """Built packages that are installed in a guest: `inputs` are their files by the names in the input folder.

    `words` are arguments of the command, `seconds` what the steps of packages may take. `require` gets dpkg's status file
    and the name of the distribution, and raises GuestError or UsageError; `contradiction` says what a pass lacks.
    """

    words: tuple[str, ...]
    inputs: Mapping[str, str]
    seconds: float
    require: Callable[[str, str], None]
    contradiction: Callable[[Report], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestTask:
    """What to run in a guest: `words` are the command and its arguments, `names` the services, all if empty."""

    config: Config
    words: tuple[str, ...]
    names: tuple[str, ...]
    distro: str
    kernel_args: tuple[str, ...] = ()
    packages: GuestPackages | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A guest that has booted from `root` and has the files of the project; `source` is the folder of this tool in it."""

    guest: Guest
    root: image.RootImage
    task: GuestTask
    project: Project
    source: str
    machine: GuestMachine
    lost_boot: str


@contextlib.contextmanager
def ready_guest(
    task: GuestTask, environment: Mapping[str, str], say: Say, note: Callable[[str], None], *,
    boot: Boot = Guest, now: Now = time.monotonic,
) -> Iterator[Ready]:  # fmt: skip
    """Boots a guest with what `task` needs. `note` is called after each step.

    `environment` tells where the cache is; none of it goes into the guest. Raises HostError if no guest can be made,
    GuestError if the guest was lost, UsageError, ConfigError, OSError.
    """
    project = project_of(task.config, task.names)
    required = requirements_of(task.config)
    machine = choose_machine(required, task.config.target.machine, host_capacity())
    what, instead = required.impossible(machine)
    if what:
        raise GuestError(f"{what}; no service was run", remedy=Remedy(title=instead))
    folder = image.cache_folder(environment)
    root = _image(task, machine.engine, folder, say)
    task = replace(task, config=units.with_units(task.config, root, task.names, task.distro))
    require_system(task, root, project)
    if task.packages is not None:
        task.packages.require(status_file(root), task.distro)
    accelerated_by = _accelerator(machine.engine, folder)
    with contextlib.ExitStack() as stack:
        compiled = stack.enter_context(bytecode.in_use(folder, root.name))
        spec = _spec(task, machine, project, compiled, accelerated_by)
        # The state of a machine without the compiled tool would be of no use to the next run.
        if compiled is not None:
            spec = replace(spec, states=states_for(machine.engine, accelerated_by, root, folder))
        say(f"booting the {task.distro} guest ({machine.engine})")
        guest, lost_boot = stack.enter_context(booted(lambda: boot(spec, root), say, now))
        note("boot")
        source = str(input_path(bytecode.SOURCE_INPUT))
        if compiled is None:
            say("compiling this tool for the guest (once)")
            source = bytecode.compile_in(guest, folder, root.name)
        place_files(guest, project)
        if task.config.target.network:
            guest.start_network()
        note("prepare")
        yield Ready(
            guest=guest, root=root, task=task, project=project, source=source, machine=machine, lost_boot=lost_boot
        )


def run_task(
    task: GuestTask, environment: Mapping[str, str], say: Say, meanwhile: Callable[[], None] = lambda: None,
    *, boot: Boot = Guest, now: Now = time.monotonic,
) -> "GuestRun":  # fmt: skip
    """Boots a guest, runs `task` in it and returns its report.

    Calls `meanwhile` once the command runs in the guest. Raises what `ready_guest` and `meanwhile` raise; the guest has
    ended then.
    """
    clock = Clock(now)
    with ready_guest(task, environment, say, clock.note, boot=boot, now=now) as ready:
        say("testing the limits in the guest")
        done = _finished(ready, meanwhile, now)
        # It ends while its report is read.
        ready.guest.end()
        from cgroup_preflight.guest.answer import read_report

        report = read_report(ready.guest, ready.task, done)
        clock.note("run")
    clock.note("end")
    from cgroup_preflight.guest.findings import GuestRun

    return GuestRun(
        report=report, machine=ready.machine, distro=task.distro, fence=ready.guest.fence, lost_boot=ready.lost_boot,
        seconds=clock.seconds, image=ready.root.name, contents=ready.root.contents, packages=ready.root.packages,
        resumed=ready.guest.resumed,
    )  # fmt: skip


def _image(task: GuestTask, engine: GuestEngine, folder: Path, say: Say) -> image.RootImage:
    """The image with the packages of the config. Raises HostError, ConfigError for names that are no packages."""
    config = task.config
    try:
        return image.ensure(recipe_of(config, task.distro, engine), folder, say, programs=programs_of(engine))
    except image.UnknownPackagesError as error:
        finding = PACKAGES.finding(
            Status.FAIL, "target.packages", error.message, error.remedy, location=config.target.packages_location
        )
        raise ConfigError(
            f"{len(error.names)} package(s) of [target] do not exist", where=config.path, findings=(finding,),
            remedy=Remedy(title="correct the lines named above"),
        ) from None  # fmt: skip


def require_system(task: GuestTask, root: image.RootImage, project: Project) -> None:
    """Raises GuestError that names all files of a system that the programs need and the image lacks."""
    if root.listing is None:
        return
    found = programs.lacking(project.programs, root.listing.read_text().splitlines(), project.given)
    if found:
        raise GuestError(
            f"the {task.distro} guest lacks {programs.told(found)}; no service was run",
            remedy=programs.remedy_for(found, task.distro),
        )  # fmt: skip


@contextlib.contextmanager
def booted(boot: Callable[[], AnyGuest], say: Say, now: Now) -> Iterator[tuple[AnyGuest, str]]:
    """A booted guest, and the error of a first one that ended while it booted: nothing of the project had run in it.

    A kernel on an emulated CPU panics now and then. Raises GuestError for a second failure, or after a long boot.
    """
    began, lost = now(), ""
    with contextlib.ExitStack() as stack:
        try:
            guest = stack.enter_context(boot())
        except GuestError as error:
            if now() - began > _BOOT_AGAIN_SECONDS:
                raise
            lost = error.what
            say(f"{lost}; booting once more")
            guest = stack.enter_context(boot())
        yield guest, lost


def warm_up(
    root: image.RootImage, distro: str, engine: GuestEngine, folder: Path, say: Say, *, boot: Boot = Guest
) -> None:  # fmt: skip
    """Boots `root` once to compile this tool for it; does nothing if its build, or an earlier guest, did that.

    Raises HostError, GuestError.
    """
    if bytecode.cached(folder, root.name) is not None:
        return
    say("booting it once")
    spec = GuestSpec(
        engine=engine, distro=distro, memory_mib=512 if engine is GuestEngine.QEMU else 256,
        boot_timeout=BOOT_SECONDS[engine], accelerator=_accelerator(engine, folder),
        inputs={f"{bytecode.SOURCE_INPUT}/{bytecode.PACKAGE}": bytecode.source_folder()},
    )  # fmt: skip
    with boot(spec, root) as guest:
        bytecode.compile_in(guest, folder, root.name)


class Clock:
    """Seconds by step."""

    def __init__(self, now: Now) -> None:
        self._now = now
        self._last = now()
        self.seconds: dict[str, float] = {}

    def note(self, step: str) -> None:
        """The time since the last call belongs to `step`."""
        now = self._now()
        self.seconds[step], self._last = round(now - self._last, 2), now


def _accelerator(engine: GuestEngine, folder: Path) -> str:
    return accelerator(folder) if engine is GuestEngine.QEMU else "tcg"


def _spec(
    task: GuestTask, machine: GuestMachine, project: Project, compiled: Path | None, accelerated_by: str
) -> GuestSpec:  # fmt: skip
    tool = {f"{bytecode.SOURCE_INPUT}/{bytecode.PACKAGE}": compiled or bytecode.source_folder()}
    built = {name: Path(path) for name, path in task.packages.inputs.items()} if task.packages is not None else {}
    return GuestSpec(
        engine=machine.engine, distro=task.distro, cpus=machine.cpus, memory_mib=machine.memory_mib,
        inputs={**project.inputs, **tool, **built}, boot_timeout=BOOT_SECONDS[machine.engine], accelerator=accelerated_by,
        network=task.config.target.network,
        kernel_args=(*(ALL_UNITS if task.packages is not None else ()), *task.kernel_args),
        tool=compiled,
    )  # fmt: skip


#: Binds each path that arrived to the path that it is to have.
_PLACE_SCRIPT = """
while [ $# -gt 0 ]; do
    if [ -d "$1" ]; then mkdir -p "$2"; else mkdir -p "${2%/*}"; [ -e "$2" ] || : > "$2"; fi
    mount --bind "$1" "$2"
    shift 2
done
"""


def place_files(guest: "Guest | BareGuest", project: Project) -> None:
    """Puts files with absolute paths in their places. Raises GuestError."""
    if project.outside:
        done = guest.run(["sh", "-euc", _PLACE_SCRIPT, "place", *itertools.chain.from_iterable(project.outside)])
        if done.returncode != 0:
            raise GuestError(
                f"could not put a file at its absolute path: {done.stderr.decode(errors='replace').strip()[:200]}",
                remedy=Remedy(title="name the binary by a path below the config's folder, or choose another path in [target.paths]"),
            )  # fmt: skip


def start_tool(ready: Ready, *words: str, piped: bool = False) -> Background:
    """Starts the command of the task in its guest, with the config and `words`."""
    task, project = ready.task, ready.project
    argv = [*task.words, *(task.packages.words if task.packages is not None else ()), *task.names,
            f"--config={project.folder}/{project.config_name}", "--engine=systemd", *words, "--inside", "--allow-outside=/"]  # fmt: skip
    folders = [ready.source, bytecode.LIBRARIES]
    return ready.guest.spawn_tool(
        argv, folders=folders, cwd=project.folder, env={"PYTHONDONTWRITEBYTECODE": "1"}, piped=piped
    )


def _finished(ready: Ready, meanwhile: Callable[[], None], now: Now) -> CommandResult:
    """The command of the task, ended in the guest. Raises GuestError, and what `meanwhile` raises."""
    guest, limit = ready.guest, time_limit(ready.task)
    background = start_tool(ready, "--format=json")
    deadline = now() + limit
    meanwhile()
    # What reads and shows the report, loaded while the guest works.
    from cgroup_preflight.guest import answer, findings  # noqa: F401

    # In short turns: a kernel that hangs is noticed within seconds, not at the end of the whole time.
    while (done := guest.poll(background, timeout=_POLL_SECONDS)) is None:
        if now() > deadline:
            raise lost(guest, f"did not finish within {limit:.0f} s")
    if done.returncode != ExitStatus.PASS and (short := exhausted(guest)):
        raise lost(guest, short)
    return done


def time_limit(task: GuestTask) -> float:
    """Seconds for the whole run: what the slowest service may take on a crowded machine, and a probe for each limit."""
    smokes = [item.smoke for item in task.config.services]
    spans = zip(*((item.start_timeout, item.duration, item.stop_timeout) for item in smokes), strict=True)
    longest = sum(max(column) for column in spans)
    longest += _SERVICE_SECONDS * len(smokes)
    longest += task.packages.seconds if task.packages is not None else 0.0
    return float(_BASE_SECONDS + SLOWEST * longest + _PROBE_SECONDS * min(len(task.config.settings), _PROBES_MAX))


#: Prints what has run out: memory of the machine (mm/oom_kill.c has other words for that of a cgroup), or its disk.
_EXHAUSTED_SCRIPT = r"""
dmesg | grep -m1 -o '^.*] Out of memory: Killed process [0-9]* ([^)]*)' | sed 's/.*Out/Out/'
[ "$(stat -f -c %a /)" -gt 64 ] || echo 'No space left on its disk'
"""


def exhausted(guest: "Guest | BareGuest") -> str:
    """What the guest ran out of, which is not a fault of the services; empty for nothing."""
    words = guest.run(["sh", "-c", _EXHAUSTED_SCRIPT], timeout=10).stdout.decode(errors="replace").strip().splitlines()
    return f"ran short: {words[0][:120]}" if words else ""


def lost(guest: "Guest | BareGuest", what: str) -> GuestError:
    """The error of a guest that failed, with its last console lines."""
    return GuestError(f"{guest.spec.name} {what}", console=guest.console_tail(),
                      remedy=Remedy(title="read the console lines; run the command again with more time or memory"))  # fmt: skip
