"""What a running Go program shows of its runtime to the outside: open files, environment, limits, memory.

Reads only and decides nothing. Where the program offers `net/http/pprof` on its readiness address, it runs one garbage
collection: only after one is it known how much of the heap is in use.
"""

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping

from cgroup_preflight.config.model import ReadyKind, ReadyTest
from cgroup_preflight.core.limits import Chain, Level
from cgroup_preflight.core.quantities import QuantityError, parse_cpus
from cgroup_preflight.core.reading import Known, Reading, parsed, value_or
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.golang.binary_file import NearImage, check_range
from cgroup_preflight.golang.buildinfo import BinaryError, BuildInfo, read_image
from cgroup_preflight.golang.symbols import address_of
from cgroup_preflight.host.cgroup import Observer, levels
from cgroup_preflight.host.cgroupfs import parse_cpu_max, parse_flat_keyed, parse_limit
from cgroup_preflight.host.fs import MachineFs

if TYPE_CHECKING:
    from cgroup_preflight.host.door import Door, Files, Network

#: Profiles and expvar pages can be long; the numbers are in their first or last lines.
_PAGE_MAX = 16 << 20
_HEAP_LINE = re.compile(rb"^# (\w+) = (\d+)$", re.MULTILINE)
#: What the scheduler uses, a Go int32 (runtime/runtime2.go).
_PROCS, _PROCS_SIZE = "runtime.gomaxprocs", 4
#: Above this it is no count of CPUs (runtime/runtime2.go, _MaxGomaxprocs is less).
_PROCS_MAX = 1 << 16
_NEEDED = ("Sys", "HeapSys", "HeapAlloc", "HeapReleased")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoMemory:
    """The runtime's own count and the kernel's of the same moment, in bytes; None where the kernel has no file.

    `collected`: a collection ran just before, so that `heap_alloc` is what is in use.
    """

    source: str
    collected: bool
    sys: int
    heap_sys: int
    heap_alloc: int
    heap_released: int
    current: int | None
    peak: int | None
    anon: int | None
    file: int | None
    kernel: int | None

    @property
    def known(self) -> int:
        """What GOMEMLIMIT is compared with: `/memory/classes/total` less `heap/released` (runtime/metrics)."""
        return self.sys - self.heap_released


@dataclass(frozen=True, slots=True, kw_only=True)
class GoView:
    """One main process, while it ran. `info` is that of the program which really runs, None if it is not Go.

    `cpu_max_open` are the open cpu.max files; `chain` and `cpus` are what the kernel holds for it; `address_space`
    in bytes, None for no limit. `procs` is the runtime's GOMAXPROCS in the memory of the process, None where it is not seen.
    """

    pid: int
    cgroup: str
    info: BuildInfo | None
    environ: Reading[Mapping[str, str]]
    cpu_max_open: Reading[tuple[str, ...]]
    chain: Chain
    cpus: frozenset[int]
    address_space: int | None
    memory: GoMemory | None = None
    procs: int | None = None


class _Program:
    """The program of a process as an image, read through the door of its machine."""

    def __init__(self, files: "Files", pid: int) -> None:
        """Raises BinaryError."""
        self._files, self._path = files, f"/proc/{pid}/exe"
        status = files.status(self._path)
        if not isinstance(status, Known):
            raise BinaryError(f"cannot be read: {status}")
        self.size = status.value.size

    def read(self, offset: int, length: int) -> bytes:
        """As `Image.read`."""
        check_range(self.size, offset, length)
        data = self._files.tail(self._path, offset, length)
        if not isinstance(data, Known) or len(data.value) != length:
            raise BinaryError("was truncated while it was read")
        return data.value


@dataclass(frozen=True, slots=True, kw_only=True)
class GoProgram:
    """The program of a process that is a Go program; `procs_at` is the address of its GOMAXPROCS, None where it is not known.

    `file` tells it from another one that the process has executed since.
    """

    file: tuple[str, int, float]
    info: BuildInfo
    procs_at: int | None


def program_of(door: "Door", pid: int) -> GoProgram | None:
    """The program of a process, None where it is none of Go that can be read. Reads a megabyte or more of its file."""
    # Before anything of it is read: what the process executes meanwhile is another one then.
    file = _file(door, pid)
    try:
        image = NearImage(_Program(door.files, pid))
        info = read_image(image)
    except BinaryError:
        return None
    # Of another machine, to look the address up would cost more than a second run.
    procs_at = None if door.host else address_of(image, _PROCS, _PROCS_SIZE)
    return GoProgram(file=file, info=info, procs_at=procs_at)


def look(
    door: "Door", observer: Observer, pid: int, cgroup: str, ready: ReadyTest, read: GoProgram | None = None
) -> GoView | None:  # fmt: skip
    """The view of a process, None where it is no Go program that can be read; `read` may be its program."""
    fs = door.files
    # One whose place cannot be read could be another one each time.
    is_read = read is not None and read.file[0] != "" and read.file == _file(door, pid)
    program = read if is_read else program_of(door, pid)
    if program is None:
        return None
    return GoView(
        pid=pid,
        cgroup=cgroup,
        info=program.info,
        environ=parsed(parsed(fs.data(f"/proc/{pid}/environ"), os.fsdecode), _parse_environ),
        cpu_max_open=_open_cpu_max(fs, pid),
        chain=kernel_chain(observer, cgroup, v1_cpu=_v1_cpu(fs, pid)),
        cpus=_cpus(observer.allowed_cpus(pid)),
        address_space=_address_space(fs, pid),
        memory=_memory(door.network, observer, cgroup, ready),
        procs=_procs(door, pid, program.procs_at),
    )


