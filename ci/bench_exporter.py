"""Measure the exporter on trees of files: `python -m ci.bench exporter`, all ratios from one run.

A scrape has everything in it: reading, computing, rendering, packing, sending. CPU time is that of all threads of the
exporter's process (/proc/PID/task/TID/schedstat), so it is the measure that a busy machine does not change; wall time is the
client's. Next to it: the PyPI exporter on the same tree, and Debian's node_exporter, which has no cgroups.
"""

import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import requests
from urllib3.exceptions import HTTPError

from cgroup_preflight.core.records import dataclass
from cgroup_preflight.guest import image
from cgroup_preflight.guest.recipe import recipe_for
from cgroup_preflight.guest.session import Guest, input_path
from cgroup_preflight.guest.spec import BootMode, GuestSpec
from ci.cgroup_tree import CgroupTree
from ci.prometheus_guest import unpacked

ROOT = Path(__file__).resolve().parents[1]
_NODE_EXPORTER = "prometheus-node-exporter"
PEER = ("cgroups-exporter==0.8.8", "argclass==1.0.3")
#: arianvp/cgroup-exporter (Go), measured once on such a tree of 1040 cgroups: its lower figures, in milliseconds.
GO_WALL, GO_CPU = 347.0, 451.0
_ROUNDS = 7
#: A scrape takes a new snapshot when the last one is more than a second old.
_PAUSE = 1.1
#: How often the PyPI exporter reads, in seconds.
_PEER_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Medians of one scrape: milliseconds of wall and CPU time, and the bytes of the answer."""

    wall: float
    cpu: float
    size: int


class Exporter:
    """A running exporter process."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self._process = process
        self._url = url

    def scrape(self, *, packed: bool = True) -> bytes:
        """Fetch one page, as it is sent. Raises OSError."""
        headers = {"Accept-Encoding": "gzip" if packed else "identity"}
        answer = requests.get(self._url, headers=headers, timeout=120, stream=True)
        answer.raise_for_status()
        try:
            data: bytes = answer.raw.read(decode_content=False)
        except HTTPError as error:
            raise OSError(str(error)) from error
        return data

    def cpu(self) -> float:
        """Return the milliseconds of CPU time so far, of all threads."""
        total = 0
        for task in Path(f"/proc/{self._process.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                total += int((task / "schedstat").read_text().split()[0])
        return total / 1e6

    def resident(self) -> float:
        """Return the resident memory in MiB."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

    def measure(self, between: Callable[[], None], *, packed: bool = True, rounds: int = _ROUNDS) -> Cost:
        """Scrape some times; `between` makes the cgroups active before each scrape."""
        wall, cpu, size = [], [], 0
        for _ in range(rounds):
            between()
            time.sleep(_PAUSE)
            before, started = self.cpu(), time.perf_counter()
            size = len(self.scrape(packed=packed))
            wall.append((time.perf_counter() - started) * 1000)
            cpu.append(self.cpu() - before)
        return Cost(wall=statistics.median(wall), cpu=statistics.median(cpu), size=size)


def _nothing() -> None:
    """Make no cgroup active."""


@contextlib.contextmanager
def _tree(slices: int, units: int) -> Iterator[tuple[CgroupTree, list[str]]]:
    """Make `slices` slices with `units` services each, in memory; the tree and the paths of the services."""
    shared = "/dev/shm"  # noqa: S108 - in memory
    with tempfile.TemporaryDirectory(dir=shared if os.path.isdir(shared) else None) as name:
        top = Path(name, "unified")  # the PyPI exporter knows cgroup v2 by this name
        top.mkdir()
        tree = CgroupTree(top)
        paths = []
        for first in range(slices):
            tree.add(f"/s{first}.slice")
            for second in range(units):
                paths.append(f"/s{first}.slice/unit-{second}.service")
                tree.add(paths[-1])
        yield tree, paths


@contextlib.contextmanager
def _ours(tree: CgroupTree) -> Iterator[Exporter]:
    words = [sys.executable, "-m", "ci.exporter_on_tree", str(tree.top)]
    with _process(words, {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}) as process:
        assert process.stdout is not None
        exporter = Exporter(process, f"http://{process.stdout.readline().strip()}/metrics")
        _wait(exporter)
        yield exporter


@contextlib.contextmanager
def _process(words: Sequence[str], env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        words, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _active(tree: CgroupTree, paths: Sequence[str]) -> Callable[[], None]:
    """Return what makes these cgroups use CPU time and memory, and wait for the CPU."""

    def act() -> None:
        for path in paths:
            tree.use_cpu(path, 1234)
            tree.grow(path, "cpu.pressure", "some", 567)
            for place in (path, path.rpartition("/")[0]):
                tree.write(place, "memory.current", f"{(1 << 20) + time.time_ns() // 1000 % 4096 * 4096}\n")

    return act


def _line(name: str, cost: Cost) -> None:
    print(f"  {name:<44} {cost.wall:8.1f} ms wall {cost.cpu:8.1f} ms CPU {cost.size / 1e6:8.2f} MB", flush=True)


def one_thousand() -> None:
    """Scrape 1,040 cgroups, with all, some and none of them active, next to the peers."""
    print("1,040 cgroups (20 slices), one scrape:")
    with _tree(20, 51) as (tree, paths):
        with _ours(tree) as ours:
            costs = {
                "all active": ours.measure(_active(tree, paths)),
                "all active, not packed": ours.measure(_active(tree, paths), packed=False, rounds=3),
                "one in ten active": ours.measure(_active(tree, paths[::10])),
                "nothing active": ours.measure(_nothing),
            }
            for name, cost in costs.items():
                _line(name, cost)
            print(f"  resident memory {ours.resident():.0f} MiB (target 60)")
        full = costs["all active"]
        print(
            f"  target: wall {full.wall / 40:.2f} of 40 ms, CPU {full.cpu / (GO_CPU / 10):.2f} of a tenth of the Go peer's"
        )
        _peer(tree, full)
    _node_exporter(full)


def _peer(tree: CgroupTree, ours: Cost) -> None:
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, *PEER]
        if subprocess.run(words, check=False, stderr=subprocess.DEVNULL).returncode:
            print("  cgroups-exporter: cannot be installed here")
            return
        port = _free_port()
        patterns = [f"{tree.top}/*.slice", f"{tree.top}/*.slice/*.service"]
        words = [sys.executable, "-m", "cgroups_exporter", "--metrics-address", "127.0.0.1", "--metrics-port", str(port),
                 "--cgroups-root", str(tree.top), "--collector-interval", str(_PEER_SECONDS), "--cgroups-path", *patterns]  # fmt: skip
        with _process(words, {"PYTHONPATH": folder}) as process:
            peer = Exporter(process, f"http://127.0.0.1:{port}/metrics")
            _compare("cgroups-exporter 0.8.8, a reading and a scrape", peer, ours, _PEER_SECONDS)


def _wait(exporter: Exporter, seconds: float = 120.0) -> None:
    """Wait until an exporter answers with metrics; raises OSError where it does not."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if len(exporter.scrape(packed=False)) > 1000:
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.5)


