"""The run's own slice: everything that a run starts is below it, and the run removes it at the end."""

import os
import re
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from cgroup_preflight.core import codes
from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Missing, Why, value_or
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.engines.base import Engine
from cgroup_preflight.engines.hold import wait_until
from cgroup_preflight.plan.model import Plan, UnitFile
from cgroup_preflight.plan.unitfile import run_files

if TYPE_CHECKING:
    from cgroup_preflight.host.door import Clock, Door
    from cgroup_preflight.host.fs import MachineFs

#: Every name of a run begins so.
PREFIX = "cgpf"
_SCOPE = rf"({PREFIX}[0-9a-f]{{12}})\.slice"
_OWNER = r"# owner: pid (\d+) started (\d+) namespace (\d+)"
_TEARDOWN_SECONDS = 30.0
#: What each further service adds to that.
_EACH_SECONDS = 0.5
#: A killed process below a small quota ends no sooner than its turn comes, and its cgroup goes after it.
_GONE_SECONDS = 10.0
_FOREIGN_AGE_SECONDS = 7200.0


def new_name() -> str:
    """A name that no other run on this host has; one word, so that it nests nowhere."""
    # Not `secrets`: it loads OpenSSL, which takes longer than the name is worth.
    return PREFIX + os.urandom(6).hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded:
    """What a guard ends: the run `scope`, its private `folder`, and its unit files in `unit_folder`."""

    scope: str
    folder: str
    unit_folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """What still exists after the end of a run, and where that could not be read, with the reason."""

    left: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


class RunScope:
    """A run's slices: `cgroups` by unit; `rest` is known only after the end."""

    def __init__(self) -> None:
        self.cgroups: Mapping[str, str] = {}
        self.rest = Rest()


@contextmanager
def run_scope(
    engine: Engine, door: "Door", plan: Plan, scope: str, mount: str, *, stays: bool = False
) -> Iterator[RunScope]:  # fmt: skip
    """Creates the slices of `plan` and the drop-ins of its services; stops and removes everything of the run at the end.

    Not where it `stays`, because the machine itself ends then. Raises HostError when the engine refuses, or when a run
    that was interrupted leaves something behind.
    """
    files = tuple(_owned(file, scope, door) for file in run_files(plan))
    # Of a drop-in its folder, which belongs to the run, too.
    names = list(dict.fromkeys(file.path.partition("/")[0] for file in files))
    # Root's engine writes a file for each service, too.
    names += [item.unit for item in plan.services]
    run = RunScope()
    try:
        run.cgroups = engine.create_slices(files, [item.unit for item in plan.slices])
        yield run
    except BaseException:
        if not stays:
            rest = _end(engine, door, scope, names, mount, run)
            if rest.left or rest.unread:
                raise _not_gone(engine, scope, *(rest.left or rest.unread)[:1], known=bool(rest.left)) from None
        raise
    if not stays:
        run.rest = _end(engine, door, scope, names, mount, run)


def _end(
    engine: Engine, door: "Door", scope: str, files: list[str], mount: str, run: RunScope
) -> Rest:  # fmt: skip
    """Takes the run down; the units, files and cgroups of it that still exist. What cannot be read is not gone."""
    with _signals_blocked():
        left = tear_down(engine, door.clock, scope, files)
    cgroup = run.cgroups.get(f"{scope}.slice")
    folder = f"{mount.rstrip('/')}{cgroup}" if cgroup else ""

    def look() -> Rest:
        listed = door.files.names(engine.unit_folder)
        names = set(value_or(listed, ()))
        found = [os.path.join(engine.unit_folder, name) for name in files if name in names]
        cgroup = door.files.exists(folder) if folder else None
        found += [folder] if cgroup is not None and value_or(cgroup, default=False) else []
        unread = [one for one in (listed, cgroup) if isinstance(one, Missing) and one.why is not Why.ABSENT]
        return Rest(left=tuple(found), unread=tuple(map(str, unread)))

    # systemd removes a cgroup when it learns that it is empty, which may be a moment later.
    wait_until(door.clock, lambda: look() == Rest(), _GONE_SECONDS)
    rest = look()
    return Rest(left=(*left, *rest.left), unread=rest.unread)


def cleanup_finding(rest: Rest) -> Finding:
    """Whether the run left nothing behind."""
    left = rest.left
    if rest.unread and not left:
        return codes.CLEANUP.finding(
            Status.UNVERIFIED, "run",
            f"whether the run left something behind cannot be read: {'; '.join(rest.unread)}",
            Remedy(title="look for units, unit files and cgroups of the run on the machine"),
        )  # fmt: skip
    if not left:
        return codes.CLEANUP.finding(Status.PASS, "run", "the run removed all of its units, unit files and cgroups")
    found = f"the run left {len(left)} unit(s), file(s) or cgroup(s) behind: {', '.join(left[:5])}"
    remedy = Remedy(title="stop and remove what the message names; the next run tries it again")
    return codes.CLEANUP.finding(Status.FAIL, "run", found, remedy)


