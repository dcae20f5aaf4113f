"""Measure a run of the example in a guest in turn with that of an earlier commit, on a quiet machine and on a busy one.

Both trees are measured by their own `ci.bench_guest.run`, with the same interpreter and packages.
"""

import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: The commit that speed and size are compared with, and the most of its wall time and of its resident set.
COMMIT = "d82f0ab"
WALL = {"uml": 0.55, "qemu": 0.6}
RESIDENT = 0.8
#: The most of the size of its image, which is what the files of the image take on the disk.
IMAGE = 0.75
#: The most plain boots of user-mode-linux that a run may take, in the boots of that commit.
BOOTS = {"uml": 1.3, "qemu": 2.5}
_PAIRS = 4
_BUSY_PAIRS = 2
_SECONDS = 600
_LINE = re.compile(r"^run \w+ (?P<verdict>\w+).*?: (?P<wall>[\d.]+) s, .*?resident (?P<resident>\d+) MiB", re.MULTILINE)


class NoCommitError(Exception):
    """The earlier commit is not in this checkout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One run: seconds, and the largest resident set of the guest in MiB."""

    wall: float
    resident: int


@contextlib.contextmanager
def earlier(commit: str = COMMIT) -> Iterator[Path]:
    """The files of the earlier commit in a temporary folder, with the programs of this tree's example.

    Raises NoCommitError for a checkout without its history.
    """
    with tempfile.TemporaryDirectory(prefix="cgpf-earlier-") as folder:
        packed, tree = Path(folder) / "tree.tar", Path(folder) / "tree"
        argv = ["git", "-C", str(ROOT), "archive", f"--output={packed}", commit]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NoCommitError(f"no commit {commit} here: {done.stderr.strip()} (git fetch --unshallow)")
        with tarfile.open(packed) as archive:
            archive.extractall(tree, filter="data")
        shutil.copytree(ROOT / "examples/shop/dist", tree / "examples/shop/dist", dirs_exist_ok=True)
        yield tree


def plain_boot(tree: Path) -> float:
    """Seconds of a plain boot of user-mode-linux by the code of `tree`: the median of some."""
    return float(_said(tree, "print('plain', bench_guest.boots())").rpartition("plain ")[2])


def image_size(tree: Path, machine: str) -> int:
    """Bytes that the files of the image take on the disk."""
    ensured = (
        f"image.ensure(recipe_for('debian-12', with_kernel={machine == 'qemu'}), image.cache_folder(os.environ), print)"
    )
    call = f"print('size', sum(item.stat().st_blocks for item in {ensured}.root.parent.iterdir()))"
    said = _said(tree, f"from ci.bench_guest import image, os, recipe_for; {call}")
    return 512 * int(said.rpartition("size ")[2])


def taken(tree: Path, machine: str) -> Taken:
    """One run of the example of `tree`, which has to pass."""
    said = _said(tree, f"bench_guest.run({machine!r}, 1.0)")
    found = _LINE.search(said)
    if found is None or found["verdict"] != "pass":
        raise AssertionError(f"{tree}: {said}")
    return Taken(wall=float(found["wall"]), resident=int(found["resident"]))


def _said(tree: Path, call: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tree), str(tree / "src")))}
    argv = [sys.executable, "-c", f"from ci import bench_guest; {call}"]
    done = subprocess.run(
        argv, cwd=tree, env=environment, stdout=subprocess.PIPE, text=True, timeout=_SECONDS, check=True
    )  # fmt: skip
    return done.stdout


@contextlib.contextmanager
def _busy_cpus() -> Iterator[None]:
    """Keeps each CPU busy with a process meanwhile."""
    argv = [sys.executable, "-c", "while True: pass"]
    with contextlib.ExitStack() as stack:
        for _ in range(os.cpu_count() or 1):
            process = stack.enter_context(subprocess.Popen(argv))
            stack.callback(process.kill)
        yield


def compare(machines: Mapping[str, float]) -> None:
    """Print the ratios for each of the machines, which have the seconds of a plain boot by this tree's code."""
    with earlier() as tree:
        boot = plain_boot(tree)
        print(f"a plain boot of user-mode-linux: {boot:.1f} s as of {COMMIT}, {machines['uml']:.1f} s now")
        for machine in machines:
            for side in (tree, ROOT):
                taken(side, machine)  # fills the caches
            _turns(tree, machine, "quiet", _PAIRS, boot)
            size = image_size(ROOT, machine) / image_size(tree, machine)
            print(f"{machine}: the image has {size:.2f} of its size, at most {IMAGE}: {_met(size, IMAGE)}")
            with _busy_cpus():
                _turns(tree, machine, "both CPUs busy", _BUSY_PAIRS, None)


def _turns(tree: Path, machine: str, state: str, pairs: int, boot: float | None) -> None:
    then, now = list[Taken](), list[Taken]()
    for _ in range(pairs):
        then.append(taken(tree, machine))
        now.append(taken(ROOT, machine))
    walls = [one.wall / other.wall for one, other in zip(now, then, strict=True)]
    wall, seconds = statistics.median(walls), statistics.median(one.wall for one in now)
    sizes = [one.resident / other.resident for one, other in zip(now, then, strict=True)]
    resident = statistics.median(sizes)
    print(
        f"{machine}, {state}: {seconds:.1f} s, {wall:.2f} of {COMMIT}'s ({min(walls):.2f} .. {max(walls):.2f}),"
        f" at most {WALL[machine]}: {_met(wall, WALL[machine])}; resident {resident:.2f} of its,"
        f" at most {RESIDENT}: {_met(resident, RESIDENT)}"
    )
    if boot is not None:
        ratio = seconds / boot
        print(
            f"{machine}: {ratio:.2f} plain boots as of {COMMIT}, at most {BOOTS[machine]}: {_met(ratio, BOOTS[machine])}"
        )


def _met(ratio: float, most: float) -> str:
    return "met" if round(ratio, 2) <= most else "NOT met"
