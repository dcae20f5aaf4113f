"""Debian packages: our files go into data.tar, what follows from them into control.tar; everything else stays.

Sources: deb(5) and its ar archive, deb-md5sums(5), deb-conffiles(5), deb-substvars(5) (Installed-Size: each file
rounded up to 1 KiB, 1 KiB for everything else). Libraries exist, but none fits: `unix-ar` has had no release since
2019, `arpy` only reads, `python-debian` writes no package and is under the GPL.
"""

import hashlib
import os
import re
from typing import BinaryIO

from cgroup_preflight.artifacts.edit import Edit
from cgroup_preflight.artifacts.model import KEEP_MAX, Limits, MemberKind, Splice, corrupt, unsafe, unsupported
from cgroup_preflight.artifacts.scan import Scan
from cgroup_preflight.artifacts.streams import copy_range, read_range
from cgroup_preflight.artifacts.tar import (
    Ending,
    TarEntry,
    TarPart,
    ending,
    entries,
    new_member,
    padded,
    resized,
    with_end,
)
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.files import Sink

MAGIC = b"!<arch>\n"
_HEADER_SIZE = 60
_SIZE_AT = 48
_HEADER = re.compile(rb"(.{16})([0-9 ]{12})([0-9 ]{6})([0-9 ]{6})([0-7 ]{8})([0-9]{1,10}) *`\n", re.DOTALL)
_MEMBERS_MAX = 100
#: deb(5): dpkg writes the first four today, and reads the others in old packages.
_CODECS = {"": "", ".gz": "gz", ".xz": "xz", ".zst": "zst", ".bz2": "bz2", ".lzma": "lzma"}
_LISTS = ("control", "md5sums", "conffiles")
_INSTALLED = re.compile(rb"^(Installed-Size:[ \t]*)(\d{1,15})([ \t]*)$", re.MULTILINE | re.IGNORECASE)
_PACKAGE = re.compile(rb"^Package:[ \t]*([a-z0-9][a-z0-9+.-]+)[ \t]*$", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ArMember:
    """A member: its raw header, the range of its content in the file."""

    name: str
    header: bytes
    start: int
    size: int


class DebFormat:
    """A Debian binary package, format 2.0."""

    wraps = False
    all_folders = True  # dpkg removes only folders that a package names.

    def __init__(self, file: BinaryIO, length: int, limits: Limits) -> None:
        self._file, self._limits = file, limits
        self._members = _read_members(file, length)
        self._check_order()
        self._control = self._part("control.tar")
        self._data = self._part("data.tar")
        self._entries: dict[str, TarEntry] = {}
        self._files: dict[str, bytes] = {}
        self._ending = Ending(marker=0, total=0)
        self._dotted = False
        self._read_control()

    @property
    def signatures(self) -> tuple[str, ...]:
        """Members that sign the others (debsigs, dpkg-sig)."""
        return tuple(member.name for member in self._members if member.name.startswith("_gpg"))

    @property
    def package(self) -> str:
        """The package's name."""
        return _package_name(self._files["control"])

    @property
    def control(self) -> bytes:
        """The control file."""
        return self._files["control"]

    @property
    def data(self) -> TarPart:
        """The archive of the package's files."""
        return self._data

    def scan(self, scan: Scan) -> None:
        """Looks at every member of data.tar. Raises ArtifactError."""
        self._data.scan(scan)

    def write(self, sink: Sink, edit: Edit, scan: Scan, mtime: int) -> None:
        """Writes the package: the same members in the same order, two of them packed again as they were."""
        sink.write(MAGIC)
        for member in self._members:
            at = sink.tell()
            sink.write(member.header)
            start = sink.tell()
            if member.name.startswith("control.tar"):
                self._control.write_spliced(sink, self._control_splices(edit, mtime))
            elif member.name.startswith("data.tar"):
                self._data.write(sink, edit, scan, mtime)
            else:
                copy_range(sink, self._file, member.start, member.size)
            size = sink.tell() - start
            sink.patch(at + _SIZE_AT, _size_field(size))
            if size % 2:
                sink.write(b"\n")

    def _check_order(self) -> None:
        # deb(5): names with an underscore may stand between, and anything after data.tar; dpkg ignores both.
        names = [member.name for member in self._members if not member.name.startswith("_")]
        parts = [name.partition(".tar")[0] for name in names]
        known = ["debian-binary", "control", "data"]
        if parts[:3] != known or set(parts[3:]) & set(known):
            raise corrupt(f"not a Debian package of format 2.0: its members are {', '.join(names) or 'none'}")
        first = self._members[0]
        version = b"".join(read_range(self._file, first.start, min(first.size, 64)))
        if not version.startswith(b"2."):
            remedy = Remedy(title="build it with a current dpkg-deb")
            raise unsupported(f"Debian package format {version[:20]!r}", remedy)

    def _part(self, name: str) -> TarPart:
        member = next(item for item in self._members if item.name.startswith(name))
        suffix = member.name.removeprefix(name)
        if suffix not in _CODECS:
            raise unsupported(f"{member.name}: compression {suffix!r}", Remedy(title="build it with dpkg-deb -Zxz"))
        return TarPart(
            self._file, member.start, member.size, _CODECS[suffix], self._limits, for_dpkg=name == "data.tar"
        )

    def _read_control(self) -> None:
        """Reads the lists that follow from the content. Raises ArtifactError."""
        stream = self._control.stream()
        for number, entry in enumerate(entries(stream)):
            path = entry.member.path
            if number == 0:
                self._dotted = entry.member.raw_name.startswith(".")
            if path in _LISTS:
                odd = path in self._entries or entry.member.kind is not MemberKind.FILE or not entry.resizable
                if odd or entry.size > 64 * KEEP_MAX:
                    raise unsafe(f"{path!r} in control.tar is in it twice, is no regular file, or is too large")
                self._entries[path] = entry
                self._files[path] = stream.read(entry.size)
                stream.skip(padded(entry.size) - len(self._files[path]))
            else:
                stream.skip(padded(entry.size))
        self._ending = ending(stream)
        if "control" not in self._files:
            raise corrupt("control.tar has no control file")

    def _control_splices(self, edit: Edit, mtime: int) -> tuple[Splice, ...]:
        """The lists in their places, each with the owner, mode and time it had."""
        fresh = {"control": _new_control(self._files["control"], edit)}
        if "md5sums" in self._files:
            fresh["md5sums"] = _new_md5sums(self._files["md5sums"], edit)
        tail = b""
        if "conffiles" in self._files:
            fresh["conffiles"] = _new_conffiles(self._files["conffiles"], edit)
        elif any(_is_conffile(new.path) for new in edit.added):
            tail = new_member("conffiles", _new_conffiles(b"", edit), dotted=self._dotted, mtime=mtime)
        splices = []
        for name, data in fresh.items():
            entry = self._entries[name]
            if data != self._files[name]:
                new = resized(entry.block, len(data)) + data + b"\0" * (padded(len(data)) - len(data))
                splices.append(Splice(offset=entry.block_at, remove=entry.member.end - entry.block_at, data=new))
        splices.sort(key=lambda item: item.offset)
        grown = sum(len(item.data) - item.remove for item in splices) + len(tail)
        return (*splices, with_end(self._ending, tail, grown))


def _read_members(file: BinaryIO, length: int) -> tuple[_ArMember, ...]:
    """All members. Raises ArtifactError where the file is damaged or cut."""
    members: list[_ArMember] = []
    at = len(MAGIC)
    while at < length:
        header = os.pread(file.fileno(), _HEADER_SIZE, at)
        match = _HEADER.fullmatch(header)
        if not match or len(header) != _HEADER_SIZE or len(members) >= _MEMBERS_MAX:
            raise corrupt("the ar archive is damaged or truncated")
        name = match[1].decode("ascii", "replace").rstrip(" ").removesuffix("/")
        member = _ArMember(name=name, header=header, start=at + _HEADER_SIZE, size=int(match[6]))
        if member.start + member.size > length:
            raise corrupt(f"{name!r} ends too early: the archive is truncated")
        members.append(member)
        at = member.start + member.size
        at += at % 2
    return tuple(members)


def _size_field(size: int) -> bytes:
    """The size as the header spells it. Raises ArtifactError above ten digits, which ar cannot hold."""
    text = b"%-10d" % size
    if len(text) > 10:
        raise corrupt("a member would become larger than an ar header can state")
    return text


def _package_name(control: bytes) -> str:
    """The package's name. Raises ArtifactError if there is none."""
    match = _PACKAGE.search(control)
    if not match:
        raise corrupt("the control file names no package")
    return match[1].decode()


def _new_control(control: bytes, edit: Edit) -> bytes:
    """The control file with its Installed-Size; one that has none is left alone."""
    grown = sum(_kibibytes(len(new.data)) for new in edit.added) + len(edit.folders)
    grown += sum(_kibibytes(len(new.data)) - _kibibytes(found.member.size) for found, new in edit.replaced)
    grown -= sum(_kibibytes(found.member.size) for found in edit.dropped)

    def resize(match: re.Match[bytes]) -> bytes:
        return b"%s%d%s" % (match[1], max(int(match[2]) + grown, 0), match[3])

    return _INSTALLED.sub(resize, control, count=1)


def _new_md5sums(md5sums: bytes, edit: Edit) -> bytes:
    """The checksum list with our files; in order by path if it was, as debhelper writes it, else appended."""
    gone = {found.member.path for found in edit.dropped}
    files = (*(new for _, new in edit.replaced), *edit.added)
    fresh = {new.path: new.data for new in files if not _is_conffile(new.path)}
    lines, kept = md5sums.splitlines(), []
    for line in lines:
        path = _path(line)
        if path in fresh:
            kept.append(_line(path, fresh.pop(path)))
        elif path not in gone:
            kept.append(line)
    ordered = lines == sorted(lines, key=lambda line: line[34:])
    kept += [_line(path, data) for path, data in fresh.items()]
    if ordered:
        kept.sort(key=lambda line: line[34:])
    return b"".join(line + b"\n" for line in kept)


def _new_conffiles(conffiles: bytes, edit: Edit) -> bytes:
    """The list of configuration files with ours that go below etc/, and without those that went."""
    gone = {f"/{found.member.path}".encode() for found in edit.dropped}
    lines = [line for line in conffiles.splitlines() if line.strip() not in gone]
    known = {line.strip().removeprefix(b"remove-on-upgrade ") for line in lines}
    fresh = [f"/{new.path}".encode() for new in edit.added if _is_conffile(new.path)]
    lines += [line for line in fresh if line not in known]
    return b"".join(line + b"\n" for line in lines)


def _is_conffile(path: str) -> bool:
    """Whether Debian's policy (10.7) wants the file to be a conffile."""
    return path.startswith("etc/")


def _kibibytes(size: int) -> int:
    return -(-size // 1024)


def _path(line: bytes) -> str:
    return line[34:].decode("utf-8", "surrogateescape").removeprefix("./")


def _line(path: str, data: bytes) -> bytes:
    # MD5 is what dpkg compares with; nothing here relies on it for safety.
    return f"{hashlib.md5(data, usedforsecurity=False).hexdigest()}  {path}".encode()
