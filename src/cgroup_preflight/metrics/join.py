"""Joins traces with readings: whose trace it is (by its threads), and whether both are of the same time."""

from collections import Counter
from collections.abc import Iterator, Sequence

from cgroup_preflight.core import codes
from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.records import replace
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.golang.trace import Generation, NotATraceError
from cgroup_preflight.host.command import LiveRunner
from cgroup_preflight.metrics.go_delays import GoDelays, delays_of
from cgroup_preflight.metrics.moment import Moment
from cgroup_preflight.metrics.traces import TraceData, TraceWord, steps_of
from cgroup_preflight.metrics.window import Series, below, name_of

#: A trace is that of a cgroup that has at least this share of the threads that are still alive.
_MOST = 0.5


class _Seen:
    """What was seen of a trace while its steps passed."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.clock = True

    def through(self, generations: Iterator[Generation]) -> Iterator[Generation]:
        for generation in generations:
            self.threads |= generation.threads
            self.clock = self.clock and generation.clock
            yield generation


def joined(
    item: TraceData, series: Series, moments: Sequence[Moment], tops: Sequence[str], runner: LiveRunner
) -> GoDelays | Finding:  # fmt: skip
    """The delays of one trace within the time of the readings, or the finding that says why there are none."""
    if item.why:
        return _not_done(item.word, item.why, "check that the program runs and has net/http/pprof at that address")
    seen = _Seen()
    begin, end = series.whole.begin, series.whole.end
    try:
        source, steps = steps_of(item.data, runner)
        found = delays_of(seen.through(steps), "", source, begin, end)
    except NotATraceError as error:
        return _not_done(item.word, str(error), "name a file of runtime/trace, or of /debug/pprof/trace")
    if not seen.threads:
        return _not_done(item.word, "it has no events", "trace a program that does something")
    if not seen.clock:
        return _not_done(item.word, "it does not say how its clock relates to that of this machine",
                         "build the program with Go 1.25 or later, or trace it on Linux")  # fmt: skip
    if found is None:
        return _not_done(item.word, "it is of another time than the readings",
                         "trace the program while diagnose runs: --trace http://127.0.0.1:PORT")  # fmt: skip
    path = _named(item.word, series) if item.word.unit else _of_threads(seen.threads, moments, series)
    if path is None:
        return _not_done(item.word, f"there is no cgroup {printable(item.word.unit)} in the readings" if item.word.unit else
                         "it is of another program: none of its threads is in a cgroup that was read",
                         "say whose it is: --trace UNIT=FILE")  # fmt: skip
    if tops and not below(path, tops):
        return _not_done(
            item.word, f"it is of {printable(path)}, which was not chosen", f"add {name_of(path)} to the command"
        )
    return replace(found, path=path)


def _not_done(word: TraceWord, why: str, title: str) -> Finding:
    return codes.GO_TRACE.finding(
        Status.UNVERIFIED, printable(word.place), f"the trace was not used: {why}", Remedy(title=title))  # fmt: skip


def _named(word: TraceWord, series: Series) -> str | None:
    if word.unit.startswith("/"):
        return word.unit if word.unit in series.whole.groups else None
    return next((path for path in series.whole.groups if name_of(path) == word.unit), None)


def _of_threads(threads: set[int], moments: Sequence[Moment], series: Series) -> str | None:
    """The cgroup that most of the threads are in; a thread's number is not given to another one in so short a time."""
    found: Counter[str] = Counter()
    for moment in moments:
        for path, numbers in moment.threads.items():
            mine = len(threads.intersection(numbers))
            found[path] = max(found[path], mine)
    best = max(found, key=lambda path: found[path], default="")
    alive = sum(found.values())
    return best if best in series.whole.groups and found[best] and found[best] >= _MOST * alive else None
