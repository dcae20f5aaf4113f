"""OOM kills of each unit, counted over all the cgroups that it has had.

systemd removes the cgroup of a service with its counters when the service is started again, but the kernel counts the same
kills in the slices above it, too (memory.events is hierarchical), and those stay. So what a slice has more than all its
units together was counted in cgroups that are gone. It is given to a unit only if it is the only one whose cgroup was
removed in the slice meanwhile; otherwise it is counted for the slice with an empty unit.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from cgroup_preflight.metrics.names import is_slice
from cgroup_preflight.metrics.samples import Sample, Snapshot

_KEY = b"oom_kill "
#: How long, and how many, units are kept whose cgroup is gone and has not come back.
_KEPT_NS = 3600 * 1_000_000_000
_KEPT = 1000


class Removals:
    """The cgroups that were removed in each slice, and when, as the kernel reported it."""

    def __init__(self) -> None:
        self._removed: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
        #: From when on each slice is watched, CLOCK_MONOTONIC in nanoseconds.
        self._since_ns: dict[str, int] = {}

    def watch(self, parent: str, now_ns: int) -> None:
        """From now on every removal in `parent` is reported."""
        self._since_ns[parent] = now_ns

    def lost(self) -> None:
        """Reports were lost: nothing is known of any slice until it is watched again."""
        self._since_ns.clear()
        self._removed.clear()

    def add(self, parent: str, name: str, now_ns: int) -> None:
        """Notes a removal."""
        self._removed[parent].append((now_ns, name))

    def only(self, parent: str, since_ns: int) -> str:
        """The one name that was removed in `parent` since then; empty where there were none, others, or it is unknown."""
        if self._since_ns.get(parent, since_ns + 1) > since_ns:
            return ""
        names = {name for stamp, name in self._removed.get(parent, ()) if stamp >= since_ns}
        return names.pop() if len(names) == 1 else ""

    def drop(self, before_ns: int) -> None:
        """Forgets what was removed before that."""
        for parent, found in tuple(self._removed.items()):
            kept = [item for item in found if item[0] >= before_ns]
            if kept:
                self._removed[parent] = kept
            else:
                del self._removed[parent]


class Ledger:
    """The kills since the first snapshot. A path stands for a unit, over all its cgroups."""

    def __init__(self, removals: Removals) -> None:
        self._removals = removals
        self._samples: Mapping[str, Sample] = {}
        #: The cgroup id and the kills that its file shows.
        self._seen: dict[str, tuple[int, int]] = {}
        #: Of each slice: what its file has shown, what those of the cgroups in it have shown, and what was given away.
        self._shown: Counter[str] = Counter()
        self._below: Counter[str] = Counter()
        self._given: Counter[str] = Counter()
        #: When each slice was read last: all of them, or alone.
        self._all_read_ns = 0
        self._read_ns: dict[str, int] = {}
        self._gone_ns: dict[str, int] = {}
        #: The result: of a unit its kills, of a slice those that no unit can be named for.
        self.kills: Counter[str] = Counter()

    def update(self, snapshot: Snapshot, only: Iterable[str] | None = None) -> set[str]:
        """Takes over a snapshot in which all slices were read, or those of `only`; the paths whose kills changed."""
        before, self._samples = self._samples, snapshot.samples
        changed: set[str] = set()
        slices: set[str] = set()
        for path, names in snapshot.changed.items():
            sample = snapshot.samples.get(path)
            if sample is None:
                self._leave(path)
            elif ("memory.events" in names or path not in self._seen) and self._grow(path, sample, first=not before):
                changed.add(path)
                slices.update((path, path.rpartition("/")[0]))
        changed = {path for path in changed if not is_slice(path)}
        for path in filter(is_slice, slices):
            changed |= self._settle(path)
        if only is None:
            self._all_read_ns = snapshot.started_ns
        else:
            self._read_ns.update(dict.fromkeys(only, snapshot.started_ns))
        self._forget(snapshot.stamp_ns)
        return changed

    def _grow(self, path: str, sample: Sample, *, first: bool) -> bool:
        """Adds what the file of a cgroup shows more than before."""
        count, known = _kills(sample), self._seen.get(path)
        self._seen[path] = (sample.cgroup_id, count)
        self._gone_ns.pop(path, None)
        more = count if known is None or known[0] != sample.cgroup_id else count - known[1]
        if first or more <= 0:
            return False
        if path:
            self._below[path.rpartition("/")[0]] += more
        (self._shown if is_slice(path) else self.kills)[path] += more
        return True

    def _settle(self, path: str) -> set[str]:
        """Gives what a slice has more than all in it to the unit that was removed meanwhile, or to none."""
        more = self._shown[path] - self._below[path] - self._given[path]
        if more <= 0:
            return set()
        self._given[path] += more
        name = self._removals.only(path, max(self._all_read_ns, self._read_ns.get(path, 0)))
        unit = f"{path}/{name}"
        to = unit if name and not is_slice(unit) else path
        self.kills[to] += more
        return {to}

    def _leave(self, path: str) -> None:
        for known in (self._seen, self._shown, self._below, self._given, self._read_ns):
            known.pop(path, None)

    def _forget(self, now_ns: int) -> None:
        """Forgets the kills of units that are gone for long, or longest of too many."""
        for path in self.kills.keys() - self._gone_ns.keys():
            if path not in self._samples:
                self._gone_ns[path] = now_ns
        for path, since in sorted(self._gone_ns.items(), key=lambda item: item[1]):
            if now_ns - since < _KEPT_NS and len(self._gone_ns) <= _KEPT:
                break
            del self._gone_ns[path]
            del self.kills[path]


def _kills(sample: Sample) -> int:
    for row in sample.files.get("memory.events", b"").splitlines():
        if row.startswith(_KEY):
            value = row[len(_KEY) :]
            return int(value) if value.isdigit() else 0
    return 0
