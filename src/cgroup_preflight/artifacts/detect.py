"""Which format an artifact has: by what is in it; a name decides only where the content cannot."""

import os
from typing import BinaryIO

from cgroup_preflight.artifacts import deb
from cgroup_preflight.artifacts.compression import decoded
from cgroup_preflight.artifacts.content import ContentRequest
from cgroup_preflight.artifacts.deb import DebFormat
from cgroup_preflight.artifacts.model import ArtifactError, Limits, corrupt, unsupported
from cgroup_preflight.artifacts.snippets import rpm_remedy, staging_of
from cgroup_preflight.artifacts.streams import ChunkStream, codec_of, read_range
from cgroup_preflight.artifacts.tar import BLOCK, ZEROS, TarPart, parse_header
from cgroup_preflight.artifacts.zip import ZipFormat
from cgroup_preflight.artifacts.zip_records import END, LOCAL
from cgroup_preflight.core.report import Remedy

_RPM = b"\xed\xab\xee\xdb"
_FORMATS = "folder, tar, tar.gz, tar.xz, tar.zst, tar.bz2, zip, deb"
_FOREIGN = {b"7z\xbc\xaf\x27\x1c": "7-Zip", b"Rar!": "RAR", b"MSCF": "cabinet", b"\x7fELF": "a program, not an archive",
            b"hsqs": "squashfs", b"\xd0\xcf\x11\xe0": "MSI", b"MZ": "a Windows program"}  # fmt: skip


def open_format(
    file: BinaryIO, name: str, limits: Limits, request: ContentRequest
) -> tuple[str, TarPart | ZipFormat | DebFormat]:
    """The format's name and its reader. Raises ArtifactError (CGP305, CGP306)."""
    length = os.fstat(file.fileno()).st_size
    head = os.pread(file.fileno(), BLOCK, 0)
    if head.startswith(_RPM):
        raise unsupported("an rpm cannot be changed after it was built", rpm_remedy(staging_of(request)))
    if head.startswith(deb.MAGIC):
        return "deb", DebFormat(file, length, limits)
    if head.startswith((LOCAL, END)) or name.lower().endswith(".zip"):
        return "zip", ZipFormat(file, length, limits)
    codec = codec_of(head)
    if codec:
        start = ChunkStream(decoded(codec, read_range(file, 0, length), limits)).read(BLOCK)
        if not _is_tar(start):
            raise _unknown(f"a {codec} file that holds no tar archive")
        return f"tar.{codec}", TarPart(file, 0, length, codec, limits)
    if not head:
        raise corrupt("the artifact is empty")
    if _is_tar(head) or name.lower().endswith(".tar"):
        return "tar", TarPart(file, 0, length, "", limits)
    raise _unknown(next((text for magic, text in _FOREIGN.items() if head.startswith(magic)), "an unknown format"))


def _is_tar(block: bytes) -> bool:
    if block == ZEROS:
        return True
    try:
        parse_header(block)
    except ArtifactError:
        return False
    return True


def _unknown(what: str) -> ArtifactError:
    title = f"use one of: {_FORMATS}; or put the files in while it is built"
    remedy = Remedy(title=title, commands=(("cgroup-preflight", "inject", "--emit", "nfpm"),))
    return unsupported(f"this artifact is {what}", remedy)
