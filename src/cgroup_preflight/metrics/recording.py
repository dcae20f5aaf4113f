"""Recordings of readings: written line by line while it is measured, read on another machine without trust.

JSON lines: the first says format and version, each further one is a reading, the last says how many there are. So a
recording that was cut off is known as such, and what it has is kept.
"""

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass, replace
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.files import NotRegularError, Sink, open_regular
from cgroup_preflight.metrics.moment import HOST_FILES, Moment
from cgroup_preflight.metrics.samples import HUGE, Sample, Snapshot

if TYPE_CHECKING:
    from typing import BinaryIO

FORMAT, VERSION = "cgroup-preflight-readings", 1
#: Bounds of what is read: bytes of the file and of a line, readings, cgroups of one, bytes of one text, threads of one.
_SIZE_MAX, _LINE_MAX, _READINGS_MAX, _CGROUPS_MAX = 512 << 20, 64 << 20, 10_000, 20_000
_TEXT_MAX, _THREADS_MAX, _FILES_MAX, _PATH_MAX = 64 << 10, 100_000, 64, 4096
_NUMBER_MAX = 2**63
#: Words in the files of one reading, braces and commas of a line, and bytes that all readings take in memory, about.
_WORDS_MAX, _TOKENS_MAX, _MEMORY_MAX = 4_000_000, 4_000_000, 1 << 30
#: Bytes that one cgroup of a reading takes, besides texts that differ from those before.
_SAMPLE_BYTES = 3000
#: Seconds between the first and the last reading: `--seconds` has at most an hour, and a trace can come later.
_SPAN_MAX = 3 * 3600
_NAME = re.compile(r"[a-z]+(?:\.[a-z]+)+", re.ASCII)
_AGAIN = Remedy(title="record again: cgroup-preflight diagnose --record FILE")


class BrokenError(ValueError):
    """A line is not what this version writes; the text says what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """The readings of a file; `cut` says in which way it is not whole, empty if it is."""

    moments: tuple[Moment, ...]
    cut: str = ""


class Writer:
    """Writes readings to an open file, each at once; `problem` says why it stopped, and is empty while all is well."""

    def __init__(self, handle: int) -> None:
        self._sink = Sink(handle)
        self._count = 0
        self.problem = ""
        self._line({"format": FORMAT, "version": VERSION})

    def add(self, moment: Moment) -> None:
        """One more reading."""
        self._line(_plain(moment))
        self._count += 1

    def end(self) -> None:
        """Says that the recording is whole."""
        self._line({"end": self._count})

    def _line(self, value: object) -> None:
        if self.problem:
            return
        try:
            self._sink.write(json.dumps(value, separators=(",", ":")).encode() + b"\n")
        except OSError as error:
            # What was measured is still worth an answer.
            self.problem = error.strerror or str(error)


@contextlib.contextmanager
def recorded(path: str) -> Iterator[Writer]:
    """The file that is written, whole if the block ends. Raises UsageError where it cannot be opened."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOCTTY, 0o644)
    except OSError as error:
        raise UsageError(f"cannot write: {error.strerror}", where=path,
                         remedy=Remedy(title="name a file in a folder that can be written")) from None  # fmt: skip
    try:
        writer = Writer(handle)
        yield writer
        writer.end()
    finally:
        os.close(handle)


def _plain(moment: Moment) -> dict[str, object]:
    shot = moment.snapshot
    return {
        "started": shot.started_ns, "stamp": shot.stamp_ns, "wall": shot.wall, "errors": dict(shot.errors),
        "host": {path: _text(data) for path, data in moment.host.items()},
        "threads": {path: list(numbers) for path, numbers in moment.threads.items()},
        "cgroups": {
            path: {"id": sample.cgroup_id, "stamp": sample.stamp_ns, "errors": dict(sample.errors),
                   "files": {name: _text(data) for name, data in sample.files.items()}}
            for path, sample in shot.samples.items()
        },
    }  # fmt: skip


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def load(path: str) -> Recording:
    """Reads a recording.

    Raises UsageError where the file cannot be read, is no recording, is of another version, or has fewer than two
    readings before it ends or breaks.
    """
    try:
        with open_regular(path, follow=True) as file:
            if os.fstat(file.fileno()).st_size > _SIZE_MAX:
                raise UsageError("it is larger than 512M", where=path, remedy=_AGAIN)
            return _read(file, path)
    except NotRegularError:
        raise UsageError("it is not a regular file", where=path, remedy=_AGAIN) from None
    except OSError as error:
        raise UsageError(
            f"cannot read it: {error.strerror}", where=path, remedy=Remedy(title="name a recording")
        ) from None


def _read(file: "BinaryIO", path: str) -> Recording:
    _check_head(file.readline(_LINE_MAX), path)
    moments: list[Moment] = []
    memory = _Memory()
    cut = "it ends before its last line"
    while line := file.readline(_LINE_MAX + 1):
        try:
            value = _object(_json(line))
            if "end" in value:
                cut = "" if value["end"] == len(moments) else "it has not as many readings as its last line says"
                break
            if len(moments) >= _READINGS_MAX:
                raise BrokenError(f"more than {_READINGS_MAX} readings")
            moments.append(memory.shared(_checked(_moment(value), moments), moments[-1:]))
        except BrokenError as error:
            cut = f"line {len(moments) + 2}: {error}"
            break
    if len(moments) < 2:
        why = cut or "it ends"
        raise UsageError(f"{why}: {len(moments)} readings, and two are needed", where=path, remedy=_AGAIN)
    return Recording(moments=tuple(moments), cut=cut)


