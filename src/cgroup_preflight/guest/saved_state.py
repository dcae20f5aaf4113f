"""Saved states of machines in the user's cache: found by what determines them, checked, and few.

A state is one file: a header with its key, size and checksum, then the stream of QEMU. It appears complete, by a rename.
It is taken only from a private folder of this user. A machine gets the last bytes of a state only if the checksum of all
is right, so a state that is damaged never runs.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import select
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cgroup_preflight.core.records import asdict, dataclass, replace
from cgroup_preflight.guest import bytecode
from cgroup_preflight.guest.image import RootImage
from cgroup_preflight.guest.qemu import QemuMachine, qemu_argv
from cgroup_preflight.guest.store import MANIFEST

#: Changes where the meaning of a state does.
_FORMAT = 2
_HEADER = 4096
_CHUNK = 1 << 20
_SUFFIX = ".state"
#: The states with the latest use that are kept: each has about 100 MB.
KEPT = 4
#: Bytes; the state of the largest machine that is worth it.
_LARGEST = 1 << 30


class StateError(Exception):
    """A state that cannot be used or saved; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """`image` is the name of the image, `digest` 64 hex digits over all that determines the state."""

    image: str
    digest: str

    @property
    def name(self) -> str:
        """The file of the state without its suffix."""
        return f"{self.image}+{self.digest[:16]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedState:
    """A state in the cache by its name; `size` is in bytes."""

    name: str
    image: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    format: int
    key: str
    size: int
    sha256: str


def states_folder(images: Path) -> Path:
    """The folder of states next to that of images."""
    return images.parent / "states"


def key_of(machine: QemuMachine, image: RootImage, tool: Path | None) -> Key:
    """The key of a machine: QEMU's program and arguments, the files of the image, and the tool that it has loaded.

    Raises StateError, OSError.
    """
    try:
        records = json.loads((image.root.parent / MANIFEST).read_text())
        files = sorted((name, record["sha256"]) for name, record in records.items())
        with open(machine.program, "rb") as program:
            qemu = hashlib.file_digest(program, "sha256").hexdigest()
        loaded = bytecode.digest_of(tool, ".py", ".pyc") if tool is not None else ""
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise StateError(f"the files of the image, of QEMU or of the tool cannot be read ({error})") from None
    here = Path()
    placeless = replace(machine, program="qemu", kernel=here, initrd=here, root=here, input=here)
    text = json.dumps((_FORMAT, image.name, files, qemu, qemu_argv(placeless), loaded))
    return Key(image=image.name, digest=hashlib.sha256(text.encode()).hexdigest())


