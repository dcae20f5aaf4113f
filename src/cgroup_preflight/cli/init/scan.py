"""Looks at a folder: Go modules, packages and built programs. Bounded, and follows no link."""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from cgroup_preflight.cli.init.gosource import GoFile, read_file
from cgroup_preflight.golang import buildinfo
from cgroup_preflight.golang.executable import BinaryError, ElfType, FileKind, identify
from cgroup_preflight.host.files import open_regular

#: Folders that hold other people's programs or test data; hidden ones and those with `_` in front go too.
SKIPPED = frozenset({"vendor", "node_modules", "testdata", "__pycache__", "site-packages"})
_DEPTH_MAX = 10
ENTRIES_MAX = 20_000
SOURCES_MAX = 3_000
_BINARIES_MAX = 200
_UNITS_MAX = 100
_SOURCE_BYTES = 256 << 10
_MODULE = re.compile(r'^module[ \t]+"?([^\s"]{1,300})"?', re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTree:
    """All paths are relative to the folder, with `/`, "" for the folder itself.

    `modules`: folder of a go.mod to module path; `packages`: folder to the facts of its files; `binaries`: linked
    ELF programs with an executable bit, and whether Go built them; `units`: files of service units; `complete`: no
    bound was hit.
    """

    modules: dict[str, str]
    packages: dict[str, tuple[GoFile, ...]]
    binaries: dict[str, bool]
    complete: bool
    units: tuple[str, ...] = ()


def scan(folder: str) -> SourceTree:
    """What is in `folder`. Unreadable folders and files are passed over: a starter config needs no certainty."""
    modules: dict[str, str] = {}
    packages: dict[str, list[GoFile]] = {}
    binaries: dict[str, bool] = {}
    units: list[str] = []
    walk = Walk(folder)
    sources = 0
    for parent, entry in walk.entries():
        path = f"{parent}/{entry.name}" if parent else entry.name
        if entry.name == "go.mod":
            match = _MODULE.search(_read(entry.path))
            modules[parent] = match[1] if match else ""
        elif entry.name.endswith(".go"):
            sources += 1
            facts = read_file(entry.name, _read(entry.path)) if sources <= SOURCES_MAX else None
            if facts is not None:
                packages.setdefault(parent, []).append(facts)
        elif entry.name.endswith(".service") and len(units) < _UNITS_MAX:
            units.append(path)
        elif len(binaries) < _BINARIES_MAX and _is_program(entry):
            binaries[path] = _is_go(entry.path)
    return SourceTree(
        modules=modules, packages={name: tuple(files) for name, files in packages.items()}, binaries=binaries,
        units=tuple(units), complete=not walk.cut and sources <= SOURCES_MAX and len(binaries) < _BINARIES_MAX,
    )  # fmt: skip


class Walk:
    """Breadth first, so that what is near the top is found before a bound is hit."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.cut = False

    def entries(self) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
        """Each regular file with the path of its folder, sorted within the folder."""
        pending, count = [""], 0
        while pending:
            parent = pending.pop(0)
            for entry in _listing(os.path.join(self._folder, parent)):
                count += 1
                if count > ENTRIES_MAX:
                    self.cut = True
                    return
                if not _is_utf8(entry.name):
                    continue
                if _is(entry, stat.S_IFREG):
                    yield parent, entry
                elif _is(entry, stat.S_IFDIR) and not _is_skipped(entry.name):
                    if parent.count("/") + 1 < _DEPTH_MAX:
                        pending.append(f"{parent}/{entry.name}" if parent else entry.name)
                    else:
                        self.cut = True


def _listing(folder: str) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            # One more than the bound, so that a folder of a million files does not fill the memory.
            some = [entry for entry, _ in zip(entries, range(ENTRIES_MAX + 1), strict=False)]
    except OSError:
        return []
    return sorted(some, key=lambda entry: entry.name)


def _is(entry: "os.DirEntry[str]", kind: int) -> bool:
    """Whether the entry itself, not what it links to, is of `kind` (stat.S_IFREG or S_IFDIR)."""
    try:
        return entry.is_file(follow_symlinks=False) if kind == stat.S_IFREG else entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _is_utf8(name: str) -> bool:
    """TOML is UTF-8, so a name that is not cannot be written down."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _is_skipped(name: str) -> bool:
    return name in SKIPPED or name.startswith((".", "_"))


def _read(path: str) -> str:
    """The beginning of a regular file, as text; empty where it cannot be read."""
    try:
        # Between listing and here the name may have become a pipe or a link.
        with open_regular(path, follow=False) as file:
            return file.read(_SOURCE_BYTES).decode("utf-8", "replace").replace("\r\n", "\n")
    except OSError:
        return ""


def _is_program(entry: "os.DirEntry[str]") -> bool:
    try:
        if not entry.stat(follow_symlinks=False).st_mode & stat.S_IXUSR:
            return False
        program = identify(entry.path)
    except (OSError, BinaryError):
        return False
    if program.kind is not FileKind.ELF or program.elf_type not in (ElfType.EXEC, ElfType.DYN):
        return False
    return program.elf_type is ElfType.EXEC or bool(program.interpreter or program.entry)


def _is_go(path: str) -> bool:
    try:
        buildinfo.read(path)
    except (OSError, BinaryError):
        return False
    return True
