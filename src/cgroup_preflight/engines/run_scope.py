"""The run's own slice: everything a run starts is below it, and it is always taken down again."""

import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from cgroup_preflight.core import codes
from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.engines import command_lines
from cgroup_preflight.engines.hold import wait_until
from cgroup_preflight.engines.systemd import Manager
from cgroup_preflight.plan.model import Plan, UnitFile
from cgroup_preflight.plan.unitfile import slice_files

PREFIX = "cgpf"
_SCOPE = re.compile(rf"({PREFIX}[0-9a-f]{{12}})\.slice")
_OWNER = re.compile(r"# owner: pid (\d+) started (\d+) namespace (\d+)")
_TEARDOWN_SECONDS = 30.0
_GONE_SECONDS = 2.0
_FOREIGN_AGE_SECONDS = 7200.0


def new_name() -> str:
    """A name that no other run on this host has; one word, so that it nests nowhere."""
    # Not `secrets`: it loads OpenSSL, which takes longer than the name is worth.
    return PREFIX + os.urandom(6).hex()


@dataclass(slots=True, kw_only=True)
class RunScope:
    """A run's slices: `cgroups` by unit; `left` is what was still there after the end, known only then."""

    cgroups: Mapping[str, str]
    left: tuple[str, ...] = ()


@contextmanager
def run_scope(manager: Manager, plan: Plan, scope: str, mount: str, *, stays: bool = False) -> Iterator[RunScope]:
    """Writes and starts the slices of `plan`; stops and removes everything of the run at the end.

    Not where it `stays` (the machine itself ends then). Raises HostError when the manager refuses, or when
    a run that was broken off leaves something behind.
    """
    files = tuple(_owned(file, scope) for file in slice_files(plan))
    names = [file.path for file in files]
    run = RunScope(cgroups={})
    try:
        manager.write_files(files)
        manager.start_slices([item.unit for item in plan.slices])
        shown = _check_loaded(manager, plan)
        run.cgroups = {unit: properties.get("ControlGroup", "") for unit, properties in shown.items()}
        yield run
    except BaseException:
        if not stays and (left := _end(manager, scope, names, mount, run)):
            raise _not_gone(manager, scope, left[0]) from None
        raise
    if not stays:
        run.left = _end(manager, scope, names, mount, run)


def _end(manager: Manager, scope: str, files: list[str], mount: str, run: RunScope) -> tuple[str, ...]:
    """Takes the run down; what of its units, files and cgroups is there all the same."""
    with _signals_held():
        left = tear_down(manager, scope, files)
    paths = [os.path.join(manager.unit_folder, name) for name in files]
    cgroup = run.cgroups.get(f"{scope}.slice")
    paths += [f"{mount.rstrip('/')}{cgroup}"] if cgroup else []
    # The manager removes a cgroup when it hears that it is empty, which may be a moment later.
    wait_until(lambda: not any(map(os.path.lexists, paths)), _GONE_SECONDS)
    return (*left, *(path for path in paths if os.path.lexists(path)))


def cleanup_finding(left: tuple[str, ...]) -> Finding:
    """Whether the run left nothing behind."""
    found = f"{len(left)} thing(s) of the run are still there: {', '.join(left[:5])}"
    if not left:
        return codes.CLEANUP.finding(Status.PASS, "run", "every unit, unit file and cgroup of the run is gone")
    remedy = Remedy(title="stop and remove what is named; the next run tries again")
    return codes.CLEANUP.finding(Status.FAIL, "run", found, remedy)


def _not_gone(manager: Manager, scope: str, what: str) -> HostError:
    return HostError(
        f"{what} is still there after the run", where=f"{scope}.slice",
        remedy=Remedy(title="stop it", commands=(("systemctl", "stop", f"{scope}.slice"),), needs_root=not manager.user),
    )  # fmt: skip


def _owned(file: UnitFile, scope: str) -> UnitFile:
    """The run's own slice says who made it, so that a later run can tell a crash from a neighbour."""
    if file.path != f"{scope}.slice":
        return file
    pid = os.getpid()
    owner = f"# owner: pid {pid} started {_start_time(pid)} namespace {_namespace()}\n"
    return UnitFile(path=file.path, content=owner + file.content)


