"""The disk of another machine that filled up during a run: what a service could not write there is no proof against it.

Its output, and so its ready line, goes into a file there, and a program can end because it cannot write. What the kernel's
files prove stays as it is. A service whose own output fills the disk is not excused.
"""

import posixpath
import re
from collections.abc import Sequence

from cgroup_preflight.core import codes
from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Known
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass, replace
from cgroup_preflight.core.report import Finding, Remedy, Status

if TYPE_CHECKING:
    from cgroup_preflight.host.door import Door

#: What must be free at the start besides the files: the output of services, and what the payloads say; in bytes.
SPARE = 64 << 20
#: With less free, it is full: the end of a run gives back a little. Output of one service that is much: what was read of it
#: is given back (`engines.output`), so several times less stays. In bytes.
_FULL, _MUCH = 1 << 20, SPARE // 2
_SECONDS = 30.0
_NUMBER = re.compile(r"[0-9]{1,18}")
_CODES = frozenset({codes.SERVICE_RUN.code, codes.READINESS.code, codes.STOP.code})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Full:
    """A full disk in words, and what to do."""

    words: str
    remedy: Remedy


def free_bytes(door: "Door", folder: str) -> int | None:
    """What is free there; None where the machine does not say."""
    lines = _said(door, ("df", "-Pk", "--", folder))
    # POSIX: name, blocks, used, available.
    words = lines[-1].split() if lines else []
    return _kib(words[3]) if len(words) > 4 else None


def excused(door: "Door", folder: str, findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The findings of a run with this private folder: where its disk is full, what that can explain is unverified."""
    suspects = {item.subject for item in findings if _is_suspect(item)}
    if not suspects or (full := _full(door, folder)) is None:
        return tuple(findings)
    excusable = suspects - _floods(door, folder, sorted(suspects))
    return tuple(
        replace(item, status=Status.UNVERIFIED, message=f"{full.words} ({item.message})", remedies=(full.remedy, *item.remedies))
        if _is_suspect(item) and item.subject in excusable
        else item
        for item in findings
    )  # fmt: skip


def named(door: "Door", folder: str, error: HostError) -> HostError | None:
    """The error of a run with this private folder, after the words that its disk is full; None where it is not."""
    full = _full(door, folder)
    if full is None:
        return None
    return HostError(f"{full.words} ({error.message})", where=error.where, remedy=full.remedy)


def _is_suspect(item: Finding) -> bool:
    """Whether a full disk can be why it failed.

    It is not where the kernel refused tasks because of a limit, or counted the processes that a main process left.
    """
    counted = item.evidence.get("tasks_refused") or item.evidence.get("processes left")
    return item.status is Status.FAIL and item.code in _CODES and not counted


def _full(door: "Door", folder: str) -> _Full | None:
    free = free_bytes(door, folder)
    if free is None or free >= _FULL:
        return None
    # The private folder itself is gone when this is read.
    place = posixpath.dirname(folder)
    words = f"the disk of {door.host} is full: {free >> 10} KiB free in {place}; free some and run again"
    return _Full(words=words, remedy=Remedy(title=f"free some space in {place} of {door.host}, and run again"))


def _floods(door: "Door", folder: str, names: Sequence[str]) -> set[str]:
    """The services whose own output takes much of the disk."""
    lines = (line.partition("\t") for line in _said(door, ("du", "-k", "--", *(f"{folder}/{name}" for name in names))))
    sizes = {path.rpartition("/")[2]: _kib(size) for size, _, path in lines}
    return {name for name in names if (sizes.get(name) or 0) >= _MUCH}


def _said(door: "Door", argv: tuple[str, ...]) -> list[str]:
    try:
        done = door.programs.run(argv, timeout=_SECONDS)
    except HostError:
        return []
    return done.value.stdout.splitlines() if isinstance(done, Known) else []


def _kib(word: str) -> int | None:
    """Bytes of a number of KiB. A host can say anything, and int() refuses very long numbers with an error of its own."""
    return int(word) << 10 if _NUMBER.fullmatch(word) else None
