"""What GOMAXPROCS a Go program really has: one more short run of it, with the scheduler's own trace on stderr.

`GODEBUG=schedtrace=N` makes any Go program, stripped or not, print `SCHED 0ms: gomaxprocs=4 ...` (runtime/extern.go).
That does not belong into the run under test, whose log may decide about readiness, so it is a run of its own:
same program, arguments, slice, limits and environment, its output in a file, ended after two lines.
"""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cgroup_preflight.golang.runtime_env import append_godebug
from cgroup_preflight.smoke import argv
from cgroup_preflight.smoke.manager import Manager

_EVERY_MS = 250
_LINES = 2
#: Seconds for the lines: they come within one, but for a busy machine; what prints none is waited for in vain.
_DEADLINE = 30.0
_PAUSE, _PAUSE_MAX = 0.05, 0.5
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


def run_traces(manager: Manager, launches: Mapping[str, argv.Launch], scope: str, folder: str) -> dict[str, Trace]:
    """One trace for each launch, by its key; all run at the same time. Raises HostError."""
    todo = {
        name: _traced(launch, f"{scope}-_gotrace-{number}.service", folder)
        for number, (name, launch) in enumerate(launches.items())
    }
    refused = manager.start(todo.values())
    try:
        _wait(manager, [launch for launch in todo.values() if not refused.get(launch.unit)])
    finally:
        if todo:
            manager.kill_units([launch.unit for launch in todo.values()])
    return {
        name: Trace(why=refused[launch.unit]) if refused.get(launch.unit) else parse_trace(_text(launch.output))
        for name, launch in todo.items()
    }


def _wait(manager: Manager, launches: list[argv.Launch]) -> None:
    """Until each program has printed its lines or has ended; asks at growing intervals."""
    deadline, pause = time.monotonic() + _DEADLINE, _PAUSE
    while launches and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(pause * 2, _PAUSE_MAX)
        shown = manager.show(launch.unit for launch in launches)
        over = {launch.unit for launch in launches if _over(shown.get(launch.unit, {}))}
        silent = (launch for launch in launches if len(_SCHED.findall(_text(launch.output))) < _LINES)
        launches = [launch for launch in silent if launch.unit not in over]


def _over(shown: Mapping[str, str]) -> bool:
    # With a job a unit is inactive because it has not begun yet.
    return shown.get("ActiveState") in ("failed", "inactive", None) and shown.get("Job", "") in ("", "0")


def _traced(launch: argv.Launch, unit: str, folder: str) -> argv.Launch:
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
