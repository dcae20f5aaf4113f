"""What is built once and kept in the user's cache: folders with a manifest of their files, each under a lock.

A folder is built elsewhere and then renamed, so that it appears complete. Parallel jobs wait for the builder.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from cgroup_preflight.core.errors import HostError, UsageError
from cgroup_preflight.core.records import asdict, dataclass, replace
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.files import write_file

#: The name of the file with the sizes, times and checksums of the others.
MANIFEST = "manifest.json"
#: Bytes; file systems have holes in units of their blocks, which divide it.
_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class _FileRecord:
    size: int
    mtime_ns: int
    sha256: str


def work_folder(folder: Path, name: str) -> Path:
    """The folder of a build; the next build, or `remove`, deletes the files of a build that was killed."""
    return folder / f".{name}.building"


def write_manifest(home: Path) -> None:
    """Notes all files of the folder. Raises OSError."""
    records = {path.name: asdict(_record(path)) for path in sorted(home.iterdir())}
    (home / MANIFEST).write_text(json.dumps(records, indent=1))


def _read_manifest(home: Path) -> dict[str, _FileRecord]:
    """Raises OSError, ValueError or TypeError for what is no manifest."""
    records = json.loads((home / MANIFEST).read_text())
    if not isinstance(records, dict) or not records:
        raise ValueError("not a manifest")
    return {name: _FileRecord(**record) for name, record in records.items()}


def _record(path: Path) -> _FileRecord:
    status = path.stat()
    return _FileRecord(size=status.st_size, mtime_ns=status.st_mtime_ns, sha256=_sha256(path))


def unchanged(home: Path) -> bool:
    """Whether all noted files exist with their sizes and times."""
    try:
        records = _read_manifest(home)
        statuses = {name: (home / name).stat() for name in records}
    except (OSError, ValueError, TypeError):
        return False
    return all(
        (status.st_size, status.st_mtime_ns) == (records[name].size, records[name].mtime_ns)
        for name, status in statuses.items()
    )


def same_content(home: Path) -> bool:
    """Whether only times differ, as in a restored CI cache; writes the new times to the manifest."""
    try:
        records = _read_manifest(home)
        if not all((home / name).stat().st_size == record.size for name, record in records.items()):
            return False
        if not all(_sha256(home / name) == record.sha256 for name, record in records.items()):
            return False
        fresh = {name: asdict(replace(record, mtime_ns=(home / name).stat().st_mtime_ns))
                 for name, record in records.items()}  # fmt: skip
        write_file(str(home / MANIFEST), json.dumps(fresh, indent=1).encode())
    except (OSError, UsageError, ValueError, TypeError):
        return False
    return True


def damaged(home: Path) -> str:
    """Which file is not as it was built, although its size and time are; empty for none. Reads all of it."""
    try:
        records = _read_manifest(home)
        return next((name for name, item in records.items() if _sha256(home / name) != item.sha256), "")
    except (OSError, ValueError, TypeError):
        return ""  # removed or built again meanwhile


def _sha256(path: Path) -> str:
    """Of the places and contents of all blocks that are not zero: most of an image is a hole, or becomes zeros by a copy."""
    digest, size = hashlib.sha256(), path.stat().st_size
    digest.update(b"%d" % size)
    with path.open("rb", buffering=0) as stream:
        place = _next_data(stream.fileno(), 0, size)
        while place < size:
            stream.seek(place)
            block = stream.read(_BLOCK)
            if block.strip(b"\0"):
                digest.update(b"%d:" % place)
                digest.update(block)
            place = _next_data(stream.fileno(), place + _BLOCK, size)
    return digest.hexdigest()


def _next_data(file: int, place: int, size: int) -> int:
    """The first block from `place` on that is not a hole; `size` if there is none."""
    try:
        return os.lseek(file, place, os.SEEK_DATA) // _BLOCK * _BLOCK
    except OSError:
        return size


@contextlib.contextmanager
def locked(folder: Path, name: str, say: Callable[[str], None] = lambda _: None) -> Iterator[int]:
    """Locks image `name`; yields the descriptor of the lock. Raises HostError.

    The lock file stays, because two processes could have the lock if it was removed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / f".{name}.lock").open("w")
    except OSError as error:
        raise HostError(
            f"cannot write to the cache of images: {error.strerror}", where=str(folder),
            remedy=Remedy(title="set XDG_CACHE_HOME to a writable folder"),
        ) from None  # fmt: skip
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another job that is building or removing this image")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def is_locked(folder: Path, name: str) -> bool:
    """Whether another job builds or removes `name` now."""
    with contextlib.suppress(OSError), (folder / f".{name}.lock").open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
