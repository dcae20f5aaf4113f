"""The run's own slice: everything a run starts is below it, and it is always taken down again."""

import os
import re
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from cgroup_preflight.errors import HostError
from cgroup_preflight.plan.model import Plan, UnitFile
from cgroup_preflight.plan.unitfile import slice_files
from cgroup_preflight.report import Remedy
from cgroup_preflight.smoke import argv
from cgroup_preflight.smoke.manager import Manager

PREFIX = "cgpf"
_SCOPE = re.compile(rf"({PREFIX}[0-9a-f]{{12}})\.slice")
_OWNER = re.compile(r"# owner: pid (\d+) started (\d+) namespace (\d+)")
_TEARDOWN_SECONDS = 30.0
_FOREIGN_AGE_SECONDS = 7200.0


def new_name() -> str:
    """A name that no other run on this host has; one word, so that it nests nowhere."""
    return PREFIX + secrets.token_hex(6)


@contextmanager
def run_scope(
    manager: Manager, plan: Plan, scope: str, *, stays: bool = False
) -> Iterator[Mapping[str, Mapping[str, str]]]:
    """Writes and starts the slices of `plan`, and says what the manager shows of them by unit.

    Stops and removes everything of the run at the end, unless it `stays` (the machine itself ends then).
    Raises HostError when the manager refuses, or when something of the run is still there afterwards.
    """
    files = tuple(_owned(file, scope) for file in slice_files(plan))
    try:
        manager.write_files(files)
        manager.require("start", "--", *(item.unit for item in plan.slices))
        yield _check_loaded(manager, plan)
    finally:
        if not stays:
            with _signals_held():
                tear_down(manager, scope, [file.path for file in files])


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


def tear_down(manager: Manager, scope: str, files: Iterable[str]) -> None:
    """Kills and stops every unit of a run, removes its files. Raises HostError when something stays."""
    deadline = time.monotonic() + _TEARDOWN_SECONDS
    pause = 0.01
    while (services := _active(manager, scope, ".service")) and time.monotonic() < deadline:
        manager.systemctl("stop", "--no-block", "--", *services)
        # A unit that is stopping starts its after-hold first, so one kill is not enough.
        manager.systemctl(*argv.kill_all(services))
        time.sleep(pause)
        pause = min(pause * 2, 0.2)
    manager.systemctl("stop", "--", f"{scope}.slice", timeout=_TEARDOWN_SECONDS)
    manager.systemctl("reset-failed", "--", f"{scope}-*")
    manager.remove_files([*files, f"{scope}.slice"])
    left = _active(manager, scope, "")
    if left:
        raise HostError(
            f"{left[0]} is still there after the run", where=f"{scope}.slice",
            remedy=Remedy(title="stop it", commands=(("systemctl", "stop", f"{scope}.slice"),), needs_root=not manager.user),
        )  # fmt: skip


def _active(manager: Manager, scope: str, suffix: str) -> list[str]:
    """Units of the run that still have something to end (systemctl(1) list-units: UNIT LOAD ACTIVE SUB)."""
    done = manager.systemctl("list-units", "--all", "--plain", "--no-legend", "--full", "--", f"{scope}*{suffix}")
    rows = [line.split() for line in done.stdout.splitlines()]
    return [
        row[0] for row in rows if len(row) > 2 and row[0].startswith(scope) and row[2] not in ("inactive", "failed")
    ]


def clean_leftovers(manager: Manager) -> tuple[str, ...]:
    """Takes down what crashed runs left behind; the names of their slices."""
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
                tear_down(manager, scope, [item for item in names if item.startswith(f"{scope}-")])
                _remove_folders(scope)
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