def _check_loaded(manager: Manager, plan: Plan) -> Mapping[str, Mapping[str, str]]:
    """What is shown of the slices. A slice that systemd made up without our file has none of our limits: reload once, else give up."""
    units = [item.unit for item in plan.slices]
    for attempt in range(2):
        shown = manager.show(units)
        foreign = [
            unit for unit in units
            if shown.get(unit, {}).get("FragmentPath", "") != os.path.join(manager.unit_folder, unit)
        ]  # fmt: skip
        if not foreign:
            return shown
        if attempt == 0:
            manager.require("daemon-reload")
    raise HostError(
        f"{foreign[0]} was not loaded from the generated file", where=manager.unit_folder,
        remedy=Remedy(title="ask systemd", commands=(("systemctl", "cat", foreign[0]),)),
    )  # fmt: skip


def tear_down(manager: Manager, scope: str, files: Iterable[str]) -> tuple[str, ...]:
    """Kills and stops every unit of a run, removes its files; the units that are there all the same."""
    deadline = time.monotonic() + _TEARDOWN_SECONDS
    pause = 0.01
    while (services := _active(manager, scope, ".service")) and time.monotonic() < deadline:
        manager.systemctl("stop", "--no-block", "--", *services)
        # A unit that is stopping starts its after-hold first, so one kill is not enough.
        manager.systemctl(*command_lines.kill_all(services))
        time.sleep(pause)
        pause = min(pause * 2, 0.2)
    manager.systemctl("stop", "--", f"{scope}.slice", timeout=_TEARDOWN_SECONDS)
    manager.systemctl("reset-failed", "--", f"{scope}-*")
    manager.remove_files([*files, f"{scope}.slice"])
    return tuple(_active(manager, scope, ""))


def _active(manager: Manager, scope: str, suffix: str) -> list[str]:
    """Units of the run that still have something to end (systemctl(1) list-units: UNIT LOAD ACTIVE SUB)."""
    done = manager.systemctl("list-units", "--all", "--plain", "--no-legend", "--full", "--", f"{scope}*{suffix}")
    rows = [line.split() for line in done.stdout.splitlines()]
    return [
        row[0] for row in rows if len(row) > 2 and row[0].startswith(scope) and row[2] not in ("inactive", "failed")
    ]


def clean_leftovers(manager: Manager) -> tuple[str, ...]:
    """Takes down what crashed runs left behind; the names of their slices. Raises HostError when something stays."""
    cleaned = []
    try:
        names = os.listdir(manager.unit_folder)
    except OSError:
        return ()
    for name in sorted(names):
        match = _SCOPE.fullmatch(name)
        if match and _is_orphan(os.path.join(manager.unit_folder, name)):
            scope = match[1]
            with _signals_held():
                left = tear_down(manager, scope, [item for item in names if item.startswith(f"{scope}-")])
                _remove_folders(scope)
            if left:
                raise _not_gone(manager, scope, left[0])
            cleaned.append(scope)
    return tuple(cleaned)


def _remove_folders(scope: str) -> None:
    """Removes a run's folders for the output of units; whoever else uses such a name keeps theirs."""
    top = tempfile.gettempdir()
    for name in os.listdir(top):
        path = os.path.join(top, name)
        if name.startswith(f"{scope}-") and os.lstat(path).st_uid == os.geteuid():
            shutil.rmtree(path, ignore_errors=True)


def _is_orphan(path: str) -> bool:
    """Whether the run behind this slice file is gone; what another namespace made is left alone for long."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            owner = _OWNER.match(file.readline(200))
        age = time.time() - os.stat(path).st_mtime
    except OSError:
        return False
    if owner is None or owner[3] != _namespace():
        return age > _FOREIGN_AGE_SECONDS
    return _start_time(int(owner[1])) != owner[2]


def _start_time(pid: int) -> str:
    """Field 22 of /proc/PID/stat: with the number it names a process for good; empty when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _namespace() -> str:
    try:
        return re.sub(r"\D", "", os.readlink("/proc/self/ns/pid"))
    except OSError:
        return "0"


@contextmanager
def _signals_held() -> Iterator[None]:
    """A second Ctrl-C must not leave half of a run behind; the teardown has a time limit of its own."""
    held = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
