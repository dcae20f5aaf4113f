"""Readiness: one attempt at a time, each with a short time-out; loops belong to the caller."""

import os
import re
import socket
import threading
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from cgroup_preflight.config.model import ReadyKind, ReadyTest
from cgroup_preflight.core.reading import value_or
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.engines.http_answer import (
    CONNECT_SECONDS,
    HttpAsker,
    connected,
    failure,
    host_and_port,
    http_client,
)
from cgroup_preflight.engines.time_limit import TooSlow, time_limit

if TYPE_CHECKING:
    from cgroup_preflight.host.door import Files

_MATCH_SECONDS = 1.0
_LINE_MAX = 8192
_READ_MAX = 1 << 18
#: After so many reads that found nothing more, what has no newline yet is a line.
_IDLE_READS = 20


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
    """Host and port of an HTTP, TCP or gRPC test."""
    return host_and_port(urlsplit(ready.url))


def listens(ready: ReadyTest) -> bool:
    """Whether something accepts connections at the address."""
    if ready.kind is ReadyKind.UNIX:
        return any(_connects(ready.target, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET))
    try:
        with connected(*address(ready)):
            return True
    except OSError:
        return False


def _connects(path: str, kind: socket.SocketKind) -> bool:
    """Whether a unix socket of this kind accepts connections: one of another kind refuses them (EPROTOTYPE)."""
    try:
        with socket.socket(socket.AF_UNIX, kind) as line:
            line.settimeout(CONNECT_SECONDS)
            line.connect(f"\0{path[1:]}" if path.startswith("@") else path)
            return True
    except OSError:
        return False


def prepare(tests: Iterable[ReadyTest]) -> None:
    """Imports the HTTP client while services start, where a second CPU is free: half a second on an emulated one."""
    asked = [test for test in tests if test.kind is ReadyKind.HTTP]
    if len(os.sched_getaffinity(0)) > 1 and asked:
        tls = any(test.is_https for test in asked)
        threading.Thread(target=http_client, kwargs={"tls": tls}, daemon=True).start()


class LocalNetwork:
    """The network of this machine, as `Door.network`."""

    listens = staticmethod(listens)

    def __init__(self, connect: Callable[[str, int], socket.socket] = connected) -> None:
        self._connect = connect
        self._http = HttpAsker(connect)
        self.fetch = self._http.fetch

    def ask(self, test: ReadyTest) -> str:
        """Empty when the service at the address of an HTTP or gRPC test says that it is ready, else what it says."""
        if test.kind is ReadyKind.HTTP:
            return self._http.ask(test)
        from cgroup_preflight.engines import grpc_health  # few services have it

        try:
            return grpc_health.ask(test.target, self._connect)
        except (OSError, TooSlow) as error:
            return failure(error)
        except ValueError as error:
            return f"the answer is not gRPC ({error})"


def matches(pattern: str, lines: Iterable[str]) -> bool:
    """Whether a line has the pattern; False if that takes too long to tell."""
    try:
        with time_limit(_MATCH_SECONDS):
            return any(re.search(pattern, line[:_LINE_MAX]) for line in lines)
    except TooSlow:
        return False


def _shown(line: bytes) -> str:
    """A line as a terminal shows it: some programs end lines as Windows does."""
    return line[:_LINE_MAX].decode("utf-8", "replace").removesuffix("\r")


class LogWatch:
    """Searches for a pattern in a file that grows, and never waits.

    `offset` is how much of the file was read, in bytes. `has_more`: the last look found something, so there can be more.
    """

    def __init__(self, files: "Files", path: str, pattern: str) -> None:
        self._files, self._path = files, path
        self._pattern = re.compile(pattern)
        self._rest = b""
        self._idle = 0
        self.offset = 0
        self.found = False
        self.has_more = True
        self.too_slow = False

    def read(self) -> None:
        """Reads what came since the last look."""
        data = value_or(self._files.tail(self._path, self.offset, _READ_MAX), b"")
        self.offset += len(data)
        self.has_more = bool(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-_LINE_MAX:]
        # A prompt, or a last line, may have no newline.
        self._idle = 0 if data else self._idle + 1
        if self._idle == _IDLE_READS:
            lines.append(self._rest)
        if self.found or self.too_slow:
            return
        try:
            with time_limit(_MATCH_SECONDS):
                self.found = any(self._pattern.search(_shown(line)) for line in lines)
        except TooSlow:
            self.too_slow = True