def _compare(name: str, peer: Exporter, ours: Cost, reads_every: int = 0) -> None:
    """Print what a peer needs; one that reads in the background, every so many seconds, has that added."""
    _wait(peer)
    reading = 0.0
    if reads_every:
        time.sleep(2 * reads_every)
        before = peer.cpu()
        time.sleep(4 * reads_every)
        reading = (peer.cpu() - before) / 4
    scrape = peer.measure(_nothing, packed=False, rounds=3)
    cost = Cost(wall=scrape.wall, cpu=scrape.cpu + reading, size=scrape.size)
    _line(name, cost)
    print(
        f"  ratio ours / it: wall {ours.wall / cost.wall:.3f}, CPU {ours.cpu / cost.cpu:.3f}; its memory {peer.resident():.0f} MiB"
    )


def _node_exporter(ours: Cost) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = shutil.which(_NODE_EXPORTER) or shutil.which("node_exporter")
            program = found or str(unpacked(Path(folder), _NODE_EXPORTER) / _NODE_EXPORTER)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"  node_exporter: cannot be downloaded here ({error})")
            return
        port = _free_port()
        with _process([program, f"--web.listen-address=127.0.0.1:{port}"], {}) as process:
            _compare(
                "node_exporter of Debian (no cgroups)", Exporter(process, f"http://127.0.0.1:{port}/metrics"), ours
            )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def ten_thousand() -> None:
    """Compare 10,400 cgroups of which 104 are active with those 104 alone."""
    print("10,400 cgroups of which 104 are active, against 104 active ones alone:")
    with _tree(1, 104) as (tree, paths), _ours(tree) as ours:
        alone = ours.measure(_active(tree, paths))
        _line("104 active ones alone", alone)
    with _tree(104, 99) as (tree, paths), _ours(tree) as ours:
        together = ours.measure(_active(tree, paths[:104]))
        _line("the active ones in two of 104 slices", together)
        spread = ours.measure(_active(tree, paths[::99]))
        _line("one active one in each of 104 slices", spread)
        print(f"  resident memory {ours.resident():.0f} MiB")
    print(
        f"  ratio: in two slices {together.cpu / alone.cpu:.2f} (target 2), in every slice {spread.cpu / alone.cpu:.2f}"
    )


def real() -> None:
    """Measure readings of real cgroups, in a guest."""
    spec = GuestSpec(mode=BootMode.FULL, inputs={"src": ROOT / "src", "ci": ROOT / "ci"})
    with Guest(spec, image.ensure(recipe_for(spec.distro), image.cache_folder(os.environ))) as guest:
        done = guest.run(
            ["python3", str(input_path("ci") / "exporter_real.py")], timeout=600,
            env={"PYTHONPATH": str(input_path("src")), "PYTHONPYCACHEPREFIX": "/tmp/pycache"},  # noqa: S108 - the guest's
        )  # fmt: skip
        print(f"{done.text}{done.stderr.decode(errors='replace')}", end="")


def main() -> None:
    """Measure all three."""
    one_thousand()
    ten_thousand()
    real()
