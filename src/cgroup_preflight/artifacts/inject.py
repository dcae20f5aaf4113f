"""One artifact, from its path to what was done: find its format, compare it with the plan, write the difference.

Nothing is written before everything is decided.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, BinaryIO, Protocol

from cgroup_preflight.artifacts import checksums, deb, manifest
from cgroup_preflight.artifacts.compression import codec_of, decoded
from cgroup_preflight.artifacts.content import ContentRequest, chosen
from cgroup_preflight.artifacts.deb import DebFormat
from cgroup_preflight.artifacts.edit import Edit, decide, expected
from cgroup_preflight.artifacts.model import ArtifactError, Limits, corrupt, unsupported
from cgroup_preflight.artifacts.scan import Scan
from cgroup_preflight.artifacts.snippets import rpm_remedy, staging_of
from cgroup_preflight.artifacts.streams import ChunkStream, read_range
from cgroup_preflight.artifacts.tar import BLOCK, ZEROS, TarPart, epoch
from cgroup_preflight.artifacts.tar_header import parse_header
from cgroup_preflight.artifacts.zip_records import END, LOCAL
from cgroup_preflight.config.places import is_below
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass, field, replace
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.golang.program import read_program
from cgroup_preflight.host.beneath import without_links
from cgroup_preflight.host.files import Sink, open_regular, replacing

if TYPE_CHECKING:
    from cgroup_preflight.artifacts.folder import FolderFormat
    from cgroup_preflight.artifacts.zip import ZipFormat

#: What to do about a path of a config that leads out of its folder.
OUTSIDE = Remedy(title="move it into that folder, or allow its folder for this call: --allow-outside DIR")
_RPM = b"\xed\xab\xee\xdb"
_FORMATS = "folder, tar, tar.gz, tar.xz, tar.zst, tar.bz2, zip, deb"
_FOREIGN = {b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive", b"Rar!": "a RAR archive", b"MSCF": "a cabinet file",
            b"\x7fELF": "a program, not an archive", b"hsqs": "a squashfs image", b"\xd0\xcf\x11\xe0": "an MSI package",
            b"MZ": "a Windows program"}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectOptions:
    """How artifacts are written; `source_date` is SOURCE_DATE_EPOCH in seconds, None where it is not set.

    `inside`: folders without links in which an artifact must be; empty for one that the command line names.
    """

    inside: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    force: bool = False
    rewrite_checksums: bool = False
    source_date: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """An artifact compared with the plan: `expected` is what it must contain, `edit` what has to change for that."""

    path: str
    format: str
    sha256: str
    scan: Scan
    expected: Mapping[str, bytes]
    edit: Edit
    signatures: tuple[str, ...]

    @property
    def wanted_manifest(self) -> manifest.Manifest | None:
        """The manifest that it must contain."""
        return manifest.parse(self.expected.get(self.scan.request.manifest_path(self.scan.package)))

    @property
    def manifest(self) -> manifest.Manifest | None:
        """The manifest that is in the artifact."""
        return self.scan.manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What `put` did; `whole` is False where files were replaced one by one."""

    compared: Comparison
    after: str
    stale: tuple[str, ...] = ()
    rewritten: tuple[str, ...] = ()
    whole: bool = True

    @property
    def changed(self) -> bool:
        """Whether anything was written."""
        return not self.compared.edit.empty


class _Format(Protocol):
    """What every file format offers."""

    all_folders: bool
    #: Whether all of it may be in one folder, which is unpacked to /.
    wraps: bool

    @property
    def package(self) -> str: ...
    @property
    def signatures(self) -> tuple[str, ...]: ...
    def scan(self, scan: Scan) -> None: ...
    def write(self, sink: Sink, edit: Edit, scan: Scan, mtime: int) -> None: ...


def compare(path: str, request: ContentRequest, options: InjectOptions) -> Comparison:
    """Compares an artifact with the plan and writes nothing. Raises ArtifactError, UsageError; both name it."""
    with _placed(path, options) as place:
        if os.path.isdir(place):
            return replace(_compare_folder(place, request, options)[1], path=path)
        with _opened(place) as file:
            return replace(_compare_file(place, file, request, options)[1], path=path)


