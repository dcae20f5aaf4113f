"""Reads a built package: what it is called, what it needs, and the units in it. Nothing of it is run or unpacked.

A deb, or a tar archive that is unpacked to /. The readers are those of `artifacts`, which trust nothing in the file.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from cgroup_preflight.artifacts import deb
from cgroup_preflight.artifacts.compression import codec_of, decoded
from cgroup_preflight.artifacts.model import CHUNK, ArtifactError, Limits, MemberKind, unsupported
from cgroup_preflight.artifacts.overrides import is_drop_in
from cgroup_preflight.artifacts.scan import is_root_folder
from cgroup_preflight.artifacts.streams import ChunkStream, Stream, read_range
from cgroup_preflight.artifacts.tar import BLOCK, TarPart, entries, padded
from cgroup_preflight.artifacts.tar_header import parse_header
from cgroup_preflight.config.model import AUTO_PREFIX
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.records import dataclass, field
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.files import open_regular
from cgroup_preflight.packages.control import paragraphs

#: Where packages have units, the first before the last (systemd.unit(5)).
FOLDERS = ("etc/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
_KINDS = (".service", ".socket", ".slice", ".timer", ".path", ".target", ".mount")
#: A unit file is far below this, and all of a package together, too.
_UNIT_MAX, _ALL_MAX = 1 << 16, 1 << 19
_MEMBERS_MAX = 200_000
#: What can be unpacked in a guest, which has neither zstd nor xz.
_CODECS = ("", "gz", "xz", "bz2")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageFile:
    """A package: `path` as the user named it, `fields` of its control file (none of a tar archive).

    `units` has the texts of unit files and drop-ins by their paths without a leading slash. `prefix` is the folder of a
    tar archive that is unpacked to /. `real` is the path of the file without links.
    """

    path: str
    real: str
    sha256: str
    size: int
    kind: str
    fields: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""

    @property
    def name(self) -> str:
        """The name of the package; of a tar archive that of its file."""
        return self.fields.get("package", "") or os.path.basename(self.path)

    @property
    def version(self) -> str:
        """Its version, empty for a tar archive."""
        return self.fields.get("version", "")

    @property
    def services(self) -> tuple[str, ...]:
        """The names of its service units."""
        names = (os.path.basename(path) for path in self.units)
        return tuple(sorted({name for name in names if name.endswith(".service")}))

    @property
    def limited(self) -> frozenset[str]:
        """The units for which it has a drop-in of this tool."""
        return frozenset(
            os.path.basename(os.path.dirname(path)).removesuffix(".d") for path in self.units if is_drop_in(path)
        )


def read_package(path: str, shown: str, prefix: str = AUTO_PREFIX) -> PackageFile:
    """The package at `path`, which messages call `shown`; `prefix` is that of tar archives. Raises UsageError."""
    try:
        with open_regular(path, follow=True) as file:
            return _read(file, path, shown, prefix)
    except ArtifactError as error:
        error.where = error.where or shown
        raise
    except OSError as error:
        reason = f"cannot read the package: {error.strerror}" if error.errno else "not a file"
        raise UsageError(
            reason, where=shown, remedy=Remedy(title="build the package first, or correct its path")
        ) from None


def sha256_of(path: str) -> str:
    """SHA-256 of a file, as sha256sum prints it. Raises OSError."""
    with open(path, "rb") as file:
        return _sha256(file)


def _read(file: BinaryIO, path: str, shown: str, prefix: str) -> PackageFile:
    length = os.fstat(file.fileno()).st_size
    real, sha256 = os.path.realpath(path), _sha256(file)
    head = os.pread(file.fileno(), BLOCK, 0)
    if head.startswith(deb.MAGIC):
        package = deb.DebFormat(file, length, Limits())
        fields = next(paragraphs(package.control.decode("utf-8", "replace")), {})
        return PackageFile(
            path=shown, real=real, sha256=sha256, size=length, kind="deb", fields=fields,
            units=dict(_units(package.data.stream(), "")),
        )  # fmt: skip
    codec = _tar_codec(file, head, length)
    part = TarPart(file, 0, length, codec, Limits())
    top = _top_folder(part.stream()) if prefix == AUTO_PREFIX else prefix
    return PackageFile(
        path=shown,
        real=real,
        sha256=sha256,
        size=length,
        kind="tar",
        prefix=top,
        units=dict(_units(part.stream(), top)),
    )


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _tar_codec(file: BinaryIO, head: bytes, length: int) -> str:
    """How a tar archive is packed. Raises ArtifactError for what is none."""
    codec = codec_of(head)
    remedy = Remedy(title="name a deb, tar.gz, tar.xz or tar.bz2")
    if codec not in _CODECS:
        raise unsupported(f"a guest does not unpack {codec}", remedy)
    start = ChunkStream(decoded(codec, read_range(file, 0, length), Limits())).read(BLOCK) if codec else head
    try:
        parse_header(start)
    except ArtifactError:
        raise unsupported("neither a deb nor a tar archive", remedy) from None
    return codec


def _top_folder(stream: Stream) -> str:
    """The one folder that all of an archive is in; empty where there is none, or where it is one of the root's own."""
    tops: set[str] = set()
    for path, _ in _members(stream):
        top, slash, _rest = path.partition("/")
        tops.add(top if slash else "")
    top = tops.pop() if len(tops) == 1 else ""
    return "" if is_root_folder(top) else top


def _members(stream: Stream) -> Iterator[tuple[str, bytes | None]]:
    """Paths of members that are no folders, with the content of small files with the name of a unit or drop-in."""
    for number, entry in enumerate(entries(stream)):
        if number > _MEMBERS_MAX:
            raise unsupported(f"it has more than {_MEMBERS_MAX} members", Remedy(title="ship fewer files"))
        member = entry.member
        wanted = member.path.endswith((*_KINDS, ".conf")) and member.kind is MemberKind.FILE and entry.size <= _UNIT_MAX
        data = stream.read(entry.size) if wanted else b""
        stream.skip(padded(entry.size) - len(data))
        if member.kind is not MemberKind.FOLDER:
            yield member.path, data if wanted else None


def _units(stream: Stream, prefix: str) -> Iterator[tuple[str, str]]:
    """The unit files and drop-ins, in the order in which systemd prefers their folders."""
    found: dict[str, str] = {}
    for path, data in _members(stream):
        place = path.removeprefix(f"{prefix}/") if prefix else path
        if data is not None and _is_unit(place):
            found[place] = data.decode("utf-8", "replace").replace("\r\n", "\n")
    if sum(map(len, found.values())) > _ALL_MAX:
        raise unsupported("its unit files together are larger than 512K", Remedy(title="ship fewer units"))
    yield from sorted(found.items(), key=lambda item: (_rank(item[0]), item[0]))


def _is_unit(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    if name.endswith(".conf"):
        folder, _, owner = folder.rpartition("/")
        return folder in FOLDERS and owner.endswith(tuple(f"{kind}.d" for kind in _KINDS))
    return folder in FOLDERS and name.endswith(_KINDS)


def _rank(path: str) -> int:
    return next(number for number, folder in enumerate(FOLDERS) if path.startswith(f"{folder}/"))
