"""Readiness: one attempt at a time, each with a short time-out; loops belong to the caller."""

import importlib
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from types import FrameType, ModuleType
from urllib.parse import SplitResult, urlsplit

from cgroup_preflight.config.model import ReadyKind, ReadyTest
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass

if TYPE_CHECKING:
    from http.client import HTTPResponse

_CONNECT_SECONDS = 0.5
_ANSWER_SECONDS = 2.0
_HTTP_SECONDS = 5.0
_MATCH_SECONDS = 1.0
_LINE_MAX = 8192
_READ_MAX = 1 << 18
#: After so many reads that found nothing more, what has no newline yet is a line.
_IDLE_READS = 20
_HEADERS = {"User-Agent": "cgroup-preflight", "Accept": "*/*"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Whether a service became ready, after how many seconds, and if not, why not.

    `doubt`: why it is unknown whether the answer came from the service.
    `blocked`: another program already answered at its address, so that nothing was started.
    """

    ok: bool
    seconds: float
    why: str = ""
    blocked: bool = False
    doubt: str = ""


def address(ready: ReadyTest) -> tuple[str, int]:
    """Host and port of an HTTP or TCP test."""
    return _host_and_port(urlsplit(ready.target if ready.kind is ReadyKind.HTTP else f"tcp://{ready.target}"))


def _host_and_port(parts: SplitResult) -> tuple[str, int]:
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def listens(ready: ReadyTest) -> bool:
    """Whether something accepts connections at the address."""
    if ready.kind is ReadyKind.UNIX:
        return any(_connects(ready.target, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET))
    try:
        with socket.create_connection(address(ready), timeout=_CONNECT_SECONDS):
            return True
    except OSError:
        return False


def _connects(path: str, kind: socket.SocketKind) -> bool:
    """Whether a unix socket of this kind accepts connections: one of another kind refuses them (EPROTOTYPE)."""
    try:
        with socket.socket(socket.AF_UNIX, kind) as line:
            line.settimeout(_CONNECT_SECONDS)
            line.connect(f"\0{path[1:]}" if path.startswith("@") else path)
            return True
    except OSError:
        return False


def prepare(tests: Iterable[ReadyTest]) -> None:
    """Imports the HTTP client while services start, where a second CPU is free: half a second on an emulated one."""
    targets = [test.target for test in tests if test.kind is ReadyKind.HTTP]
    if len(os.sched_getaffinity(0)) > 1 and targets:
        tls = any(target.startswith("https:") for target in targets)
        threading.Thread(target=_client, kwargs={"tls": tls}, daemon=True).start()


def try_http(url: str) -> str:
    """Empty when the address answers with a 2xx or 3xx status, else what happened instead.

    Redirects are not followed and no proxy is used: the service itself has to answer.
    """
    try:
        with _time_limit(_HTTP_SECONDS), _get(url) as answer:
            return "" if answer.status < 400 else f"HTTP status {answer.status}"
    except _NotHttpError as error:
        return f"the answer is not HTTP ({error})"
    except (OSError, ValueError, _TooSlow) as error:
        return _FAILURES.get(type(error), type(error).__name__)


def fetch(url: str, most: int) -> bytes:
    """The first `most` bytes of a page, empty where there is none; as `try_http`, no redirect and no proxy."""
    try:
        with _time_limit(_HTTP_SECONDS), _get(url) as answer:
            return answer.read(most) if answer.status == 200 else b""
    except (OSError, ValueError, _TooSlow):
        return b""


class _NotHttpError(ValueError):
    """The answer is not HTTP, in the word that `http.client` has for it."""


def _client(*, tls: bool) -> ModuleType:
    """The module http.client; without `tls` it is loaded without OpenSSL, which takes longer than all the rest."""
    name = "http.client"
    if not tls and name not in sys.modules and "ssl" not in sys.modules:
        # An entry of None makes `import ssl` fail, and http.client can do without (importlib, "sys.modules").
        sys.modules["ssl"] = None  # type: ignore[assignment]
        try:
            return importlib.import_module(name)
        finally:
            del sys.modules["ssl"]
    module = importlib.import_module(name)
    return importlib.reload(module) if tls and not hasattr(module, "HTTPSConnection") else module


@contextmanager
def _get(url: str) -> "Iterator[HTTPResponse]":
    """An answer whose body is not read yet. Raises OSError, _NotHttpError.

    The standard library's client, which sends just this: no proxy, no password of the job, no second request.
    """
    parts = urlsplit(url)
    client = _client(tls=parts.scheme == "https")
    host, port = _host_and_port(parts)
    made = client.HTTPSConnection if parts.scheme == "https" else client.HTTPConnection
    with closing(made(host, port, timeout=_CONNECT_SECONDS)) as line:
        try:
            line.connect()
            line.sock.settimeout(_ANSWER_SECONDS)
            line.request("GET", f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}", headers=_HEADERS)
            with line.getresponse() as answer:
                yield answer
        except client.HTTPException as error:
            raise _NotHttpError(type(error).__name__) from error


class LocalNetwork:
    """The network of this machine, as `Door.network`."""

    listens = staticmethod(listens)
    try_http = staticmethod(try_http)
    fetch = staticmethod(fetch)


def matches(pattern: str, lines: Iterable[str]) -> bool:
    """Whether a line has the pattern; False if that takes too long to tell."""
    try:
        with _time_limit(_MATCH_SECONDS):
            return any(re.search(pattern, line[:_LINE_MAX]) for line in lines)
    except _TooSlow:
        return False


def _shown(line: bytes) -> str:
    """A line as a terminal shows it: some programs end lines as Windows does."""
    return line[:_LINE_MAX].decode("utf-8", "replace").removesuffix("\r")


class LogWatch:
    """Searches for a pattern in what arrives at a descriptor (a pipe, or a file that grows), and never waits."""

    def __init__(self, handle: int, pattern: str) -> None:
        self.handle = handle
        self._pattern = re.compile(pattern)
        self._rest = b""
        self._idle = 0
        self.found = False
        self.open = True
        self.too_slow = False
        os.set_blocking(handle, False)

    def read(self) -> None:
        """Reads what has arrived; `open` is false at the end of a pipe, and while a file has nothing more."""
        try:
            data = os.read(self.handle, _READ_MAX)
        except BlockingIOError:
            return
        self.open = bool(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-_LINE_MAX:]
        # A prompt, or a last line, may have no newline.
        self._idle = 0 if data else self._idle + 1
        if self._idle == _IDLE_READS:
            lines.append(self._rest)
        if self.found or self.too_slow:
            return
        try:
            with _time_limit(_MATCH_SECONDS):
                self.found = any(self._pattern.search(_shown(line)) for line in lines)
        except _TooSlow:
            self.too_slow = True


class _TooSlow(Exception):
    """The time of `_time_limit` is over."""


#: What went wrong with a connection, in words; of another error its name says more.
_FAILURES = {
    ConnectionRefusedError: "connection refused", ConnectionResetError: "connection reset", TimeoutError: "no answer in time",
    _TooSlow: "no answer in time",
}  # fmt: skip


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raises _TooSlow after `seconds`, also inside a search that never ends. Main thread only."""

    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise _TooSlow

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
