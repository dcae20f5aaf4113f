"""Reads all cgroups below the chosen slices again and again, and only what can have changed.

The kernel counts CPU time, pressure, memory, IO and memory events of all below in each cgroup
(Documentation/admin-guide/cgroup-v2.rst). So a file that shows nothing new in a cgroup is not read in those below it, and
below a cgroup whose files show nothing new at all, none is. How old a value can be is in docs/exporter.md.
"""

import errno
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet

from cgroup_preflight.core.records import dataclass
from cgroup_preflight.metrics.door import Door, Folder
from cgroup_preflight.metrics.names import is_slice
from cgroup_preflight.metrics.samples import Sample, Snapshot

#: How many cgroups are below.
_STRUCTURE = "cgroup.stat"
#: Files that count what is below, too. memory.events is the first: the count of a parent is never newer than a child's.
ACTIVITY = (
    "memory.events", "cpu.stat", "memory.current", "cpu.pressure", "memory.pressure", "io.pressure", "io.stat",
    "memory.swap.current", _STRUCTURE,
)  # fmt: skip
#: Files that change only with another one of the same cgroup.
_FOLLOWING = {
    "memory.events.local": "memory.events",
    "memory.peak": "memory.current",
    "pids.current": "cpu.stat",
}
#: Changes only where a quota is in force: the own one, or one above.
_LOCAL = "cpu.stat.local"
#: Limits, and what changes rarely: read at the first visit and every `SLOW_SECONDS` of a cgroup that is active.
SLOW = (
    "cpu.max", "cpu.weight", "cpu.idle", "cpuset.cpus.effective", "memory.max", "memory.high", "memory.low", "memory.min",
    "memory.swap.max", "pids.max", "pids.events", "irq.pressure",
)  # fmt: skip
_ALL = (*ACTIVITY, *_FOLLOWING, _LOCAL, *SLOW)
_PRESSURES = frozenset(name for name in _ALL if name.endswith(".pressure"))
SLOW_SECONDS = 60.0
#: A new cgroup can be seen before systemd has written its limits: they are read again when it is so old.
NEW_SECONDS = 1.0
#: Every cgroup is read whole at least this often, active or not.
FULL_SECONDS = 300.0
_NS = 1_000_000_000
_SLOW_NS = int(SLOW_SECONDS * _NS)
_NEW_NS = int(NEW_SECONDS * _NS)
#: The cgroup was removed: while it was open, or before.
_GONE = (errno.ENODEV, errno.ENOENT)
_DENIED = (errno.EACCES, errno.EPERM)
#: This process or the kernel has no room for the moment, which says nothing of the cgroup.
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


_Changes = dict[str, bytes | int]


