"""The engine `guest`: boots one, runs this very package in it on the project, and reads its report back.

What comes back was written in a machine in which untrusted binaries ran as root: it is read strictly, within
bounds, and a guest that does not hand out a report that holds together has verified nothing.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cgroup_preflight import __version__
from cgroup_preflight.config.model import Config
from cgroup_preflight.core.errors import ExitStatus
from cgroup_preflight.core.report import Remedy, Report, Verdict
from cgroup_preflight.core.verdict import exit_status_of
from cgroup_preflight.guest import bytecode, image, tools
from cgroup_preflight.guest.machine import PROGRAMS
from cgroup_preflight.guest.project import Project, project_of
from cgroup_preflight.guest.qemu import accelerator
from cgroup_preflight.guest.recipe import recipe_for
from cgroup_preflight.guest.requirements import HostCapacity, GuestMachine, choose_machine, requirements_of
from cgroup_preflight.guest.session import Guest, bring_up, input_path
from cgroup_preflight.guest.spec import CommandResult, GuestEngine, GuestError, GuestSpec
from cgroup_preflight.report.read import ReportShapeError, report_of

Say = Callable[[str], None]
DEFAULT_DISTRO = "debian-12"
_REPORT_MAX = 8 << 20
_POLL_SECONDS = 5.0
#: Seconds beyond what the services may take: the start of all, and each probe's own limit.
_BASE_SECONDS = 180.0
_PROBE_SECONDS = 35.0
_BOOT_SECONDS = {GuestEngine.UML: 120.0, GuestEngine.QEMU: 300.0}
#: A guest that ended sooner than this is booted once more.
_BOOT_AGAIN_SECONDS = 60.0
#: Where the distribution has the libraries that the tool needs.
_PACKAGES = "/usr/lib/python3/dist-packages"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestTask:
    """What to do in a guest: `words` are the command and its arguments, `names` the services, all if empty."""

    config: Config
    words: tuple[str, ...]
    names: tuple[str, ...]
    distro: str
    kernel_args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestRun:
    """The report made in a guest, the machine it was, its fence, and where the time went (seconds by step).

    `lost_boot` is what happened to a first boot that had to be done again, empty for none.
    """

    report: Report
    machine: GuestMachine
    distro: str
    fence: str
    lost_boot: str
    seconds: Mapping[str, float]


def run_task(task: GuestTask, environment: Mapping[str, str], say: Say) -> GuestRun:
    """Boots, runs, reads. `environment` tells where the cache is; nothing of it goes in.

    Raises HostError where no guest can be made, GuestError for one that was lost, UsageError, OSError.
    """
    project = project_of(task.config, task.names)
    machine = choose_machine(requirements_of(task.config), task.config.target.machine, _host(), input_bytes=project.size)
    folder = image.cache_folder(environment)
    recipe = recipe_for(task.distro, with_kernel=machine.engine is GuestEngine.QEMU)
    found = image.ensure(recipe, folder, say, programs=(PROGRAMS[machine.engine],))
    compiled = bytecode.cached(folder, found.name)
    spec = _spec(task, machine, project, compiled, folder)
    clock = _Clock()
    say(f"booting the {task.distro} guest ({machine.engine})")
    with _booted(spec, found, say) as (guest, lost_boot):
        clock.note("boot")
        source = str(input_path(bytecode.SOURCE_INPUT))
        if compiled is None:
            say("compiling this tool for the guest, once")
            source = bytecode.compile_in(guest, folder, found.name)
        _prepare(guest, project, network=task.config.target.network)
        clock.note("prepare")
        say("running under limits in the guest")
        report = _report(guest, task, project, source)
        clock.note("run")
    clock.note("end")
    return GuestRun(
        report=report, machine=machine, distro=task.distro, fence=guest.fence, lost_boot=lost_boot, seconds=clock.seconds
    )  # fmt: skip


@contextlib.contextmanager
def _booted(spec: GuestSpec, found: image.RootImage, say: Say) -> Iterator[tuple[Guest, str]]:
    """A guest, and what happened to a first one that ended on the way: nothing of the project had run in it yet.

    Emulated CPUs let a kernel panic now and then. Raises GuestError for a second one, or one that was slow to end.
    """
    began, lost = time.monotonic(), ""
    with contextlib.ExitStack() as stack:
        try:
            guest = stack.enter_context(Guest(spec, found))
        except GuestError as error:
            if time.monotonic() - began > _BOOT_AGAIN_SECONDS:
                raise
            lost = error.what
            say(f"{lost}; booting once more")
            guest = stack.enter_context(Guest(spec, found))
        yield guest, lost


def warm_up(made: image.RootImage, distro: str, engine: GuestEngine, folder: Path, say: Say) -> None:
    """Boots `made` once, unless that was done before: compiles this tool for it, and shows that it works here.

    Raises HostError, GuestError.
    """
    if bytecode.cached(folder, made.name) is not None:
        return
    say("booting it once")
    qemu = engine is GuestEngine.QEMU
    spec = GuestSpec(
        engine=engine, distro=distro, memory_mib=512 if qemu else 256, boot_timeout=_BOOT_SECONDS[engine],
        accelerator=accelerator(folder) if qemu else "tcg",
        inputs={f"{bytecode.SOURCE_INPUT}/{bytecode.PACKAGE}": bytecode.source_folder()},
    )  # fmt: skip
    with Guest(spec, made) as guest:
        bytecode.compile_in(guest, folder, made.name)


class _Clock:
    """Seconds by step."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self.seconds: dict[str, float] = {}

    def note(self, step: str) -> None:
        now = time.monotonic()
        self.seconds[step], self._last = round(now - self._last, 2), now


