"""One reading of everything that the diagnosis needs: all cgroups, and the host's own counters."""

from collections.abc import Mapping, Sequence

from cgroup_preflight.core.reading import Known
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass, field, replace
from cgroup_preflight.metrics.samples import Sample, Snapshot
from cgroup_preflight.metrics.tree import Tree

if TYPE_CHECKING:
    from typing import Protocol

    from cgroup_preflight.core.reading import Reading

    class QuickFs(Protocol):
        """What reads a file of the kernel."""

        def quick(self, path: str) -> Reading[bytes]:
            """Its content."""


#: Files of the host (proc(5), accounting/psi.rst, scheduler/sched-ext.rst).
HOST_FILES = (
    "/proc/stat", "/proc/meminfo", "/proc/pressure/cpu", "/proc/pressure/memory", "/proc/pressure/io",
    "/sys/kernel/sched_ext/state", "/sys/kernel/sched_ext/root/ops",
)  # fmt: skip
_MEMORY_STAT, _IO_MAX = "memory.stat", "io.max"
#: Keys of memory.stat that the rules use; the rest is long.
_KEPT = (b"workingset_refault_anon ", b"workingset_refault_file ", b"pgscan ", b"anon ", b"file ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """All readings of about one moment; `host` has the text of each file that could be read, by path.

    `threads` are the numbers of the threads of each cgroup by path, where they were read.
    """

    snapshot: Snapshot
    host: Mapping[str, bytes]
    threads: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def time(self) -> float:
        """CLOCK_MONOTONIC in seconds."""
        return self.snapshot.stamp_ns / 1e9


def reader_of_host(depth: int) -> "MomentReader":
    """The reader of this host; `depth` is how many levels below a unit are read. Raises HostError without cgroup v2."""
    from cgroup_preflight.host.fs import LiveFs
    from cgroup_preflight.metrics.door import LiveDoor
    from cgroup_preflight.metrics.setup import cgroup_mount
    from cgroup_preflight.metrics.tree import Scope

    fs = LiveFs()
    mount = cgroup_mount(fs)
    return MomentReader(Tree(LiveDoor(mount), Scope(depth=depth)), fs, mount)


class MomentReader:
    """Reads moments of this host."""

    def __init__(self, tree: Tree, fs: "QuickFs", mount: str) -> None:
        self._tree = tree
        self._fs = fs
        self._mount = mount.rstrip("/")

    def read(self, *, threads: bool = False) -> Moment:
        """Everything now; with `threads` also which thread is in which cgroup, for the traces of Go programs."""
        host = {path: data for path in HOST_FILES if (data := self._file(path)) is not None}
        if "/proc/stat" in host:
            # The line of all CPUs, and one for each; the rest is one number for each interrupt.
            host["/proc/stat"] = b"".join(
                line for line in host["/proc/stat"].splitlines(keepends=True) if line.startswith(b"cpu")
            )
        snapshot = self._tree.snapshot(full=True)
        samples = {path: self._with_more(sample) for path, sample in snapshot.samples.items()}
        return Moment(
            snapshot=replace(snapshot, samples=samples), host=host, threads=self._threads(samples) if threads else {}
        )

    def _with_more(self, sample: Sample) -> Sample:
        """The sample with files that only the diagnosis needs."""
        more = {}
        if "memory.current" in sample.files and (text := self._file(f"{self._mount}{sample.cgroup}/{_MEMORY_STAT}")):
            more[_MEMORY_STAT] = b"".join(line for line in text.splitlines(keepends=True) if line.startswith(_KEPT))
        if "io.stat" in sample.files and (text := self._file(f"{self._mount}{sample.cgroup}/{_IO_MAX}")):
            more[_IO_MAX] = text
        return replace(sample, files={**sample.files, **more}) if more else sample

    def _threads(self, samples: Mapping[str, Sample]) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {}
        for path in samples:
            text = self._file(f"{self._mount}{path}/cgroup.threads")
            numbers = tuple(int(word) for word in (text or b"").split() if word.isdigit())
            if numbers:
                found[path] = numbers
        return found

    def _file(self, path: str) -> bytes | None:
        found = self._fs.quick(path)
        return found.value if isinstance(found, Known) else None
