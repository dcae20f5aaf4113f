"""Reads package files (deb(5)): their control files, and the archive of their data with the names in it.

In this process, because two processes for each of a hundred small packages take as long as to unpack all of them.
"""

import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

_MAGIC = b"!<arch>\n"
_HEADER = 60
_BLOCK = 512
_CHUNK = 1 << 20
_OPENERS: dict[str, Callable[[io.BytesIO], io.BufferedIOBase]] = {
    "": lambda file: file, ".gz": lambda file: gzip.GzipFile(fileobj=file), ".xz": lzma.LZMAFile, ".bz2": bz2.BZ2File,
}  # fmt: skip
#: Types of tar members with content: files, and the name of the next member (tar(5)).
_LONG_NAME = b"L"
_WITH_CONTENT = (b"0", b"\0", b"7", _LONG_NAME, b"K", b"x", b"g")
_NO_MEMBERS = (_LONG_NAME, b"K", b"x", b"g")
#: What a damaged package file raises.
ERRORS = (OSError, EOFError, ValueError, lzma.LZMAError, tarfile.TarError)


def control_files(file: Path) -> dict[str, bytes]:
    """The control files of a package by their names. Raises ERRORS."""
    with tarfile.open(fileobj=_opened(file, "control.tar")) as members:
        return {
            os.path.basename(item.name): data.read()
            for item in members
            if item.isreg() and (data := members.extractfile(item))
        }


def copy_data(file: Path, to: IO[bytes]) -> list[str]:
    """Writes the archive of the data to `to`; the names of all its members. Raises ERRORS."""
    names = _Names()
    with _opened(file, "data.tar") as stream:
        while data := stream.read(_CHUNK):
            names.feed(data)
            to.write(data)
    return names.found


def _opened(file: Path, member: str) -> io.BufferedIOBase:
    with file.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            raise ValueError(f"{file.name} is no package")
        while len(header := stream.read(_HEADER)) == _HEADER:
            name, size = header[:16].decode("ascii", "replace").strip().rstrip("/"), int(header[48:58])
            if name.startswith(member) and name.removeprefix(member) in _OPENERS:
                return _OPENERS[name.removeprefix(member)](io.BytesIO(stream.read(size)))
            stream.seek(size + size % 2, os.SEEK_CUR)
    raise ValueError(f"{file.name} has no {member} that can be read")


class _Names:
    """The names of the members of a tar stream that comes in pieces."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._rest, self._skip, self._long = b"", 0, b""

    def feed(self, data: bytes) -> None:
        """Takes the next piece."""
        data, at = self._rest + data, 0
        while True:
            step = min(self._skip, len(data) - at)
            at, self._skip = at + step, self._skip - step
            end = at + _BLOCK
            if self._skip or end > len(data):
                break
            header = data[at:end]
            kind, size = header[156:157], _octal(header[124:136])
            padded = -(-size // _BLOCK) * _BLOCK if kind in _WITH_CONTENT else 0
            if kind == _LONG_NAME:
                if end + padded > len(data):
                    break
                self._long = data[end : end + size].rstrip(b"\0")
            elif kind not in _NO_MEMBERS and header.strip(b"\0"):
                self.found.append((self._long or _name(header)).decode("utf-8", "surrogateescape"))
                self._long = b""
            at, self._skip = end, padded
        self._rest = data[at:]


def _octal(field: bytes) -> int:
    """A number of a header; of GNU's, large ones are binary. Raises ValueError."""
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    return int(field.strip(b" \0") or b"0", 8)


def _name(header: bytes) -> bytes:
    name, prefix = header[:100].rstrip(b"\0"), header[345:500].rstrip(b"\0")
    return prefix + b"/" + name if prefix and header[257:263] == b"ustar\0" else name