def _not_gone(engine: Engine, scope: str, what: str, *, known: bool = True) -> HostError:
    remedy = Remedy(
        title="stop the slice of the run",
        commands=(("systemctl", "stop", f"{scope}.slice"),),
        needs_root=not engine.user,
    )
    if engine.keeps_cgroups:
        remedy = Remedy(
            title="end what is in that cgroup (its cgroup.procs has the processes), and remove it with rmdir"
        )
    words = f"{what} still exists after the run" if known else f"what still exists after the run cannot be read: {what}"
    return HostError(words, where=f"{scope}.slice", remedy=remedy)


def _owned(file: UnitFile, scope: str, door: "Door") -> UnitFile:
    """The run's own slice names its process, so that a later run can tell a crashed run from a live one."""
    if file.path != f"{scope}.slice":
        return file
    pid = door.processes.own()
    owner = f"# owner: pid {pid} started {start_time(door.files, pid)} namespace {_namespace(door.files)}\n"
    return UnitFile(path=file.path, content=owner + file.content)


def tear_down(engine: Engine, clock: "Clock", scope: str, files: Iterable[str]) -> tuple[str, ...]:
    """Kills and stops every unit of a run, removes its files; the units that are active all the same."""
    began, most, pause = clock.monotonic(), 0, 0.01
    while services := _active_services(engine, scope):
        most = max(most, len(services))
        if clock.monotonic() - began > _TEARDOWN_SECONDS + _EACH_SECONDS * (most - 1):
            break
        engine.stop(services)
        # A unit that is stopping starts the gate after its end first, so one kill is not enough.
        engine.kill(services)
        clock.sleep(pause)
        pause = min(pause * 2, 0.2)
    engine.end_slice(scope, _TEARDOWN_SECONDS)
    engine.remove_files([*files, f"{scope}.slice"])
    return tuple(engine.active(scope))


def _active_services(engine: Engine, scope: str) -> list[str]:
    """Services to be killed: where the manager does not say, the slice is stopped all the same, and the last look raises."""
    try:
        return engine.active(scope, ".service")
    except HostError:
        return []


def end_runs(engine: Engine, door: "Door") -> None:
    """Takes down all runs of this machine, a guest in which a run stays until its end."""
    names = value_or(door.files.names(engine.unit_folder), ())
    for scope in [match[1] for name in names if (match := re.fullmatch(_SCOPE, name))]:
        tear_down(engine, door.clock, scope, [item for item in names if item.startswith(f"{scope}-")])


def clean_leftovers(engine: Engine, door: "Door") -> tuple[str, ...]:
    """Takes down what crashed runs left behind; the names of their slices. Raises HostError when something stays."""
    cleaned = []
    names = value_or(door.files.names(engine.unit_folder), ())
    for name in names:
        match = re.fullmatch(_SCOPE, name)
        if match and _is_orphan(door, os.path.join(engine.unit_folder, name)):
            scope = match[1]
            with _signals_blocked():
                left = tear_down(engine, door.clock, scope, [item for item in names if item.startswith(f"{scope}-")])
                door.files.remove_private(f"{scope}-")
            if left:
                raise _not_gone(engine, scope, left[0])
            cleaned.append(scope)
    return tuple(cleaned)


def _is_orphan(door: "Door", path: str) -> bool:
    """Whether the run behind this slice file has ended; a run of another PID namespace counts as live for two hours."""
    status = door.files.status(path)
    if isinstance(status, Missing):
        return False
    owner = re.match(_OWNER, value_or(door.files.read(path), ""))
    if owner is None or owner[3] != _namespace(door.files):
        return door.clock.wall() - status.value.time > _FOREIGN_AGE_SECONDS
    return start_time(door.files, int(owner[1])) != owner[2]


def start_time(files: "MachineFs", pid: int) -> str:
    """Field 22 of /proc/PID/stat: with the number it names a process for good; empty when the process has ended."""
    words = value_or(files.data(f"/proc/{pid}/stat"), b"").rpartition(b")")[2].split()
    return words[19].decode() if len(words) > 19 else ""


def _namespace(files: "MachineFs") -> str:
    return re.sub(r"\D", "", value_or(files.link("/proc/self/ns/pid"), "")) or "0"


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """A second Ctrl-C must not leave half of a run behind; the teardown has a time limit of its own."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
