"""Playing a recorded host back: one JSON file that a reviewer can read, made by `host.record`.

On replay "not recorded" differs from "absent", and what was kept in part is not taken for the whole.
"""

import errno
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar, cast

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.reading import Known, Missing, Reading, Why
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.command import Completed
from cgroup_preflight.host.files import open_regular
from cgroup_preflight.host.fs import PAGE_SIZES
from cgroup_preflight.host.record import FORMAT, names_question
from cgroup_preflight.host.redact import Answer

_SIZE_MAX = 32 << 20
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
T = TypeVar("T")


class SnapshotFs:
    """Answers from a recording."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self._answers = answers

    def _answer(self, question: str, convert: Callable[[object], T], source: str = "") -> Reading[T]:
        source = source or question.split(" ")[1]
        entry = self._answers.get(question)
        if entry is None:
            return Missing(source=source, why=Why.NOT_RECORDED)
        if "value" not in entry:
            return _missing(entry, source)
        try:
            return Known(value=convert(entry["value"]), source=source)
        except TypeError as error:
            return Missing(source=source, why=Why.MALFORMED, detail=str(error))

    def read(self, path: str) -> Reading[str]:
        """The recorded text; not recorded for a file of which only pieces are kept."""
        return self._answer(f"read {path}", _text)

    def pieces(self, path: str, keep: tuple[str, ...], separator: str) -> Reading[tuple[str, ...]]:
        """The recorded pieces that contain one of `keep`; other pieces were not recorded."""
        del separator
        reading = self._answer(f"pieces {path}", _texts)
        if isinstance(reading, Missing):
            return reading
        kept = self._answers[f"pieces {path}"].get("keep")
        if not isinstance(kept, list) or not all(word in kept for word in keep):
            return Missing(source=path, why=Why.NOT_RECORDED, detail="recorded in part")
        wanted = tuple(piece for piece in reading.value if any(word in piece for word in keep))
        return Known(value=wanted, source=reading.source)

    def prefetch(self, paths: Iterable[str], *, folders: Iterable[str] = (), statuses: Iterable[str] = ()) -> None:
        """As `MachineFs.prefetch`: a recording is read already."""

    def link(self, path: str) -> Reading[str]:
        """The recorded target."""
        return self._answer(f"link {path}", _text)

    def exists(self, path: str) -> Reading[bool]:
        """The recorded answer."""
        return self._answer(f"exists {path}", _flag)

    def device(self, path: str) -> Reading[str]:
        """The recorded number."""
        return self._answer(f"device {path}", _text)

    def names(self, path: str, keep: tuple[str, ...] | None = None) -> Reading[tuple[str, ...]]:
        """The recorded names."""
        return self._answer(names_question(path, keep), _texts)

    def read_only(self, path: str) -> Reading[bool]:
        """The recorded flag."""
        return self._answer(f"read_only {path}", _flag, f"statvfs {path}")

    def machine(self) -> Reading[str]:
        """The recorded name."""
        return self._answer("machine", _text, "uname")

    def page_size(self) -> Reading[int]:
        """The recorded size."""
        return self._answer("page_size", _page_size, "page size")


class SnapshotRunner:
    """Answers commands from a recording; starts nothing."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self._answers = answers

    def run(self, argv: tuple[str, ...], *, timeout: float = 20.0, stdin: bytes = b"") -> Reading[Completed]:
        """The recorded answer."""
        del timeout, stdin
        entry = self._answers.get(" ".join(argv))
        source = " ".join(argv[:3])
        if entry is None:
            return Missing(source=source, why=Why.NOT_RECORDED)
        status, out, err = entry.get("status"), entry.get("out"), entry.get("err")
        if isinstance(status, int) and isinstance(out, str) and isinstance(err, str):
            return Known(value=Completed(argv=argv, returncode=status, stdout=out, stderr=err), source=source)
        return _missing(entry, source)


def _missing(entry: Answer, source: str) -> Missing:
    """The recorded reason; one that this version does not know is malformed, never a value."""
    words = {why.value: why for why in Why}
    number = getattr(errno, str(entry.get("errno", "")), None)
    return Missing(
        source=source, why=words.get(str(entry.get("missing", "")), Why.MALFORMED),
        errno=number if isinstance(number, int) else None, detail=str(entry.get("detail", "")),
    )  # fmt: skip


def load(path: str) -> tuple[SnapshotFs, SnapshotRunner]:
    """A recording made by `cgroup-preflight snapshot`. Raises UsageError."""
    fs, runner, _ = load_dated(path)
    return fs, runner


def load_dated(path: str) -> tuple[SnapshotFs, SnapshotRunner, str]:
    """As `load`, and when it was made, RFC 3339 in UTC; empty where the recording does not say it."""
    remedy = Remedy(title="record the host again: cgroup-preflight snapshot -o FILE")
    try:
        with open_regular(path, follow=True) as file:
            data = file.read(_SIZE_MAX + 1)
    except OSError as error:
        reason = error.strerror or "not a regular file"
        raise UsageError(f"cannot read the snapshot: {reason}", where=path, remedy=remedy) from None
    try:
        if len(data) > _SIZE_MAX:
            raise ValueError("larger than 32M")
        document = json.loads(data)
        if not isinstance(document, dict) or document.get("format") != FORMAT or document["format"] is True:
            raise ValueError(f"not a snapshot of format {FORMAT}")
        parts = [document.get("host"), document.get("commands")]
        if not all(isinstance(part, dict) and all(isinstance(e, dict) for e in part.values()) for part in parts):
            raise ValueError("host and commands are not tables of answers")
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not a snapshot: {str(error)[:200]}", where=path, remedy=remedy) from None
    host, commands = cast("list[dict[str, Answer]]", parts)
    recorded_at = str(document.get("recorded_at", ""))
    dated = recorded_at if _TIME.fullmatch(recorded_at) else ""
    return SnapshotFs(host), SnapshotRunner(commands), dated


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not text")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError("not a list of texts")
    return tuple(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("not true or false")
    return value


def _page_size(value: object) -> int:
    if not isinstance(value, int) or value not in PAGE_SIZES:
        raise TypeError("not the size of a page")
    return value
