"""A tree of files that looks like cgroup v2, for tests and benches: as many cgroups as wanted, and no kernel behind it."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

_PRESSURE = "some avg10=0.00 avg60=0.00 avg300=0.00 total={0}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total={0}\n"
_EVENTS = "low 0\nhigh 0\nmax 0\noom 0\noom_kill {0}\noom_group_kill 0\n"

#: The files of a cgroup with all controllers on a kernel 6.12.
FILES = {
    "cgroup.controllers": "cpuset cpu io memory pids\n",
    "cgroup.events": "populated 1\nfrozen 0\n",
    "cgroup.procs": "",
    "cgroup.stat": "nr_descendants 0\nnr_dying_descendants 0\n",
    "cgroup.type": "domain\n",
    "cpu.idle": "0\n",
    "cpu.max": "max 100000\n",
    "cpu.pressure": _PRESSURE.format(0),
    "cpu.stat": (
        "usage_usec 0\nuser_usec 0\nsystem_usec 0\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\nnr_bursts 0\nburst_usec 0\n"
    ),
    "cpu.stat.local": "throttled_usec 0\n",
    "cpu.weight": "100\n",
    "cpuset.cpus.effective": "0-3\n",
    "io.pressure": _PRESSURE.format(0),
    "io.stat": "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n",
    "memory.current": "1048576\n",
    "memory.events": _EVENTS.format(0),
    "memory.events.local": _EVENTS.format(0),
    "memory.high": "max\n",
    "memory.low": "0\n",
    "memory.max": "max\n",
    "memory.min": "0\n",
    "memory.peak": "1048576\n",
    "memory.pressure": _PRESSURE.format(0),
    "memory.swap.current": "0\n",
    "memory.swap.max": "max\n",
    "pids.current": "1\n",
    "pids.events": "max 0\n",
    "pids.max": "max\n",
}
#: What the root has.
ROOT_FILES = (
    "cgroup.controllers", "cgroup.procs", "cgroup.stat", "cpu.pressure", "cpu.stat", "cpuset.cpus.effective", "io.pressure",
    "io.stat", "memory.pressure",
)  # fmt: skip


class CgroupTree:
    """The tree below `top`; what the kernel would count in the cgroups above is counted there, too."""

    def __init__(self, top: Path) -> None:
        self.top = top
        for name in ROOT_FILES:
            (top / name).write_text(FILES[name])

    def add(self, path: str, files: Mapping[str, str] | None = None) -> None:
        """Creates a cgroup, such as `/a.slice/b.service`; its parent exists."""
        folder = f"{self.top}{path}"
        os.mkdir(folder)
        for name, text in {**FILES, **(files or {})}.items():
            Path(folder, name).write_text(text)
        self._descendants(path, 1)

    def remove(self, path: str) -> None:
        """Removes a cgroup; open files of it answer as before, which is not so on a kernel."""
        shutil.rmtree(f"{self.top}{path}")
        self._descendants(path, -1)

    def write(self, path: str, name: str, text: str) -> None:
        """Replaces the text of one file in place."""
        with Path(f"{self.top}{path}", name).open("r+") as file:
            file.write(text)
            file.truncate()

    def grow(self, path: str, name: str, key: str, more: int) -> None:
        """Adds to one counter of a flat file, or of `some` or `full` of a pressure file, here and in all cgroups above."""
        for place in self._chain(path):
            file = Path(f"{self.top}{place}", name)
            if file.exists():
                self.write(place, name, _grown(file.read_text(), key, more))

    def use_cpu(self, path: str, microseconds: int = 1000) -> None:
        """CPU time in one cgroup, as the kernel counts it up to the root."""
        for key, amount in (("usage_usec", microseconds), ("user_usec", microseconds)):
            self.grow(path, "cpu.stat", key, amount)

    def kill(self, path: str) -> None:
        """One OOM kill in a cgroup."""
        self.grow(path, "memory.events", "oom_kill", 1)
        self.use_cpu(path, 1)

    def _descendants(self, path: str, more: int) -> None:
        parent = path.rpartition("/")[0]
        self.grow(parent, "cgroup.stat", "nr_descendants", more)

    def _chain(self, path: str) -> list[str]:
        parts = path.split("/")
        return ["/".join(parts[:end]) for end in range(len(parts), 0, -1)]


def _grown(text: str, key: str, more: int) -> str:
    lines = []
    for line in text.splitlines():
        first, _, rest = line.partition(" ")
        if first == key and "total=" in rest:
            head, _, value = rest.rpartition("=")
            line = f"{first} {head}={int(value) + more}"
        elif first == key:
            line = f"{first} {int(rest) + more}"
        lines.append(line)
    return "\n".join(lines) + "\n"
