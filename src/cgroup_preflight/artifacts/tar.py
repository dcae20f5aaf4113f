"""Tar archives, plain or compressed: walked without trust in them, and edited as splices of the stream.

Members that do not change are not touched, not even their headers. The standard library's `TarInfo` reads and makes
single header blocks; its `TarFile` is not used, because it takes a damaged header for the end of the archive.

Sources: POSIX.1-2017 pax, GNU tar's manual ("Basic Tar Format", "Blocking"), dpkg's deb(5).
"""

import re
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from cgroup_preflight.artifacts.compression import HEAD, decoded, encoder_like
from cgroup_preflight.artifacts.edit import Edit
from cgroup_preflight.artifacts.model import (
    CHUNK,
    KEEP_MAX,
    MODE_FILE,
    MODE_FOLDER,
    PATH_MAX,
    Limits,
    Member,
    MemberKind,
    Splice,
    corrupt,
    unsafe,
)
from cgroup_preflight.artifacts.scan import Scan, clean_path
from cgroup_preflight.artifacts.streams import (
    ChunkStream,
    FileStream,
    Stream,
    copy_spliced,
    read_ahead,
    read_range,
    spliced,
    take,
)
from cgroup_preflight.artifacts.tar_header import parse_header
from cgroup_preflight.artifacts.xz_tail import find_cut, write_continued
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.host.files import Sink

