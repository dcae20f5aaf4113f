"""The common ar archive, as far as deb(5) uses it. Pure but for reading.

Libraries for it: `unix-ar` (no release since 2019) and `arpy` (reads only); the format is a 60-byte text header.
"""

import os
import re
from dataclasses import dataclass
from typing import BinaryIO

from cgroup_preflight.artifacts.errors import corrupt

MAGIC = b"!<arch>\n"
HEADER = 60
SIZE_AT = 48
_HEADER = re.compile(rb"(.{16})([0-9 ]{12})([0-9 ]{6})([0-9 ]{6})([0-7 ]{8})([0-9]{1,10}) *`\n", re.DOTALL)
_MEMBERS_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ArMember:
    """A member: its raw header, the range of its content in the file."""

    name: str
    header: bytes
    start: int
    size: int


def read_members(file: BinaryIO, length: int) -> tuple[ArMember, ...]:
    """All members. Raises ArtifactError where the file is damaged or cut."""
    members: list[ArMember] = []
    at = len(MAGIC)
    while at < length:
        header = os.pread(file.fileno(), HEADER, at)
        match = _HEADER.fullmatch(header)
        if not match or len(header) != HEADER or len(members) >= _MEMBERS_MAX:
            raise corrupt("the ar archive is damaged or truncated")
        name = match[1].decode("ascii", "replace").rstrip(" ").removesuffix("/")
        member = ArMember(name=name, header=header, start=at + HEADER, size=int(match[6]))
        if member.start + member.size > length:
            raise corrupt(f"{name!r} ends too early: the archive is truncated")
        members.append(member)
        at = member.start + member.size
        at += at % 2
    return tuple(members)


def size_field(size: int) -> bytes:
    """The size as the header spells it. Raises ArtifactError above ten digits, which ar cannot hold."""
    text = b"%-10d" % size
    if len(text) > 10:
        raise corrupt("a member would be larger than ar can say")
    return text
