"""Reads program files: what each one is, its Go build info, and whether its interpreter exists here."""

import os
from collections.abc import Mapping
from pathlib import Path

from cgroup_preflight.core.records import dataclass, field
from cgroup_preflight.golang.binary_file import Image, NearImage, open_image
from cgroup_preflight.golang.buildinfo import BinaryError, BuildInfo, NotGoError, read_image
from cgroup_preflight.golang.executable import Executable, identify_image

#: Names of functions that the linker keeps for tracebacks, also with `-s -w`, but not of dead code. Inlining may hide
#: one, so its absence proves nothing.
_NAMES = {
    "set_memory_limit": b"\0runtime/debug.SetMemoryLimit\0",
    "cgo": b"\0runtime/cgo.",
}
#: Below the size for which the C library maps new memory each time (mallopt(3), M_MMAP_THRESHOLD).
_PIECE = 1 << 16
_OVERLAP = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """One program file. `info` is None where it is not a readable Go program; `why_not` says why.

    `unreadable`: it may be a Go program, but it is packed or damaged. `names`: which keys of `_NAMES` are linked.
    """

    path: str
    executable: Executable | None = None
    info: BuildInfo | None = None
    why_not: str = ""
    unreadable: bool = False
    interpreter_here: bool = True
    names: frozenset[str] = field(default_factory=frozenset)


def read_program(path: str) -> Binary:
    """What the file at `path` is; nothing is run, and a file that cannot be read is an answer, not an error."""
    try:
        with open_image(Path(path)) as image:
            return _read(path, image)
    except BinaryError as error:
        return Binary(path=path, why_not=error.reason, unreadable=True)


def _read(path: str, image: Image) -> Binary:
    """What an open file is. Raises BinaryError where its headers contradict its format."""
    near = NearImage(image)
    executable = identify_image(near)
    here = executable.interpreter is None or os.path.exists(executable.interpreter)
    try:
        info = read_image(near)
    except NotGoError as error:
        return Binary(path=path, executable=executable, why_not=error.reason, interpreter_here=here)
    except BinaryError as error:
        return Binary(path=path, executable=executable, why_not=error.reason, unreadable=True, interpreter_here=here)
    return Binary(path=path, executable=executable, info=info, interpreter_here=here, names=_linked(image))


def read_programs(paths: Mapping[str, str]) -> dict[str, Binary]:
    """The same for several files, by the caller's names for them; a file that several share is read once."""
    known = {path: read_program(path) for path in dict.fromkeys(paths.values())}
    return {name: known[path] for name, path in paths.items()}


def _linked(image: Image) -> frozenset[str]:
    """Which of `_NAMES` are in the file, read in pieces that overlap by more than the longest name."""
    found: set[str] = set()
    try:
        for offset in range(0, image.size, _PIECE):
            data = image.read(offset, min(_PIECE + _OVERLAP, image.size - offset))
            found.update(name for name, text in _NAMES.items() if text in data)
    except BinaryError:
        return frozenset()
    return frozenset(found)
