"""One header block of a tar archive, as the standard library reads it, but faster where nothing is odd."""

import re
import tarfile

from cgroup_preflight.artifacts.model import corrupt

_GNU_MAGIC = b"ustar  "
#: An octal number; Python's int() would take more, and unpackers then disagree about where the next member begins.
_OCTAL = re.compile(rb" *[0-7]*(?:[ \0].*)?", re.DOTALL)
#: Where a header has its numbers: mode, size, time, checksum, owner and group, device.
_NUMBERS = ((100, 108), (124, 136), (136, 148), (148, 156), (108, 116), (116, 124), (329, 337), (337, 345))
_PLAIN_KINDS = frozenset({tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE})


def parse_header(block: bytes) -> tarfile.TarInfo:
    """One header block; names as the bytes they are (surrogateescape). Raises ArtifactError."""
    if block[124:125] < b"\x80" and not _OCTAL.fullmatch(block[124:136]):
        raise corrupt(f"a tar header gives the size {block[124:136]!r}")
    if (plain := _plain_header(block)) is not None:
        return plain
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError, OverflowError) as error:
        raise corrupt(f"a tar header is damaged: {error}") from None
    if block[257:264] == _GNU_MAGIC:
        # In GNU's old format the prefix field holds times and sparse maps.
        info.name = block[:100].split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
    if info.size < 0:
        raise corrupt(f"a tar header gives the size {info.size}")
    return info


def _plain_header(block: bytes) -> tarfile.TarInfo | None:
    """The header of a file, folder or link whose numbers are all octal, as `TarInfo.frombuf` reads it; else None.

    `frombuf` takes five times as long, and an archive may have hundreds of thousands of members.
    """
    kind = block[156:157]
    try:
        numbers = [int(block[start:end].partition(b"\0")[0].strip() or b"0", 8) for start, end in _NUMBERS]
    except ValueError:
        return None
    mode, size, mtime, checksum, *_ = numbers
    if kind not in _PLAIN_KINDS or size < 0 or checksum != _checksum(block):
        return None
    info = tarfile.TarInfo(_text(block[:100]))
    info.mode, info.size, info.mtime, info.type = mode, size, mtime, kind
    info.linkname = _text(block[157:257])
    if kind == tarfile.DIRTYPE:
        info.name = info.name.rstrip("/")
    prefix = b"" if block[257:264] == _GNU_MAGIC else block[345:500]
    if prefix[:1].strip(b"\0"):
        info.name = f"{_text(prefix)}/{info.name}"
    return info


def _checksum(block: bytes) -> int:
    """The sum of all bytes, with spaces in the place of the checksum; zeros, the most, are taken out first."""
    return 256 + sum(block[:148].translate(None, b"\0")) + sum(block[156:].translate(None, b"\0"))


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")
