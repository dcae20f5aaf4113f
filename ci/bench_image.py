"""Measure a cold `guest build` against `mmdebstrap --variant=minbase` of the same suite and packages, in turn."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cgroup_preflight.guest.recipe import Recipe, recipe_for
from cgroup_preflight.guest.tools import KEYRING

ROUNDS = 3
#: The target: the most that a build may take, as a share of mmdebstrap's time.
TARGET = 0.4


def main() -> None:
    """Print both times and their ratio for each distribution; downloads all packages each time."""
    for distro in ("debian-12", "debian-13"):
        recipe = recipe_for(distro)
        pairs = [(_build(distro), _minbase(recipe)) for _ in range(ROUNDS)]
        ratios = [build / minbase for build, minbase in pairs]
        build, minbase = (statistics.median(seconds) for seconds in zip(*pairs, strict=True))
        print(
            f"{distro}: guest build {build:.1f} s, mmdebstrap {minbase:.1f} s, ratio {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} .. {max(ratios):.2f}), target {TARGET}",
            flush=True,
        )


def _build(distro: str) -> float:
    """Seconds of `guest build` with an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        argv = (sys.executable, "-m", "cgroup_preflight", "guest", "build", "--distro", distro, "--quiet")
        return _seconds(argv, {**os.environ, "XDG_CACHE_HOME": folder})


def _minbase(recipe: Recipe) -> float:
    """Seconds of mmdebstrap for the packages of `recipe`, with their maintainer scripts."""
    with tempfile.TemporaryDirectory() as folder:
        packages = ",".join(recipe.packages)
        argv = (
            "mmdebstrap", "--quiet", "--variant=minbase", f"--keyring={KEYRING}", f"--include={packages}", recipe.suite,
            str(Path(folder) / "root.tar"),
        )  # fmt: skip
        return _seconds(argv, dict(os.environ))


def _seconds(argv: tuple[str, ...], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(argv, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
