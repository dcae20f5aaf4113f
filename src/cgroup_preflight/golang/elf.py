"""What kind of program a file is, from its first bytes, and whether a given machine can run it."""

import enum
import os
import struct
from collections.abc import Sequence
from pathlib import Path

from cgroup_preflight.core.records import dataclass
from cgroup_preflight.golang import elf_format
from cgroup_preflight.golang.image import BinaryError, Image, open_image
from cgroup_preflight.golang.machines import Fit, Machine, elf_machine, fit_machine

__all__ = ["BinaryError", "ElfType", "Executable", "Fit", "Kind", "Machine", "fit", "identify"]

#: Linux reads no more of a script's first line, bytes (BINPRM_BUF_SIZE, include/uapi/linux/binfmts.h).
SHEBANG_MAX = 256
#: Longest interpreter path that Linux takes from PT_INTERP, bytes (PATH_MAX, fs/binfmt_elf.c).
INTERPRETER_MAX = 4096
#: The smallest page that Linux maps files by, bytes.
PAGE = 4096

#: First bytes of Mach-O files, 32 and 64 bits, both byte orders (Apple's loader.h and fat.h).
MACHO_THIN = (b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe")
MACHO_FAT = (b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf")


@enum.unique
class Kind(enum.StrEnum):
    """File formats that are told apart; OTHER is everything else, text and archives included."""

    ELF = "elf"
    SCRIPT = "script"
    PE = "pe"
    MACHO = "macho"
    EMPTY = "empty"
    OTHER = "other"


@enum.unique
class ElfType(enum.StrEnum):
    """What an ELF file is for; DYN is a shared library or a position-independent program."""

    EXEC = "exec"
    DYN = "dyn"
    REL = "rel"
    CORE = "core"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Executable:
    """One file's kind. `machine`, `elf_type` and `entry` are None unless it is ELF.

    `interpreter` is the loader that an ELF file asks for or the program of a script's first line; None for a
    static program. `shebang` is that whole line without `#!`. Both are the file's words: escape to print.
    `missing` is how many bytes of its own an ELF file lacks: a copy of it was cut off.
    """

    kind: Kind
    machine: Machine | None = None
    elf_type: ElfType | None = None
    entry: int | None = None
    interpreter: str | None = None
    shebang: str | None = None
    missing: int = 0


def identify(path: str | os.PathLike[str]) -> Executable:
    """Say what the file is by its content; name and permissions play no part.

    Raises:
        BinaryError: it cannot be opened, is no regular file, or is ELF with headers that contradict it.

    """
    with open_image(Path(path)) as image:
        return identify_image(image)


def identify_image(image: Image) -> Executable:
    """The same for an image that is open already.

    Raises:
        BinaryError: as `identify`.

    """
    start = image.read(0, min(image.size, SHEBANG_MAX))
    if not start:
        return Executable(kind=Kind.EMPTY)
    if start.startswith(elf_format.MAGIC):
        return _elf(image)
    if start.startswith(b"#!"):
        return _script(start)
    if start.startswith(b"MZ") and _is_pe(image, start):
        return Executable(kind=Kind.PE)
    return Executable(kind=Kind.MACHO if is_macho(start) else Kind.OTHER)


def fit(executable: Executable, machine: str) -> Fit:
    """Whether a kernel that calls itself `machine` (`uname -m`) can run it, without an emulator.

    The answer is about formats only: whether an interpreter exists on the target is for the caller to see.
    """
    if executable.kind is not Kind.ELF:
        return _FIT_BY_KIND[executable.kind]
    if executable.elf_type not in (ElfType.EXEC, ElfType.DYN) or executable.machine is None:
        return Fit(ok=False, why="it is an ELF file, but not a linked program")
    if executable.missing:
        return Fit(ok=False, why=f"it is cut off: {executable.missing} bytes are missing at its end")
    if executable.elf_type is ElfType.DYN and not executable.entry and not executable.interpreter:
        return Fit(ok=False, why="it is a shared library, not a program")
    return fit_machine(executable.machine, machine)


_FIT_BY_KIND = {
    Kind.SCRIPT: Fit(ok=True, why="it is a script: its interpreter is what runs"),
    Kind.PE: Fit(ok=False, why="it is a Windows program (PE); build it with GOOS=linux"),
    Kind.MACHO: Fit(ok=False, why="it is a macOS program (Mach-O); build it with GOOS=linux"),
    Kind.EMPTY: Fit(ok=False, why="the file is empty"),
    Kind.OTHER: Fit(ok=False, why="it is no program: neither ELF nor a script with a #! line"),
}


def _elf(image: Image) -> Executable:
    header = elf_format.read_header(image)
    segments = elf_format.read_segments(image, header)
    types = {1: ElfType.REL, 2: ElfType.EXEC, 3: ElfType.DYN, 4: ElfType.CORE}
    return Executable(
        kind=Kind.ELF,
        machine=elf_machine(header),
        elf_type=types.get(header.type, ElfType.OTHER),
        entry=header.entry,
        interpreter=_interpreter(image, segments),
        missing=_missing(image, segments),
    )


def _missing(image: Image, segments: Sequence[elf_format.Segment]) -> int:
    """Bytes that the program headers name beyond the end of the file; the rest of a last page counts as there."""
    ends = [segment.offset + segment.filesz for segment in segments if segment.type == elf_format.PT_LOAD]
    last = max(ends, default=0)
    return last - image.size if last > -(-image.size // PAGE) * PAGE else 0


def _interpreter(image: Image, segments: Sequence[elf_format.Segment]) -> str | None:
    for segment in segments:
        if segment.type == elf_format.PT_INTERP:
            if not 2 <= segment.filesz <= INTERPRETER_MAX:
                raise BinaryError("is damaged: the path of its interpreter has an impossible length")
            text = image.read(segment.offset, segment.filesz)
            return text.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
    return None


def _script(start: bytes) -> Executable:
    line = start[2:].split(b"\n", 1)[0].decode("utf-8", "backslashreplace").strip(" \t\r")
    words = line.split(maxsplit=1)
    return Executable(kind=Kind.SCRIPT, shebang=line, interpreter=words[0] if words else None)


def _is_pe(image: Image, start: bytes) -> bool:
    if len(start) < 64:
        return False
    (offset,) = struct.unpack_from("<I", start, 60)
    return offset + 4 <= image.size and image.read(offset, 4) == b"PE\0\0"


def is_macho(start: bytes) -> bool:
    """Whether `start` begins a Mach-O file, thin or fat, in either byte order."""
    if len(start) < 8:
        return False
    if start[:4] in MACHO_FAT:
        count = int.from_bytes(start[4:8], "big")
        return 0 < count < 43  # a Java class has the same magic and its version, 43 at least, here
    return start[:4] in MACHO_THIN
