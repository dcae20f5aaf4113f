"""Reads the execution trace of a Go program, format 2 (Go 1.22 to 1.27), as far as it tells who ran and who waited.

The format: a header `go 1.N trace` and NULs; then batches of the events of one thread each, grouped in generations of
about a second; all numbers are varints (src/internal/trace/tracev2/events.go and batch.go in Go's tree). Times count
from CLOCK_MONOTONIC: from Go 1.25 on a generation has a snapshot of both clocks, and before, the trace's clock on Linux
is that clock divided by 64 (src/runtime/tracetime.go).

A trace is the output of another program: every number is checked, and a trace that is cut off is read up to there.
"""

import re
from collections.abc import Iterator

from cgroup_preflight.core.records import dataclass

_HEADER = re.compile(rb"go 1\.(\d{1,3}) trace\x00\x00\x00")
_HEADER_SIZE = 16
#: Formats that this module knows, and the first that has snapshots of the clocks.
KNOWN, _SNAPSHOTS = (22, 23, 25, 26), 25
#: The limit of the format itself (MaxBatchSize).
_BATCH_MAX = 64 << 10
_EVENT_BATCH, _EXPERIMENTAL, _END_OF_GENERATION, _FREQUENCY, _SYNC, _SNAPSHOT = 1, 49, 52, 8, 50, 51
#: Batches of tables, which have no events: stacks, strings, CPU samples.
_TABLES = frozenset((2, 4, 6))
#: How many numbers follow each event; the first is the time since the event before.
_SHAPES = dict(enumerate((
    3, 3, 1, 4, 3,  # ProcsChange, ProcStart, ProcStop, ProcSteal, ProcStatus
    4, 2, 3, 1, 1, 3, 3, 4, 3, 1, 1, 4,  # GoCreate to GoStatus
    3, 1, 2, 3, 2, 2, 2, 3, 2, 2, 1, 2, 2,  # stops of the world, garbage collector, heap
    2, 5, 3, 4, 4, 5,  # labels, tasks, regions, logs
    3, 3, 4, 5,  # GoSwitch, GoSwitchDestroy, GoCreateBlocked, GoStatusStack
), 9)) | dict(enumerate((4, 4, 2, 3, 3, 2, 3, 3, 2), 128))  # from 128 on: the experiment AllocFree  # fmt: skip
_TICK = 64
#: The thread of events that the runtime writes for nobody.
_NO_THREAD = 2**64 - 1

(PROCS_CHANGE, GO_CREATE, GO_CREATE_SYSCALL, GO_START, GO_DESTROY, GO_DESTROY_SYSCALL, GO_STOP, GO_BLOCK, GO_UNBLOCK,
 GO_SYSCALL_BEGIN, GO_SYSCALL_END, GO_SYSCALL_END_BLOCKED, GO_STATUS, GO_SWITCH, GO_SWITCH_DESTROY, GO_CREATE_BLOCKED,
 GO_STATUS_STACK) = (9, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 45, 46, 47, 48)  # fmt: skip

RUNNABLE, RUNNING, OTHER = "runnable", "running", "other"
_WANTED = frozenset((PROCS_CHANGE, GO_CREATE, GO_CREATE_SYSCALL, GO_START, GO_DESTROY, GO_DESTROY_SYSCALL, GO_STOP, GO_BLOCK,
                     GO_UNBLOCK, GO_SYSCALL_BEGIN, GO_SYSCALL_END, GO_SYSCALL_END_BLOCKED, GO_STATUS, GO_SWITCH,
                     GO_SWITCH_DESTROY, GO_CREATE_BLOCKED, GO_STATUS_STACK))  # fmt: skip