class _Node:
    """What is known of one cgroup."""

    __slots__ = ("children", "folder", "follows", "sample", "slow_ns", "structure")

    def __init__(self, folder: Folder, sample: Sample, *, follows: bool) -> None:
        self.folder = folder
        #: Whether the cgroups in it are read.
        self.follows = follows
        self.sample = sample
        self.children: dict[str, _Node] = {}
        #: The text of cgroup.stat when the children were last listed.
        self.structure: bytes | None = None
        self.slow_ns = sample.stamp_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which cgroups are read: `slices` are paths below the mount, none for all; `depth` is how many levels below a unit.

    With depth 0, what is in a unit is in the numbers of the unit only.
    """

    slices: tuple[str, ...] = ()
    depth: int = 0

    def tops(self) -> tuple[str, ...]:
        """The paths where reading begins, without those that are below another one."""
        chosen = sorted(set(self.slices or ("",)))
        return tuple(
            path for path in chosen if not any(f"{path}/".startswith(f"{top}/") for top in chosen if top != path)
        )

    def above(self) -> tuple[str, ...]:
        """The paths above those: their limits hold below, too."""
        parts = (path.split("/") for path in self.tops())
        return tuple(sorted({"/".join(names[:end]) for names in parts for end in range(1, len(names))}))

    def covers(self, path: str) -> bool:
        """Whether the cgroup is one of the chosen ones, not only above them."""
        return any(f"{path}/".startswith(f"{top}/") for top in self.slices or ("",))


class Tree:
    """All cgroups of a scope; not for several threads at once."""

    def __init__(self, door: Door, scope: Scope | None = None, clock: Callable[[], int] = time.monotonic_ns) -> None:
        scope = scope or Scope()
        self._door = door
        self._depth = scope.depth
        self._tops, self._above = scope.tops(), scope.above()
        self._clock = clock
        self._nodes: dict[str, _Node] = {}
        #: When cgroups came, unless with the first reading; until their limits are read again.
        self._new: dict[str, int] = {}
        self._samples: dict[str, Sample] = {}
        self._changed: dict[str, AbstractSet[str]] = {}
        self._now_ns = 0
        self._errors: Counter[str] = Counter()
        self._rotation: Iterator[str] = iter(())
        self._last_ns = 0

    def snapshot(self, *, full: bool = False, hints: Iterable[str] = ()) -> Snapshot:
        """One reading; `full` reads every file of every cgroup; `hints` are paths where cgroups or limits changed."""
        started = self._now_ns = self._clock()
        self._door.turn()
        for path in dict.fromkeys((*hints, *self._grown(started))):
            if path in self._nodes:
                self._nodes[path].structure = None
                self._nodes[path].slow_ns -= _SLOW_NS
                self._visit(self._nodes[path], ACTIVITY, full=full)
        for path in (*self._above, *self._tops):
            node = self._nodes.get(path)
            if node is None or not self._visit(node, ACTIVITY, full=full):
                self._enter(path)
        if not full:
            self._check_some(started)
        self._last_ns = started
        return self._snapshot(started)

    def events(self, hints: Iterable[str]) -> Snapshot:
        """Only the memory events of the cgroups at `hints`, and of those in them where there are new ones."""
        started = self._now_ns = self._clock()
        self._door.turn()
        for path in sorted(hints):
            if path in self._nodes:
                self._visit_events(self._nodes[path])
        return self._snapshot(started)

    def close(self) -> None:
        """Closes all files."""
        for node in self._nodes.values():
            node.folder.close()
        self._nodes, self._samples = {}, {}

    def _snapshot(self, started: int) -> Snapshot:
        changed, self._changed = self._changed, {}
        return Snapshot(
            started_ns=started, stamp_ns=self._clock(), wall=time.time(), samples=dict(self._samples),
            errors=dict(self._errors), changed=changed,
        )  # fmt: skip

    def _grown(self, now: int) -> list[str]:
        """The cgroups that are new no more."""
        grown = [path for path, since in self._new.items() if now - since >= _NEW_NS]
        for path in grown:
            del self._new[path]
        return grown

    def _enter(self, path: str) -> _Node | None:
        """Reads a cgroup for the first time, with all below; None where it is gone or cannot be opened."""
        try:
            folder = self._door.open(path)
        except OSError as error:
            self._count(error)
            return None
        sample = Sample(cgroup=path, cgroup_id=folder.identity, stamp_ns=self._clock(), files={})
        node = _Node(folder, sample, follows=self._follows(path))
        self._nodes[path] = node
        if self._last_ns:
            self._new[path] = self._now_ns
        return node if self._visit(node, _ALL, full=True) else None

    def _visit(self, node: _Node, names: Sequence[str], *, full: bool) -> bool:
        """Reads `names` of a cgroup, and what is below it if that can have changed; False where it is gone."""
        look = full or node.structure is None
        changed = self._read(node, names, slow=full)
        if changed is None:
            return False
        # The root has no memory.current and memory.events that would show a change below.
        if node.follows and (look or changed or not node.sample.cgroup):
            known = node.sample.files
            if look or known.get(_STRUCTURE) != node.structure:
                self._list(node)
            below = [name for name in (*ACTIVITY, _LOCAL) if name in changed or name not in known]
            # One cgroup more and one less elsewhere are no change above.
            listed = below if _STRUCTURE in below else [*below, _STRUCTURE]
            self._visit_all(node, lambda child: self._visit(child, listed if child.follows else below, full=full))
        return True

    def _visit_events(self, node: _Node) -> bool:
        node.folder.enter()
        try:
            changed = self._news(node, ("memory.events", "memory.events.local"))
            if changed and node.follows and self._is_other(node):
                self._list(node)
        except OSError as error:
            self._lose(node, error)
            return False
        if changed:
            self._keep(node, node.sample.stamp_ns, changed)
            self._visit_all(node, self._visit_events)
        return True

    def _is_other(self, node: _Node) -> bool:
        """Whether cgroups came or went below. The sample keeps its text, so that the next snapshot looks further down."""
        return _STRUCTURE not in node.sample.files or node.folder.read(_STRUCTURE) != node.structure

    def _visit_all(self, node: _Node, visit: Callable[[_Node], bool]) -> None:
        """Visits the cgroups in one; where one is gone, others can have come."""
        gone = [name for name, child in tuple(node.children.items()) if not visit(child)]
        for name in gone:
            node.children.pop(name, None)
        if gone:
            self._list(node)

    def _list(self, node: _Node) -> None:
        """Finds out which cgroups are in one, and reads the new ones."""
        try:
            names = node.folder.children()
        except OSError as error:
            self._count(error)
            return
        # A cgroup without cgroup.stat is listed each time.
        node.structure = node.sample.files.get(_STRUCTURE)
        for name in node.children.keys() - set(names):
            self._forget(node.children.pop(name))
        for name in names:
            if name not in node.children:
                child = self._enter(f"{node.sample.cgroup}/{name}")
                if child is not None:
                    node.children[name] = child
                else:
                    node.structure = None  # so that it is tried again

    def _follows(self, path: str) -> bool:
        """Whether the cgroups in the one at `path` are read."""
        return path not in self._above and (is_slice(path) or _levels_below_unit(path) < self._depth)

    def _forget(self, node: _Node) -> None:
        path = node.sample.cgroup
        for child in node.children.values():
            self._forget(child)
        node.folder.close()
        if self._nodes.get(path) is node:
            del self._nodes[path]
            self._new.pop(path, None)
            self._samples.pop(path, None)
            self._changed[path] = frozenset()

    def _lose(self, node: _Node, error: OSError) -> None:
        self._count(error)
        self._forget(node)

    def _read(self, node: _Node, names: Sequence[str], *, slow: bool) -> _Changes | None:
        """What changed in `names` and what follows from them; None where the cgroup is gone."""
        slow = slow or self._now_ns - node.slow_ns >= _SLOW_NS
        node.folder.enter()
        try:
            changed = self._changes(node, _ALL, retry=True) if slow else self._news(node, names)
            if changed and not slow:
                changed |= self._news(node, _following(node.sample, changed))
        except OSError as error:
            self._lose(node, error)
            return None
        if slow:
            node.slow_ns = self._now_ns
        if changed:
            self._keep(node, self._clock(), changed)
        if not node.sample.files:
            # Every cgroup has cpu.stat: it was removed before its first file was read.
            self._lose(node, FileNotFoundError(errno.ENOENT, "", node.sample.cgroup))
            return None
        return changed

    def _keep(self, node: _Node, now: int, changed: _Changes) -> None:
        old = node.sample
        files, errors = dict(old.files), old.errors
        for name, value in changed.items():
            if isinstance(value, bytes):
                files[name] = value
            else:
                files.pop(name, None)
                errors = {**errors, name: value}
        if errors:
            errors = {name: value for name, value in errors.items() if name not in files and value != errno.ENOENT}
        node.sample = Sample(cgroup=old.cgroup, cgroup_id=old.cgroup_id, stamp_ns=now, files=files, errors=errors)
        self._samples[old.cgroup] = node.sample
        before = self._changed.get(old.cgroup)
        self._changed[old.cgroup] = before | changed.keys() if before else changed.keys()

    def _news(self, node: _Node, names: Sequence[str]) -> _Changes:
        """As `_changes`, of the files that could be read before."""
        known = node.sample.files
        try:
            changed: _Changes = {**node.folder.news(names, known)}
        except OSError as error:
            if error.errno == errno.ENODEV:
                raise
            # One after the other, to know which one it is.
            return self._changes(node, names, retry=False)
        for name in _PRESSURES & changed.keys():
            if _totals(known[name]) == _totals(changed[name]):  # type: ignore[arg-type]
                del changed[name]
        return changed

    def _changes(self, node: _Node, names: Sequence[str], *, retry: bool) -> _Changes:
        """The new text of each file that changed, or the error number of one that cannot be read any more.

        Files that could not be read before are tried only if `retry`. Raises OSError where the cgroup is gone.
        """
        known, read = node.sample.files, node.folder.read
        changed: _Changes = {}
        for name in names:
            old = known.get(name)
            if old is None and not retry:
                continue
            try:
                data = read(name, name not in SLOW)
            except OSError as error:
                number = error.errno or errno.EIO
                if number == errno.ENODEV:
                    raise
                if number in _NO_ROOM:
                    # What is known stays: a counter that goes and comes back would seem to have grown from 0.
                    self._count(error)
                elif old is not None or number not in (errno.ENOENT, node.sample.errors.get(name)):
                    self._count(error)
                    changed[name] = number
                continue
            if data != old and (old is None or not name.endswith(".pressure") or _totals(data) != _totals(old)):
                changed[name] = data
        return changed

    def _check_some(self, now: int) -> None:
        """Reads a share of all cgroups whole, so that each has its turn within `FULL_SECONDS`."""
        since = min((now - self._last_ns) / _NS, FULL_SECONDS) if self._last_ns else 0.0
        share = int(len(self._nodes) * since / FULL_SECONDS) + 1 if since else 0
        for path in itertools.islice(self._turns(), share):
            node = self._nodes.get(path)
            if node is not None and now - node.slow_ns >= _SLOW_NS:
                # Together with what is below it, or that would no longer be seen as changed.
                node.slow_ns -= _SLOW_NS
                self._visit(node, ACTIVITY, full=False)

    def _turns(self) -> Iterator[str]:
        path = next(self._rotation, None)
        if path is None:
            self._rotation = iter(tuple(self._nodes))
            path = next(self._rotation, None)
        while path is not None:
            yield path
            path = next(self._rotation, None)

    def _count(self, error: OSError) -> None:
        number = error.errno
        reason = "vanished" if number in _GONE else "denied" if number in _DENIED else "failed"
        self._errors[reason] += 1


def _following(sample: Sample, changed: _Changes) -> list[str]:
    """The files that can have changed because others did."""
    names = [name for name, cause in _FOLLOWING.items() if cause in changed]
    if "cpu.stat" in changed and not sample.files.get("cpu.max", b"max").startswith(b"max"):
        names.append(_LOCAL)
    return names


def _levels_below_unit(path: str) -> int:
    parts = [part for part in path.split("/") if part]
    slices = next((index for index, part in enumerate(parts) if not part.endswith(".slice")), len(parts))
    return len(parts) - slices - 1


def _totals(text: bytes) -> list[bytes]:
    """The totals of a pressure file without its averages, which change while nothing happens."""
    return [line.rpartition(b"=")[2] for line in text.splitlines()]