class _Memory:
    """What the readings take: the texts of files that did not change are kept once."""

    def __init__(self) -> None:
        self._left = _MEMORY_MAX

    def shared(self, moment: Moment, before: Sequence[Moment]) -> Moment:
        """The reading with the texts of the one before where they are the same. Raises BrokenError."""
        old = before[0].snapshot.samples if before else {}
        samples = {path: self._shared(sample, old.get(path)) for path, sample in moment.snapshot.samples.items()}
        self._left -= sum(map(len, moment.host.values())) + 100 * sum(map(len, moment.threads.values()))
        if self._left < 0:
            raise BrokenError("the readings up to here take 1G of memory")
        return replace(moment, snapshot=replace(moment.snapshot, samples=samples))

    def _shared(self, sample: Sample, before: Sample | None) -> Sample:
        known = before.files if before else {}
        files = {
            sys.intern(name): known[name] if known.get(name) == text else text for name, text in sample.files.items()
        }
        self._left -= _SAMPLE_BYTES + sum(
            len(text) + 100 for name, text in files.items() if known.get(name) is not text
        )
        return replace(sample, files=files)


def _checked(moment: Moment, before: Sequence[Moment]) -> Moment:
    if before and moment.time - before[0].time > _SPAN_MAX:
        raise BrokenError("more than three hours after the first reading")
    return moment


def _check_head(line: bytes, path: str) -> None:
    try:
        head = _object(_json(line))
    except BrokenError:
        head = {}
    if head.get("format") != FORMAT:
        raise UsageError("it is not a recording of diagnose", where=path, remedy=_AGAIN)
    if head.get("version") != VERSION:
        version = head.get("version")
        shown = version if isinstance(version, int) and abs(version) < _NUMBER_MAX else "unknown"
        raise UsageError(f"it has version {shown}, and this program reads version {VERSION}", where=path,
                         remedy=Remedy(title="use the version of cgroup-preflight that recorded it"))  # fmt: skip


def _json(line: bytes) -> object:
    if len(line) > _LINE_MAX:
        raise BrokenError("longer than 64M")
    if not line.endswith(b"\n"):
        raise BrokenError("cut off")
    if sum(map(line.count, (b"{", b"[", b","))) > _TOKENS_MAX:
        raise BrokenError(f"more than {_TOKENS_MAX} values")
    try:
        found: object = json.loads(line)
    except (ValueError, RecursionError):
        raise BrokenError("not JSON") from None
    return found


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise BrokenError("not an object")
    return value


def _moment(value: Mapping[str, object]) -> Moment:
    snapshot = Snapshot(
        started_ns=_count(value, "started"),
        stamp_ns=_count(value, "stamp"),
        wall=_wall(value),
        samples=dict(_samples(_object(value.get("cgroups")))),
        errors={key: _whole(number) for key, number in _few(value.get("errors"), _FILES_MAX)},
    )
    host = {path: _bytes(text) for path, text in _few(value.get("host"), _FILES_MAX) if path in HOST_FILES}
    return Moment(snapshot=snapshot, host=host, threads=dict(_threads(_object(value.get("threads")))))


def _samples(value: Mapping[str, object]) -> Iterator[tuple[str, Sample]]:
    if len(value) > _CGROUPS_MAX:
        raise BrokenError(f"more than {_CGROUPS_MAX} cgroups")
    words = 0
    for path, item in value.items():
        entry = _object(item)
        files = {name: _bytes(text) for name, text in _few(entry.get("files"), _FILES_MAX) if _NAME.fullmatch(name)}
        errors = {name: _whole(number) for name, number in _few(entry.get("errors"), _FILES_MAX)}
        words += sum(text.count(b"\n") + text.count(b" ") for text in files.values())
        if words > _WORDS_MAX:
            raise BrokenError(f"more than {_WORDS_MAX} words in the files of a reading")
        yield (
            _path(path),
            Sample(
                cgroup=path, cgroup_id=_count(entry, "id"), stamp_ns=_count(entry, "stamp"), files=files, errors=errors
            ),
        )


def _threads(value: Mapping[str, object]) -> Iterator[tuple[str, Sequence[int]]]:
    left = _THREADS_MAX
    for path, numbers in value.items():
        if not isinstance(numbers, list) or len(numbers) > left:
            raise BrokenError("threads are not a list, or too many")
        left -= len(numbers)
        yield _path(path), tuple(map(_whole, numbers))


def _path(path: str) -> str:
    if path and (not path.startswith("/") or len(path) > _PATH_MAX or ".." in path.split("/") or "\0" in path):
        raise BrokenError("a cgroup has no proper path")
    return path


def _few(value: object, most: int) -> Iterator[tuple[str, object]]:
    found = _object(value)
    if len(found) > most:
        raise BrokenError(f"more than {most} entries")
    yield from found.items()


def _bytes(value: object) -> bytes:
    if not isinstance(value, str) or len(value) > _TEXT_MAX:
        raise BrokenError("a file is no text, or longer than 64K")
    try:
        data = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise BrokenError("a file is no text") from None
    if HUGE.search(data):
        raise BrokenError("a number in a file has more than 20 digits")
    return data


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _NUMBER_MAX:
        raise BrokenError("not a whole number")
    return value


def _count(value: Mapping[str, object], key: str) -> int:
    return _whole(value.get(key))


def _wall(value: Mapping[str, object]) -> float:
    wall = value.get("wall")
    if not isinstance(wall, int | float) or isinstance(wall, bool) or not abs(wall) < _NUMBER_MAX:
        raise BrokenError("the time is not a number")
    return float(wall)