#: What an event does to the goroutine that runs on the thread, and whether it still runs there.
_OWN = {
    GO_DESTROY: (OTHER, False), GO_DESTROY_SYSCALL: (OTHER, False), GO_STOP: (RUNNABLE, False), GO_BLOCK: (OTHER, False),
    GO_SYSCALL_BEGIN: (OTHER, True), GO_SYSCALL_END: (RUNNING, True), GO_SYSCALL_END_BLOCKED: (RUNNABLE, False),
}  # fmt: skip
#: What an event does to the goroutine that it names.
_NAMED = {GO_CREATE: RUNNABLE, GO_CREATE_BLOCKED: OTHER, GO_UNBLOCK: RUNNABLE, GO_START: RUNNING,
          GO_CREATE_SYSCALL: OTHER, GO_SWITCH: RUNNING, GO_SWITCH_DESTROY: RUNNING}  # fmt: skip
_TAKES_OVER = frozenset((GO_START, GO_CREATE_SYSCALL, GO_SWITCH, GO_SWITCH_DESTROY))

_STATUS = {1: RUNNABLE, 2: RUNNING, 3: OTHER, 4: OTHER}


class NotATraceError(ValueError):
    """The file is no trace, or of a format that this module does not know; says which."""


@dataclass(frozen=True, slots=True)
class Step:
    """A goroutine changes its state at a time in nanoseconds of CLOCK_MONOTONIC."""

    time: int
    goroutine: int
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """About a second of a trace: the steps in order, the threads (numbers of gettid(2)), GOMAXPROCS if it was said.

    `whole` is false where the file ends, or is damaged, within it. `clock`: whether times are CLOCK_MONOTONIC.
    """

    begin: int
    end: int
    steps: tuple[Step, ...]
    threads: frozenset[int]
    procs: int | None
    whole: bool
    clock: bool


@dataclass(frozen=True, slots=True)
class _Batch:
    generation: int
    thread: int
    time: int
    data: memoryview


def format_of(data: bytes) -> int:
    """The N of `go 1.N trace`. Raises NotATraceError."""
    found = _HEADER.match(data)
    if found is None:
        raise NotATraceError("it is not a Go execution trace")
    return int(found[1])


def generations(data: bytes) -> Iterator[Generation]:
    """The generations of a trace in order. Raises NotATraceError."""
    version = format_of(data)
    if version not in KNOWN:
        raise NotATraceError(f"its format is that of Go 1.{version}; known are those of Go 1.22 to 1.27")
    cursors: dict[int, int] = {}
    known: dict[int, str] = {}
    pending: list[_Batch] = []
    whole = True
    for batch in _batches(memoryview(data)[_HEADER_SIZE:]):
        if batch is None:
            whole = False
            break
        if pending and batch.generation != pending[0].generation:
            yield _generation(pending, version, cursors, known, whole=True)
            pending = []
        pending.append(batch)
    if pending:
        yield _generation(pending, version, cursors, known, whole=whole)


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number and the place after it. Raises IndexError at the end of the data, ValueError for more than 64 bits."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _batches(data: memoryview) -> Iterator[_Batch | None]:
    """Every batch of events; None at the end where the data is cut off or damaged."""
    at = 0
    while at < len(data):
        kind = data[at]
        at += 1
        if kind == _END_OF_GENERATION:
            continue
        try:
            if kind not in (_EVENT_BATCH, _EXPERIMENTAL):
                raise ValueError("not a batch")
            at += kind == _EXPERIMENTAL
            numbers = []
            for _ in range(4):
                number, at = _varint(data, at)
                numbers.append(number)
            generation, thread, time, size = numbers
            if size > _BATCH_MAX or at + size > len(data):
                raise ValueError("longer than the file")
        except (ValueError, IndexError):
            yield None
            return
        if kind == _EVENT_BATCH:
            yield _Batch(generation, thread, time, data[at : at + size])
        at += size


