"""One GET over plain HTTP, as a stream of bytes: for readiness on this machine, where importing a client takes longer.

HTTP/1.1 with `Connection: close` (RFC 9112): the head is read whole and bounded, the body as far as the caller wants.
No redirect is followed, no proxy used, nothing kept open.
"""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from urllib.parse import urlsplit

_HEAD_MAX = 1 << 16
_PIECE = 1 << 16
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-9]\d\d)(?: |\r?\n)")
_CHUNKED = re.compile(rb"transfer-encoding:[ \t]*chunked[ \t]*\r?\n", re.IGNORECASE)


class NotHttp(Exception):
    """What answered is no HTTP server, or broke off; the text says how that showed."""


@contextmanager
def get(url: str, *, connect: float, answer: float) -> Iterator[tuple[int, Iterator[bytes]]]:
    """The status and the pieces of the body; `connect` and `answer` are seconds that one step may take.

    Raises NotHttp, OSError (TimeoutError among them).
    """
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=connect) as line:
        line.settimeout(answer)
        line.sendall(
            f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nUser-Agent: cgroup-preflight\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n".encode("ascii", "replace")
        )
        with line.makefile("rb") as stream:
            status, chunked = _head(stream)
            yield status, _chunks(stream) if chunked else _rest(stream)


def _head(stream: BufferedReader) -> tuple[int, bool]:
    """The status, and whether the body comes in chunks."""
    left, status, chunked = _HEAD_MAX, 0, False
    while left > 0:
        line = stream.readline(left)
        left -= len(line)
        if not line.endswith(b"\n"):
            break
        if not status:
            found = _STATUS.match(line)
            if found is None:
                raise NotHttp("the answer is no HTTP")
            status, chunked = int(found[1]), False
        elif line in (b"\r\n", b"\n"):
            if status >= 200:
                return status, chunked
            status = 0  # an interim answer (RFC 9110, 15.2)
        else:
            chunked = chunked or _CHUNKED.fullmatch(line) is not None
    raise NotHttp("the answer broke off" if left > 0 else "the head of the answer has no end")


def _rest(stream: BufferedReader) -> Iterator[bytes]:
    while piece := stream.read1(_PIECE):
        yield piece


def _chunks(stream: BufferedReader) -> Iterator[bytes]:
    """The body out of its chunks (RFC 9112, 7.1); what is no chunk ends it."""
    while True:
        size_line = stream.readline(100)
        if size_line in (b"\r\n", b"\n"):
            continue  # the end of the chunk before
        digits = re.match(rb"[0-9a-fA-F]{1,8}(?=[;\s])", size_line)
        size = int(digits[0], 16) if digits else 0
        if size == 0:
            return
        while size > 0:
            piece = stream.read1(min(size, _PIECE))
            if not piece:
                return
            yield piece
            size -= len(piece)
