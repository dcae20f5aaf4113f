"""The counters of the cgroups that matter to a rollout of another machine: all of them in two questions."""

import errno
from collections.abc import Callable, Mapping, Sequence

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Known, Missing, Reading, Why
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.remote.stamps import AFTER, BEFORE, span_of
from cgroup_preflight.metrics.samples import Sample, Snapshot

if TYPE_CHECKING:
    from cgroup_preflight.host.fs import MachineFs

#: What `windows.window_of` looks at.
_FILES = ("memory.events", "cpu.stat", "cpu.pressure", "memory.pressure")


class FarTree:
    """As far as `Watch` needs it, a `metrics.tree.Tree`. `folders` gives all cgroups by path, with their inode numbers."""

    def __init__(
        self, files: "MachineFs", folders: Callable[[], Reading[Sequence[tuple[str, int]]]], mount: str, *,
        units: Sequence[str], control: Sequence[str],
    ) -> None:  # fmt: skip
        self._files, self._folders, self._mount = files, folders, mount.rstrip("/")
        self._units, self._control = tuple(units), frozenset(control)
        self._parents = {path.rpartition("/")[0] for path in units}

    def snapshot(self, *, full: bool = False) -> Snapshot:  # noqa: ARG002 - every reading is whole
        """One reading, at the time of the host's own clock. Raises HostError."""
        numbers = {path: number for path, number in self._listed() if self._matters(path)}
        asked = {(path, name): f"{self._mount}{path}/{name}" for path in numbers for name in _FILES}
        found = self._files.many((BEFORE, *asked.values(), AFTER))
        span = span_of(found[BEFORE], found[AFTER])
        errors = _errors(asked, found)
        samples = {
            path: Sample(
                cgroup=path, cgroup_id=numbers[path], stamp_ns=span.middle_ns, files=files, errors=errors.get(path, {})
            )
            for path, files in self._texts(asked, found).items()
        }  # fmt: skip
        # Nothing in a rollout looks at the wall clock of a reading.
        return Snapshot(
            started_ns=span.began_ns,
            stamp_ns=span.middle_ns,
            wall=0.0,
            samples=samples,
            errors={},
            slack_ns=span.slack_ns,
        )

    def _listed(self) -> Sequence[tuple[str, int]]:
        listed = self._folders()
        if isinstance(listed, Missing):
            raise _unreadable(listed)
        return listed.value

    def _matters(self, path: str) -> bool:
        """The units and all below, their siblings, and the control slices."""
        if not path:
            return False
        near = path.rpartition("/")[0] in self._parents or path in self._control
        return near or any(path.startswith(f"{unit}/") for unit in self._units)

    def _texts(
        self, asked: Mapping[tuple[str, str], str], found: Mapping[str, Reading[bytes]]
    ) -> dict[str, dict[str, bytes]]:
        """The texts by cgroup; a cgroup that went meanwhile has none, and is left out. Raises HostError."""
        texts: dict[str, dict[str, bytes]] = {}
        for (path, name), file in asked.items():
            reading = found[file]
            if isinstance(reading, Known):
                texts.setdefault(path, {})[name] = reading.value
            elif reading.why is Why.FAILED:
                raise _unreadable(reading)
        return texts


def _errors(asked: Mapping[tuple[str, str], str], found: Mapping[str, Reading[bytes]]) -> dict[str, dict[str, int]]:
    """The error numbers of files that exist and cannot be read, by cgroup."""
    errors: dict[str, dict[str, int]] = {}
    for (path, name), file in asked.items():
        reading = found[file]
        if isinstance(reading, Missing) and reading.why is not Why.ABSENT:
            errors.setdefault(path, {})[name] = reading.errno or errno.EIO
    return errors


def _unreadable(reading: Missing) -> HostError:
    return HostError(f"the cgroups cannot be read: {reading}", where="cgroups",
                     remedy=Remedy(title="look at the host and its connection"))  # fmt: skip
