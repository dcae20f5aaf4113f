"""kill -9 at 200 random moments: the artifact is the old one or the new one, and the next run cleans up."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.artifacts import making

_REPOSITORY = Path(__file__).parents[3]
_NOISE = random.Random(1).randbytes(400_000)


@pytest.mark.starts_processes
@pytest.mark.parametrize("kind", ["tar.gz", "zip", "deb", "folder"])
def test_killed_at_any_moment(tmp_path: Path, kind: str) -> None:
    big = making.entry("usr/bin/noise", _NOISE)
    original = tmp_path / "original"
    if kind == "folder":
        (original / "usr/bin").mkdir(parents=True)
        for number in range(30):
            (original / f"usr/bin/{number}").write_bytes(b"x")
    elif kind == "zip":
        original.write_bytes(making.zipped([("noise", _NOISE)]))
    elif kind == "deb":
        original.write_bytes(making.deb("gz", md5sums=b"x" * 100_000 + b"\n"))
    else:
        original.write_bytes(making.PACKERS["gz"](making.tar([big])))
    argv = [sys.executable, "-m", "tests.unit.artifacts.killed", str(original), "7", "50"]
    path = os.pathsep.join([str(_REPOSITORY / "src"), str(_REPOSITORY)])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        argv, cwd=_REPOSITORY, env=environment, capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    old, new = map(int, done.stdout.split())
    assert old + new == 50
    assert old > 0, "none was killed before the end"
