"""Walks the members of a tar stream without trusting it."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from cgroup_preflight.artifacts.errors import corrupt, unsafe
from cgroup_preflight.artifacts.model import CHUNK, KEEP_MAX, PATH_MAX, Kind, Member
from cgroup_preflight.artifacts.stream import Stream, take
from cgroup_preflight.artifacts.survey import Survey, clean_path
from cgroup_preflight.artifacts.tar_headers import (
    BLOCK,
    KINDS,
    ZEROS,
    check_global,
    padded,
    parse_header,
    parse_pax,
    pax_number,
)

_LONG = {tarfile.GNUTYPE_LONGNAME: "path", tarfile.GNUTYPE_LONGLINK: "linkpath"}
_EXTENDED = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_LABEL = b"V"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Where the end marker of a tar stream begins, and how long the stream is with all its padding."""

    marker: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A member, the size of its content in the stream, and its own header block (for one that is only resized)."""

    member: Member
    size: int
    block: bytes
    block_at: int
    resizable: bool


def survey_tar(stream: Stream, survey: Survey) -> Ending:
    """Shows every member to `survey`. Raises ArtifactError (CGP304 to CGP306) for anything doubtful."""
    for entry in entries(stream):
        if survey.member(entry.member):
            survey.content(entry.member, take(stream, entry.size))
            stream.skip(padded(entry.size) - entry.size)
        else:
            stream.skip(padded(entry.size))
    return ending(stream)


def ending(stream: Stream) -> Ending:
    """Reads what follows the first zero block: zeros only. Raises ArtifactError."""
    marker = stream.position - BLOCK
    while chunk := stream.read(CHUNK):
        if chunk.strip(b"\0"):
            raise unsafe("there is data after the end of the tar archive", "pack it anew")
    return Ending(marker=marker, total=stream.position)


def entries(stream: Stream) -> Iterator[Entry]:
    """Each member; the caller reads or skips its padded content. Ends after the first zero block."""
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
        if info.type in _LONG or info.type in _EXTENDED or info.type == tarfile.XGLTYPE:
            more = _extension(info, _payload(stream, info.size))
            if info.type == tarfile.XGLTYPE:
                start = stream.position if not records else start
                continue
            if more.keys() & records.keys() & {"path", "linkpath"}:
                raise unsafe("a member has two long names", "pack it anew")
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
        raise unsafe(f"an extended tar header of {size} bytes", "pack it anew")
    data = stream.read(size)
    stream.skip(padded(size) - size + size - len(data))
    return data


def _extension(info: tarfile.TarInfo, data: bytes) -> dict[str, bytes]:
    if info.type in _LONG:
        return {_LONG[info.type]: data.split(b"\0", 1)[0]}
    records = parse_pax(data)
    if info.type == tarfile.XGLTYPE:
        check_global(records)
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
) -> Entry:
    raw = records.get("path") or info.name.encode("utf-8", "surrogateescape")
    sparse = info.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse.") for key in records)
    if "GNU.sparse.name" in records:
        # GNU tar gives it besides a path of this form, for unpackers that know nothing of sparse files.
        if b"/GNUSparseFile." not in raw:
            raise unsafe(f"the member {raw!r} has a second name")
        raw = records["GNU.sparse.name"]
    path = clean_path(raw)
    kind = KINDS.get(info.type)
    if kind is None:
        raise unsafe(f"{path!r} has the unknown type {info.type!r}", "pack it anew")
    if kind is Kind.FILE and raw.endswith(b"/"):
        kind = Kind.FOLDER
    if not path and kind is not Kind.FOLDER:
        raise unsafe("a member without a name")
    size = pax_number(records, "size", info.size)
    if kind is Kind.HARDLINK:
        size = 0  # GNU tar and dpkg: the size is that of the file linked to, nothing follows.
    if size and kind is not Kind.FILE:
        raise unsafe(f"{path!r}, a {kind.value}, has content")
    mtime = pax_number(records, "mtime", int(info.mtime))
    member = Member(
        path=path, raw_name=raw.decode("utf-8"), kind=kind, size=size, mtime=mtime,
        start=start, end=stream.position + padded(size), link=_link(info, records, kind),
        executable=bool(info.mode & 0o111), sparse=sparse,
    )  # fmt: skip
    return Entry(member=member, size=size, block=block, block_at=at, resizable="size" not in records)


def _link(info: tarfile.TarInfo, records: dict[str, bytes], kind: Kind) -> str:
    raw = records.get("linkpath") or info.linkname.encode("utf-8", "surrogateescape")
    if len(raw) > PATH_MAX:
        raise unsafe(f"a link of {len(raw)} bytes, which no system follows")
    if kind is Kind.HARDLINK:
        return clean_path(raw, "hard link to")
    return raw.decode("utf-8", "surrogateescape") if kind is Kind.SYMLINK else ""
