"""What is done to files over SFTP, as jobs of `sftp.Sftp.run`. A refusal is a reading; a wrong answer raises ValueError."""

import errno
import os
import stat
from collections.abc import Sequence

from cgroup_preflight.core.reading import Known, Missing, Reading, Why
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.host.door import Status
from cgroup_preflight.host.remote import sftp_packets as p
from cgroup_preflight.host.remote.questions import NAMES_MAX
from cgroup_preflight.host.remote.sftp import Job, Request, request

if TYPE_CHECKING:
    from typing import BinaryIO

#: Files of the kernel's own file systems are opened at once. Anywhere else a FIFO could be in the way, and would block.
_KERNEL = ("/proc/", "/sys/")
_WHY = {
    p.NO_SUCH_FILE: (Why.ABSENT, errno.ENOENT),
    p.PERMISSION_DENIED: (Why.DENIED, errno.EACCES),
    5: (Why.UNSUPPORTED, errno.EINVAL),
    p.UNSUPPORTED: (Why.UNSUPPORTED, errno.EOPNOTSUPP),
}
#: Bytes of one WRITE, as every server takes them, and how many are under way.
_WRITE_SIZE, _WRITES = 32 * 1024, 32
_READ_ONLY = 1


def read(path: str, most: int, start: int = 0) -> Job[Reading[bytes]]:
    """At most `most` bytes of a regular file, from `start` on."""
    name = os.fsencode(path)
    if not path.startswith(_KERNEL):
        (reply,) = yield [request(p.STAT, name)]
        if reply.kind == p.STATUS:
            return _refused(path, reply)
        mode = p.attributes_of(reply).mode
        if mode is not None and stat.S_ISDIR(mode):
            return Missing(source=path, why=Why.FAILED, errno=errno.EISDIR)
        if mode is not None and not stat.S_ISREG(mode):
            return Missing(source=path, why=Why.MALFORMED, detail="not a file")
    (reply,) = yield [request(p.OPEN, name, p.READ_FLAG, p.NO_ATTRIBUTES)]
    if reply.kind == p.STATUS:
        return _refused(path, reply)
    handle = p.string_of(reply, p.HANDLE)
    data = bytearray()
    while len(data) < most:
        wanted = min(p.READ_MAX, most - len(data))
        (reply,) = yield [request(p.READ, handle, p.offset(start + len(data)), wanted)]
        if reply.kind == p.STATUS:
            break
        data += _piece(reply, wanted)
    yield [_close(handle)]
    if reply.kind == p.STATUS and p.status_of(reply)[0] != p.END:
        return _refused(path, reply)
    return Known(value=bytes(data), source=path)


def status(path: str) -> Job[Reading[Status]]:
    """stat(2); the time has whole seconds."""
    (reply,) = yield [request(p.STAT, os.fsencode(path))]
    if reply.kind == p.STATUS:
        return _refused(path, reply)
    found = p.attributes_of(reply)
    if found.size is None or found.mode is None or found.uid is None or found.gid is None or found.time is None:
        # What is not said is not 0: that would be root.
        return Missing(source=path, why=Why.MALFORMED, detail="the server does not say everything about the file")
    value = Status(size=found.size, mode=found.mode, uid=found.uid, gid=found.gid, time=float(found.time))
    return Known(value=value, source=path)


def link(path: str) -> Job[Reading[str]]:
    """The target of a symbolic link."""
    (reply,) = yield [request(p.READLINK, os.fsencode(path))]
    if reply.kind == p.STATUS:
        return _refused(path, reply)
    names = p.names_of(reply)
    if len(names) != 1:
        raise ValueError(f"{len(names)} targets of one link")
    return Known(value=os.fsdecode(names[0][0]), source=path)


def names(path: str, *, folders: bool) -> Job[Reading[tuple[str, ...]]]:
    """The sorted names in a folder; with `folders` only those of folders."""
    (reply,) = yield [request(p.OPENDIR, os.fsencode(path))]
    if reply.kind == p.STATUS:
        return _refused(path, reply)
    handle, found = p.string_of(reply, p.HANDLE), list[str]()
    while len(found) < NAMES_MAX:
        (reply,) = yield [request(p.READDIR, handle)]
        if reply.kind == p.STATUS:
            break
        listed = p.names_of(reply)
        if not listed:
            raise ValueError("an empty list of names")
        found += (_name(name) for name, item in listed if not folders or stat.S_ISDIR(item.mode or 0))
    yield [_close(handle)]
    if reply.kind != p.STATUS:
        return Missing(source=path, why=Why.MALFORMED, detail=f"more than {NAMES_MAX} names")
    if p.status_of(reply)[0] != p.END:
        return _refused(path, reply)
    return Known(value=tuple(sorted(name for name in found if name not in (".", ".."))), source=path)


def read_only(path: str) -> Job[Reading[bool]]:
    """ST_RDONLY of statvfs(3); an extension of OpenSSH."""
    source = f"statvfs {path}"
    (reply,) = yield [request(p.EXTENDED, b"statvfs@openssh.com", os.fsencode(path))]
    if reply.kind == p.STATUS:
        return _refused(source, reply)
    if reply.kind != p.EXTENDED_REPLY:
        raise ValueError(f"an answer of type {reply.kind} in place of a file system")
    fields = p.Fields(reply.body)
    numbers = [fields.u64() for _ in range(11)]
    fields.end()
    return Known(value=bool(numbers[9] & _READ_ONLY), source=source)


def opened(path: str) -> Job[Reading[bytes]]:
    """The handle of a file that is read again and again with `again`."""
    (reply,) = yield [request(p.OPEN, os.fsencode(path), p.READ_FLAG, p.NO_ATTRIBUTES)]
    return _refused(path, reply) if reply.kind == p.STATUS else Known(value=p.string_of(reply, p.HANDLE), source=path)


