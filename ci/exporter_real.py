"""Measure readings of real cgroups, as root in a throwaway guest: `python -m ci.exporter_real`.

Makes 1,040 cgroups below /sys/fs/cgroup, and removes them again. The base is what a plain exporter does: it opens and reads
every file of every cgroup each time.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cgroup_preflight.host.fs import LiveFs
from cgroup_preflight.metrics.exposition import Style
from cgroup_preflight.metrics.setup import readings_of
from cgroup_preflight.metrics.tree import Scope

_MOUNT = "/sys/fs/cgroup"
_TOP = f"{_MOUNT}/bench.slice"
_CONTROLLERS = ("+cpu", "+memory", "+pids", "+io")
_BUSY = 10
_ROUNDS = 5


def _make() -> list[Path]:
    """Make 20 slices with 51 services each; the paths of the services."""
    paths = []
    for first in range(20):
        folder = Path(_TOP, f"bench-s{first}.slice")
        folder.mkdir(parents=True)
        if not first:
            _enable(Path(_MOUNT))
            _enable(Path(_TOP))
        _enable(folder)
        for second in range(51):
            paths.append(folder / f"unit-{second}.service")
            paths[-1].mkdir()
    return paths


def _enable(folder: Path) -> None:
    for word in _CONTROLLERS:
        try:
            (folder / "cgroup.subtree_control").write_text(word)
        except OSError:
            print(f"no {word[1:]} controller", file=sys.stderr)


def _remove(paths: list[Path]) -> None:
    for path in (*paths, *dict.fromkeys(path.parent for path in paths), Path(_TOP)):
        for _ in range(50):
            try:
                path.rmdir()
                break
            except OSError:
                time.sleep(0.1)


def _cpu(act: Callable[[], object]) -> float:
    """Return the median of milliseconds of CPU time, user and system; some time passes before each round."""
    found = []
    for _ in range(_ROUNDS):
        time.sleep(0.5)
        before = os.times()
        act()
        after = os.times()
        found.append((after.user + after.system - before.user - before.system) * 1000)
    return statistics.median(found)


def _plain(files: list[str]) -> None:
    for name in files:
        with open(name, "rb") as file:
            file.read()


def main() -> int:
    """Measure, print, clean up."""
    paths = _make()
    try:
        readings, _ = readings_of(LiveFs(), _MOUNT, Scope(slices=("/bench.slice",)), follow=False)
        readings.refresh()
        text = b"".join(readings.render(Style.TEXT, packed=False)).decode()
        names = (
            "cpu.stat",
            "memory.current",
            "memory.events",
            "memory.peak",
            "memory.max",
            "pids.current",
            "cpu.max",
            "io.stat",
        )
        files = [str(path / name) for path in paths for name in names if (path / name).exists()]
        base = _cpu(lambda: _plain(files))
        idle = _cpu(readings.refresh)
        busy = []
        for number in range(_BUSY):
            process = subprocess.Popen(["sh", "-c", "while :; do sleep 0.05; done"])
            (paths[number] / "cgroup.procs").write_text(str(process.pid))
            busy.append(process)
        active = _cpu(readings.refresh)
        render = _cpu(lambda: readings.render(Style.TEXT, packed=True))
        for process in busy:
            process.kill()
            process.wait()
        print(f"real cgroups: {len(paths) + 21}, {sum(not row.startswith('#') for row in text.splitlines())} samples")
        print(f"  open and read {len(names)} files of each      {base:7.1f} ms CPU")
        for name, value in (("a snapshot, nothing active", idle), ("a snapshot, 10 active in one slice", active),
                            ("the page, packed", render)):  # fmt: skip
            print(f"  {name:<36} {value:7.1f} ms CPU   ratio {value / base:.3f}")
    finally:
        _remove(paths)
    return 0


if __name__ == "__main__":
    sys.exit(main())