def put(
    path: str, request: ContentRequest, options: InjectOptions, planned: Callable[[Comparison], None] = lambda _: None
) -> Written:
    """Puts the plan into an artifact; `planned` is called before anything is written, and may raise to stop it.

    Raises ArtifactError, UsageError; the artifact is then as it was.
    """
    with _placed(path, options) as place:
        if os.path.isdir(place):
            folder, compared = _compare_folder(place, request, options)
            compared = replace(compared, path=path)
            planned(compared)
            folder.write(compared.edit, options.source_date)
            sha256 = compared.sha256 if compared.edit.empty else folder.sha256()
            return Written(compared=compared, after=sha256, whole=folder.whole)
        with _opened(place) as file:
            since = os.fstat(file.fileno())
            algorithms = checksums.algorithms(checksums.candidates(place)[1])
            before = checksums.digests(place, algorithms)
            kind, compared = _compare_file(place, file, request, options, before.sha256)
            compared = replace(compared, path=path)
            planned(compared)
            if compared.edit.empty:
                rest = checksums.outdated(place, before)
                done = _corrected(compared, rest, options, before, before)
                left = tuple(_beside(path, item.path) for item in rest if item.path not in done)
                return Written(
                    compared=compared, after=before.sha256, stale=left,
                    rewritten=tuple(_beside(path, item) for item in done),
                )  # fmt: skip
            stale = checksums.stale(place, before)
            with replacing(place, file, since) as sink:
                kind.write(sink, compared.edit, compared.scan, epoch(options.source_date, compared.scan))
        after = checksums.digests(place, algorithms)
        done = _corrected(compared, stale, options, before, after)
        left = tuple(_beside(path, item.path) for item in stale if item.path not in done)
        return Written(
            compared=compared, after=after.sha256, stale=(*left, *compared.signatures),
            rewritten=tuple(_beside(path, item) for item in done),
        )  # fmt: skip


def _corrected(
    compared: Comparison, stale: Sequence[checksums.SideFile], options: InjectOptions, before: checksums.Digests,
    after: checksums.Digests,
) -> tuple[str, ...]:  # fmt: skip
    """The checksum files that were corrected; none unless the options say so."""
    name = os.path.basename(compared.path) if compared.manifest is not None else ""
    lists = (item for item in stale if item.digest and options.rewrite_checksums)
    return tuple(item.path for item in lists if checksums.rewrite(item, before, after, name))


def _compare_folder(path: str, request: ContentRequest, options: InjectOptions) -> "tuple[FolderFormat, Comparison]":
    from cgroup_preflight.artifacts.folder import FolderFormat

    folder = FolderFormat(path)
    scan = _scan(folder, request, options.limits)
    files = expected(scan)
    return folder, Comparison(
        path=path, format="folder", sha256=folder.sha256(), scan=scan, expected=files, signatures=(),
        edit=decide(scan, files, force=options.force, all_folders=True),
    )  # fmt: skip


def _compare_file(
    path: str, file: BinaryIO, request: ContentRequest, options: InjectOptions, sha256: str | None = None
) -> tuple[_Format, Comparison]:
    name, kind = _open_format(file, os.path.basename(path), request, options.limits)
    scan = _scan(kind, request, options.limits)
    files = expected(scan)
    return kind, Comparison(
        path=path, format=name, sha256=sha256 or checksums.digests(path).sha256, scan=scan, expected=files,
        signatures=kind.signatures, edit=decide(scan, files, force=options.force, all_folders=kind.all_folders),
    )  # fmt: skip


def _open_format(
    file: BinaryIO, name: str, request: ContentRequest, limits: Limits
) -> "tuple[str, TarPart | ZipFormat | DebFormat]":
    """The format's name and its reader, by content; the name decides only where the content cannot.

    Raises ArtifactError (CGP305, CGP306).
    """
    length = os.fstat(file.fileno()).st_size
    head = os.pread(file.fileno(), BLOCK, 0)
    if head.startswith(_RPM):
        raise unsupported("an rpm cannot be changed after it was built", rpm_remedy(staging_of(request)))
    if head.startswith(deb.MAGIC):
        return "deb", DebFormat(file, length, limits)
    if name.lower().endswith(".whl"):
        raise unsupported(
            "a wheel lists its files and their digests in RECORD, which a new file would contradict",
            Remedy(title="add the files while the wheel is built, or ship them in another artifact"),
        )
    if head.startswith((LOCAL, END)) or name.lower().endswith(".zip"):
        from cgroup_preflight.artifacts.zip import ZipFormat  # most artifacts are no zip files

        return "zip", ZipFormat(file, length, limits)
    codec = codec_of(head)
    if codec:
        start = ChunkStream(decoded(codec, read_range(file, 0, length), limits)).read(BLOCK)
        if not _is_tar(start):
            raise _unknown(f"a {codec} file that contains no tar archive")
        return f"tar.{codec}", TarPart(file, 0, length, codec, limits)
    if not head:
        raise corrupt("the artifact is empty")
    if _is_tar(head) or name.lower().endswith(".tar"):
        return "tar", TarPart(file, 0, length, "", limits)
    raise _unknown(next((text for magic, text in _FOREIGN.items() if head.startswith(magic)), "of an unknown format"))


