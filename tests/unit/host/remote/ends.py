"""The other ends of lines: programs of this machine, a played SFTP server, and a recorded stream of answers."""

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from cgroup_preflight.host.remote.line import Line

SFTP_SERVER = next(
    (
        path
        for path in ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")
        if os.path.exists(path)
    ),
    shutil.which("sftp-server") or "",
)


def program(*argv: str) -> Line:
    """A line to a program of this machine."""
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    pipes = (process.stdout, process.stdin, process.stderr)
    handles = [os.dup(pipe.fileno()) for pipe in pipes]
    for pipe in pipes:
        pipe.close()
    return Line(handles[0], handles[1], errors=handles[2], end=lambda: process.wait(20))


class LocalLines:
    """As `Lines`: programs of this machine; without an SFTP server, a played one."""

    name = "here"

    def __init__(self, *, files: tuple[str, ...] | None = None, shell: tuple[str, ...] = ("sh",)) -> None:
        self._files, self._shell = files, shell

    def shell(self) -> Line:
        return program(*self._shell)

    def files(self) -> Line:
        if self._files is not None:
            return program(*self._files)
        return program(SFTP_SERVER) if SFTP_SERVER else played()

    def bridge(self) -> Line:
        raise AssertionError

    def channel(self, script: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            ("sh", "-c", script), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip


def replay(stream: bytes, *, piece: int = 1 << 16) -> Line:
    """A line whose other end says `stream`, in pieces, whatever it is asked, and then nothing more."""

    def speak(there: socket.socket) -> None:
        for at in range(0, len(stream), piece):
            there.sendall(stream[at : at + piece])
        there.shutdown(socket.SHUT_WR)
        while there.recv(1 << 16):
            pass

    return spoken(speak)


def spoken(speak: Callable[[socket.socket], None]) -> Line:
    """A line whose other end is what `speak` does with it, until the line is closed."""
    here, there = socket.socketpair()

    def run() -> None:
        with there, contextlib.suppress(OSError):
            speak(there)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    handle = here.detach()
    return Line(handle, handle, end=lambda: thread.join(20))


def silent() -> tuple[Line, socket.socket]:
    """A line whose other end, the socket, says nothing by itself."""
    here, there = socket.socketpair()
    handle = here.detach()
    return Line(handle, handle), there


def played(noise: bytes = b"") -> Line:
    """A line to a small SFTP server of this test: what OpenSSH's does for reading files, in Python."""
    here, there = socket.socketpair()
    thread = threading.Thread(target=_serve, args=(there, noise), daemon=True)
    thread.start()
    handle = here.detach()
    return Line(handle, handle, end=lambda: thread.join(20))


def answer(kind: int, number: int, body: bytes) -> bytes:
    """A packet of a server."""
    return struct.pack(">IBI", len(body) + 5, kind, number) + body


def text(data: bytes) -> bytes:
    """A string of a packet."""
    return struct.pack(">I", len(data)) + data


def version(*pairs: tuple[bytes, bytes]) -> bytes:
    """The first packet of a server."""
    body = b"\x02" + struct.pack(">I", 3) + b"".join(text(name) + text(value) for name, value in pairs)
    return struct.pack(">I", len(body)) + body


def status(number: int, code: int, words: bytes = b"said") -> bytes:
    """A STATUS."""
    return answer(101, number, struct.pack(">I", code) + text(words) + text(b"en"))


def attributes(found: os.stat_result) -> bytes:
    """Attributes of a file."""
    return struct.pack(
        ">IQIIIII",
        0xF,
        found.st_size,
        found.st_uid,
        found.st_gid,
        found.st_mode,
        int(found.st_atime),
        int(found.st_mtime),
    )


def _serve(there: socket.socket, noise: bytes) -> None:
    reader, handles = there.makefile("rb"), dict[bytes, bytes]()
    # Who cuts the line may leave answers unread.
    with contextlib.suppress(OSError), there, reader:
        while len(head := reader.read(5)) == 5:
            size, kind = struct.unpack(">IB", head)
            body = reader.read(size - 1)
            if kind == 1:
                there.sendall(noise + version((b"statvfs@openssh.com", b"2")))
                continue
            try:
                there.sendall(_answered(kind, body, handles))
            except OSError as error:
                if isinstance(error, BrokenPipeError):
                    return
                code = 2 if isinstance(error, FileNotFoundError | NotADirectoryError) else 4
                there.sendall(status(struct.unpack(">I", body[:4])[0], code))


def _answered(kind: int, body: bytes, handles: dict[bytes, bytes]) -> bytes:
    number, size = struct.unpack(">II", body[:8])
    name, rest = body[8 : 8 + size], body[8 + size :]
    if kind == 3:
        handles[b"h%d" % number] = Path(os.fsdecode(name)).read_bytes()
        return answer(102, number, text(b"h%d" % number))
    if kind == 11:
        names = [b".", *(os.fsencode(each) for each in os.listdir(name))]
        handles[b"d%d" % number] = b"\0".join(names)
        return answer(102, number, text(b"d%d" % number))
    if kind == 5:
        start, most = struct.unpack(">QI", rest)
        piece = handles[name][start : start + most]
        return answer(103, number, text(piece)) if piece else status(number, 1)
    if kind == 12:
        names = [each for each in handles[name].split(b"\0") if each]
        handles[name] = b""
        if not names:
            return status(number, 1)
        items = b"".join(text(each) + text(b"long") + struct.pack(">I", 0) for each in names)
        return answer(104, number, struct.pack(">I", len(names)) + items)
    if kind == 17:
        return answer(105, number, attributes(os.stat(name)))
    if kind == 19:
        return answer(104, number, struct.pack(">I", 1) + text(os.readlink(name)) + text(b"") + struct.pack(">I", 0))
    return status(number, 0 if kind == 4 else 8)