def _generation(
    batches: list[_Batch], version: int, cursors: dict[int, int], known: dict[int, str], *, whole: bool
) -> Generation:  # fmt: skip
    """The steps of one generation; `cursors` (who runs on each thread) and `known` (states) go on to the next."""
    frequency, snapshot, raw = 0, None, []
    procs: int | None = None
    for batch in batches:
        first = batch.data[0] if batch.data else 0
        if first in _TABLES:
            continue
        try:
            if first in (_FREQUENCY, _SYNC):
                frequency, snapshot = _clocks(batch, frequency, snapshot)
            else:
                raw += _events(batch)
        except (ValueError, IndexError):
            whole = False
    raw.sort(key=lambda event: event[0])
    scale = 10**9 / frequency if frequency else float(_TICK)
    offset = snapshot[1] - snapshot[0] * scale if snapshot else 0.0
    steps: list[Step] = []
    for time, thread, kind, first_argument, second, third in raw:
        if kind == PROCS_CHANGE:
            procs = first_argument
            continue
        at = int(time * scale + offset)
        for goroutine, state in _states(thread, kind, first_argument, second, third, cursors, known):
            known[goroutine] = state
            steps.append(Step(at, goroutine, state))
    times = [batch.time for batch in batches] if not raw else [raw[0][0], raw[-1][0]]
    return Generation(
        begin=int(min(times) * scale + offset), end=int(max(times) * scale + offset), steps=tuple(steps),
        threads=frozenset(event[1] for event in raw) - {_NO_THREAD}, procs=procs, whole=whole,
        clock=snapshot is not None or (version < _SNAPSHOTS and frequency * _TICK == 10**9),
    )  # fmt: skip


def _clocks(
    batch: _Batch, frequency: int, snapshot: tuple[int, int] | None
) -> tuple[int, tuple[int, int] | None]:  # fmt: skip
    """Ticks in a second, and the same moment in ticks and in nanoseconds of CLOCK_MONOTONIC."""
    data, time = batch.data, batch.time
    at = 1 if data[0] == _SYNC else 0
    while at < len(data):
        kind = data[at]
        if kind == _FREQUENCY:
            frequency, at = _varint(data, at + 1)
        elif kind == _SNAPSHOT:
            passed, at = _varint(data, at + 1)
            time += passed
            mono, at = _varint(data, at)
            _, at = _varint(data, at)
            _, at = _varint(data, at)
            snapshot = (time, mono)
        else:
            raise ValueError("not a clock")
    return frequency, snapshot


_Event = tuple[int, int, int, int, int, int]


def _events(batch: _Batch) -> list[_Event]:
    """Time, thread, kind and three numbers of each event that matters here. Raises ValueError, IndexError."""
    data, at, time, thread, size = batch.data, 0, batch.time, batch.thread, len(batch.data)
    found: list[_Event] = []
    while at < size:
        kind = data[at]
        count = _SHAPES.get(kind)
        if count is None:
            raise ValueError("not an event")
        numbers = [0, 0, 0, 0, 0]
        at += 1
        for index in range(count):
            byte = data[at]
            if byte < 0x80:
                numbers[index] = byte
                at += 1
            else:
                numbers[index], at = _varint(data, at)
        time += numbers[0]
        if kind in _WANTED:
            found.append((time, thread, kind, numbers[1], numbers[2], numbers[3]))
    return found


def _states(
    thread: int, kind: int, first: int, second: int, third: int, cursors: dict[int, int], known: dict[int, str]
) -> Iterator[tuple[int, str]]:  # fmt: skip
    """Which goroutine is in which state after an event; `cursors` says which one runs on each thread."""
    if kind in _OWN:
        state, stays = _OWN[kind]
        current = cursors.get(thread) if stays else cursors.pop(thread, None)
        if current is not None:
            yield current, state
    elif kind in _NAMED:
        if kind in (GO_SWITCH, GO_SWITCH_DESTROY) and thread in cursors:
            yield cursors[thread], OTHER
        if kind in _TAKES_OVER:
            cursors[thread] = first
        yield first, _NAMED[kind]
    else:  # GO_STATUS: a goroutine of which this generation has not spoken yet, on thread `second`
        state = _STATUS.get(third, OTHER)
        if third in (2, 3):
            cursors[second] = first
        if known.get(first) != state:
            yield first, state
