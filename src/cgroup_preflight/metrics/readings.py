"""Snapshots, reports of the kernel and the page, kept together; for one thread at a time."""

import time
from collections.abc import Callable, Iterable

from cgroup_preflight.metrics.chunks import Chunk, Run, gzipped
from cgroup_preflight.metrics.exposition import Style, end, head
from cgroup_preflight.metrics.families import FAMILIES, Family
from cgroup_preflight.metrics.kills import Ledger, Removals
from cgroup_preflight.metrics.names import is_slice
from cgroup_preflight.metrics.own import OWN_FAMILIES, OwnMetrics
from cgroup_preflight.metrics.page import Page
from cgroup_preflight.metrics.samples import Snapshot
from cgroup_preflight.metrics.tree import Tree
from cgroup_preflight.metrics.watch import Reports, Watch


class Readings:
    """The last snapshot and everything that follows from it."""

    def __init__(
        self, tree: Tree, page: Page, watch: Watch | None = None, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._tree = tree
        self._page = page
        self._watch = watch
        self._clock = clock
        self._removals = Removals()
        self._ledger = Ledger(self._removals)
        self._last: Snapshot | None = None
        #: Where cgroups or limits changed since the last snapshot.
        self._hints: set[str] = set()
        self._rescan = False
        self._slices: set[str] = set()
        self._runs: dict[tuple[str, Style], tuple[int, Run]] = {}
        self.own = OwnMetrics()

    @property
    def age_seconds(self) -> float:
        """How old the last snapshot is; without end before the first."""
        return float("inf") if self._last is None else (self._clock() - self._last.started_ns) / 1e9

    def refresh(self) -> None:
        """Takes a snapshot."""
        before = self._last
        self._take(self._reports())
        hints, self._hints = self._hints, set()
        snapshot = self._tree.snapshot(full=self._rescan, hints=hints)
        self._rescan = False
        self._last = snapshot
        self.own.durations.observe((snapshot.stamp_ns - snapshot.started_ns) / 1e9)
        # Once more: what was removed after its slice was read.
        self._take(self._reports())
        since = snapshot.started_ns if before is None else before.started_ns
        self._show(snapshot, None, "snapshot", since)
        self._removals.drop(since)
        self._follow(snapshot)

    def notice(self, woken_ns: int) -> None:
        """Takes what the kernel has reported since then, and reads the memory events again where there can be new ones."""
        reports = self._reports()
        self._take(reports)
        if self._last is None:
            return
        if any(is_slice(f"{path}/{name}") for path, name in reports.created):
            # So that the new slice is watched from its beginning.
            self.refresh()
            return
        if not reports.events:
            return
        snapshot = self._tree.events(reports.events)
        self._take(self._reports())
        self._show(snapshot, reports.events, "report", woken_ns)

    def _reports(self) -> Reports:
        return Reports() if self._watch is None else self._watch.reports()

    def _take(self, reports: Reports) -> None:
        now = self._clock()
        self.own.coalesced += max(reports.count - 1, 0)
        self._hints.update(reports.limits, (path for path, _ in (*reports.created, *reports.removed)))
        for path, name in reports.removed:
            self._removals.add(path, name, now)
        if self._watch is not None:
            self._watch.forget(f"{path}/{name}" for path, name in reports.removed)
        if reports.overflow:
            self._overflow()

    def _overflow(self) -> None:
        """Reports were lost: everything is read, and each slice is watched from its beginning."""
        self.own.errors["overflow"] += 1
        self._removals.lost()
        self._rescan = True
        if self._watch is not None:
            self._watch.forget()

    def _show(self, snapshot: Snapshot, only: Iterable[str] | None, by: str, since_ns: int) -> None:
        changed = self._ledger.update(snapshot, only)
        self._page.update(snapshot, self._ledger.kills, changed)
        if changed:
            self.own.latencies[by].observe((self._clock() - since_ns) / 1e9)

    def _follow(self, snapshot: Snapshot) -> None:
        if self._watch is None:
            return
        for path in filter(is_slice, snapshot.changed):
            if path in snapshot.samples:
                self._slices.add(path)
            else:
                self._slices.discard(path)
        try:
            for path in self._watch.follow(self._slices):
                self._removals.watch(path, self._clock())
                # What came between the snapshot and the watch.
                self._hints.add(path)
        except OSError:
            self.own.errors["watch"] += 1

    def render(self, style: Style, *, packed: bool) -> list[bytes]:
        """The page in parts, with `packed` as one gzip stream."""
        runs = [self._run(family, style) for family in FAMILIES]
        last = Run()
        last.replace([Chunk((self._own(style) + end(style)).encode())])
        runs.append(last)
        return gzipped(runs) if packed else [chunk.data for run in runs for chunk in run.chunks]

    def _run(self, family: Family, style: Style) -> Run:
        """A family with its head."""
        version, known = self._page.version(family), self._runs.get((family.name, style))
        if known is not None and known[0] == version:
            return known[1]
        if known is None:
            run = Run()
            run.replace([Chunk(head(family, style).encode())])
        else:
            run = known[1]
        run.replace((run.chunks[0], *self._page.chunks(family)))
        self._runs[family.name, style] = (version, run)
        return run

    def _own(self, style: Style) -> str:
        last = self._last
        lines = self.own.lines(
            cgroups=0 if last is None else len(last.samples), wall=0.0 if last is None else last.wall,
            errors={**(last.errors if last else {}), **self._page.errors},
        )  # fmt: skip
        return "".join(f"{head(family, style)}{lines[family.name]}" for family in OWN_FAMILIES)

    def close(self) -> None:
        """Closes all files."""
        self._tree.close()
        if self._watch is not None:
            self._watch.close()
