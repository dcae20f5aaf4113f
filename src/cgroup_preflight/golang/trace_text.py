"""Reads what `go tool trace -d=parsed` prints: one line for each event, stacks in between.

The text is not a stable format: this one is that of Go 1.22 to 1.27. Its times are those of the trace's own clock; a line
`Sync` has the same moment as CLOCK_MONOTONIC (`Mono`), from Go 1.25 on.
"""

import re
from collections.abc import Iterable, Iterator

from cgroup_preflight.golang.trace import OTHER, RUNNABLE, RUNNING, Generation, Step

_LINE = re.compile(r"M=(-?\d{1,20}) P=-?\d{1,20} G=-?\d{1,20} (\w+) Time=(\d{1,19})(.*)")
_CHANGE = re.compile(r" GoID=(\d{1,20}) \w+->(\w+)")
_MONO = re.compile(r" .*\bTrace=(\d{1,19}) Mono=(\d{1,19})")
_PROCS = re.compile(r' Name="/sched/gomaxprocs:threads" Value=Value\{Uint64\((\d{1,9})\)\}')
_STATES = {"Runnable": RUNNABLE, "Running": RUNNING}
#: Steps of one generation; a longer one is cut into several.
_STEPS_MAX = 200_000


def generations(lines: Iterable[str]) -> Iterator[Generation]:
    """The steps between one `Sync` and the next, as `golang.trace.generations` gives them."""
    steps: list[Step] = []
    threads: set[int] = set()
    procs: int | None = None
    offset: int | None = None
    for line in lines:
        found = _LINE.match(line)
        if found is None:
            continue
        thread, kind, time, rest = int(found[1]), found[2], int(found[3]), found[4]
        if kind == "Sync" or len(steps) >= _STEPS_MAX:
            if steps:
                yield _generation(steps, threads, procs, offset)
                steps, threads, procs = [], set(), None
            synced = _MONO.match(rest)
            offset = int(synced[2]) - int(synced[1]) if synced else offset
        if thread >= 0:
            threads.add(thread)
        if kind == "StateTransition" and (change := _CHANGE.match(rest)):
            steps.append(Step(time + (offset or 0), int(change[1]), _STATES.get(change[2], OTHER)))
        elif kind == "Metric" and (metric := _PROCS.match(rest)):
            procs = int(metric[1])
    if steps:
        yield _generation(steps, threads, procs, offset)


def _generation(steps: list[Step], threads: set[int], procs: int | None, offset: int | None) -> Generation:
    return Generation(
        begin=steps[0].time, end=steps[-1].time, steps=tuple(steps), threads=frozenset(threads), procs=procs,
        whole=True, clock=offset is not None,
    )  # fmt: skip