def _file(door: "Door", pid: int) -> tuple[str, int, float]:
    """Where the program of a process is, its size and the time of its last change."""
    path = f"/proc/{pid}/exe"
    place, status = value_or(door.files.link(path), ""), door.files.status(path)
    return (place, status.value.size, status.value.time) if isinstance(status, Known) else (place, -1, 0.0)


def _procs(door: "Door", pid: int, address: int | None) -> int | None:
    data = b"" if address is None else door.processes.memory(pid, address, _PROCS_SIZE)
    # Go programs run in the byte order of their machine, as this tool does.
    found = int.from_bytes(data, sys.byteorder, signed=True) if len(data) == _PROCS_SIZE else 0
    return found if 0 < found <= _PROCS_MAX else None


def _parse_environ(text: str) -> Mapping[str, str]:
    """The variables of /proc/PID/environ, NUL after each (proc(5)); of two with one name the first counts."""
    pairs = (item.partition("=") for item in reversed(text.split("\0")) if item)
    return {name: value for name, _, value in pairs}


def kernel_chain(observer: Observer, cgroup: str, *, v1_cpu: bool) -> Chain:
    """The limits of the cgroup and of those above it, as the kernel holds them now."""
    return Chain(levels=tuple(_level(observer, path) for path in levels(cgroup) if path), v1_cpu=v1_cpu)


def _level(observer: Observer, path: str) -> Level:
    cpu = parsed(observer.read(path, "cpu.max"), parse_cpu_max)

    def limit(attribute: str) -> int | None:
        return value_or(parsed(observer.read(path, attribute), parse_limit), None)

    return Level(
        name=path,
        cpus=cpu.value.cpus if isinstance(cpu, Known) else None,
        period_usec=cpu.value.period if isinstance(cpu, Known) else 100_000,
        has_cpu_max=isinstance(cpu, Known),
        memory_max=limit("memory.max"),
        memory_high=limit("memory.high"),
        swap_max=limit("memory.swap.max"),
        tasks_max=limit("pids.max"),
    )


def _open_cpu_max(fs: MachineFs, pid: int) -> Reading[tuple[str, ...]]:
    names = fs.names(f"/proc/{pid}/fd")
    if not isinstance(names, Known):
        return names
    paths = [f"/proc/{pid}/fd/{name}" for name in names.value]
    fs.prefetch((), links=paths)
    links = map(fs.link, paths)
    return Known(
        value=tuple(link.value for link in links if isinstance(link, Known) and link.value.endswith("/cpu.max")),
        source=names.source,
    )


def _v1_cpu(fs: MachineFs, pid: int) -> bool:
    """Whether a line of /proc/PID/cgroup has the cpu controller: it is version 1 then (cgroups(7))."""
    text = value_or(fs.read(f"/proc/{pid}/cgroup"), "")
    return any("cpu" in line.split(":", 2)[1].split(",") for line in text.splitlines() if line.count(":") >= 2)


def _cpus(text: str) -> frozenset[int]:
    try:
        return parse_cpus(text)
    except QuantityError:
        return frozenset()


def _address_space(fs: MachineFs, pid: int) -> int | None:
    for line in value_or(fs.read(f"/proc/{pid}/limits"), "").splitlines():
        if line.startswith("Max address space"):
            word = line.removeprefix("Max address space").split()[0]
            return int(word) if word.isdigit() else None
    return None


def _memory(network: "Network", observer: Observer, cgroup: str, ready: ReadyTest) -> GoMemory | None:
    if ready.kind is not ReadyKind.HTTP:
        return None
    for path, collected in (("/debug/pprof/heap?gc=1&debug=1", True), ("/debug/vars", False)):
        numbers = dict(_numbers(network.fetch(ready, path, _PAGE_MAX), collected=collected))
        if all(name in numbers for name in _NEEDED):
            return _with_kernel(observer, cgroup, path, numbers, collected=collected)
    return None


def _numbers(page: bytes, *, collected: bool) -> Iterator[tuple[str, int]]:
    """The fields of runtime.MemStats: comment lines of a heap profile, or the expvar `memstats`."""
    if collected:
        yield from ((name.decode(), int(value)) for name, value in _HEAP_LINE.findall(page))
        return
    try:
        stats = json.loads(page)["memstats"]
        yield from ((name, int(stats[name])) for name in _NEEDED)
    except (ValueError, KeyError, TypeError, RecursionError):
        return


def _with_kernel(
    observer: Observer, cgroup: str, source: str, numbers: Mapping[str, int], *, collected: bool
) -> GoMemory:
    def one(attribute: str) -> int | None:
        return value_or(parsed(observer.read(cgroup, attribute), parse_limit), None)

    stat = value_or(parsed(observer.read(cgroup, "memory.stat"), parse_flat_keyed), {})
    return GoMemory(
        source=source.partition("?")[0],
        collected=collected,
        sys=numbers["Sys"],
        heap_sys=numbers["HeapSys"],
        heap_alloc=numbers["HeapAlloc"],
        heap_released=numbers["HeapReleased"],
        current=one("memory.current"),
        peak=one("memory.peak"),
        anon=stat.get("anon"),
        file=stat.get("file"),
        kernel=stat.get("kernel"),
    )
