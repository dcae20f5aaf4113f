"""What Go recorded about a build in the program file: `read` for any ELF, PE or Mach-O file.

Reads some KiB of the file, whatever its size, and runs nothing.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from cgroup_preflight.golang import elf
from cgroup_preflight.golang.binary_file import BinaryError, Image, Layout, open_image
from cgroup_preflight.golang.blob import find_blob
from cgroup_preflight.golang.elf import elf_layout
from cgroup_preflight.golang.executable import Executable, FileKind, identify_image, is_macho
from cgroup_preflight.golang.macho import macho_layout
from cgroup_preflight.golang.modinfo import BuildInfo, Module, parse
from cgroup_preflight.golang.pe import pe_layout

__all__ = ["BinaryError", "BuildInfo", "Module", "NotGoError", "PackedError", "read", "read_image"]

_LAYOUTS: Mapping[FileKind, Callable[[Image], Layout]] = MappingProxyType(
    {FileKind.ELF: elf_layout, FileKind.PE: pe_layout, FileKind.MACHO: macho_layout}
)

#: UPX writes its mark into the first of its own headers, far before this offset, bytes.
_PACKER_HEADER = 4096
PACKED = "is packed by UPX, which hides what it was built with; unpack it with: upx -d"


class NotGoError(BinaryError):
    """A file in order that is no Go program, or says nothing about it."""


class PackedError(BinaryError):
    """A packed program: what it was built with cannot be seen without running it."""


def read(path: str | os.PathLike[str]) -> BuildInfo:
    """The build info of a program file; the name and the permissions of the file play no part.

    Raises:
        NotGoError: it is a script, data, or a program that Go did not build (or that lost its build info).
        PackedError: it is packed by UPX.
        BinaryError: it cannot be read, is no regular file, or is damaged.

    """
    with open_image(Path(path)) as image:
        return read_image(image)


def read_image(image: Image) -> BuildInfo:
    """The same for an image that is open already.

    Raises:
        BinaryError: as `read`.

    """
    try:
        return _parsed(image)
    except BinaryError:
        # Packers leave headers that look damaged, or sound ones without build info: this says more.
        if _is_packed(image.read(0, min(image.size, _PACKER_HEADER))):
            raise PackedError(PACKED) from None
        raise


def _parsed(image: Image) -> BuildInfo:
    executable = identify_image(image)
    find_layout = _LAYOUTS.get(executable.kind)
    if find_layout is None:
        raise NotGoError(_what_else(executable))
    blob = find_blob(find_layout(image))
    if blob is None and executable.missing:
        raise BinaryError(f"is cut off: {executable.missing} bytes are missing at its end")
    if blob is None:
        raise NotGoError("has no Go build info: Go did not build it, or the build info was removed")
    return parse(blob)


def _is_packed(start: bytes) -> bool:
    is_program = start.startswith((elf.MAGIC, b"MZ")) or is_macho(start)
    return is_program and b"UPX!" in start


def _what_else(executable: Executable) -> str:
    if executable.kind is FileKind.SCRIPT:
        return "is a script, not a Go program; the program that it starts is another file"
    if executable.kind is FileKind.EMPTY:
        return "is an empty file"
    return "is no program file (neither ELF, PE nor Mach-O)"
