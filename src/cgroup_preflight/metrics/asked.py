"""The cgroups of another host, asked in rounds: all folders in one question, then all files at once."""

import errno
import os
from collections.abc import Mapping, Sequence

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Known, Missing, Reading, value_or
from cgroup_preflight.core.records import replace
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.procfs import parse_cpu_list, read_kernel
from cgroup_preflight.host.remote.rounds import AskedFs
from cgroup_preflight.host.remote.stamps import AFTER, BEFORE, span_of
from cgroup_preflight.metrics.moment import Moment, MomentReader
from cgroup_preflight.metrics.page import Page
from cgroup_preflight.metrics.readings import Readings
from cgroup_preflight.metrics.samples import HUGE
from cgroup_preflight.metrics.setup import cgroup_mount, scope_of
from cgroup_preflight.metrics.tree import Scope, Tree

#: How much longer than the quickest one half of a reading may take: a share of the time between two of them.
_LATE = 0.1
_REMEDY = Remedy(title="run the command on the host itself")


class AskedDoor:
    """As `door.Door`, for one reading of a tree. Raises HostError where the cgroups cannot be listed."""

    def __init__(self, fs: AskedFs, mount: str) -> None:
        self._fs, self._mount = fs, mount.rstrip("/")
        listed = fs.tree(mount)
        if isinstance(listed, Missing):
            raise HostError(f"its cgroups cannot be listed: {listed}", remedy=_REMEDY)
        self._numbers = dict(listed.value)
        self._children: dict[str, list[str]] = {}
        for path in self._numbers:
            if path:
                above, _, name = path.rpartition("/")
                self._children.setdefault(above, []).append(name)

    def open(self, cgroup: str) -> "AskedFolder":
        """As `door.Door.open`."""
        if cgroup not in self._numbers:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), cgroup)
        return AskedFolder(self._fs, f"{self._mount}{cgroup}", self._numbers[cgroup], self._children.get(cgroup, ()))

    def turn(self) -> None:
        """As `door.Door.turn`; there is one reading."""


class AskedFolder:
    """As `door.Folder`."""

    def __init__(self, fs: AskedFs, path: str, identity: int, children: Sequence[str]) -> None:
        self._fs, self._path, self._children = fs, path, children
        self.identity = identity

    def enter(self) -> None:
        """As `door.Folder.enter`; nothing is kept."""

    def read(self, name: str, keep: bool = True) -> bytes:  # noqa: ARG002, FBT001, FBT002
        """As `door.Folder.read`; nothing is kept."""
        found = self._fs.quick(f"{self._path}/{name}")
        if isinstance(found, Missing):
            number = found.errno or errno.EIO
            raise OSError(number, os.strerror(number), found.source)
        return found.value

    def news(self, names: Sequence[str], known: Mapping[str, bytes]) -> dict[str, bytes]:
        """As `door.Folder.news`."""
        found = {name: self.read(name) for name in names if name in known}
        return {name: data for name, data in found.items() if data != known[name]}

    def children(self) -> Sequence[str]:
        """As `door.Folder.children`."""
        return self._children

    def close(self) -> None:
        """As `door.Folder.close`; nothing is open."""


class SmallNumbers(AskedFs):
    """The files of a host, which may be hostile: one with a number that no kernel has loses the host."""

    def quick(self, path: str) -> Reading[bytes]:
        """As `MachineFs.quick`. Raises HostError."""
        found = super().quick(path)
        if isinstance(found, Known) and HUGE.search(found.value):
            raise HostError("a number in a file has more than 20 digits", where=path, remedy=_REMEDY)
        return found


def moment_of(fs: AskedFs, depth: int) -> Moment:
    """One reading for the diagnosis, at the time of the host's own clock, which is asked first and last. Raises HostError.

    Only where everything was asked in one round, as from the second reading on, is it that of one moment.
    """
    fs = SmallNumbers(fs.answers)
    before = fs.quick(BEFORE)
    mount = cgroup_mount(fs)
    moment = MomentReader(Tree(AskedDoor(fs, mount), Scope(depth=depth), lambda: 0), fs, mount).read()
    span = span_of(before, fs.quick(AFTER))
    stamp = span.middle_ns
    samples = {path: replace(sample, stamp_ns=stamp) for path, sample in moment.snapshot.samples.items()}
    # Of the host's wall clock, that of this machine says nothing.
    snapshot = replace(
        moment.snapshot,
        started_ns=span.began_ns,
        stamp_ns=stamp,
        wall=stamp / 1e9,
        samples=samples,
        slack_ns=span.slack_ns,
    )
    return replace(moment, snapshot=snapshot)


def prompt(moments: Sequence[Moment], seconds: float) -> tuple[Moment, ...]:
    """The readings that are of one moment, when there is one each `seconds`. Raises HostError where most are not.

    All ask the same in the same order, so that each file is as old as in the quickest reading; one that took longer has
    answers that came late, and the time between two of them is not that of the counters. Where a host is that slow, every
    other reading may be later, for twice the time is between them, and so on.
    """
    quickest = min(moment.snapshot.slack_ns for moment in moments)

    def in_time(chosen: Sequence[Moment], span: float) -> tuple[Moment, ...]:
        return tuple(moment for moment in chosen if moment.snapshot.slack_ns - quickest <= span * _LATE * 1e9)

    step = 1
    while step == 1 or len(moments) > 2 * step:
        chosen = moments[::step]
        found = in_time(chosen, seconds * step)
        if len(found) >= 2 and 2 * len(found) >= len(chosen):
            return found
        step *= 2
    late = len(moments) - len(in_time(moments, seconds))
    raise HostError(f"it answered too slowly: {late} of {len(moments)} readings took too long",
                    remedy=Remedy(title="measure longer, or run the command on the host itself"))  # fmt: skip


def page_of(fs: AskedFs, slices: Sequence[str], depth: int) -> Readings:
    """The metrics of the host, read once. Raises HostError, UsageError."""
    fs = SmallNumbers(fs.answers)
    mount = cgroup_mount(fs)
    scope = scope_of(fs, mount, slices, depth)
    online = read_kernel(fs, "/sys/devices/system/cpu/online", parse_cpu_list)
    page = Page(len(value_or(online, frozenset({0}))), scope.covers)
    readings = Readings(Tree(AskedDoor(fs, mount), scope), page)
    readings.refresh()
    return readings
