"""Programs that are not on this machine are looked at in the artifact: a gate before a deploy has nothing but that.

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
from cgroup_preflight.artifacts.content import Wish, chosen
from cgroup_preflight.artifacts.detect import open_format
from cgroup_preflight.artifacts.edit import Edit, decide, expected
from cgroup_preflight.artifacts.folder import FolderFormat
from cgroup_preflight.artifacts.model import ArtifactError, Limits
from cgroup_preflight.artifacts.scan import Survey
from cgroup_preflight.artifacts.tar import epoch
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.golang import program as programs
from cgroup_preflight.host.files import Sink, replacing


@contextlib.contextmanager
def borrowing(seen: Survey) -> Iterator[Survey | None]:
    """A survey that copies the programs that are not here into temporary files; None where all are here.

    Raises UsageError where one is not in the artifact either.
    """
    wish, holdings = seen.wish, seen.holdings()
    absent = [item for item in chosen(wish, holdings) if item.label in wish.absent]
    if not absent:
        yield None
        return
    for item in absent:
        if not holdings.programs.get(item.label):
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
        yield Survey(wish=wish, limits=seen.limits, package=seen.package, linked=seen.linked, copies=files)


def replanned(copying: Survey) -> Wish:
    """The wish with the plan for the programs that were copied."""
    wish = copying.wish
    for file in copying.copies.values():
        file.flush()
    found = {label: programs.survey(file.name) for label, file in copying.copies.items()}
    return replace(wish, plan=wish.replan(found), absent=frozenset()) if wish.replan else wish


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How artifacts are written; `source_date` is SOURCE_DATE_EPOCH in seconds, None where it is not set."""

    limits: Limits = field(default_factory=Limits)
    force: bool = False
    rewrite_checksums: bool = False
    source_date: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """An artifact that was looked at: `expected` is what it has to hold, `edit` what is missing for that."""

    path: str
    format: str
    sha256: str
    survey: Survey
    expected: Mapping[str, bytes]
    edit: Edit
    signatures: tuple[str, ...]

    @property
    def wanted_manifest(self) -> manifest.Manifest | None:
        """The manifest that it has to hold."""
        return manifest.parse(self.expected.get(self.survey.wish.manifest_path(self.survey.package)))

    @property
    def manifest(self) -> manifest.Manifest | None:
        """The manifest that is in the artifact."""
        return self.survey.manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What `put` did; `whole` False where files were replaced one by one."""

    looked: Looked
    after: str
    stale: tuple[str, ...] = ()
    rewritten: tuple[str, ...] = ()
    whole: bool = True

    @property
    def changed(self) -> bool:
        """Whether anything was written."""
        return not self.looked.edit.empty


class _Format(Protocol):
    """What every file format offers."""

    all_folders: bool

    @property
    def package(self) -> str: ...
    @property
    def signatures(self) -> tuple[str, ...]: ...
    def survey(self, survey: Survey) -> None: ...
    def write(self, sink: Sink, edit: Edit, survey: Survey, mtime: int) -> None: ...


def look(path: str, wish: Wish, how: How) -> Looked:
    """Looks at an artifact, and writes nothing. Raises ArtifactError, UsageError; both name it."""
    with _named(path):
        if os.path.isdir(path):
            return _look_folder(path, wish, how)[1]
        with _opened(path) as file:
            return _look_file(path, file, wish, how)[1]


def put(path: str, wish: Wish, how: How, planned: Callable[[Looked], None] = lambda _: None) -> Written:
    """Puts the plan in; `planned` is called before anything is written, and may raise to stop it.

    Raises ArtifactError, UsageError; the artifact is then as it was.
    """
    with _named(path):
        if os.path.isdir(path):
            folder, looked = _look_folder(path, wish, how)
            planned(looked)
            folder.write(looked.edit, how.source_date)
            sha256 = looked.sha256 if looked.edit.empty else folder.sha256()
            return Written(looked=looked, after=sha256, whole=folder.whole)
        with _opened(path) as file:
            since = os.fstat(file.fileno())
            before_names = checksums.algorithms(checksums.candidates(path)[1])
            before = checksums.digests(path, before_names)
            kind, looked = _look_file(path, file, wish, how, before.sha256)
            planned(looked)
            if looked.edit.empty:
                return Written(looked=looked, after=before.sha256)
            stale = checksums.stale(path, before)
            with replacing(os.path.realpath(path), file, since) as sink:
                kind.write(sink, looked.edit, looked.survey, epoch(how.source_date, looked.survey))
        after = checksums.digests(path, before_names)
        done = [item.path for item in stale if how.rewrite_checksums and checksums.rewrite(item, before, after)]
        left = tuple(item.path for item in stale if item.path not in done)
        return Written(looked=looked, after=after.sha256, stale=(*left, *looked.signatures), rewritten=tuple(done))


def _look_folder(path: str, wish: Wish, how: How) -> tuple[FolderFormat, Looked]:
    folder = FolderFormat(os.path.realpath(path))
    survey = _survey(folder, wish, how.limits)
    return folder, _looked(path, "folder", folder.sha256(), survey, how, all_folders=True)


def _look_file(path: str, file: BinaryIO, wish: Wish, how: How, sha256: str | None = None) -> tuple[_Format, Looked]:
    name, kind = open_format(file, os.path.basename(path), how.limits, wish)
    survey = _survey(kind, wish, how.limits)
    digest = sha256 or checksums.digests(path).sha256
    return kind, _looked(path, name, digest, survey, how, all_folders=kind.all_folders, signatures=kind.signatures)


def _survey(kind: "_Format | FolderFormat", wish: Wish, limits: Limits) -> Survey:
    """All that is in the artifact; read twice where a link leads to a program. Raises ArtifactError."""
    survey = Survey(wish=wish, limits=limits, package=kind.package)
    kind.survey(survey)
    survey.finish()
    if (more := survey.again()) is not None:
        survey = more
        kind.survey(survey)
        survey.finish()
    with borrowing(survey) as copying:
        if copying is not None:
            kind.survey(copying)
            survey.wish = replanned(copying)
    return survey


def _looked(
    path: str,
    name: str,
    sha256: str,
    survey: Survey,
    how: How,
    *,
    all_folders: bool,
    signatures: tuple[str, ...] = (),
) -> Looked:
    return Looked(
        path=path, format=name, sha256=sha256, survey=survey, expected=expected(survey), signatures=signatures,
        edit=decide(survey, force=how.force, all_folders=all_folders),
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
