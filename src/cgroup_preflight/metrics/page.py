"""The lines of all cgroups, made again only where something changed.

A row has the lines of one cgroup, a segment the rows of one slice. For each family a segment has one chunk of text, which
stays as it is, compressed too, while no line in it changes.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet

from cgroup_preflight.metrics import families
from cgroup_preflight.metrics.chunks import Chunk
from cgroup_preflight.metrics.effective import FILES, Effective, effective_limits, has_tasks
from cgroup_preflight.metrics.families import FAMILIES, SOURCES, Family, Source, label_text, line, number
from cgroup_preflight.metrics.names import labels
from cgroup_preflight.metrics.samples import Sample, Snapshot


def _effective(text_labels: str, found: Effective) -> tuple[str, ...]:
    return (
        line(families.CPU_EFFECTIVE, text_labels, number(found.cpus)),
        "" if found.weight is None else line(families.CPU_WEIGHT, text_labels, str(found.weight)),
        "" if found.entitlement is None else line(families.CPU_ENTITLEMENT, text_labels, f"{found.entitlement:.6f}"),
        line(families.MEMORY_EFFECTIVE, text_labels, number(found.memory)),
    )


#: What is no file: families and positions as in `SOURCES`.
_COMPUTED = {
    "effective": (families.CPU_EFFECTIVE, families.CPU_WEIGHT, families.CPU_ENTITLEMENT, families.MEMORY_EFFECTIVE),
    "kills": (families.OOM_KILLS,),
    "generation": (families.GENERATION,),
}


def _places() -> tuple[dict[str, range], dict[str, list[int]]]:
    """The places in a row of the lines of each source, and those of each family."""
    by_source: dict[str, range] = {}
    by_family: dict[str, list[int]] = {family.name: [] for family in FAMILIES}
    end = 0
    for name, found in ({name: source.families for name, source in SOURCES.items()} | _COMPUTED).items():
        by_source[name] = range(end, end + len(found))
        for place, family in zip(by_source[name], found, strict=True):
            by_family[family.name].append(place)
        end += len(found)
    return by_source, by_family


_BY_SOURCE, _BY_FAMILY = _places()
_PLACES = sum(len(places) for places in _BY_SOURCE.values())
_FAMILY_AT = {place: name for name, places in _BY_FAMILY.items() for place in places}
_EMPTY = Chunk(b"")


class _Segment:
    """The rows of one slice."""

    __slots__ = ("chunks", "dirty", "rows")

    def __init__(self) -> None:
        self.rows: dict[str, _Row] = {}
        self.dirty: set[int] = set(range(_PLACES))
        self.chunks: list[Chunk] = [_EMPTY] * _PLACES

    def refresh(self) -> list[int]:
        """Makes the chunks again in which a line changed; the places of those that are others now."""
        changed = []
        for place in self.dirty:
            data = "".join([row.lines[place] for row in self.rows.values()]).encode()
            if data != self.chunks[place].data:
                self.chunks[place] = Chunk(data) if data else _EMPTY
                changed.append(place)
        self.dirty.clear()
        return changed


class _Row:
    """The lines of one cgroup."""

    __slots__ = ("effective", "labels", "lines", "path", "segment")

    def __init__(self, path: str, segment: _Segment, text_labels: str) -> None:
        self.path = path
        self.segment = segment
        self.labels = text_labels
        self.lines: list[str] = [""] * _PLACES
        self.effective: Effective | None = None

    def put(self, source: str, lines: tuple[str, ...]) -> None:
        """Replaces the lines of one source."""
        place = _BY_SOURCE[source].start
        for text in lines:
            if self.lines[place] != text:
                self.lines[place] = text
                self.segment.dirty.add(place)
            place += 1


class Page:
    """The lines of all cgroups that `covers` accepts, on a host with `cpus` CPUs."""

    def __init__(self, cpus: int, covers: Callable[[str], bool]) -> None:
        self._cpus = cpus
        self._covers = covers
        self._rows: dict[str, _Row] = {}
        self._segments: dict[str, _Segment] = {}
        self._taken: dict[str, str] = {}
        #: By reason, what could not become lines: `malformed`, and `duplicate` for two cgroups with the same labels.
        self.errors: Counter[str] = Counter(malformed=0, duplicate=0)
        #: How often the chunks of each family became others.
        self._versions: Counter[str] = Counter()
        self._known: Mapping[str, Sample] = {}
        self._gone = _EMPTY

    def update(self, snapshot: Snapshot, kills: Mapping[str, int], killed: Iterable[str]) -> None:
        """Takes over a snapshot and the OOM kills of each unit; those of `killed` are others than before."""
        before, self._known = self._known, snapshot.samples
        limits = False
        for path, names in snapshot.changed.items():
            old, sample = before.get(path), snapshot.samples.get(path)
            if sample is None:
                self._remove(path)
                limits = True
                continue
            if old is None or old.cgroup_id != sample.cgroup_id:
                self._remove(path)
                limits = True
            else:
                limits = limits or not names.isdisjoint(FILES)
                limits = limits or ("pids.current" in names and has_tasks(old) != has_tasks(sample))
            if path in self._rows or self._covers(path):
                self._update_row(path, sample, names, kills.get(path, 0))
        for row in (self._rows[path] for path in killed if path in self._rows):
            row.put("kills", (line(families.OOM_KILLS, row.labels, str(kills[row.path])),))
        if limits:
            self._update_limits(snapshot.samples)
        for name, segment in tuple(self._segments.items()):
            if not segment.rows:
                del self._segments[name]
                self._versions.update(_BY_FAMILY)
            elif segment.dirty:
                self._versions.update(_FAMILY_AT[place] for place in segment.refresh())
        gone = "".join(self._gone_kills(kills)).encode()
        if gone != self._gone.data:
            self._gone = Chunk(gone)
            self._versions[families.OOM_KILLS.name] += 1

    def _gone_kills(self, kills: Mapping[str, int]) -> Iterator[str]:
        """The kills of units that have no cgroup now."""
        for path in (path for path in kills if path not in self._rows):
            found = labels(path)
            text_labels = label_text(found.slice, found.unit)
            if self._covers(path) and text_labels not in self._taken:
                yield line(families.OOM_KILLS, text_labels, str(kills[path]))

    def _update_row(self, path: str, sample: Sample, names: AbstractSet[str], kills: int) -> None:
        row = self._rows.get(path)
        if row is None:
            row, names = self._new_row(path, kills), sample.files.keys()
            if row is None:
                return
            row.put("generation", (f'slice_unit_generation_info{{{row.labels},cgroup_id="{sample.cgroup_id}"}} 1\n',))
        for name in names:
            source = SOURCES.get(name)
            if source is not None:
                row.put(name, self._lines(source, row.labels, sample.files.get(name)))

    def _lines(self, source: Source, text_labels: str, data: bytes | None) -> tuple[str, ...]:
        try:
            if data is not None:
                return source.make(text_labels, data.decode())
        except ValueError:
            self.errors["malformed"] += 1
        return ("",) * len(source.families)

    def _new_row(self, path: str, kills: int) -> _Row | None:
        found = labels(path)
        text_labels = label_text(found.slice, found.unit)
        if self._taken.setdefault(text_labels, path) != path:
            self.errors["duplicate"] += 1
            return None
        segment = self._segments.setdefault(found.slice, _Segment())
        row = self._rows[path] = segment.rows[path] = _Row(path, segment, text_labels)
        row.put("kills", (line(families.OOM_KILLS, text_labels, str(kills)),))
        return row

    def _remove(self, path: str) -> None:
        row = self._rows.pop(path, None)
        if row is not None:
            del row.segment.rows[path], self._taken[row.labels]
            row.segment.dirty.update(place for place, text in enumerate(row.lines) if text)

    def _update_limits(self, samples: Mapping[str, Sample]) -> None:
        for path, found in effective_limits(samples, self._cpus).items():
            row = self._rows.get(path)
            if row is not None and row.effective != found:
                row.put("effective", _effective(row.labels, found))
                row.effective = found

    def version(self, family: Family) -> int:
        """Another number whenever the chunks of a family are others."""
        return self._versions[family.name]

    def chunks(self, family: Family) -> Iterator[Chunk]:
        """The lines of one family, without empty chunks."""
        for place in _BY_FAMILY[family.name]:
            for segment in self._segments.values():
                if segment.chunks[place] is not _EMPTY:
                    yield segment.chunks[place]
        if family is families.OOM_KILLS and self._gone.data:
            yield self._gone
