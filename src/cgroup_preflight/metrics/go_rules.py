"""What the scheduler's delays of a Go program say together with the kernel's counters: the kernel stops it (G1), it
waits for itself (G2), or others of its cgroup wait (G3). Pure.

A goroutine that is `runnable` waits for a P, one of GOMAXPROCS. One that is `running` has a P, but the thread may still
wait for a CPU: then more goroutines "run" than the cgroup used CPU time.
"""

import math
from collections.abc import Iterator, Sequence

from cgroup_preflight.core import codes
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.metrics.cpu_rules import WAITING
from cgroup_preflight.metrics.diagnosis import Confidence, Diagnosis, at_most, grade, percent
from cgroup_preflight.metrics.go_delays import GoDelays
from cgroup_preflight.metrics.window import Cpu, Series, Window, name_of

#: The runtime takes a P from a goroutine after 10 ms (forcePreemptNS in runtime/proc.go): longer delays are a queue.
_DELAY = 0.010
#: On average this many goroutines wait.
_QUEUE = 0.2
_CALM = 0.05
_RATIO = 0.05
_SATURATED = 0.9
_STEADY = 0.7
_KERNEL_RULES = ("C1", "C2", "C3")


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """One Go process in its cgroup: goroutines that waited and ran on average, and the rest of what the rules need."""

    series: Series
    delays: GoDelays
    cpu: Cpu
    waited: float
    ran: float
    silent: float

    @property
    def queued(self) -> bool:
        """Whether goroutines waited long for a P."""
        return self.delays.p99 >= _DELAY and self.waited >= _QUEUE

    @property
    def stopped(self) -> bool:
        """Whether goroutines had a P and no CPU: the kernel ran somebody else, or nobody."""
        return self.ran - self.cpu.usage >= max(0.2, 0.2 * self.ran)

    @property
    def waiting(self) -> float | None:
        """The share of the time in which a task of the cgroup waited for a CPU."""
        return self.cpu.pressure.waiting if self.cpu.pressure else None


def go_diagnoses(series: Series, found: Sequence[Diagnosis], delays: Sequence[GoDelays]) -> tuple[Diagnosis, ...]:
    """One answer at most for each Go process; `found` are the answers of the kernel's counters."""
    answers: list[Diagnosis] = []
    for item in delays:
        group, share = series.whole.groups.get(item.path), item.share(series.whole.begin, series.whole.end)
        if group is None or group.cpu is None or share is None:
            continue
        view = _View(series=series, delays=item, cpu=group.cpu, waited=share[0], ran=share[1], silent=share[2])
        kernel = next((one for one in found if one.victim == item.path and one.rule in _KERNEL_RULES), None)
        answers += [*_judged(view, kernel)][:1]
    return tuple(answers)


def _judged(view: _View, kernel: Diagnosis | None) -> Iterator[Diagnosis]:
    if kernel is not None:
        if view.queued or view.stopped:
            yield _confirmed(view, kernel)
        elif view.waiting is not None:
            yield _others(view)
    elif view.queued and not _throttled(view.series.whole, view.delays.path) and (view.waiting or 0.0) < _CALM:
        yield _inside(view)
    elif view.waiting is not None and view.waiting >= WAITING and not view.queued and not view.stopped:
        yield _others(view)


def _throttled(window: Window, path: str) -> bool:
    """Whether a quota on the path stopped anybody."""
    group = window.groups.get(path)
    levels = [*([group] if group else []), *window.above(path)]
    return any(level.cpu is not None and level.cpu.ratio >= _RATIO for level in levels)


def _confirmed(view: _View, kernel: Diagnosis) -> Diagnosis:
    """G1: how often the kernel's cause and the delay come together decides how sure it is."""
    together = caused = 0
    for part in view.series.parts:
        share, group = view.delays.share(part.begin, part.end), part.groups.get(view.delays.path)
        if share is None or group is None or group.cpu is None:
            continue
        pressed = group.cpu.pressure is not None and group.cpu.pressure.waiting >= WAITING
        if pressed or _throttled(part, view.delays.path):
            caused += 1
            together += share[0] >= _QUEUE or share[1] - group.cpu.usage >= max(0.2, 0.2 * share[1])
    confidence = at_most(
        grade(caused > 0 and together >= _STEADY * caused, view.delays.whole), kernel.confidence
    )  # fmt: skip
    where = "its own limit" if kernel.cause == kernel.victim else name_of(kernel.cause)
    return Diagnosis(
        code=codes.GO_KERNEL, rule="G1", victim=view.delays.path, cause=kernel.cause, confidence=confidence,
        message=f"goroutines that could run waited ({_delay_words(view)}) in the same {together} of {caused} parts of the "
                f"time as the kernel's cause ({kernel.rule}, {kernel.code.code}): that confirms it: {where}",
        evidence={**_evidence(view), "kernel_rule": kernel.rule, "parts": caused, "parts_together": together},
        remedies=kernel.remedies[:1],
    )  # fmt: skip


