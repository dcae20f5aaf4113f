"""Time and memory of `inject` on real Debian packages, in turn with `dpkg-deb -R` and `dpkg-deb -b` of the same files.

Needs Debian's `apt-get` and `dpkg-deb`; downloads about 60 MB into a temporary folder.
"""

import compileall
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ci.side_by_side import timed

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 5
#: Seconds after which one round of a package is enough.
_SLOW = 5.0
#: Packages, each with the program of its daemon.
DAEMONS = {
    "beanstalkd": "usr/bin/beanstalkd",
    "memcached": "usr/bin/memcached",
    "nginx": "usr/sbin/nginx",
    "haproxy": "usr/sbin/haproxy",
    "nats-server": "usr/sbin/nats-server",
    "caddy": "usr/bin/caddy",
    "prometheus": "usr/bin/prometheus",
    "containerd": "usr/bin/containerd",
}
_CONFIG = """\
[project]
name = "bench"
[slices.api]
MemoryMax = "512M"
[services.{name}]
binary = "{program}"
slice = "api"
MemoryMax = "256M"
"""
_OURS = (
    sys.executable,
    "-c",
    "import sys; from cgroup_preflight.cli import main; sys.exit(main())",
    "inject",
    "--allow-unverified",
)
_REPACK = ("sh", "-ec", "dpkg-deb -R a.deb tree; dpkg-deb -b tree b.deb", "sh")


@dataclass(kw_only=True)
class Row:
    """One package: seconds and seconds of CPU of each round, and the largest process of each kind in KiB."""

    name: str
    size: int
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"ours": [], "dpkg-deb": []})
    cpu: dict[str, list[float]] = field(default_factory=lambda: {"ours": [], "dpkg-deb": []})
    peak: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        time, cpu = (_ratio(item) for item in (self.seconds, self.cpu))
        return (
            f"{self.name:<12} {self.size / 1e6:6.2f} MB   {_pair(self.seconds)} s   time {time:4.2f}   CPU {cpu:4.2f}"
            f"   {self.peak['ours'] >> 10:4d} /{self.peak['dpkg-deb'] >> 10:4d} MiB"
            f"   memory {self.peak['ours'] / self.peak['dpkg-deb']:4.2f}"
        )


def _pair(values: dict[str, list[float]]) -> str:
    return f"{statistics.median(values['ours']):6.2f} /{statistics.median(values['dpkg-deb']):6.2f}"


def _ratio(values: dict[str, list[float]]) -> float:
    return statistics.median(a / b for a, b in zip(values["ours"], values["dpkg-deb"], strict=True))


def main() -> None:
    """Print one line for each package, and the medians."""
    # Like an installed package: with PYTHONDONTWRITEBYTECODE set, Python would compile the checkout at each start.
    compileall.compile_dir(str(ROOT / "src"), quiet=1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _run(("apt-get", "download", "-qq", "time", *DAEMONS), folder)
        # ru_maxrss of a process that Python starts begins with the memory of Python; GNU time is small.
        _run(("dpkg-deb", "-x", str(next(folder.glob("time_*.deb"))), "gnu"), folder)
        rows = []
        for daemon, program in DAEMONS.items():
            rows.append(_measured(folder, daemon, program))
            print(rows[-1], flush=True)
    print(f"median of the ratios: time {statistics.median(_ratio(row.seconds) for row in rows):.2f}, "
          f"CPU {statistics.median(_ratio(row.cpu) for row in rows):.2f}, "
          f"memory {statistics.median(row.peak['ours'] / row.peak['dpkg-deb'] for row in rows):.2f}")  # fmt: skip


def _measured(folder: Path, name: str, program: str) -> Row:
    package = next(folder.glob(f"{name}_*.deb"))
    work = folder / f"work-{name}"
    work.mkdir()
    # As in a build: the program is next to the package.
    _run(("dpkg-deb", "-x", str(package), "."), work)
    (work / "cgroup-preflight.toml").write_text(_CONFIG.format(name=name, program=program))
    row = Row(name=name, size=package.stat().st_size)
    for number in range(ROUNDS + 1):
        turn = {
            kind: _once(words, package, work, folder)
            for kind, words in (("ours", (*_OURS, "a.deb")), ("dpkg-deb", _REPACK))
        }
        slow = turn["dpkg-deb"][0] > _SLOW
        # The first round fills the caches; of what takes long, it is the only one.
        if number or slow:
            for kind, (seconds, cpu, peak) in turn.items():
                row.seconds[kind].append(seconds)
                row.cpu[kind].append(cpu)
                row.peak[kind] = max(row.peak.get(kind, 0), peak)
        if slow:
            break
    _check_twice(work, package)
    return row


def _once(words: Sequence[str], package: Path, work: Path, folder: Path) -> tuple[float, float, int]:
    """Seconds, seconds of CPU, and the largest process in KiB."""
    out = folder / "peak"
    shutil.copyfile(package, work / "a.deb")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = timed(lambda: _run((str(folder / "gnu/usr/bin/time"), "-f", "%M", "-o", str(out), *words), work))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    shutil.rmtree(work / "tree", ignore_errors=True)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, int(out.read_text().split()[-1])


def _check_twice(work: Path, package: Path) -> None:
    """Raise AssertionError if a second run changes anything, or if dpkg-deb cannot read the result."""
    shutil.copyfile(package, work / "a.deb")
    _run((*_OURS, "a.deb"), work)
    once = (work / "a.deb").read_bytes()
    _run((*_OURS, "a.deb"), work)
    if (work / "a.deb").read_bytes() != once:
        raise AssertionError(f"{package.name}: the second run changed the package")
    listing = subprocess.run(("dpkg-deb", "-c", "a.deb"), cwd=work, check=True, capture_output=True, text=True).stdout
    if "cgroup-preflight" not in listing:
        raise AssertionError(f"{package.name}: our files are not in the package")


def _run(words: Sequence[str], folder: Path) -> None:
    subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                   env={**os.environ, "PYTHONPATH": str(ROOT / "src")})  # fmt: skip
