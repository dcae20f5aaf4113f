"""Why a service ended, in one line: memory with peak and limit, exit status, or signal. Pure."""

import signal

from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.reading import value_or
from cgroup_preflight.engines.base import Exit, How, UnitState
from cgroup_preflight.host.cgroup import Counters
from cgroup_preflight.up.oom import Reached


def cause_of(state: UnitState, counters: Counters | None, reached: Reached | None) -> str:
    """What to show of a service that ended; the counters are those of its cgroup, if it still existed.

    `reached` is the limit of memory that was reached, None where that is unknown.
    """
    events = value_or(counters.memory_events, {}) if counters is not None else {}
    killed = state.exit is not None and state.exit.how is How.KILLED and state.exit.status == signal.SIGKILL
    if state.result == "oom-kill" or (events.get("oom_kill", 0) and killed):
        return _memory(counters, reached)
    if state.exit is None:
        return f"ended ({state.result or 'nobody knows how'})"
    return _ended(state.exit)


def is_failure(state: UnitState) -> bool:
    """Whether a service that ended needs a restart."""
    return state.result != "success"


def _memory(counters: Counters | None, reached: Reached | None) -> str:
    peak = value_or(counters.memory_peak, None) if counters is not None else None
    used = f": peak {format_bytes(peak)}" if peak else ""
    text = f"killed by the kernel for memory{used}"
    if reached is None:
        return text
    if not reached.unit:
        return f"{text}; no limit was reached, so the machine itself was short of memory"
    return (
        f"{text}, limit {format_bytes(reached.limit)} of {reached.unit}"
        if reached.limit
        else f"{text} in {reached.unit}"
    )


def _ended(ended: Exit) -> str:
    if ended.how is How.EXITED:
        return f"ended with exit status {ended.status}"
    try:
        name = signal.Signals(ended.status).name
    except ValueError:
        name = str(ended.status)
    return f"ended by signal {name}" + (" (core dumped)" if ended.how is How.DUMPED else "")
