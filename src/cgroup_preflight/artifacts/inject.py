"""Programs that are not on this machine are compared at in the artifact: a gate before a deploy has nothing but that.

What a Go program needs to fit its limits is part of the plan, so without the program there is no plan.

One artifact, from its path to what was done: look, decide, write. Nothing is written before all is decided.
"""

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Protocol

from cgroup_preflight.artifacts import checksums, manifest
from cgroup_preflight.artifacts.content import ContentRequest, chosen
from cgroup_preflight.artifacts.detect import open_format
from cgroup_preflight.artifacts.edit import Edit, decide, expected
from cgroup_preflight.artifacts.folder import FolderFormat
from cgroup_preflight.artifacts.model import ArtifactError, Limits
from cgroup_preflight.artifacts.scan import Scan
from cgroup_preflight.artifacts.tar import epoch
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.golang import program as programs
from cgroup_preflight.host.files import Sink, replacing


@contextlib.contextmanager
def programs_from_artifact(seen: Scan) -> Iterator[Scan | None]:
    """A scan that copies the programs that are not here into temporary files; None where all are here.

    Raises UsageError where one is not in the artifact either.
    """
    request, contents = seen.request, seen.contents()
    absent = [item for item in chosen(request, contents) if item.label in request.absent]
    if not absent:
        yield None
        return
    for item in absent:
        if not contents.programs.get(item.label):
            remedy = Remedy(title="build it first, or, if it is no Go program, set go_settings = false for the service")
            raise UsageError(
                f"the program of {item.label} is neither here nor in the artifact, and if it is a Go program, the plan "
                "depends on it", where=item.binary, remedy=remedy,
            )  # fmt: skip
    with contextlib.ExitStack() as stack:
        files = {
            item.label: stack.enter_context(tempfile.NamedTemporaryFile(prefix="cgroup-preflight-"))
            for item in absent
        }  # fmt: skip
        yield Scan(request=request, limits=seen.limits, package=seen.package, linked=seen.linked, copies=files)


def replanned(copying: Scan) -> ContentRequest:
    """The request with the plan for the programs that were copied."""
    request = copying.request
    for file in copying.copies.values():
        file.flush()
    found = {label: programs.survey(file.name) for label, file in copying.copies.items()}
    return replace(request, plan=request.replan(found), absent=frozenset()) if request.replan else request


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectOptions:
    """How artifacts are written; `source_date` is SOURCE_DATE_EPOCH in seconds, None where it is not set."""

    limits: Limits = field(default_factory=Limits)
    force: bool = False
    rewrite_checksums: bool = False
    source_date: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """An artifact that was compared at: `expected` is what it has to hold, `edit` what is missing for that."""

    path: str
    format: str
    sha256: str
    scan: Scan
    expected: Mapping[str, bytes]
    edit: Edit
    signatures: tuple[str, ...]

    @property
    def wanted_manifest(self) -> manifest.Manifest | None:
        """The manifest that it has to hold."""
        return manifest.parse(self.expected.get(self.scan.request.manifest_path(self.scan.package)))

    @property
    def manifest(self) -> manifest.Manifest | None:
        """The manifest that is in the artifact."""
        return self.scan.manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What `put` did; `whole` False where files were replaced one by one."""

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

    @property
    def package(self) -> str: ...
    @property
    def signatures(self) -> tuple[str, ...]: ...
    def scan(self, scan: Scan) -> None: ...
    def write(self, sink: Sink, edit: Edit, scan: Scan, mtime: int) -> None: ...


def compare(path: str, request: ContentRequest, options: InjectOptions) -> Comparison:
    """Looks at an artifact, and writes nothing. Raises ArtifactError, UsageError; both name it."""
    with _named(path):
        if os.path.isdir(path):
            return _compare_folder(path, request, options)[1]
        with _opened(path) as file:
            return _compare_file(path, file, request, options)[1]


def put(
    path: str, request: ContentRequest, options: InjectOptions, planned: Callable[[Comparison], None] = lambda _: None
) -> Written:
    """Puts the plan in; `planned` is called before anything is written, and may raise to stop it.

    Raises ArtifactError, UsageError; the artifact is then as it was.
    """
    with _named(path):
        if os.path.isdir(path):
            folder, compared = _compare_folder(path, request, options)
            planned(compared)
            folder.write(compared.edit, options.source_date)
            sha256 = compared.sha256 if compared.edit.empty else folder.sha256()
            return Written(compared=compared, after=sha256, whole=folder.whole)
        with _opened(path) as file:
            since = os.fstat(file.fileno())
            before_names = checksums.algorithms(checksums.candidates(path)[1])
            before = checksums.digests(path, before_names)
            kind, compared = _compare_file(path, file, request, options, before.sha256)
            planned(compared)
            if compared.edit.empty:
                return Written(compared=compared, after=before.sha256)
            stale = checksums.stale(path, before)
            with replacing(os.path.realpath(path), file, since) as sink:
                kind.write(sink, compared.edit, compared.scan, epoch(options.source_date, compared.scan))
        after = checksums.digests(path, before_names)
        done = [item.path for item in stale if options.rewrite_checksums and checksums.rewrite(item, before, after)]
        left = tuple(item.path for item in stale if item.path not in done)
        return Written(
            compared=compared, after=after.sha256, stale=(*left, *compared.signatures), rewritten=tuple(done)
        )


def _compare_folder(path: str, request: ContentRequest, options: InjectOptions) -> tuple[FolderFormat, Comparison]:
    folder = FolderFormat(os.path.realpath(path))
    scan = _scan(folder, request, options.limits)
    return folder, _comparison(path, "folder", folder.sha256(), scan, options, all_folders=True)


def _compare_file(
    path: str, file: BinaryIO, request: ContentRequest, options: InjectOptions, sha256: str | None = None
) -> tuple[_Format, Comparison]:
    name, kind = open_format(file, os.path.basename(path), options.limits, request)
    scan = _scan(kind, request, options.limits)
    digest = sha256 or checksums.digests(path).sha256
    return kind, _comparison(
        path, name, digest, scan, options, all_folders=kind.all_folders, signatures=kind.signatures
    )


def _scan(kind: "_Format | FolderFormat", request: ContentRequest, limits: Limits) -> Scan:
    """All that is in the artifact; read twice where a link leads to a program. Raises ArtifactError."""
    scan = Scan(request=request, limits=limits, package=kind.package)
    kind.scan(scan)
    scan.finish()
    if (more := scan.again()) is not None:
        scan = more
        kind.scan(scan)
        scan.finish()
    with programs_from_artifact(scan) as copying:
        if copying is not None:
            kind.scan(copying)
            scan.request = replanned(copying)
    return scan


def _comparison(
    path: str,
    name: str,
    sha256: str,
    scan: Scan,
    options: InjectOptions,
    *,
    all_folders: bool,
    signatures: tuple[str, ...] = (),
) -> Comparison:
    return Comparison(
        path=path, format=name, sha256=sha256, scan=scan, expected=expected(scan), signatures=signatures,
        edit=decide(scan, force=options.force, all_folders=all_folders),
    )  # fmt: skip


@contextlib.contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """The file, never a FIFO or device that would block. Raises UsageError."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UsageError(f"cannot read: {error.strerror}", where=path, remedy=Remedy(title="build it first")) from None
    with os.fdopen(handle, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise UsageError("not a file or folder", where=path, remedy=Remedy(title="name an artifact"))
        yield file


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    """Adds the artifact's name to what is wrong with it."""
    try:
        yield
    except ArtifactError as error:
        error.where = error.where or path
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(reason, where=error.filename or path, remedy=Remedy(title="make it readable")) from None
