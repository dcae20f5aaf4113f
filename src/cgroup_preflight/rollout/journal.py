"""The journal of a rollout: one JSON line for each record, written and synced before the act that it announces.

A process can die while it writes: then the last line is not whole, and was never acted on. It is ignored by a reader and
cut off by the next writer. Everything else that is odd is an error: a journal that was changed is not followed.
"""

import json
import os
import stat
from collections.abc import Sequence
from typing import Any

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.files import sync_folder
from cgroup_preflight.rollout.machine import OutOfOrderError, Record, State, advance, begin

VERSION = 1
_SIZE_MAX = 16 << 20
_LINE_MAX = 1 << 20
_RECORDS_MAX = 100_000
#: Room that is kept for the records with which a rollout ends.
_SIZE_KEPT, _RECORDS_KEPT = 1 << 20, 100
_LAST = ("rollback", "restored", "stuck", "note", "promoted")
#: The fields that each kind must have, and their types; others are kept and never used.
_FIELDS: dict[str, dict[str, type]] = {
    "begin": {"rollout": str, "boot": str, "manager": str, "units": list, "stages": list},
    "step": {"stage": int},
    "verified": {"stage": int},
    "judged": {"stage": int, "verdict": str, "reasons": list, "numbers": dict},
    "watch": {},
    "promote": {},
    "promoted": {},
    "rollback": {"reason": str, "left": list},
    "restored": {"by": str},
    "stuck": {"reason": str},
    "note": {"text": str},
    "sample": {},
}
_VERDICTS = ("success", "inconclusive", "error", "failed")


class JournalError(HostError):
    """A journal that cannot be read or written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """The whole records of a journal, the state after them, and how many bytes they are; `torn`: a broken line follows."""

    records: tuple[Record, ...]
    state: State
    size: int
    torn: bool


def parse(data: bytes, where: str) -> Read | None:
    """A journal; None where not even its first record is whole. Raises JournalError."""
    records: list[Record] = []
    state: State | None = None
    size = 0
    for line in data.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        try:
            record = _record(line, len(records))
            state = begin(record) if state is None else advance(state, record)
        except (ValueError, RecursionError) as error:
            raise _broken(where, f"line {len(records) + 1}: {error}") from None
        records.append(record)
        size += len(line)
    if state is None:
        return None
    return Read(records=tuple(records), state=state, size=size, torn=size < len(data))


def _record(line: bytes, number: int) -> Record:
    if len(line) > _LINE_MAX or number >= _RECORDS_MAX:
        raise ValueError("it is too long")
    record = json.loads(line, parse_constant=_refuse)
    if not isinstance(record, dict):
        raise ValueError("not a record")  # noqa: TRY004 - all that is wrong with the text is a ValueError
    if record.get("v") != VERSION:
        raise ValueError(f"version {str(record.get('v'))[:20]!r} of the format, and this tool knows {VERSION}")
    if record.get("n") != number:
        raise ValueError(f"record {number} is missing")
    kind = record.get("kind")
    fields = _FIELDS.get(kind) if isinstance(kind, str) else None
    if fields is None:
        raise ValueError(f"an unknown kind {str(kind)[:20]!r}")
    for name, type_ in fields.items():
        if not isinstance(record.get(name), type_) or isinstance(record.get(name), bool):
            raise ValueError(f"{kind} without {name}")  # noqa: TRY004
    if kind == "judged" and record["verdict"] not in _VERDICTS:
        raise OutOfOrderError("an unknown verdict")
    return record


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is no number")


def read(path: str) -> Read | None:
    """The journal at `path`; None where there is none. Raises JournalError."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise _broken(path, "not a regular file")
            # It decides which commands run.
            if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                raise _broken(path, "it belongs to another user, or others may write to it")
            data = file.read(_SIZE_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _broken(path, error.strerror or str(error)) from None
    if len(data) > _SIZE_MAX:
        raise _broken(path, "it is larger than 16M")
    return parse(data, path)


class Journal:
    """A journal that is written; `state` follows from its records."""

    def __init__(self, path: str, handle: int, known: Read | None) -> None:
        self.path = path
        self._handle = handle
        self.records: list[Record] = list(known.records) if known else []
        self._state = known.state if known else None

    @property
    def state(self) -> State:
        """The state after the last record."""
        assert self._state is not None
        return self._state

    def add(self, kind: str, at: float, **fields: Any) -> State:  # noqa: ANN401 - JSON
        """Writes one record, at wall clock `at` (seconds), and returns when it is on the disk.

        Raises JournalError, and another HostError where the journal has no more room but for the last records.
        """
        record = {"v": VERSION, "n": len(self.records), "at": round(at, 3), "kind": kind, **fields}
        line = json.dumps(record, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        end = os.lseek(self._handle, 0, os.SEEK_END)
        self._require_room(kind, len(line), end)
        checked = _record(line, len(self.records))
        state = begin(checked) if self._state is None else advance(self._state, checked)
        try:
            view = memoryview(line)
            while view:
                view = view[os.write(self._handle, view) :]
            os.fsync(self._handle)
        except OSError as error:
            # Half a line must not be in the way of the next one.
            try:
                os.ftruncate(self._handle, end)
            except OSError:
                pass
            raise _cannot_write(self.path, error) from None
        self.records.append(checked)
        self._state = state
        return state

    def _require_room(self, kind: str, size: int, end: int) -> None:
        """A reader refuses a journal that is too long, and then nobody could take the rollout back."""
        kept = (0, 0) if kind in _LAST else (_SIZE_KEPT, _RECORDS_KEPT)
        if size > _LINE_MAX or end + size > _SIZE_MAX - kept[0] or len(self.records) >= _RECORDS_MAX - kept[1]:
            raise HostError(f"the journal of the rollout has no room for {size} bytes of {kind!r} more", where=self.path, remedy=Remedy(
                title="use fewer steps, a longer interval, or a shorter deadline in [rollout]"))  # fmt: skip

    def close(self) -> None:
        """Closes the file, and with it gives back the lock."""
        os.close(self._handle)


def create(path: str) -> Journal:
    """An empty journal of a new rollout. Raises JournalError; also where one exists."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        sync_folder(os.path.dirname(path))
    except OSError as error:
        raise _cannot_write(path, error) from None
    return Journal(path, handle, None)


def reopen(path: str) -> Journal:
    """The journal of a rollout that is to go on; what a crash left of a last line is cut off. Raises JournalError."""
    known = read(path)
    if known is None:
        raise _broken(path, "it has no whole record")
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        if known.torn:
            os.ftruncate(handle, known.size)
            os.fsync(handle)
    except OSError as error:
        raise _cannot_write(path, error) from None
    return Journal(path, handle, known)


def names(folder: str) -> Sequence[str]:
    """The paths of the journals in a folder, the newest last."""
    try:
        found = [name for name in os.listdir(folder) if name.endswith(".journal")]
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise _broken(folder, error.strerror or str(error)) from None
    return [os.path.join(folder, name) for name in sorted(found)]


def _broken(where: str, why: str) -> JournalError:
    return JournalError(f"the journal cannot be used: {printable(why)[:300]}", where=where,
                        remedy=Remedy(title="compare the limits of the slices with the config by hand, then move the file away",
                                      commands=(("systemctl", "show", "-p", "DropInPaths", "SLICE"),)))  # fmt: skip


def _cannot_write(path: str, error: OSError) -> JournalError:
    return JournalError(f"cannot write the journal: {error.strerror or error}", where=path,
                        remedy=Remedy(title="free space, or choose another folder with --state"))  # fmt: skip