def _host() -> HostCapacity:
    with open("/proc/meminfo", encoding="ascii") as file:
        free = next((int(line.split()[1]) >> 10 for line in file if line.startswith("MemAvailable:")), 1024)
    return HostCapacity(
        uml=tools.is_installed(PROGRAMS[GuestEngine.UML]), qemu=tools.is_installed(PROGRAMS[GuestEngine.QEMU]),
        cpus=len(os.sched_getaffinity(0)), memory_mib=free,
    )  # fmt: skip


def _spec(task: GuestTask, machine: GuestMachine, project: Project, compiled: Path | None, folder: Path) -> GuestSpec:
    inputs = dict(project.inputs)
    inputs[f"{bytecode.SOURCE_INPUT}/{bytecode.PACKAGE}"] = compiled or bytecode.source_folder()
    qemu = machine.engine is GuestEngine.QEMU
    return GuestSpec(
        engine=machine.engine, distro=task.distro, cpus=machine.cpus, memory_mib=machine.memory_mib, inputs=inputs,
        boot_timeout=_BOOT_SECONDS[machine.engine], accelerator=accelerator(folder) if qemu else "tcg",
        network=task.config.target.network, kernel_args=task.kernel_args,
        agent=compiled / "guest" / "inside" if compiled is not None else None,
    )  # fmt: skip


def _prepare(guest: Guest, project: Project, *, network: bool) -> None:
    """Puts binaries with absolute paths where they belong; brings the network up where the config asks for it."""
    for arrived, place in project.outside:
        script = 'mkdir -p "${1%/*}" && { [ -e "$1" ] || : > "$1"; } && mount --bind "$0" "$1"'
        done = guest.run(["sh", "-c", script, arrived, place])
        if done.returncode != 0:
            raise GuestError(f"could not put {place} into the guest: {done.stderr.decode(errors='replace')[:200]}",
                             remedy=Remedy(title="name the binary by a path below the config's folder"))  # fmt: skip
    if network:
        bring_up(guest)


def _report(guest: Guest, task: GuestTask, project: Project, source: str) -> Report:
    command, *rest = task.words
    words = [command, *rest, *task.names,
             f"--config={project.folder}/{project.config_name}", "--engine=systemd", "--format=json", "--inside"]  # fmt: skip
    folders = [source, _PACKAGES]
    background = guest.spawn_tool(words, folders=folders, cwd=project.folder, env={"PYTHONDONTWRITEBYTECODE": "1"})
    deadline = time.monotonic() + _limit(task)
    # Asked again and again: a kernel that stands still shows within seconds, not at the end of the whole time.
    while (done := guest.poll(background, timeout=_POLL_SECONDS)) is None:
        if time.monotonic() > deadline:
            raise _odd(guest, f"did not finish within {_limit(task):.0f} s")
    if done.returncode != ExitStatus.PASS and (short := _exhausted(guest)):
        raise _odd(guest, short)
    return _read(guest, task, done)


def _limit(task: GuestTask) -> float:
    """Seconds until the run must be over: the slowest service allowed, and each limit's probe."""
    smokes = [item.smoke for item in task.config.services]
    spans = zip(*((item.start_timeout, item.duration, item.stop_timeout) for item in smokes), strict=True)
    longest = sum(max(column) for column in spans)
    limits = [*(item.settings for item in task.config.slices), *(item.settings for item in task.config.services)]
    return float(_BASE_SECONDS + 3 * longest + _PROBE_SECONDS * min(sum(map(len, limits)), 40))


def _read(guest: Guest, task: GuestTask, done: CommandResult) -> Report:
    """The report on stdout, if it holds together: version, verdict, exit status, and every service in it."""
    if len(done.stdout) > _REPORT_MAX:
        raise _odd(guest, f"handed out {len(done.stdout)} bytes, too many for a report")
    try:
        report = report_of(done.stdout)
    except ReportShapeError as error:
        raise _odd(guest, f"handed out no report ({error}); the tool in it {_ended(done)}") from None
    if done.returncode != exit_status_of(report.verdict) or report.tool_version != __version__:
        raise _odd(guest, f"handed out a report that does not fit: {report.verdict}, and the tool {_ended(done)}")
    expected = set(task.names) or {item.name for item in task.config.services}
    if report.verdict is Verdict.PASS and {item.name for item in report.services} != expected:
        raise _odd(guest, "handed out a pass that leaves services out")
    return report


#: Prints what has run out: memory of the machine (not of a cgroup: mm/oom_kill.c words that otherwise), or its disk.
_SHORT = r"""
dmesg | grep -m1 -o '^.*] Out of memory: Killed process [0-9]* ([^)]*)' | sed 's/.*Out/Out/'
[ "$(stat -f -c %a /)" -gt 64 ] || echo 'No space left on its disk'
"""


def _exhausted(guest: Guest) -> str:
    """What the guest ran short of, which is its fault and no fault of the services; empty for nothing."""
    words = guest.run(["sh", "-c", _SHORT], timeout=10).stdout.decode(errors="replace").strip().splitlines()
    return f"ran short: {words[0][:120]}" if words else ""


def _ended(done: CommandResult) -> str:
    words = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
    said = "".join(char if char.isprintable() else "?" for char in " / ".join(words))[:400]
    return f"ended with {done.returncode}" + (f": {said}" if said else "")


def _odd(guest: Guest, what: str) -> GuestError:
    return GuestError(f"{guest.spec.name} {what}", console=guest.console_tail(),
                      remedy=Remedy(title="look at the console lines; run the command again with more time or memory"))  # fmt: skip
