"""Where a finding is shown in the source, and the fingerprint by which a later run is compared. Pure."""

import hashlib
import posixpath
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from cgroup_preflight.core.report import Finding, Report, Status
from cgroup_preflight.report.escape import plain

#: The config's name where no finding has a place; the same as `config.load.FILE_NAME`.
CONFIG_NAME = "cgroup-preflight.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A finding with its place: `path` relative without `./`, `line` from 1, `ordinal` from 1 among its twins.

    `fingerprint` (64 hexadecimal digits) leaves out the line and the message, so that neither an edit above nor a new
    measurement makes it a new finding. The ordinal keeps it unique: of two equal ones, GitHub and GitLab show one.
    """

    finding: Finding
    path: str
    line: int
    ordinal: int
    fingerprint: str


def place(
    report: Report, statuses: Iterable[Status], leave: Callable[[Finding], bool] | None = None, *, waived: bool = False
) -> Iterator[Placed]:  # fmt: skip
    """The findings of `report` with one of `statuses`, in their order; without a location: line 1 of the config.

    Those that `leave` accepts are left out; `waived` ones are among them whatever their status is.
    """
    wanted = frozenset(statuses)
    default = next((relative(item.location.file) for item in report.findings if item.location), CONFIG_NAME)
    seen: Counter[tuple[str, str, str]] = Counter()
    for item in report.findings:
        if item.status not in wanted and not (waived and item.is_waived):
            continue
        path = relative(item.location.file) if item.location else default
        key = (item.code, path, item.subject)
        seen[key] += 1
        if leave is not None and leave(item):
            continue
        yield Placed(
            finding=item, path=path, line=max(1, item.location.line) if item.location else 1, ordinal=seen[key],
            fingerprint=_digest(*key, str(seen[key])),
        )  # fmt: skip


def _digest(*parts: str) -> str:
    text = "\0".join(part.replace("\0", "\\0") for part in parts)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def relative(path: str) -> str:
    """A path that GitHub and GitLab accept: relative, without `./`, inside the repository.

    This function does not know where the repository begins, so of a path that leads out of the folder it keeps the name.
    """
    shown = posixpath.normpath(plain(path))
    if posixpath.isabs(shown) or shown.split("/")[0] == "..":
        shown = posixpath.basename(shown)
    return shown if shown not in ("", ".", "..") else CONFIG_NAME
