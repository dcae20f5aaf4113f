"""Where the execution traces of Go programs come from: files, or the pprof address of a running program.

An address is only asked on this machine unless the caller allows others: a trace has the names of functions and files.
"""

import http.client
import ipaddress
import os
import threading
from collections.abc import Iterable, Iterator
from urllib.parse import parse_qsl, urlencode, urlsplit

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.golang import trace, trace_text
from cgroup_preflight.host.command import LiveRunner, stop
from cgroup_preflight.host.files import NotRegularError, open_regular
from cgroup_preflight.metrics.proposals import unit_of

if TYPE_CHECKING:
    from typing import IO

#: A minute of a busy program has about this much; reading it takes about half a minute.
SIZE_MAX = 64 << 20
_PPROF = "/debug/pprof/trace"
#: How much longer than the trace itself an answer may take.
_GRACE = 15.0
#: The first call of `go tool trace` compiles it, from Go 1.25 on.
_TOOL_SECONDS = 300.0
_CHUNK = 1 << 20
_LINE_MAX = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceWord:
    """One `--trace`: `place` is a file or an address, `unit` the cgroup or unit that it is of, empty to find out."""

    unit: str
    place: str

    @property
    def is_address(self) -> bool:
        """Whether it is fetched."""
        return self.place.lower().startswith(("http://", "https://"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceData:
    """A trace as it came, or why there is none."""

    word: TraceWord
    data: bytes = b""
    why: str = ""


def parse_word(text: str, *, allow_remote: bool) -> TraceWord:
    """`[UNIT=]FILE` or `[UNIT=]URL`. Raises UsageError for a file that is no trace, and for an address elsewhere."""
    unit, separator, place = text.partition("=")
    if not separator or not unit_of(unit):
        unit, place = "", text
    word = TraceWord(unit=unit, place=place)
    if not place:
        raise UsageError(
            "no file and no address was given", where="--trace", remedy=Remedy(title="--trace FILE or --trace URL")
        )
    if word.is_address:
        _check_address(word, allow_remote=allow_remote)
    elif os.path.isfile(place) and os.path.getsize(place):
        _check_head(place)
    return word


def _check_address(word: TraceWord, *, allow_remote: bool) -> None:
    where = f"--trace {printable(word.place[:200])}"
    try:
        parts = urlsplit(word.place)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if not host or not word.place.isascii() or not word.place.isprintable() or " " in word.place:
        raise UsageError("this is not an address", where=where,
                         remedy=Remedy(title="use http://127.0.0.1:PORT, the address of net/http/pprof"))  # fmt: skip
    if not allow_remote and not _is_loopback(host):
        raise UsageError(f"{host} is not this machine's loopback address: its trace is not fetched", where=where,
                         remedy=Remedy(title="fetch it yourself and name the file, or add --allow-remote-trace"))  # fmt: skip


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_head(path: str) -> None:
    try:
        with open_regular(path, follow=True) as file:
            head = file.read(16)
        trace.format_of(head)
        return
    except trace.NotATraceError as error:
        why = str(error)
    except OSError as error:
        why = f"cannot read it: {error.strerror}"
    raise UsageError(why, where=f"--trace {printable(path)}",
                     remedy=Remedy(title="name a file of runtime/trace or of /debug/pprof/trace"))  # fmt: skip


class Fetches:
    """Fetches traces in the background, while the counters are read."""

    def __init__(self, words: Iterable[TraceWord], seconds: float) -> None:
        self._seconds = seconds
        self._results: dict[int, TraceData] = {}
        self._words = tuple(words)
        self._threads = [
            threading.Thread(target=self._fetch, args=(number, word), daemon=True)
            for number, word in enumerate(self._words)
            if word.is_address
        ]
        for thread in self._threads:
            thread.start()

    def _fetch(self, number: int, word: TraceWord) -> None:
        try:
            self._results[number] = TraceData(word=word, data=fetch(word.place, self._seconds))
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._results[number] = TraceData(word=word, why=f"it could not be fetched: {printable(str(error)[:200])}")

    def done(self) -> bool:
        """Whether all have arrived, or failed."""
        return not any(thread.is_alive() for thread in self._threads)

    def all(self) -> Iterator[TraceData]:
        """Each trace, in the order of the words; files are read now, when what they trace is over."""
        for thread in self._threads:
            thread.join(self._seconds + _GRACE)
        for number, word in enumerate(self._words):
            if word.is_address:
                yield self._results.get(number) or TraceData(word=word, why="it did not arrive in time")
            else:
                yield _from_file(word)


def fetch(address: str, seconds: float) -> bytes:
    """The trace of the next seconds. Raises OSError, HTTPException, ValueError."""
    parts = urlsplit(address)
    path = parts.path if parts.path.strip("/") else _PPROF
    wanted = max(round(seconds), 1)
    query = urlencode(
        [*((key, value) for key, value in parse_qsl(parts.query) if key != "seconds"), ("seconds", wanted)]
    )
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname or ""
    connection = kind(host, parts.port, timeout=seconds + _GRACE)
    try:
        connection.request(
            "GET", f"{path}?{query}", headers={"Host": parts.netloc.rpartition("@")[2], "Connection": "close"}
        )
        answer = connection.getresponse()
        data = answer.read(SIZE_MAX + 1)
        if answer.status != 200:
            text = data[:200].decode(errors="replace").strip()
            raise ValueError(f"the answer was {answer.status}: {text}")
    finally:
        connection.close()
    if len(data) > SIZE_MAX:
        raise ValueError("the trace is larger than 64M; use fewer --seconds")
    return data


def _from_file(word: TraceWord) -> TraceData:
    try:
        with open_regular(word.place, follow=True) as file:
            data = file.read(SIZE_MAX + 1)
    except NotRegularError:
        return TraceData(word=word, why="it is not a regular file")
    except OSError as error:
        return TraceData(word=word, why=f"it cannot be read: {error.strerror}")
    if len(data) > SIZE_MAX:
        return TraceData(word=word, why="it is larger than 64M; record a shorter trace")
    return TraceData(word=word, data=data)


def steps_of(data: bytes, runner: LiveRunner) -> tuple[str, Iterator[trace.Generation]]:
    """The steps of a trace and how it was read: by this program, or by `go tool trace` for formats it does not know.

    Raises NotATraceError where neither can.
    """
    version = trace.format_of(data)
    if version in trace.KNOWN:
        return f"own reader of format 1.{version}", trace.generations(data)
    if _go(runner) is None:
        raise trace.NotATraceError(
            f"its format is that of Go 1.{version}: that needs `go tool trace`, and no Go is installed here"
        )
    return "go tool trace", _with_tool(data, runner)


def _go(runner: LiveRunner) -> str | None:
    path = runner.environment().get("PATH", "")
    return next((f"{folder}/go" for folder in path.split(":") if os.access(f"{folder}/go", os.X_OK)), None)


def _with_tool(data: bytes, runner: LiveRunner) -> Iterator[trace.Generation]:
    import tempfile

    with tempfile.NamedTemporaryFile(prefix="cgroup-preflight-", suffix=".trace") as file:
        file.write(data)
        file.flush()
        process = runner.start(("go", "tool", "trace", "-d=parsed", file.name))
        assert process.stdout is not None
        assert process.stderr is not None
        timer = threading.Timer(_TOOL_SECONDS, stop, (process,))
        timer.start()
        try:
            yield from trace_text.generations(_lines(process.stdout))
            if process.wait():
                raise trace.NotATraceError(f"go tool trace refused it: {_last_line(process.stderr.read(_CHUNK))}")
        finally:
            timer.cancel()
            stop(process)


def _lines(output: "IO[bytes]") -> Iterator[str]:
    while line := output.readline(_LINE_MAX):
        yield line.decode(errors="replace")


def _last_line(data: bytes) -> str:
    text = data.decode(errors="replace").strip()
    return printable(text.splitlines()[-1][:200]) if text else "it said nothing"
