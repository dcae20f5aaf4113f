"""What GOMAXPROCS a Go program really has: one more short run of it, with the scheduler's own trace on stderr.

`GODEBUG=schedtrace=N` makes any Go program, stripped or not, print `SCHED 0ms: gomaxprocs=4 ...` (runtime/extern.go).
That does not belong into the run under test, whose log may decide about readiness, so it is a run of its own:
same program, arguments, slice, limits and environment, its output in a file, ended after two lines.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from cgroup_preflight.core.records import dataclass, replace
from cgroup_preflight.engines import command_lines
from cgroup_preflight.engines.systemd import Manager, started
from cgroup_preflight.golang.runtime_env import append_godebug
from cgroup_preflight.plan.unit_syntax import fits_unquoted, specifiers, variable_line
from cgroup_preflight.plan.unitfile import service_text

_EVERY_MS = 250
_LINES = 2
#: Seconds for the lines: they come within one, but for a busy machine; what prints none is waited for in vain.
_DEADLINE = 30.0
_LOOK = 0.05
_PAUSE, _PAUSE_MAX = 0.2, 0.5
_OUTPUT_MAX = 4 << 20
_SCHED = re.compile(rb"^SCHED \d+ms: gomaxprocs=(\d{1,9}) ", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """GOMAXPROCS at the first line and at the last one that was seen; None and a reason where there was no line."""

    first: int | None = None
    last: int | None = None
    why: str = ""


def parse_trace(text: bytes) -> Trace:
    """The first and the last of the scheduler's lines."""
    found = [int(number) for number in _SCHED.findall(text)]
    return Trace(first=found[0], last=found[-1]) if found else Trace(why="it printed no scheduler trace")


@contextmanager
def started_traces(
    manager: Manager, launches: Mapping[str, command_lines.Launch], scope: str, folder: str
) -> Iterator[Callable[[], dict[str, Trace]]]:  # fmt: skip
    """Starts one run for each launch, all at the same time. The call waits for their lines and ends them, too.

    It gives the traces by the launches' keys. Raises HostError.
    """
    todo = {
        name: _traced(launch, f"{scope}-_gotrace-{number}.service", folder)
        for number, (name, launch) in enumerate(launches.items())
    }
    texts = {launch.unit: text for launch in todo.values() if (text := _unit_text(launch))}
    with ExitStack() as stack:
        if todo:
            stack.callback(manager.kill_units, [launch.unit for launch in todo.values()])
        words = stack.enter_context(started(manager, texts)) if texts else ""
        refused = manager.start(launch for launch in todo.values() if launch.unit not in texts)

        def finish() -> dict[str, Trace]:
            _wait(manager, [launch for launch in todo.values() if launch.unit not in refused])
            stack.close()
            return {name: _trace(launch, refused.get(launch.unit, words)) for name, launch in todo.items()}

        yield finish


def _unit_text(launch: command_lines.Launch) -> str:
    """The unit file, which spares the manager's client a process for each; empty where it cannot hold the folder."""
    if not (fits_unquoted(launch.folder) and fits_unquoted(launch.output)):
        return ""
    lines = (
        *(f"{name}={text}" for name, text in launch.settings),
        *(variable_line(name, value) for name, value in launch.env),
        f"WorkingDirectory={specifiers(launch.folder)}", f"RuntimeMaxSec={launch.runtime_max:g}s",
        f"TimeoutStopSec={launch.stop_timeout:g}s",
    )  # fmt: skip
    user = (launch.uid, launch.uid if launch.gid is None else launch.gid) if launch.uid is not None else None
    return service_text(slice_unit=launch.slice, command=launch.command, output=launch.output, user=user, lines=lines)


def _trace(launch: command_lines.Launch, refused: str) -> Trace:
    found = parse_trace(_text(launch.output))
    return Trace(why=refused) if refused and found.first is None else found


def _wait(manager: Manager, launches: list[command_lines.Launch]) -> None:
    """Until each program has printed its lines or has ended; the manager is asked at growing intervals only."""
    began = time.monotonic()
    deadline, pause, ask_at = began + _DEADLINE, _PAUSE, began + _PAUSE
    while launches and (now := time.monotonic()) < deadline:
        time.sleep(_LOOK)
        launches = [launch for launch in launches if len(_SCHED.findall(_text(launch.output))) < _LINES]
        if launches and now >= ask_at:
            shown = manager.states(launch.unit for launch in launches)
            launches = [launch for launch in launches if not _over(shown.get(launch.unit, {}))]
            ask_at, pause = time.monotonic() + pause, min(pause * 2, _PAUSE_MAX)


def _over(shown: Mapping[str, str]) -> bool:
    # With a job a unit is inactive because it has not begun yet.
    return shown.get("ActiveState") in ("failed", "inactive", None) and shown.get("Job", "") in ("", "0")


def _traced(launch: command_lines.Launch, unit: str, folder: str) -> command_lines.Launch:
    environment = dict(launch.env)
    environment["GODEBUG"] = append_godebug(environment.get("GODEBUG", ""), f"schedtrace={_EVERY_MS}")
    return replace(
        launch,
        unit=unit,
        env=tuple(environment.items()),
        output=os.path.join(folder, unit),
        runtime_max=_DEADLINE * 2,
        hold_before=0.0,
        hold_after=0.0,
    )


def _text(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_OUTPUT_MAX)
    except OSError:
        return b""
