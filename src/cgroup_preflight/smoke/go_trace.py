"""What GOMAXPROCS a Go program starts with, and has: a second, short run of it with the scheduler's own trace on stderr.

It is needed where the number is not seen in the memory of the program itself (`smoke.go_view`), or is another one than
expected: then it tells whether the runtime chose it, or the program changed it.

`GODEBUG=schedtrace=N` makes any Go program, stripped or not, print `SCHED 0ms: gomaxprocs=4 ...` (runtime/extern.go).
That does not belong in the run under test, whose log may decide about readiness. So the program runs once more, with
the same arguments, slice, limits and environment, and its output in a file. It is ended after two lines.
"""

import os
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from cgroup_preflight.core.reading import value_or
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass, replace
from cgroup_preflight.engines.base import Engine, Launch, Phase
from cgroup_preflight.golang.runtime_env import append_godebug

if TYPE_CHECKING:
    from cgroup_preflight.host.door import Door, Files

_EVERY_MS = 100
_LINES = 2
_AT_ONCE = 8
#: Seconds for the lines: they come within one, except on a busy machine.
_DEADLINE = 30.0
_LOOK = 0.05
_PAUSE, _PAUSE_MAX = 0.2, 0.5
_OUTPUT_MAX = 4 << 20
_SCHED = re.compile(rb"^SCHED \d+ms: gomaxprocs=(\d{1,9}) ", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """GOMAXPROCS at the first line and at the last one that was seen; None and a reason where there was no line.

    Without a second run, `last` is that of the program under test.
    """

    first: int | None = None
    last: int | None = None
    why: str = ""


def parse_trace(text: bytes) -> Trace:
    """The first and the last of the scheduler's lines."""
    found = [int(number) for number in _SCHED.findall(text)]
    return Trace(first=found[0], last=found[-1]) if found else Trace(why="it printed no scheduler trace")


@contextmanager
def started_traces(
    engine: Engine, door: "Door", launches: Mapping[str, Launch], scope: str, folder: str
) -> Iterator[Generator[None, None, dict[str, Trace]]]:  # fmt: skip
    """Starts one run for each launch, a few at a time; gives a generator that waits for their lines and ends them.

    Each `yield` gives others their turn. It returns the traces by the launches' keys. Raises HostError.
    """
    todo = {
        name: _traced(launch, f"{scope}-_gotrace-{number}.service", folder)
        for number, (name, launch) in enumerate(launches.items())
    }
    ordered = list(todo.values())
    batches = [ordered[first : first + _AT_ONCE] for first in range(0, len(ordered), _AT_ONCE)]
    refused: dict[str, str] = {}
    with ExitStack() as stack:

        def begin(batch: list[Launch]) -> None:
            stack.callback(engine.kill, [launch.unit for launch in batch])
            refused.update(stack.enter_context(engine.started(batch)))

        def finish() -> Generator[None, None, dict[str, Trace]]:
            for number, batch in enumerate(batches):
                if number:
                    begin(batch)
                yield from _wait(engine, door, batch)
                stack.close()
            return {name: _trace(door.files, launch, refused.get(launch.unit, "")) for name, launch in todo.items()}

        for batch in batches[:1]:
            begin(batch)
        yield finish()


def _trace(files: "Files", launch: Launch, refused: str) -> Trace:
    found = parse_trace(value_or(files.tail(launch.output, 0, _OUTPUT_MAX), b""))
    return Trace(why=refused) if refused and found.first is None else found


def _wait(engine: Engine, door: "Door", launches: list[Launch]) -> Iterator[None]:
    """Until each program has printed its lines or has ended; asks the engine at growing intervals."""
    files, clock = door.files, door.clock
    began = clock.monotonic()
    deadline, pause, ask_at, look_at = began + _DEADLINE, _PAUSE, began + _PAUSE, began + _LOOK
    while launches and (now := clock.monotonic()) < deadline:
        yield
        if now < look_at:
            continue
        look_at = now + _LOOK
        texts = ((launch, value_or(files.tail(launch.output, 0, _OUTPUT_MAX), b"")) for launch in launches)
        launches = [launch for launch, text in texts if len(_SCHED.findall(text)) < _LINES]
        if launches and now >= ask_at:
            phases = engine.phases(launch.unit for launch in launches)
            launches = [launch for launch in launches if phases.get(launch.unit, Phase.OVER) is not Phase.OVER]
            ask_at, pause = clock.monotonic() + pause, min(pause * 2, _PAUSE_MAX)


def _traced(launch: Launch, unit: str, folder: str) -> Launch:
    environment = dict(launch.env)
    environment["GODEBUG"] = append_godebug(environment.get("GODEBUG", ""), f"schedtrace={_EVERY_MS}")
    return replace(
        launch,
        unit=unit,
        # Its first lines are enough: nobody waits until it says that it is ready.
        settings=tuple(item for item in launch.settings if item[0] != "Type"),
        env=tuple(environment.items()),
        output=os.path.join(folder, unit),
        runtime_max=_DEADLINE * 2,
        hold_before=0.0,
        hold_after=0.0,
    )
