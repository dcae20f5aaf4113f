"""Tar headers: what one says, extended headers, and headers of our own. Pure.

Sources: POSIX.1-2017 pax, GNU tar's manual ("Basic Tar Format"), dpkg's deb(5). A single header block is read and
made by the standard library's `TarInfo`; its `TarFile` is not used, for it takes a damaged header for the end.
"""

import re
import tarfile

from cgroup_preflight.artifacts.errors import corrupt, unsafe
from cgroup_preflight.artifacts.model import MODE_FILE, MODE_FOLDER, Kind

BLOCK = tarfile.BLOCKSIZE
ZEROS = b"\0" * BLOCK
#: One record of an extended header; its length counts itself.
_PAX_LENGTH = re.compile(rb"(\d{1,9}) ")
KINDS = {
    tarfile.REGTYPE: Kind.FILE,
    tarfile.AREGTYPE: Kind.FILE,
    tarfile.CONTTYPE: Kind.FILE,
    tarfile.GNUTYPE_SPARSE: Kind.FILE,
    tarfile.DIRTYPE: Kind.FOLDER,
    tarfile.SYMTYPE: Kind.SYMLINK,
    tarfile.LNKTYPE: Kind.HARDLINK,
    tarfile.CHRTYPE: Kind.DEVICE,
    tarfile.BLKTYPE: Kind.DEVICE,
    tarfile.FIFOTYPE: Kind.OTHER,
}
_GNU_MAGIC = b"ustar  "
#: In a header for all members these would rename, resize or give away every one, ours among them.
_PER_MEMBER = ("path", "linkpath", "size", "GNU.", "uid", "gid", "uname", "gname", "SCHILY.", "LIBARCHIVE.", "RHT.")
#: An octal number; Python's int() would take more, and unpackers then disagree about where the next member begins.
_OCTAL = re.compile(rb" *[0-7]*(?:[ \0].*)?", re.DOTALL)


def parse_header(block: bytes) -> tarfile.TarInfo:
    """One header block; names as the bytes they are (surrogateescape). Raises ArtifactError."""
    if block[124:125] < b"\x80" and not _OCTAL.fullmatch(block[124:136]):
        raise corrupt(f"a tar header gives the size {block[124:136]!r}")
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


def parse_pax(data: bytes) -> dict[str, bytes]:
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


def check_global(records: dict[str, bytes]) -> None:
    """Refuses a header for all members that names or sizes them. Raises ArtifactError."""
    for key in records:
        if key.startswith(_PER_MEMBER):
            raise unsafe(f"a header for all members sets {key!r}", "pack it anew")


def pax_number(records: dict[str, bytes], key: str, default: int) -> int:
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
