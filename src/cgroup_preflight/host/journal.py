"""The journal by unit and slice: command lines of journalctl, its JSON lines (journalctl(1), systemd.journal-fields(7)).

`--unit=` of a slice matches what the units directly in it wrote, not what those in slices below did; of a service it also
matches what the manager says of it, such as an OOM kill. Entries come from programs, and nothing in them is trusted.
"""

import contextlib
import json
import os
import selectors
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

from cgroup_preflight.core.reading import Known, Reading
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass

if TYPE_CHECKING:
    from cgroup_preflight.host.command import Completed, Programs, Running

_FIELDS = (
    "MESSAGE", "_SYSTEMD_UNIT", "_SYSTEMD_USER_UNIT", "UNIT", "USER_UNIT", "_SYSTEMD_SLICE", "_SYSTEMD_USER_SLICE",
    "_PID", "PRIORITY", "SYSLOG_IDENTIFIER",
)  # fmt: skip
#: Of an entry of a user's unit, the fields of the system's manager name the manager of that user.
_UNITS = ("_SYSTEMD_USER_UNIT", "_SYSTEMD_UNIT")
_SLICES = ("_SYSTEMD_USER_SLICE", "_SYSTEMD_SLICE")
_CALL = ("journalctl", "--no-pager", "--quiet")
#: A longer line is left out. journalctl itself takes entries of at most 768M.
LINE_MAX = 4 << 20
_ERRORS_MAX = 1 << 14


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One entry: `time_usec` since 1970, `message` with the bytes that are no UTF-8 replaced; empty for what is missing."""

    time_usec: int
    unit: str
    slice: str
    message: str
    pid: int = 0
    priority: int | None = None


def journal_argv(units: Iterable[str], *, follow: bool, since: str) -> tuple[str, ...]:
    """The command line that prints the entries of units, of the system's and of the caller's own manager, as JSON lines.

    Following begins at `since`, and without it with the last ten entries, as journalctl does.
    """
    more = (*(("--follow",) if follow else ()), *((f"--since={since}",) if since else ()))
    return (*_CALL, "--all", "--output=json", f"--output-fields={','.join(_FIELDS)}", *more, *_matches(units))


def _matches(units: Iterable[str]) -> Iterator[str]:
    return (f"{option}={unit}" for unit in units for option in ("--unit", "--user-unit"))


def slices_in_journal(runner: "Programs") -> Reading[frozenset[str]]:
    """The slices with entries that the caller may read; missing where there is no journal."""
    answers: Sequence[Reading[Completed]] = runner.run_together(tuple((*_CALL, f"--field={name}") for name in _SLICES))
    found: set[str] = set()
    for answer in answers:
        if not isinstance(answer, Known):
            return answer
        found.update(line for line in answer.value.stdout.splitlines() if line)
    return Known(value=frozenset(found), source="journalctl")


def has_entries(runner: "Programs", units: Iterable[str]) -> bool:
    """Whether the journal has an entry of one of these units that the caller may read."""
    answer = runner.run((*_CALL, "--lines=1", "--output=json", "--output-fields=_PID", *_matches(units)))
    return isinstance(answer, Known) and bool(answer.value.stdout)


def parse_entry(line: bytes) -> JournalEntry | None:
    """The entry of one line; None for a line that is none."""
    try:
        fields = json.loads(line)
        if not isinstance(fields, dict):
            return None
        priority = _text(fields.get("PRIORITY"))
        pid = _text(fields.get("_PID"))
        return JournalEntry(
            time_usec=int(_text(fields.get("__REALTIME_TIMESTAMP"))[:18] or 0), message=_text(fields.get("MESSAGE")),
            unit=_about(fields) or _first(fields, _UNITS), slice=_first(fields, _SLICES), pid=int(pid) if pid.isdecimal() else 0,
            priority=int(priority) if priority in tuple("01234567") else None,
        )  # fmt: skip
    except (ValueError, RecursionError):
        return None


def _about(fields: dict[str, object]) -> str:
    """The unit that a manager writes about. Any program can write such a field, so only those of managers count."""
    if fields.get("_PID") == "1":
        return _text(fields.get("UNIT"))
    return _text(fields.get("USER_UNIT")) if fields.get("_SYSTEMD_USER_UNIT") == "init.scope" else ""


def _first(fields: dict[str, object], names: Iterable[str]) -> str:
    return next((text for name in names if (text := _text(fields.get(name)))), "")


def _text(value: object) -> str:
    """A field: text, a list of numbers for bytes that are no text, or a list of these where the entry has it twice."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return ""
    if all(isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 256 for item in value):
        return bytes(value).decode("utf-8", "replace")
    return "\n".join(_text(item) for item in value if isinstance(item, str | list) and item != value)


def lines_of(process: "Running", complain: list[str], end: "Callable[[Running], None]") -> Generator[bytes, None, None]:
    """The lines that a command prints, until it ends; at the end `complain` has what it said on stderr.

    The command is ended with `end`, too, when the caller stops reading.
    """
    assert process.stdout is not None
    assert process.stderr is not None
    errors, rest = bytearray(), bytearray()
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            selector.register(process.stderr, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select():
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is process.stderr:
                        errors += data[: _ERRORS_MAX - len(errors)]
                    else:
                        rest += data
                        *lines, last = rest.split(b"\n")
                        rest = last if len(last) <= LINE_MAX else bytearray(b"\0")
                        yield from map(bytes, lines)
        with contextlib.suppress(Exception):
            process.wait(timeout=5.0)
    finally:
        end(process)
        complain += errors.decode("utf-8", "replace").splitlines()
