"""The reader of execution traces: who waited and who ran, in each format, and what is cut off, damaged or none."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgroup_preflight.golang import trace_text
from cgroup_preflight.golang.trace import KNOWN, NotATraceError, Step, generations
from tests.unit.golang.traces import (
    BLOCK,
    CREATE,
    PROCS,
    START,
    STATUS,
    STOP,
    SYSCALL,
    SYSCALL_BLOCKED,
    SYSCALL_END,
    TICK,
    UNBLOCK,
    batch,
    events,
    header,
    sync,
    trace,
)  # fmt: skip

_SECOND = 10**9


def _at(ticks: int) -> int:
    return _SECOND + ticks * TICK


#: Thread 41 starts goroutine 1, which creates 2 and blocks; 2 waits 300 ticks, runs, and stops; thread 42 wakes 1 up.
_FIRST = batch(41, 100, events(
    (PROCS, 0, 4, 0), (STATUS, 0, 1, 41, 2), (CREATE, 100, 2, 0, 0), (BLOCK, 100, 0, 0), (START, 200, 2, 1), (STOP, 50, 0, 0),
))  # fmt: skip
_SECOND_THREAD = batch(42, 1000, events((UNBLOCK, 0, 1, 1, 0)))
_STEPS = (
    Step(_at(100), 1, "running"), Step(_at(200), 2, "runnable"), Step(_at(300), 1, "other"), Step(_at(500), 2, "running"),
    Step(_at(550), 2, "runnable"), Step(_at(1000), 1, "runnable"),
)  # fmt: skip


@pytest.mark.parametrize("version", KNOWN)
def test_each_format_gives_the_same_steps_on_the_clock_of_the_kernel(version: int) -> None:
    (found,) = generations(trace(_FIRST, _SECOND_THREAD, version=version))
    # Before 1.25 the clock of the trace is that of the kernel without an offset.
    shift = 0 if version >= 25 else -_SECOND
    assert found.steps == tuple(Step(step.time + shift, step.goroutine, step.state) for step in _STEPS)
    assert (found.threads, found.procs, found.whole, found.clock) == (frozenset({41, 42}), 4, True, True)


def test_a_syscall_that_blocks_waits_for_a_p_afterwards() -> None:
    data = events((STATUS, 0, 7, 41, 2), (SYSCALL, 1, 1, 0), (SYSCALL_END, 1), (SYSCALL, 1, 1, 0), (SYSCALL_BLOCKED, 1))
    (found,) = generations(trace(batch(41, 0, data)))
    assert [step.state for step in found.steps] == ["running", "other", "running", "other", "runnable"]


def test_a_generation_that_says_again_what_is_known_is_no_step() -> None:
    again = sync(2000, 2) + batch(41, 2000, events((STATUS, 0, 2, 2**64 - 1, 1), (START, 10, 2, 2)), 2)
    first, second = generations(trace(_FIRST, version=25) + again)
    assert second.steps == (Step(_at(2010), 2, "running"),)
    assert first.whole
    assert second.whole


def test_tables_and_batches_of_experiments_are_passed_over() -> None:
    stacks = batch(41, 0, b"\x02\x03\x01")
    experiment = b"\x31\x01" + batch(41, 0, b"whatever")[1:]
    (found,) = generations(trace(stacks, experiment, _FIRST))
    assert len(found.steps) == 5


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a Go execution trace"), (b"\x7fELF", "not a Go execution trace"),
        (b"go 1.x trace\0\0\0", "not a Go execution trace"),
        (header(21), "that of Go 1.21; known are"), (header(99), "that of Go 1.99; known are"),
    ],
)  # fmt: skip
def test_what_is_no_trace_or_of_another_format_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(NotATraceError, match=says):
        list(generations(data))


@given(st.integers(16, len(trace(_FIRST, _SECOND_THREAD)) - 1))
def test_a_trace_that_is_cut_off_is_read_up_to_there(length: int) -> None:
    for found in generations(trace(_FIRST, _SECOND_THREAD)[:length]):
        assert set(found.steps) <= set(_STEPS)


@settings(max_examples=300)
@given(st.binary(max_size=400), st.sampled_from(KNOWN))
def test_any_bytes_are_a_trace_or_none_and_never_a_defect(data: bytes, version: int) -> None:
    list(generations(header(version) + data))


@given(st.data())
def test_damaged_traces_are_never_a_defect(data: st.DataObject) -> None:
    content = bytearray(trace(_FIRST, sync(2000, 2), _SECOND_THREAD))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(16, len(content) - 1))] = data.draw(st.integers(0, 255))
    list(generations(bytes(content)))


_TEXT = """\
M=-1 P=-1 G=-1 Sync Time=1000 N=1 Trace=1000 Mono=1000001000 Wall=2026-11-29T14:01:03Z
M=41 P=0 G=1 Metric Time=1100 Name="/sched/gomaxprocs:threads" Value=Value{Uint64(4)}
Stack=
\truntime.main @ 0x1
M=41 P=0 G=1 StateTransition Time=1200 GoID=2 NotExist->Runnable Reason=""
M=41 P=0 G=-1 StateTransition Time=1300 ProcID=0 Idle->Running Reason=""
M=41 P=0 G=-1 StateTransition Time=1400 GoID=2 Runnable->Running Reason=""
M=41 P=0 G=2 StateTransition Time=1500 GoID=2 Running->Waiting Reason="\x1b[2J"
"""


def test_the_text_of_the_tool_gives_steps_too() -> None:
    (found,) = trace_text.generations(_TEXT.splitlines(keepends=True))
    assert found.steps == (
        Step(_SECOND + 1200, 2, "runnable"), Step(_SECOND + 1400, 2, "running"), Step(_SECOND + 1500, 2, "other"),
    )  # fmt: skip
    assert (found.threads, found.procs, found.clock) == (frozenset({41}), 4, True)


def test_without_a_sync_the_text_has_no_clock() -> None:
    lines = [line.replace("Trace=1000 Mono=1000001000", "N=2") for line in _TEXT.splitlines()]
    (found,) = trace_text.generations(lines)
    assert not found.clock


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    list(trace_text.generations(text.splitlines(keepends=True)))