def _is_tar(block: bytes) -> bool:
    if block == ZEROS:
        return True
    try:
        parse_header(block)
    except ArtifactError:
        return False
    return True


def _unknown(what: str) -> ArtifactError:
    title = f"use one of these formats: {_FORMATS}; or add the files while the package is built"
    remedy = Remedy(title=title, commands=(("cgroup-preflight", "inject", "--emit", "nfpm"),))
    return unsupported(f"this artifact is {what}", remedy)


def _scan(kind: "_Format | FolderFormat", request: ContentRequest, limits: Limits) -> Scan:
    """What the artifact contains; it is read again where a link leads to a program, or all of it is in one folder.

    Raises ArtifactError.
    """
    with _copies(request.absent) as copies:
        scan = Scan(request, limits, kind.package, copies=copies)
        kind.scan(scan)
        if request.auto_prefix and kind.wraps and (top := scan.top_folder):
            scan = Scan(replace(request, prefix=top, auto_prefix=False), limits, copies=copies)
            kind.scan(scan)
        scan.finish()
        if (more := scan.again()) is not None:
            scan = more
            kind.scan(scan)
            scan.finish()
        scan.request = _with_programs(scan)
    return scan


@contextlib.contextmanager
def _copies(labels: Iterable[str]) -> Iterator[Mapping[str, IO[bytes]]]:
    """Temporary files for programs that are not on this machine, by service.

    What a Go program needs to fit its limits is part of the plan, and a gate before a deploy has only the artifact.
    """
    with contextlib.ExitStack() as stack:
        files: dict[str, IO[bytes]] = {}
        for label in labels:
            import tempfile  # an import that most calls need not wait for

            files[label] = stack.enter_context(tempfile.NamedTemporaryFile(prefix="cgroup-preflight-"))
        yield files


def _with_programs(scan: Scan) -> ContentRequest:
    """The request with the plan for the programs that were copied from the artifact, if any.

    Raises UsageError where a program is neither on this machine nor in the artifact.
    """
    contents, request = scan.contents(), scan.request
    absent = [item for item in chosen(request, contents) if item.label in request.absent]
    for item in absent:
        if not contents.programs.get(item.label):
            remedy = Remedy(
                title="build it first; for a program that is not Go, set go_settings = false in its service"
            )
            raise UsageError(
                f"the program of {item.label} is neither on this machine nor in the artifact; if it is a Go program, "
                "the plan depends on it", where=item.binary, remedy=remedy,
            )  # fmt: skip
    if not absent or request.replan is None:
        return request
    for file in scan.copies.values():
        file.flush()
    found = {item.label: read_program(scan.copies[item.label].name) for item in absent}
    return replace(request, plan=request.replan(found), absent=frozenset())


@contextlib.contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """The regular file at `path`. Raises UsageError."""
    try:
        file = open_regular(path, follow=False)
    except OSError as error:
        reason = f"cannot read: {error.strerror}" if error.errno else "not a file or folder"
        raise UsageError(reason, where=path, remedy=Remedy(title="build the artifact first, or name another")) from None
    with file:
        yield file


def _beside(path: str, other: str) -> str:
    """How a person names `other`, a file in the folder of the artifact `path`."""
    return os.path.join(os.path.dirname(path), os.path.basename(other))


@contextlib.contextmanager
def _placed(path: str, options: InjectOptions) -> Iterator[str]:
    """The file or folder that `path` leads to, by a name that no link can change from here on.

    Adds the artifact's name to what is wrong with it. Raises UsageError where it is in none of `options.inside`.
    """
    real = os.path.realpath(path)
    if options.inside and not any(is_below(real, folder) for folder in options.inside):
        raise UsageError("it is a link out of the folder of the config", where=path, remedy=OUTSIDE)
    place = real
    try:
        with without_links(real) as place:
            yield place
    except ArtifactError as error:
        error.where = error.where or path
        raise
    except UsageError as error:
        error.where = error.where.replace(place, path).replace(os.path.dirname(place), os.path.dirname(path) or ".")
        raise
    except OSError as error:
        reason, where = error.strerror or str(error), os.fsdecode(error.filename or path)
        raise UsageError(reason, where=where.replace(place, path), remedy=Remedy(title="make it readable")) from None
