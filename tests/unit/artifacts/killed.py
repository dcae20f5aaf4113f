"""Helper of test_atomic: puts a plan into an artifact again and again in children that are killed at random moments.

    python -m tests.unit.artifacts.killed ARTIFACT SEED COUNT

Prints how often the artifact was the old one and the new one afterwards; anything else ends with an error.
"""

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from tests.unit.artifacts import making


def _fingerprint(path: Path) -> object:
    if path.is_dir():
        return sorted((str(item.relative_to(path)), item.is_file() and item.read_bytes()) for item in path.rglob("*"))
    return path.read_bytes()


def _restore(original: Path, path: Path) -> None:
    for item in path.parent.iterdir():
        if item != original:
            shutil.rmtree(item) if item.is_dir() else item.unlink()
    shutil.copytree(original, path, symlinks=True) if original.is_dir() else shutil.copyfile(original, path)


def main(name: str, seed: str, count: str) -> None:
    original, path = Path(name), Path(name).with_name("artifact")
    _restore(original, path)
    old, goal = _fingerprint(path), making.request()
    begin = time.monotonic()
    making.put(str(path), goal)
    duration, new = time.monotonic() - begin, _fingerprint(path)
    rng, seen = random.Random(int(seed)), {"old": 0, "new": 0}
    for _ in range(int(count)):
        _restore(original, path)
        child = os.fork()
        if child == 0:
            making.put(str(path), goal)
            os._exit(0)
        time.sleep(rng.uniform(0, duration * 1.3))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        now = _fingerprint(path)
        seen["old" if now == old else "new" if now == new else "broken"] += 1
        making.put(str(path), goal)  # What was left behind does not stand in the way of the next one.
        assert _fingerprint(path) == new
        assert {item.name for item in path.parent.iterdir()} == {original.name, path.name}
    print(seen["old"], seen["new"])


if __name__ == "__main__":
    main(*sys.argv[1:])
