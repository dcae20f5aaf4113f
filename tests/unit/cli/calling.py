"""Calls the tool as a user does: a process of its own, a folder of its own, an environment with nothing else in it."""

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cgroup_preflight

SOURCE = Path(cgroup_preflight.__file__).parents[1]
FILE = "cgroup-preflight.toml"
STATUSES = (0, 1, 2, 3)
TIMEOUT = 60
#: Compiled once for all calls; the checkout stays as it is.
_CACHE = tempfile.TemporaryDirectory(prefix="cgroup-preflight-tests-")


@dataclass(frozen=True)
class Called:
    """How a call ended."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


def environment(home: Path, **more: str) -> dict[str, str]:
    """Home and a temporary folder of the test's own, and no program to start: no manager, no sudo, no guest."""
    (home / "tmp").mkdir(exist_ok=True)
    return {
        "PATH": str(home / "tmp"),
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(SOURCE),
        "PYTHONPYCACHEPREFIX": _CACHE.name,
        **more,
    }


def call(
    folder: Path,
    *words: str,
    config: "str | bytes | None" = None,
    statuses: tuple[int, ...] = STATUSES,
    timeout: float = TIMEOUT,
    **more: str,
) -> Called:
    """One call in `folder`, with `config` as its config; what every call has to keep is checked here."""
    folder.mkdir(exist_ok=True)
    if config is not None:
        (folder / FILE).write_bytes(config.encode() if isinstance(config, str) else config)
    done = subprocess.run(
        [sys.executable, "-m", "cgroup_preflight", *words],
        cwd=folder,
        env=environment(folder, **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    called = Called(
        done.returncode,
        done.stdout.decode("utf-8", "backslashreplace"),
        done.stderr.decode("utf-8", "backslashreplace"),
    )
    assert "Traceback" not in called.text, called.text
    assert "Warning:" not in called.err, called.err
    assert called.status in statuses, called.text
    check_harmless(called.err)
    return called


def check_harmless(text: str) -> None:
    """Nothing in it moves a cursor, colours a terminal or turns the direction of writing."""
    for line in text.split("\n"):
        assert line.isprintable(), ascii(line)


def told(called: Called, line: int) -> str:
    """What was told about one line of the config: the mistake, and the line below it with what to do."""
    lines = called.err.split("\n")
    found = [f"{item}\n{after}" for item, after in pairwise(lines) if f"{FILE}:{line}:" in item]
    assert found, f"nothing about line {line} in:\n{called.err}"
    return "\n".join(found)
