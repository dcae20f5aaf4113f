"""What kind of program a file is, from its first bytes, and whether a machine can run it.

An architecture has three names: ELF's number, Go's GOARCH and the kernel's `uname -m`.
"""

import enum
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from cgroup_preflight.core.records import dataclass
from cgroup_preflight.golang import elf
from cgroup_preflight.golang.binary_file import BinaryError, Image, open_image
from cgroup_preflight.golang.elf import ElfHeader


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What an ELF file was built for; `bits` 32 or 64, `big_endian` its byte order.

    `goarch` and `uname` are None where Go has no port; `number` is ELF's e_machine.
    """

    number: int
    bits: int
    big_endian: bool
    goarch: str | None
    uname: str | None

    def __str__(self) -> str:
        """The `uname -m` spelling, or ELF's number where there is none."""
        return self.uname or f"ELF machine {self.number} ({self.bits} bits)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Whether a program can run on a machine; None where the names alone do not show it.

    `why` is never empty for an answer other than True.
    """

    ok: bool | None
    why: str = ""


#: (e_machine, bits, big endian) -> (GOARCH, `uname -m`). Numbers: the gABI's list of e_machine values and
#: include/uapi/linux/elf-em.h; ports: `go tool dist list`. Both byte orders of MIPS share their `uname -m`.
_MACHINES: Mapping[tuple[int, int, bool], tuple[str, str]] = MappingProxyType(
    {
        (3, 32, False): ("386", "i686"),
        (8, 32, False): ("mipsle", "mips"),
        (8, 32, True): ("mips", "mips"),
        (8, 64, False): ("mips64le", "mips64"),
        (8, 64, True): ("mips64", "mips64"),
        (21, 64, False): ("ppc64le", "ppc64le"),
        (21, 64, True): ("ppc64", "ppc64"),
        (22, 64, True): ("s390x", "s390x"),
        (40, 32, False): ("arm", "arm"),
        (62, 64, False): ("amd64", "x86_64"),
        (183, 64, False): ("arm64", "aarch64"),
        (243, 64, False): ("riscv64", "riscv64"),
        (258, 64, False): ("loong64", "loongarch64"),
    }
)

#: Where 32-bit programs may run on a 64-bit kernel, and what that depends on.
_COMPATIBLE: Mapping[tuple[str, str], Fit] = MappingProxyType(
    {
        ("i686", "x86_64"): Fit(ok=True, why="a 32-bit program on a 64-bit kernel (CONFIG_IA32_EMULATION)"),
        ("arm", "aarch64"): Fit(ok=None, why="it is a 32-bit program, which not every 64-bit ARM CPU can run"),
        ("mips", "mips64"): Fit(ok=None, why="it is a 32-bit program; the kernel may lack support for it"),
    }
)


def _elf_machine(header: ElfHeader) -> Machine:
    """The machine that an ELF header names, with Go's and the kernel's words for it."""
    big_endian = header.order == ">"
    goarch, uname = _MACHINES.get((header.machine, header.bits, big_endian), (None, None))
    return Machine(number=header.machine, bits=header.bits, big_endian=big_endian, goarch=goarch, uname=uname)


def _canonical(machine: str) -> str:
    """One spelling for the many that kernels use: i386 .. i686, armv6l .. armv8l, amd64, arm64."""
    if machine in ("i386", "i486", "i586", "i686", "x86"):
        return "i686"
    if machine.startswith("armv") or machine == "arm":
        return "arm"
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


def _fit_machine(built_for: Machine, machine: str) -> Fit:
    """Whether a program built for one machine runs on a kernel whose `uname -m` is `machine`."""
    target = _canonical(machine)
    if built_for.uname is None:
        return Fit(ok=False, why=f"it was built for {built_for}, and Go has no port to such a Linux machine")
    if target not in {uname for _, uname in _MACHINES.values()}:
        return Fit(ok=None, why=f"it was built for {built_for}; this tool does not know the machine {machine!r}")
    if built_for.uname == target:
        if target.startswith("mips"):
            return Fit(ok=None, why="the name of the machine does not show the byte order of its kernel")
        return Fit(ok=True)
    return _COMPATIBLE.get(
        (built_for.uname, target),
        Fit(
            ok=False,
            why=f"it was built for {built_for} (GOARCH={built_for.goarch}), the machine is {machine}",
        ),
    )


__all__ = ["BinaryError", "ElfType", "Executable", "FileKind", "Fit", "Machine", "fit", "identify"]

#: Linux reads no more of a script's first line, bytes (BINPRM_BUF_SIZE, include/uapi/linux/binfmts.h).
_SHEBANG_MAX = 256
#: Longest interpreter path that Linux takes from PT_INTERP, bytes (PATH_MAX, fs/binfmt_elf.c).
_INTERPRETER_MAX = 4096
#: The smallest page that Linux maps files by, bytes.
PAGE = 4096

#: First bytes of Mach-O files, 32 and 64 bits, both byte orders (Apple's loader.h and fat.h).
_MACHO_THIN = (b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe")
_MACHO_FAT = (b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf")


@enum.unique
class FileKind(enum.StrEnum):
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

    kind: FileKind
    machine: Machine | None = None
    elf_type: ElfType | None = None
    entry: int | None = None
    interpreter: str | None = None
    shebang: str | None = None
    missing: int = 0


def identify(path: str | os.PathLike[str]) -> Executable:
    """What the file is by its content; its name and permissions do not matter.

    Raises:
        BinaryError: it cannot be opened, is no regular file, or is ELF with headers that contradict it.

    """
    with open_image(Path(path)) as image:
        return identify_image(image)


def identify_image(image: Image) -> Executable:
    """The same for an open image.

    Raises:
        BinaryError: as `identify`.

    """
    start = image.read(0, min(image.size, _SHEBANG_MAX))
    if not start:
        return Executable(kind=FileKind.EMPTY)
    if start.startswith(elf.MAGIC):
        return _elf(image)
    if start.startswith(b"#!"):
        return _script(start)
    if start.startswith(b"MZ") and _is_pe(image, start):
        return Executable(kind=FileKind.PE)
    return Executable(kind=FileKind.MACHO if is_macho(start) else FileKind.OTHER)


def fit(executable: Executable, machine: str) -> Fit:
    """Whether a kernel that calls itself `machine` (`uname -m`) can run it, without an emulator.

    The answer is about formats only: whether an interpreter exists on the target is for the caller to see.
    """
    if executable.kind is not FileKind.ELF:
        return _FIT_BY_KIND[executable.kind]
    if executable.elf_type not in (ElfType.EXEC, ElfType.DYN) or executable.machine is None:
        return Fit(ok=False, why="it is an ELF file, but not a linked program")
    if executable.missing:
        return Fit(ok=False, why=f"it is cut off: {executable.missing} bytes are missing at its end")
    if executable.elf_type is ElfType.DYN and not executable.entry and not executable.interpreter:
        return Fit(ok=False, why="it is a shared library, not a program")
    return _fit_machine(executable.machine, machine)


_FIT_BY_KIND = {
    FileKind.SCRIPT: Fit(ok=True, why="it is a script, and its interpreter runs it"),
    FileKind.PE: Fit(ok=False, why="it is a Windows program (PE); build it with GOOS=linux"),
    FileKind.MACHO: Fit(ok=False, why="it is a macOS program (Mach-O); build it with GOOS=linux"),
    FileKind.EMPTY: Fit(ok=False, why="the file is empty"),
    FileKind.OTHER: Fit(ok=False, why="it is not a program: neither ELF nor a script with a #! line"),
}


def _elf(image: Image) -> Executable:
    header = elf.read_header(image)
    segments = elf.read_segments(image, header)
    types = {1: ElfType.REL, 2: ElfType.EXEC, 3: ElfType.DYN, 4: ElfType.CORE}
    return Executable(
        kind=FileKind.ELF,
        machine=_elf_machine(header),
        elf_type=types.get(header.type, ElfType.OTHER),
        entry=header.entry,
        interpreter=_interpreter(image, segments),
        missing=_missing(image, segments),
    )


def _missing(image: Image, segments: Sequence[elf.Segment]) -> int:
    """Bytes that the program headers name beyond the end of the file; the rest of a last page counts as there."""
    ends = [segment.offset + segment.filesz for segment in segments if segment.type == elf.PT_LOAD]
    last = max(ends, default=0)
    return last - image.size if last > -(-image.size // PAGE) * PAGE else 0


def _interpreter(image: Image, segments: Sequence[elf.Segment]) -> str | None:
    for segment in segments:
        if segment.type == elf.PT_INTERP:
            if not 2 <= segment.filesz <= _INTERPRETER_MAX:
                raise BinaryError("is damaged: the path of its interpreter has an impossible length")
            text = image.read(segment.offset, segment.filesz)
            return text.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
    return None


def _script(start: bytes) -> Executable:
    line = start[2:].split(b"\n", 1)[0].decode("utf-8", "backslashreplace").strip(" \t\r")
    words = line.split(maxsplit=1)
    return Executable(kind=FileKind.SCRIPT, shebang=line, interpreter=words[0] if words else None)


def _is_pe(image: Image, start: bytes) -> bool:
    if len(start) < 64:
        return False
    (offset,) = struct.unpack_from("<I", start, 60)
    return offset + 4 <= image.size and image.read(offset, 4) == b"PE\0\0"


def is_macho(start: bytes) -> bool:
    """Whether `start` begins a Mach-O file, thin or fat, in either byte order."""
    if len(start) < 8:
        return False
    if start[:4] in _MACHO_FAT:
        count = int.from_bytes(start[4:8], "big")
        return 0 < count < 43  # a Java class has the same magic and its version, 43 at least, here
    return start[:4] in _MACHO_THIN