def again(handle: bytes, path: str, most: int) -> Job[Reading[bytes]]:
    """What an open file contains now, at most `most` bytes."""
    (reply,) = yield [request(p.READ, handle, p.offset(0), most)]
    if reply.kind != p.STATUS:
        return Known(value=_piece(reply, most), source=path)
    return Known(value=b"", source=path) if p.status_of(reply)[0] == p.END else _refused(path, reply)


def closed(handle: bytes) -> Job[None]:
    """Gives a handle back."""
    yield [_close(handle)]


def write(path: str, data: bytes, mode: int, temporary: str) -> Job[str]:
    """Replaces or creates a file, whole or not at all; the reason where that failed, else empty."""
    handle = yield from _created(temporary, mode)
    if isinstance(handle, str):
        return handle
    reason = yield from _written(handle, data, 0)
    replies = yield [request(p.EXTENDED, b"fsync@openssh.com", handle), request(p.CLOSE, handle)]
    # A server that has no fsync says so; a disk that is full can say it only now.
    synced = "" if p.status_of(replies[0])[0] == p.UNSUPPORTED else _failure(replies[0])
    reason = reason or synced or _failure(replies[1])
    if not reason:
        # Not the rename of version 3, which replaces no file.
        (reply,) = yield [request(p.EXTENDED, b"posix-rename@openssh.com", os.fsencode(temporary), os.fsencode(path))]
        reason = _failure(reply)
    if reason:
        yield [Request(kind=p.REMOVE, fields=(os.fsencode(temporary),), answered=False)]
    return reason


def upload(source: "BinaryIO", path: str, mode: int) -> Job[str]:
    """Copies an open file of this machine to a new file; the reason where that failed, else empty."""
    handle = yield from _created(path, mode)
    if isinstance(handle, str):
        return handle
    done, reason = 0, ""
    while not reason and (data := source.read(_WRITE_SIZE * _WRITES)):
        reason = yield from _written(handle, data, done)
        done += len(data)
    (reply,) = yield [request(p.CLOSE, handle)]
    return reason or _failure(reply)


def write_attribute(path: str, data: bytes) -> Job[str]:
    """One write(2) to a file that exists; the reason where that failed, else empty."""
    (reply,) = yield [request(p.OPEN, os.fsencode(path), p.WRITE_FLAG, p.NO_ATTRIBUTES)]
    if reply.kind == p.STATUS:
        return _failure(reply)
    handle = p.string_of(reply, p.HANDLE)
    (reply,) = yield [request(p.WRITE, handle, p.offset(0), data)]
    yield [_close(handle)]
    return _failure(reply)


def make_folder(path: str, mode: int) -> Job[str]:
    """Makes a folder; the reason where that failed, else empty; one that exists stays as it is."""
    (reply,) = yield [request(p.MKDIR, os.fsencode(path), p.mode_of(mode))]
    reason = _failure(reply)
    if reason:
        (found,) = yield [request(p.STAT, os.fsencode(path))]
        if found.kind == p.ATTRS and stat.S_ISDIR(p.attributes_of(found).mode or 0):
            return ""
    return reason


def _created(path: str, mode: int) -> Job[bytes | str]:
    """The handle of a new file, or why there is none."""
    flags = p.WRITE_FLAG | p.CREATE_FLAG | p.EXCLUSIVE_FLAG
    (reply,) = yield [request(p.OPEN, os.fsencode(path), flags, p.mode_of(mode))]
    if reply.kind == p.STATUS:
        return _failure(reply)
    handle = p.string_of(reply, p.HANDLE)
    # OPEN leaves out what the umask of the other end says.
    yield [Request(kind=p.FSETSTAT, fields=(handle, p.mode_of(mode)), answered=False)]
    return handle


def _written(handle: bytes, data: bytes, start: int) -> Job[str]:
    for begin in range(0, len(data), _WRITE_SIZE * _WRITES):
        places = range(begin, min(begin + _WRITE_SIZE * _WRITES, len(data)), _WRITE_SIZE)
        replies = yield [
            request(p.WRITE, handle, p.offset(start + at), data[at : at + _WRITE_SIZE]) for at in places
        ]  # fmt: skip
        reason = next((found for reply in replies if (found := _failure(reply))), "")
        if reason:
            return reason
    return ""


def _close(handle: bytes) -> Request:
    return Request(kind=p.CLOSE, fields=(handle,), answered=False)


def _piece(reply: p.Reply, wanted: int) -> bytes:
    piece = p.string_of(reply, p.DATA)
    if not 1 <= len(piece) <= wanted:
        raise ValueError(f"{len(piece)} bytes of {wanted}")
    return piece


def _name(name: bytes) -> str:
    if not name or b"/" in name or b"\0" in name:
        raise ValueError("a name in a folder that is none")
    return os.fsdecode(name)


def _failure(reply: p.Reply) -> str:
    """Why a request failed, empty where it did not."""
    code, message = p.status_of(reply)
    if code == p.OK:
        return ""
    number = _WHY.get(code, (Why.FAILED, 0))[1]
    return os.strerror(number).lower() if number else message.lower() or f"status {code}"


def _refused(source: str, reply: p.Reply) -> Missing:
    code, message = p.status_of(reply)
    if code in (p.OK, p.END):
        raise ValueError("success in place of an answer")
    why, number = _WHY.get(code, (Why.FAILED, None))
    return Missing(source=source, why=why, errno=number, detail="" if number else message)


def jobs_of(paths: Sequence[str], most: int) -> "list[Job[Reading[bytes]]]":
    """A job for each file."""
    return [read(path, most) for path in paths]
