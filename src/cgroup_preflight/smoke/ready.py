"""Readiness: one attempt at a time, each with a short time-out; loops belong to the caller."""

import importlib
import os
import re
import signal
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from urllib.parse import urlsplit

from cgroup_preflight.config.model import Ready, ReadyKind

_CONNECT_SECONDS = 0.5
_ANSWER_SECONDS = 2.0
_HTTP_SECONDS = 5.0
_MATCH_SECONDS = 1.0
_LINE_MAX = 8192


def address(ready: Ready) -> tuple[str, int]:
    """Host and port of an HTTP or TCP test."""
    url = ready.target if ready.kind is ReadyKind.HTTP else f"tcp://{ready.target}"
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def listens(ready: Ready) -> bool:
    """Whether something accepts connections at the address."""
    try:
        with socket.create_connection(address(ready), timeout=_CONNECT_SECONDS):
            return True
    except OSError:
        return False


def prepare(tests: Iterable[Ready]) -> None:
    """Loads what HTTP takes (0.1 s, and 1 s on an emulated CPU) while services start, where there is a CPU to spare."""
    if len(os.sched_getaffinity(0)) > 1 and any(test.kind is ReadyKind.HTTP for test in tests):
        threading.Thread(target=importlib.import_module, args=("requests",), daemon=True).start()


def try_http(url: str) -> str:
    """Empty when the address answers with a 2xx or 3xx status, else what happened instead.

    Redirects are not followed and no proxy is used: the service itself has to answer.
    """
    try:
        with time_limit(_HTTP_SECONDS), _get(url) as (status, _):
            return "" if status < 400 else f"HTTP status {status}"
    except (OSError, ValueError, TooSlow) as error:
        return type(error).__name__


def fetch(url: str, most: int) -> bytes:
    """The first `most` bytes of a page, empty where there is none; as `try_http`, no redirect and no proxy."""
    try:
        with time_limit(_HTTP_SECONDS), _get(url) as (status, pieces):
            return _first(pieces, most) if status == 200 else b""
    except (OSError, ValueError, TooSlow):
        return b""


@contextmanager
def _get(url: str) -> Iterator[tuple[int, Iterator[bytes]]]:
    """Status and body. Raises OSError (as requests' own errors are) and ValueError."""
    import requests  # not every service is HTTP

    with requests.Session() as session:
        session.trust_env = False
        request = session.prepare_request(requests.Request("GET", url))
        # The adapter alone: Session.get() would resolve a redirect and read its body even when told not to follow.
        timeout = (_CONNECT_SECONDS, _ANSWER_SECONDS)
        with session.get_adapter(url).send(request, stream=True, timeout=timeout) as answer:
            yield answer.status_code, answer.iter_content(1 << 16)


def _first(pieces: Iterator[bytes], most: int) -> bytes:
    data = bytearray()
    for piece in pieces:
        data += piece
        if len(data) >= most:
            break
    return bytes(data[:most])


class LogWatch:
    """Looks for a pattern in what arrives at a descriptor (a pipe, or a file that grows), without ever waiting."""

    def __init__(self, handle: int, pattern: str) -> None:
        self.handle = handle
        self._pattern = re.compile(pattern)
        self._rest = b""
        self.found = False
        self.open = True
        self.too_slow = False
        os.set_blocking(handle, False)

    def read(self) -> None:
        """Takes in what has arrived; `open` is false at the end of a pipe, and at the end of a file for now."""
        try:
            data = os.read(self.handle, 1 << 16)
        except BlockingIOError:
            return
        self.open = bool(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-_LINE_MAX:]
        if self.found or self.too_slow:
            return
        try:
            with time_limit(_MATCH_SECONDS):
                self.found = any(self._pattern.search(line[:_LINE_MAX].decode("utf-8", "replace")) for line in lines)
        except TooSlow:
            self.too_slow = True


class TooSlow(Exception):
    """A time limit of `time_limit` is over."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TooSlow after `seconds`, also inside a search that backtracks for ever. Main thread only."""

    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
