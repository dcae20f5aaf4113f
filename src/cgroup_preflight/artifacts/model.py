"""Records about artifacts: members, what is put in, limits, and the errors that refuse one before anything is written.

Paths are relative, with `/`, without `./`.
"""

import enum

from cgroup_preflight.core import codes
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Remedy

#: Below this much output a ratio proves nothing: a small file of zeros is no bomb.
RATIO_FLOOR = 64 << 20
#: How much is read, unpacked and written at a time.
CHUNK = 1 << 18
#: A generated file, manifest or control file is far below this; more of one is not kept in memory.
KEEP_MAX = 1 << 20
#: And all that is kept of one artifact together.
KEEP_ALL_MAX = 16 << 20
#: PATH_MAX of Linux: nothing could unpack a longer name, or follow a longer link.
PATH_MAX = 4096
MODE_FILE = 0o644
MODE_FOLDER = 0o755


class ArtifactError(UsageError):
    """An artifact that is left untouched, with the code of the report; `where` names it."""

    def __init__(self, code: codes.Code, message: str, *, remedy: Remedy, where: str = "") -> None:
        super().__init__(message, where=where, remedy=remedy)
        self.code = code


def unsafe(message: str, title: str = "pack the artifact again without this member") -> ArtifactError:
    """CGP304: a member that unpackers treat differently."""
    return ArtifactError(codes.UNSAFE_ARTIFACT, message, remedy=Remedy(title=title))


def corrupt(message: str) -> ArtifactError:
    """CGP305: truncated, damaged, or not of the format that it claims."""
    return ArtifactError(codes.CORRUPT_ARTIFACT, message, remedy=Remedy(title="build it again"))


def too_large(message: str, option: str) -> ArtifactError:
    """CGP305: a limit against bombs was reached; `option` raises it."""
    remedy = Remedy(title=f"if this size is intended, raise the limit with {option}")
    return ArtifactError(codes.CORRUPT_ARTIFACT, message, remedy=remedy)


def unsupported(message: str, remedy: Remedy) -> ArtifactError:
    """CGP306: a format that cannot be written."""
    return ArtifactError(codes.UNSUPPORTED_ARTIFACT, message, remedy=remedy)


def conflict(message: str, title: str) -> ArtifactError:
    """CGP303: other content has the path of a file of the plan."""
    return ArtifactError(codes.ARTIFACT_CONFLICT, message, remedy=Remedy(title=title))


def other_binary(message: str) -> ArtifactError:
    """CGP302: the artifact contains another build of a program than the one that was tested."""
    remedy = Remedy(title="pack the file that was tested, or point `binary` at the file that is packed and run again")
    return ArtifactError(codes.TESTED_BINARY, message, remedy=remedy)


class MemberKind(enum.Enum):
    """What a member is; DEVICE is a character or block device."""

    FILE = "file"
    FOLDER = "folder"
    SYMLINK = "symbolic link"
    HARDLINK = "hard link"
    DEVICE = "device node"
    OTHER = "FIFO or socket"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member; `start` and `end` are its range in the unpacked stream (tar), or its place in the directory (zip).

    `size` in bytes, `mtime` in seconds of the epoch, `raw_name` as the archive spells it, `link` where a link points:
    the member of a hard link, the text of a symbolic one. `executable` also where the archive holds no mode;
    `sparse`: what is stored is not the content, but pieces of it.
    """

    path: str
    raw_name: str
    kind: MemberKind
    size: int = 0
    mtime: int = 0
    start: int = 0
    end: int = 0
    link: str = ""
    executable: bool = True
    sparse: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """A file that the artifact must contain; mode 0644, owner root."""

    path: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Splice:
    """At `offset` of a stream, `data` replaces `remove` bytes."""

    offset: int
    remove: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Against bombs: bytes when unpacked, unpacked to packed (after the first 64 MiB), members."""

    unpacked: int = 64 << 30
    ratio: int = 200
    members: int = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedProgram:
    """A program in an artifact: one that has the name of a service's binary."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundMember:
    """A member at a place that matters; `data` is None where it is too large to keep, or no file."""

    member: Member
    sha256: str
    data: bytes | None