BLOCK = tarfile.BLOCKSIZE
ZEROS = b"\0" * BLOCK
#: Records of 20 blocks, as tar and dpkg-deb fill them up (GNU tar, "Blocking").
_RECORD = 20 * BLOCK
#: One record of an extended header; its length counts itself.
_PAX_LENGTH = re.compile(rb"(\d{1,9}) ")
_KINDS = {
    tarfile.REGTYPE: MemberKind.FILE,
    tarfile.AREGTYPE: MemberKind.FILE,
    tarfile.CONTTYPE: MemberKind.FILE,
    tarfile.GNUTYPE_SPARSE: MemberKind.FILE,
    tarfile.DIRTYPE: MemberKind.FOLDER,
    tarfile.SYMTYPE: MemberKind.SYMLINK,
    tarfile.LNKTYPE: MemberKind.HARDLINK,
    tarfile.CHRTYPE: MemberKind.DEVICE,
    tarfile.BLKTYPE: MemberKind.DEVICE,
    tarfile.FIFOTYPE: MemberKind.OTHER,
}
_LONG = {tarfile.GNUTYPE_LONGNAME: "path", tarfile.GNUTYPE_LONGLINK: "linkpath"}
_EXTENDED = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_LABEL = b"V"
#: Pax headers, sparse files, volume labels: deb(5) names what data.tar may have, and dpkg takes nothing else.
_NOT_FOR_DPKG = (*_EXTENDED, tarfile.XGLTYPE, tarfile.GNUTYPE_SPARSE, _LABEL)
#: In a header for all members these would rename, resize or change the owner of every one, ours among them.
_PER_MEMBER = ("path", "linkpath", "size", "GNU.", "uid", "gid", "uname", "gname", "SCHILY.", "LIBARCHIVE.", "RHT.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Where the end marker of a tar stream begins, and how long the stream is with all its padding."""

    marker: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TarEntry:
    """A member, the size of its content in the stream, and its own header block (for one that is only resized)."""

    member: Member
    size: int
    block: bytes
    block_at: int
    resizable: bool


def _parse_pax(data: bytes) -> dict[str, bytes]:
    """The records of an extended header. Raises ArtifactError."""
    records: dict[str, bytes] = {}
    while data.strip(b"\0"):
        match = _PAX_LENGTH.match(data)
        length = int(match[1]) if match else 0
        key, separator, value = data[match.end() if match else 0 : length - 1].partition(b"=")
        if not match or length > len(data) or not separator or data[length - 1 : length] != b"\n":
            raise corrupt("an extended tar header is damaged")
        records[key.decode("utf-8", "replace")] = value
        data = data[length:]
    return records


def _check_global(records: dict[str, bytes]) -> None:
    """Refuses a header for all members that sets their names, sizes or owners. Raises ArtifactError."""
    for key in records:
        if key.startswith(_PER_MEMBER):
            raise unsafe(f"a tar header for all members sets {key!r}", "pack it again")


def _pax_number(records: dict[str, bytes], key: str, default: int) -> int:
    """A number of an extended header, fractions cut off. Raises ArtifactError."""
    if key not in records:
        return default
    match = re.fullmatch(rb"(-?\d{1,18})(?:\.\d*)?", records[key])
    if not match or (key == "size" and match[1].startswith(b"-")):
        raise corrupt(f"an extended tar header has {key}={records[key][:40]!r}")
    return int(match[1])


def padded(size: int) -> int:
    """`size` in whole blocks."""
    return -(-size // BLOCK) * BLOCK


def new_member(path: str, data: bytes | None, *, dotted: bool, mtime: int) -> bytes:
    """Header and content of a file of ours, or with None of a folder: root:root, 0644 or 0755.

    POSIX ustar as long as the name fits, else GNU's long name, which dpkg reads, too.
    """
    info = tarfile.TarInfo(f"./{path}" if dotted else path)
    info.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
    info.mode = MODE_FOLDER if data is None else MODE_FILE
    info.size, info.mtime = len(data or b""), mtime
    info.uname = info.gname = "root"
    try:
        header = info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")
    except ValueError:
        header = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")
    body = data or b""
    return header + body + b"\0" * (padded(len(body)) - len(body))


def resized(block: bytes, size: int) -> bytes:
    """A header block with another size, all else as it was, and its checksum."""
    changed = block[:124] + b"%011o\0" % size + block[136:148] + b" " * 8 + block[156:]
    return changed[:148] + b"%06o\0 " % sum(changed) + changed[156:]


def _scan_tar(stream: Stream, scan: Scan, *, for_dpkg: bool) -> Ending:
    """Shows every member to `scan`. Raises ArtifactError (CGP304 to CGP306) for anything ambiguous."""
    for entry in entries(stream, for_dpkg=for_dpkg):
        if scan.member(entry.member):
            scan.content(entry.member, take(stream, entry.size))
            stream.skip(padded(entry.size) - entry.size)
        else:
            stream.skip(padded(entry.size))
    return ending(stream)


def ending(stream: Stream) -> Ending:
    """Reads what follows the first zero block: zeros only. Raises ArtifactError."""
    marker = stream.position - BLOCK
    while chunk := stream.read(CHUNK):
        if chunk.strip(b"\0"):
            raise unsafe("data follows the end of the tar archive", "pack it again")
    return Ending(marker=marker, total=stream.position)


def entries(stream: Stream, *, for_dpkg: bool = False) -> Iterator[TarEntry]:
    """Each member; the caller reads or skips its padded content. Ends after the first zero block.

    `for_dpkg` refuses the header types that dpkg does not unpack (deb(5), "data.tar").
    """
    records: dict[str, bytes] = {}
    start = stream.position
    while True:
        at = stream.position
        block = stream.read(BLOCK)
        if len(block) < BLOCK:
            raise corrupt("the tar archive has no end marker: it is truncated")
        if block == ZEROS:
            if records:
                raise corrupt("the tar archive ends after an extended header")
            return
        info = parse_header(block)
        if for_dpkg and info.type in _NOT_FOR_DPKG:
            raise corrupt(
                f"data.tar has a header of type {info.type.decode('ascii', 'replace')!r}, which dpkg refuses to unpack"
            )
        if info.type in _LONG or info.type in _EXTENDED or info.type == tarfile.XGLTYPE:
            more = _extension(info, _payload(stream, info.size))
            if info.type == tarfile.XGLTYPE:
                start = stream.position if not records else start
                continue
            if more.keys() & records.keys() & {"path", "linkpath"}:
                raise unsafe("a member has two long names", "pack it again")
            records |= more
            continue
        _sparse_map(stream, block, info)
        if info.type != _LABEL:
            yield _entry(stream, info, records, start, block, at)
        else:
            stream.skip(padded(info.size))
        records, start = {}, stream.position


def _payload(stream: Stream, size: int) -> bytes:
    if size > KEEP_MAX:
        raise unsafe(f"an extended tar header of {size} bytes", "pack it again")
    data = stream.read(size)
    stream.skip(padded(size) - size + size - len(data))
    return data


def _extension(info: tarfile.TarInfo, data: bytes) -> dict[str, bytes]:
    if info.type in _LONG:
        return {_LONG[info.type]: data.split(b"\0", 1)[0]}
    records = _parse_pax(data)
    if info.type == tarfile.XGLTYPE:
        _check_global(records)
    return records


def _sparse_map(stream: Stream, block: bytes, info: tarfile.TarInfo) -> None:
    """Passes over the further blocks of GNU's old sparse map, which stand before the content."""
    more = info.type == tarfile.GNUTYPE_SPARSE and block[482]
    while more:
        extra = stream.read(BLOCK)
        if len(extra) < BLOCK:
            raise corrupt("a sparse map ends too early: the archive is truncated")
        more = extra[504]


def _entry(
    stream: Stream, info: tarfile.TarInfo, records: dict[str, bytes], start: int, block: bytes, at: int
) -> TarEntry:
    raw = records.get("path") or info.name.encode("utf-8", "surrogateescape")
    sparse = info.type == tarfile.GNUTYPE_SPARSE or bool(
        records and any(key.startswith("GNU.sparse.") for key in records)
    )
    if "GNU.sparse.name" in records:
        # GNU tar gives it besides a path of this form, for unpackers that know nothing of sparse files.
        if b"/GNUSparseFile." not in raw:
            raise unsafe(f"the member {raw!r} has a second name")
        raw = records["GNU.sparse.name"]
    path = clean_path(raw)
    kind = _KINDS.get(info.type)
    if kind is None:
        raise unsafe(f"{path!r} has the unknown type {info.type!r}", "pack it again")
    if kind is MemberKind.FILE and raw.endswith(b"/"):
        kind = MemberKind.FOLDER
    if not path and kind is not MemberKind.FOLDER:
        raise unsafe("a member without a name")
    size = _pax_number(records, "size", info.size)
    if kind is MemberKind.HARDLINK:
        size = 0  # GNU tar and dpkg: the size is that of the file linked to, nothing follows.
    if size and kind is not MemberKind.FILE:
        raise unsafe(f"{path!r}, a {kind.value}, has content")
    mtime = _pax_number(records, "mtime", int(info.mtime))
    member = Member(
        path=path, raw_name=raw.decode("utf-8"), kind=kind, size=size, mtime=mtime,
        start=start, end=stream.position + padded(size), link=_link(info, records, kind),
        executable=bool(info.mode & 0o111), sparse=sparse,
    )  # fmt: skip
    return TarEntry(member=member, size=size, block=block, block_at=at, resizable="size" not in records)


def _link(info: tarfile.TarInfo, records: dict[str, bytes], kind: MemberKind) -> str:
    raw = records.get("linkpath") or info.linkname.encode("utf-8", "surrogateescape")
    if len(raw) > PATH_MAX:
        raise unsafe(f"a link of {len(raw)} bytes, which no system follows")
    if kind is MemberKind.HARDLINK:
        return clean_path(raw, "hard link to")
    return raw.decode("utf-8", "surrogateescape") if kind is MemberKind.SYMLINK else ""


def _tar_splices(edit: Edit, scan: Scan, ending: Ending, mtime: int) -> tuple[Splice, ...]:
    """What to change where. New members come last; an archive in whole records stays one."""
    changes = [
        Splice(offset=found.member.start, remove=found.member.end - found.member.start,
               data=new_member(new.path, new.data, dotted=found.member.raw_name.startswith("./"), mtime=mtime))
        for found, new in edit.replaced
    ]  # fmt: skip
    changes += [
        Splice(offset=found.member.start, remove=found.member.end - found.member.start, data=b"")
        for found in edit.dropped
    ]
    changes.sort(key=lambda item: item.offset)
    tail = b"".join(
        [
            *(new_member(path, None, dotted=scan.dotted, mtime=mtime) for path in edit.folders),
            *(new_member(new.path, new.data, dotted=scan.dotted, mtime=mtime) for new in edit.added),
        ]
    )
    grown = sum(len(item.data) - item.remove for item in changes) + len(tail)
    return (*changes, with_end(ending, tail, grown))


def with_end(ending: Ending, tail: bytes, grown: int) -> Splice:
    """`tail` before the end marker of a stream that grows by `grown` in all, padded as it was."""
    if ending.total % _RECORD:
        return Splice(offset=ending.marker, remove=0, data=tail)
    zeros = ending.total - ending.marker
    end = ending.marker + grown
    padding = -(-(end + 2 * BLOCK) // _RECORD) * _RECORD - end
    return Splice(offset=ending.marker, remove=zeros, data=tail + b"\0" * padding)


def epoch(source_date: int | None, scan: Scan) -> int:
    """The time of new members: SOURCE_DATE_EPOCH, else that of the newest member; never the clock."""
    newest = scan.newest if 0 <= scan.newest < 1 << 33 else 0
    return newest if source_date is None else source_date


class TarPart:
    """A tar archive that fills `length` bytes of `file` from `start`, packed by `codec` (empty: not packed)."""

    all_folders = False
    wraps = True
    package = ""
    signatures: tuple[str, ...] = ()

    def __init__(
        self, file: BinaryIO, start: int, length: int, codec: str, limits: Limits, *, for_dpkg: bool = False
    ) -> None:  # fmt: skip
        self._file, self._start, self._length, self._limits = file, start, length, limits
        self._for_dpkg = for_dpkg
        self.codec = codec
        self._ending = Ending(marker=0, total=0)

    def stream(self) -> Stream:
        """The unpacked stream from its beginning."""
        if not self.codec:
            return FileStream(self._file, self._start, self._length)
        return ChunkStream(self._unpacked())

    def scan(self, scan: Scan) -> None:
        """Looks at every member. Raises ArtifactError."""
        self._ending = _scan_tar(self.stream(), scan, for_dpkg=self._for_dpkg)

    def write(self, sink: Sink, edit: Edit, scan: Scan, mtime: int) -> None:
        """Writes the edited archive."""
        self.write_spliced(sink, _tar_splices(edit, scan, self._ending, mtime))

    def write_spliced(self, sink: Sink, splices: tuple[Splice, ...]) -> None:
        """Writes the archive with `splices` (offsets of the unpacked stream), packed as it was."""
        if not self.codec:
            copy_spliced(self._file, sink, self._start, self._length, splices)
            return
        if self.codec == "xz" and (cut := find_cut(self._file, self._start, self._length, splices[0].offset)):
            write_continued(sink, self._file, self._start, cut, splices)
            return
        head = b"".join(read_range(self._file, self._start, min(self._length, HEAD)))
        encoder = encoder_like(self.codec, head)
        for chunk in read_ahead(spliced(self._unpacked(), splices)):
            sink.write(encoder.compress(chunk))
        sink.write(encoder.flush())

    def _unpacked(self) -> Iterator[bytes]:
        return decoded(self.codec, read_range(self._file, self._start, self._length), self._limits)