def _inside(view: _View) -> Diagnosis:
    """G2: nobody else has a part in it."""
    room = _room(view.series.whole, view.delays.path, view.cpu)
    procs, wanted = view.delays.procs, view.waited + view.ran
    saturated = procs is not None and view.ran >= _SATURATED * procs
    steady = [view.delays.share(part.begin, part.end) for part in view.series.parts]
    seen = [share for share in steady if share is not None]
    confidence = grade(
        saturated and procs is not None and room >= procs + 1, view.waiting is not None and view.delays.whole,
        sum(share[0] >= _QUEUE for share in seen) >= _STEADY * max(len(seen), 1),
    )  # fmt: skip
    if not saturated:
        reason, remedies = "not all of its threads were busy: locks or the garbage collector may be the cause", _PROFILE
    elif procs is not None and room >= procs + 1:
        enough = min(math.ceil(wanted), int(room))
        reason = f"GOMAXPROCS={procs} is too low: {wanted:.1f} goroutines wanted to run, and it could use {room:g} CPUs"
        remedies = (
            Remedy(title=f"set Environment=GOMAXPROCS={enough} for its unit, or remove the setting that lowers it",
                   why="every P was busy while CPUs were free"),
        )  # fmt: skip
    else:
        reason, remedies = "all the CPUs that it may use are busy with its own work", _PROFILE
        confidence = at_most(confidence, Confidence.MEDIUM)
    return Diagnosis(
        code=codes.GO_INSIDE, rule="G2", victim=view.delays.path, cause=view.delays.path, confidence=confidence,
        message=f"goroutines that could run waited ({_delay_words(view)}), but the kernel stopped nobody: {reason}",
        evidence={**_evidence(view), "gomaxprocs": procs, "cpus_it_may_use": room},
        remedies=remedies,
    )  # fmt: skip


_PROFILE = (
    Remedy(title="read go tool trace -pprof=sync and -pprof=sched of the same trace",
           why="they name the functions that wait"),
)  # fmt: skip


def _room(window: Window, path: str, cpu: Cpu) -> float:
    """The CPUs that a cgroup may use: online, allowed, and the least quota of its path."""
    quotas = [level.cpu.quota for level in window.above(path) if level.cpu and level.cpu.quota is not None]
    own = [cpu.quota] if cpu.quota is not None else []
    return min([float(window.host.cpus), float(cpu.allowed or window.host.cpus), *own, *quotas])


def _others(view: _View) -> Diagnosis:
    """G3: tasks of the cgroup waited, and the goroutines of this process did not."""
    calm = view.delays.p99 < _DELAY / 2 and view.silent < 2 * _DELAY
    confidence = grade(calm, view.delays.whole)
    if _throttled(view.series.whole, view.delays.path):
        confidence = Confidence.LOW  # a quota stops running goroutines, too, and that shows as little delay
    return Diagnosis(
        code=codes.GO_OTHERS, rule="G3", victim=view.delays.path, cause=view.delays.path, confidence=confidence,
        message=f"tasks waited for a CPU in {percent(view.waiting or 0.0)} of the time, but goroutines of the traced process "
                f"hardly did ({_delay_words(view)}): other processes of the cgroup wait",
        evidence=_evidence(view),
        remedies=(Remedy(title="give the other processes of the unit a unit of their own, with its own CPUWeight",
                         why="then they do not compete within one cgroup"),),
    )  # fmt: skip


def _delay_words(view: _View) -> str:
    return f"p99 {1000 * view.delays.p99:.1f} ms, {view.waited:.1f} goroutines on average"


def _evidence(view: _View) -> dict[str, str | int | float | bool | None]:
    found: dict[str, str | int | float | bool | None] = {
        "delays": view.delays.count,
        "delay_median_ms": round(view.delays.median * 1000, 3),
        "delay_p99_ms": round(view.delays.p99 * 1000, 3),
        "delay_longest_ms": round(view.delays.longest * 1000, 3),
        "goroutines_waiting": round(view.waited, 2),
        "goroutines_running": round(view.ran, 2),
        "longest_silence_ms": round(view.silent * 1000, 1),
        "usage_cpus": round(view.cpu.usage, 3),
        "cpu_waiting": None if view.waiting is None else round(view.waiting, 3),
        "read_with": view.delays.source,
    }
    return found
