"""Samples to a verdict: whether a stage did harm. Pure.

A verdict needs at least `samples_min` windows with real numbers. Failed wins over Error, Error over Inconclusive, and that
over Success, whatever came last: neither silence nor an error is a success.
"""

import enum
from collections.abc import Iterable, Mapping, Sequence

from cgroup_preflight.config.rollout import Thresholds
from cgroup_preflight.core.records import dataclass, field, replace


class Verdict(enum.IntEnum):
    """What the judge says, the worst last."""

    SUCCESS = 0
    INCONCLUSIVE = 1
    ERROR = 2
    FAILED = 3

    @property
    def word(self) -> str:
        """For the journal and for people."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a Prometheus server answered to one query: None is no answer (empty, NaN); `error` says what went wrong."""

    query: str
    value: float | None = None
    bound: str = ""
    holds: bool | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The numbers of the time between two samples.

    `void`: why nothing can be said (a counter went back, another cgroup). `at_once`: what is taken back without asking
    further. Shares are of the time (pressure, 0 to 1) or of the periods of the quota (throttled, 0 to 1), the worst of
    all slices of the rollout; None where the kernel does not say. Rates are per second. `neighbours` are the shares of
    CPU and memory pressure of sibling slices, by name. `seconds` may be wrong by `slack`, and so may all that is divided
    by it: of another host, the time of a reading is known only as exactly as its answers came together.
    """

    seconds: float
    void: str = ""
    at_once: tuple[str, ...] = ()
    periods: int = 0
    throttled: float | None = None
    cpu_waiting: float | None = None
    memory_stalled: float | None = None
    memory_events: float | None = None
    control_throttled: float | None = None
    control_waiting: float | None = None
    neighbours: Mapping[str, float] = field(default_factory=dict)
    answers: tuple[Answer, ...] = ()
    slack: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdict, the reasons in sentences, and the numbers that it rests on."""

    verdict: Verdict
    reasons: tuple[str, ...]
    numbers: Mapping[str, float]
    samples: int


def judge(windows: Sequence[Window], baseline: Sequence[Window], limits: Thresholds) -> Judgement:
    """The verdict on the windows of one stage, against those before the first change."""
    real = [window for window in windows if not window.void]
    found: list[tuple[Verdict, str]] = [(Verdict.FAILED, reason) for window in windows for reason in window.at_once]
    low, high = ([_at(item, most=most) for item in baseline] for most in (False, True))
    bad = [tuple(_bad(_at(window, most=False), high, limits)) for window in real]
    failed = [reasons for reasons in bad if reasons]
    unsure = [window for window, reasons in zip(real, bad, strict=True)
              if not reasons and _could_be_bad(_at(window, most=True), low, limits)]  # fmt: skip
    if len(failed) > limits.failures_max:
        found += [(Verdict.FAILED, reason) for reason in failed[-1]]
    elif len(failed) + len(unsure) > limits.failures_max:
        # Before the first change, there may be slack, too.
        slack, seconds = max((item.slack, item.seconds) for item in (*unsure, *baseline))
        found.append(
            (Verdict.INCONCLUSIVE, f"the host answered too slowly: {slack:.2g}s of {seconds:.2g}s are in doubt")
        )
    found += _of_answers(real, limits)
    if len(real) < limits.samples_min:
        voided = [window.void for window in windows if window.void]
        why = f"; void: {voided[-1]}" if voided else ""
        found.append((Verdict.INCONCLUSIVE, f"{len(real)} of {limits.samples_min} samples{why}"))
    verdict = max((each for each, _ in found), default=Verdict.SUCCESS)
    reasons = tuple(dict.fromkeys(reason for each, reason in found if each is verdict))
    return Judgement(verdict=verdict, reasons=reasons, numbers=_numbers(real, baseline), samples=len(real))


