"""The programs and files that a run in a guest relies on: a package that replaces one could make up the rest of the report."""

import os
import shutil
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import cgroup_preflight

#: What the tool, dpkg and the scripts of a run start; each is looked up as they do.
_PROGRAMS = (
    "dpkg", "dpkg-query", "env", "journalctl", "python3", "sh", "sleep", "systemctl", "systemd-analyze", "systemd-run",
    "systemd-sysusers", "systemd-tmpfiles", "tar",
)  # fmt: skip
_FILES = ("/etc/ld.so.preload", "/usr/lib/systemd/systemd", "/proc/1/exe")
_FOLDERS = (str(Path(cgroup_preflight.__file__).parent), sysconfig.get_path("stdlib"))

#: By path, what tells a file from another one in its place.
Identities = Mapping[str, tuple[str | int, ...]]


def relied_on(
    programs: Iterable[str] = _PROGRAMS, files: Iterable[str] = _FILES, folders: Iterable[str] = _FOLDERS
) -> Identities:
    """The identity of each of them now. A program is at its first place in PATH."""
    found: dict[str, tuple[str | int, ...]] = {}
    for name in programs:
        path = shutil.which(name) or ""
        found[name] = (path, *_identity(path))
    for path in (*files, *_below(folders)):
        found[path] = _identity(path)
    return found


def replaced(before: Identities, after: Identities) -> tuple[str, ...]:
    """What is another file now, is new, or is gone."""
    names = sorted({*before, *after})
    return tuple(name for name in names if before.get(name) != after.get(name))


def _identity(path: str) -> tuple[str | int, ...]:
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return (
        os.path.realpath(path),
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _below(folders: Iterable[str]) -> Iterator[str]:
    for folder in folders:
        for place, names, files in os.walk(folder):
            names[:] = [name for name in names if name not in ("__pycache__", "dist-packages", "site-packages")]
            yield from (os.path.join(place, name) for name in files)