@contextlib.contextmanager
def _opened_folder(folder: Path) -> Iterator[int]:
    """The descriptor of the folder of states, which is made private. Raises StateError, OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(handle)
        if status.st_uid != os.geteuid():
            raise StateError("the folder of states belongs to another user")
        # A restored CI cache has other modes. What somebody else has put there meanwhile is not this user's (see `opened`).
        os.fchmod(handle, 0o700)
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def opened(folder: Path, key: Key) -> Iterator[int | None]:
    """The descriptor of the state with this key, None if there is none. Raises StateError for one that is not usable."""
    try:
        with _opened_folder(folder) as home:
            state = os.open(key.name + _SUFFIX, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=home)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise StateError(error.strerror or str(error)) from None
    try:
        status = os.fstat(state)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise StateError("somebody else could have written it")
        with contextlib.suppress(OSError):
            os.utime(state)
        yield state
    finally:
        os.close(state)


def feed(state: int, key: Key, pipe: int, *, seconds: float) -> None:
    """Writes the stream of a state to a pipe; the last part only if the whole is right. Raises StateError."""
    header = _read_header(state)
    if (header.format, header.key) != (_FORMAT, key.digest):
        raise StateError("it is of another machine")
    if header.size != os.fstat(state).st_size - _HEADER or not 0 < header.size <= _LARGEST:
        raise StateError("it is not complete")
    digest, left, waiting = hashlib.sha256(), header.size, b""
    deadline = time.monotonic() + seconds
    while left and (chunk := os.read(state, min(_CHUNK, left))):
        digest.update(chunk)
        left -= len(chunk)
        _write(pipe, waiting, deadline)
        waiting = chunk
    if left or digest.hexdigest() != header.sha256:
        raise StateError("its checksum is wrong")
    _write(pipe, waiting, deadline)


def _read_header(state: int) -> _Header:
    try:
        fields = json.loads(os.read(state, _HEADER))
        return _Header(
            format=int(fields["format"]), key=str(fields["key"]), size=int(fields["size"]), sha256=str(fields["sha256"])
        )  # fmt: skip
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StateError(f"it has no header ({error})") from None


def _write(pipe: int, data: bytes, deadline: float) -> None:
    rest = memoryview(data)
    while rest:
        if not select.select([], [pipe], [], max(deadline - time.monotonic(), 0.0))[1]:
            raise StateError("QEMU does not take it")
        try:
            rest = rest[os.write(pipe, rest) :]
        except BlockingIOError:
            continue
        except OSError as error:
            raise StateError(f"QEMU does not take it ({error.strerror})") from None


def save(folder: Path, key: Key, pipe: int, complete: Callable[[], bool], *, seconds: float) -> None:
    """Keeps what comes from a pipe as the state with this key, if it is `complete` at the end. Raises StateError.

    Of two jobs that save the same, one does. The states with the oldest use are removed.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _opened_folder(folder) as home, _new_file(home, f".{key.name}.new") as file:
            size, sha256 = _copy(pipe, file, time.monotonic() + seconds)
            if not complete():
                raise StateError("QEMU did not save all of it")
            header = json.dumps(asdict(_Header(format=_FORMAT, key=key.digest, size=size, sha256=sha256)))
            os.pwrite(file, header.encode().ljust(_HEADER), 0)
            os.rename(f".{key.name}.new", key.name + _SUFFIX, src_dir_fd=home, dst_dir_fd=home)
        _remove_oldest(folder)
    except OSError as error:
        raise StateError(error.strerror or str(error)) from None


@contextlib.contextmanager
def _new_file(home: int, name: str) -> Iterator[int]:
    """A file of this job alone; it is removed unless it has been renamed."""
    file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=home)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another job may have renamed or removed it since it was opened.
            if os.stat(name, dir_fd=home).st_ino != os.fstat(file).st_ino:
                raise BlockingIOError
        except (BlockingIOError, FileNotFoundError):
            raise StateError("another job saves it") from None
        os.ftruncate(file, 0)
        try:
            yield file
        except BaseException:
            os.unlink(name, dir_fd=home)
            raise
    finally:
        os.close(file)


def _copy(pipe: int, file: int, deadline: float) -> tuple[int, str]:
    """Size and checksum of what came to the end of the pipe."""
    digest, size = hashlib.sha256(), 0
    os.lseek(file, _HEADER, os.SEEK_SET)
    while True:
        if not select.select([pipe], [], [], max(deadline - time.monotonic(), 0.0))[0]:
            raise StateError("QEMU does not send it")
        chunk = os.read(pipe, _CHUNK)
        if not chunk:
            return size, digest.hexdigest()
        digest.update(chunk)
        size += len(chunk)
        if size > _LARGEST:
            raise StateError("it is too large")
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(file, rest) :]


def _remove_oldest(folder: Path) -> None:
    states = sorted(folder.glob(f"[!.]*{_SUFFIX}"), key=lambda path: path.lstat().st_mtime, reverse=True)
    for path in states[KEPT:]:
        path.unlink(missing_ok=True)
    for path in folder.glob(".*.new"):
        # Of a job that was killed, unless somebody has it locked.
        with contextlib.suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def list_states(folder: Path) -> tuple[SavedState, ...]:
    """All states, by name."""
    return tuple(
        SavedState(name=path.name.removesuffix(_SUFFIX), image=path.name.rpartition("+")[0], size=path.lstat().st_size)
        for path in sorted(folder.glob(f"[!.]*{_SUFFIX}"))
    )


def path_of(name: str, folder: Path) -> Path:
    """The file of the state `name`."""
    return folder / f"{name}{_SUFFIX}"


def remove(name: str, folder: Path) -> None:
    """Removes the state `name`, if it exists. Raises OSError."""
    path_of(name, folder).unlink(missing_ok=True)
