"""Loads this tool into the agent of a machine whose state is saved, so that later runs find its modules in memory.

At that time the input disk has nothing but the agent and the tool on it. It is taken off again before the pause, and
each machine that goes on after the pause puts on its own.
"""

import ctypes
import fcntl
import gc
import importlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

_PACKAGE = "cgroup_preflight"
#: The host's order to load the tool, on the disk next to the package of the agent.
_ORDER = "load.json"
#: Modules of `run` and `smoke`, which import the others as they are needed; further ones are read when a run needs them.
#: tests/lab/test_saved_state.py compares this with what a run imports.
_MODULES = (
    "cli.guard", "cli.run", "cli.smoke", "cli.smoke_run", "config.load", "config.units", "config.policy_table",
    "checks.plan", "core.versions", "host.gather", "host.delegation", "plan.demand", "plan.safe_sizes", "smoke.run",
    "report.codec", "report.wrap", "guest.inside.renewal",
)  # fmt: skip
#: Tables of modules, by the package that has them.
_TABLES = ("checks", "checks.go")
#: What the standard library imports late, and what encodes names of hosts.
_LATE = ("encodings.utf_8_sig", "encodings.idna")
#: Linux and libc: BLKFLSBUF (linux/fs.h); MS_NOSUID, MS_NODEV, MS_NOATIME (linux/mount.h).
_FLUSH, _FLAGS = 0x1261, 2 | 4 | 1024


class Order(NamedTuple):
    """The folders of the tool's package and of the packages that it needs, the device of the disk, where it is mounted."""

    folders: list[str]
    disk: str
    place: str


def order() -> Order | None:
    """What the host has ordered, None for nothing."""
    file = Path(__file__).parents[3] / _ORDER
    return Order(**json.loads(file.read_bytes())) if file.exists() else None


def use(folders: list[str]) -> bool:
    """Makes the package in one of `folders` the one that Python imports; False where it is, and modules may be loaded."""
    if sys.path[: len(folders)] == folders:
        return False
    for name in [name for name in sys.modules if name.partition(".")[0] == _PACKAGE]:
        del sys.modules[name]
    # Not the empty entry that stands for the current folder, which is that of the project.
    others = [entry for entry in sys.path if entry and not os.path.isdir(os.path.join(entry, _PACKAGE))]
    sys.path[:] = [*folders, *others]
    return True


def load(folders: list[str]) -> None:
    """Imports the modules of a run."""
    use(folders)
    for name in (*_LATE, *_names()):
        importlib.import_module(name)
    # It is loaded without OpenSSL, as a run does.
    _module("engines.http_answer").http_client(tls=False)
    for place in [place for place in sys.path_importer_cache if place.startswith(tuple(folders))]:
        del sys.path_importer_cache[place]
    gc.collect()
    # A later collection in a fork would write to every object, and copy its page.
    gc.freeze()


def _names() -> Iterable[str]:
    yield from (f"{_PACKAGE}.{name}" for name in _MODULES)
    for table in _TABLES:
        yield from (f"{_PACKAGE}.{table}.{name}" for name in _module(table).CHECKS.values())


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{_PACKAGE}.{name}")


def unmount(disk: str, place: str) -> None:
    """Takes the disk off; the kernel forgets what it read of it, and nobody reads it before `mount`. Raises OSError."""
    _called(_libc().umount2(place.encode(), 0), place)
    device = os.open(disk, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.ioctl(device, _FLUSH)
    os.close(device)


def mount(disk: str, place: str) -> None:
    """Puts on the disk of this machine, which may be another one than before the pause. Raises OSError."""
    _called(_libc().mount(disk.encode(), place.encode(), b"ext4", _FLAGS, None), disk)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _called(status: int, what: str) -> None:
    if status:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), what)