def _at(window: Window, *, most: bool) -> Window:
    """The window with the largest shares that its slack allows, or the smallest; those of the control slices the other way."""
    if not window.slack:
        return window
    up = window.seconds / max(window.seconds - window.slack, 1e-9)
    down = window.seconds / (window.seconds + window.slack)
    own, control = (up, down) if most else (down, up)
    return replace(
        window, cpu_waiting=_times(window.cpu_waiting, own), memory_stalled=_times(window.memory_stalled, own),
        memory_events=_times(window.memory_events, own), control_waiting=_times(window.control_waiting, control),
        neighbours={name: share * own for name, share in window.neighbours.items()},
    )  # fmt: skip


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _could_be_bad(window: Window, baseline: Sequence[Window], limits: Thresholds) -> bool:
    """Whether a window with its largest shares is a failed one, or one that is taken back at once."""
    stalled = window.slack > 0 and (window.memory_stalled or 0.0) > limits.memory_stalled_max
    return stalled or any(_bad(window, baseline, limits))


def _bad(window: Window, baseline: Sequence[Window], limits: Thresholds) -> Iterable[str]:
    """Why one window is a failed one."""
    # A ratio of few periods says nothing.
    if window.throttled is not None and window.periods >= limits.periods_min:
        allowed = (
            _most((window.control_throttled, _mean(item.throttled for item in baseline))) + limits.throttled_margin
        )
        if window.throttled > allowed:
            yield f"{window.throttled:.0%} of the CPU periods were throttled, and {allowed:.0%} are allowed"
    if window.cpu_waiting is not None:
        usual = _most((window.control_waiting, _mean(item.cpu_waiting for item in baseline)))
        allowed = max(usual * limits.pressure_factor, limits.pressure_floor)
        if window.cpu_waiting > allowed:
            yield f"tasks waited for a CPU {window.cpu_waiting:.0%} of the time, and {allowed:.0%} is allowed"
    if window.memory_events is not None:
        allowed = _most((_mean(item.memory_events for item in baseline),)) + limits.memory_events_max
        if window.memory_events > allowed:
            yield f"{window.memory_events:.1f} memory events a second (high, max), and {allowed:.1f} are allowed"
    for name, share in sorted(window.neighbours.items()):
        allowed = _most((_mean(item.neighbours.get(name) for item in baseline),)) + limits.neighbour_margin
        if share > allowed:
            yield f"{name}, a neighbour, waited {share:.0%} of the time, and {allowed:.0%} is allowed"


def _of_answers(real: Sequence[Window], limits: Thresholds) -> list[tuple[Verdict, str]]:
    """What the queries say: the last answer counts for a bound, and errors only when they follow one another."""
    found: list[tuple[Verdict, str]] = []
    for query in dict.fromkeys(answer.query for window in real for answer in window.answers):
        answers = [answer for window in real for answer in window.answers if answer.query == query]
        broken = [answer for answer in answers if answer.holds is False]
        if len(broken) > limits.failures_max:
            found.append((Verdict.FAILED, f"{query} is {broken[-1].value:g}, and must be {broken[-1].bound}"))
        errors = next((n for n, answer in enumerate(reversed(answers)) if not answer.error), len(answers))
        if errors > limits.errors_max:
            found.append((Verdict.ERROR, f"{query}: {answers[-1].error}"))
        if answers[-1].holds is None:
            found.append((Verdict.INCONCLUSIVE, f"{query} has no value: {answers[-1].error or 'the answer is empty'}"))
    return found


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _most(values: Iterable[float | None]) -> float:
    return max((value for value in values if value is not None), default=0.0)


_NUMBERS = ("throttled", "cpu_waiting", "memory_stalled", "memory_events", "control_throttled", "control_waiting")


def _numbers(real: Sequence[Window], baseline: Sequence[Window]) -> dict[str, float]:
    """The means of the windows, and those of the baseline with `baseline_` before the name."""
    found: dict[str, float] = {"seconds": sum(window.seconds for window in real)}
    for prefix, windows in (("", real), ("baseline_", [item for item in baseline if not item.void])):
        for name in _NUMBERS:
            mean = _mean(getattr(window, name) for window in windows)
            if mean is not None:
                found[f"{prefix}{name}"] = round(mean, 4)
    return found
