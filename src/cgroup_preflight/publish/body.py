"""The body of one answer: bounded, also after it is unpacked, and read until a deadline.

`requests` unpacks without a limit and waits again for every byte: an answer of 30 kB can become gigabytes, and one byte
every ten seconds has no end.
"""

import json
import zlib
from collections.abc import Callable
from http.client import HTTPException

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

#: Largest answer, packed and unpacked, bytes: GitHub's largest page has 100 comments of 65,536 characters of up to 4 bytes.
BODY_MAX = 32 << 20
#: Deepest nesting of JSON; the APIs have about ten levels. Python's own limit depends on the caller.
DEPTH_MAX = 64
_CHUNK = 1 << 16
#: Of zlib: a gzip or a zlib header.
_EITHER_HEADER = 47


class TooLargeError(Exception):
    """More bytes than the limit."""


class LateError(Exception):
    """The deadline passed, or the server sent nothing for too long."""


class BrokenError(Exception):
    """The connection or the packed data ended too early, or the data is not what the headers say."""


def read_body(response: requests.Response, *, limit: int, left: Callable[[], float]) -> bytes:
    """The unpacked body, which is also that of `response` from now on; the connection is closed after an error.

    `left` tells the seconds until the deadline. Raises TooLargeError, LateError, BrokenError.
    """
    try:
        body = _unpacked(_packed(response, limit, left), response.headers.get("content-encoding", ""), limit)
    except BaseException:
        response.close()
        raise
    response._content = body  # noqa: SLF001 - `requests` has no other way
    response._content_consumed = True  # type: ignore[attr-defined]  # noqa: SLF001
    # RFC 8259, 8.1: JSON is UTF-8. The header could name a codec that takes hours.
    response.encoding = "utf-8"
    return body


def _packed(response: requests.Response, limit: int, left: Callable[[], float]) -> bytes:
    """The body as it was sent."""
    # `read1` returns what has arrived; urllib3 before 2.0 lacks it and waits for a whole chunk.
    read = getattr(response.raw, "read1", response.raw.read)
    chunks, size = [], 0
    try:
        while chunk := read(_CHUNK, decode_content=False):
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise TooLargeError
            if left() <= 0:
                raise LateError
    except ReadTimeoutError:
        raise LateError from None
    except (HTTPError, HTTPException, OSError, ValueError):
        raise BrokenError from None
    return b"".join(chunks)


def _unpacked(packed: bytes, encoding: str, limit: int) -> bytes:
    if not packed or encoding.strip().lower() in ("", "identity"):
        return packed
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        raise BrokenError  # not offered in Accept-Encoding, or packed twice
    machine = zlib.decompressobj(wbits=_EITHER_HEADER)
    try:
        body = machine.decompress(packed, limit + 1)
    except zlib.error:
        raise BrokenError from None
    if len(body) > limit:
        raise TooLargeError
    if not machine.eof or machine.unused_data:
        raise BrokenError
    return body


def is_json(body: bytes) -> bool:
    """Whether `body` is JSON that a client library can read: whole, UTF-8 and not nested too deeply."""
    try:
        level = [json.loads(body)]
    except (ValueError, RecursionError):
        return False
    for _ in range(DEPTH_MAX):
        level = [inner for item in level if isinstance(item, (dict, list))
                 for inner in (item.values() if isinstance(item, dict) else item)]  # fmt: skip
        if not level:
            return True
    return False
