"""Frames on the serial line between host and guest: a JSON head and a raw body.

On the wire: magic `CGPF`, head length, body length (both unsigned 32 bit, big-endian), head (UTF-8 JSON object), body.
Both ends use this module.

The host never sends more than `WINDOW` bytes without an acknowledgement, because user-mode-linux's serial line hangs
for good when its terminal buffer (4 KiB) is full: it does not arm its edge-triggered wait again. The agent acknowledges
each piece of an incomplete request with a frame `{"received": bytes so far in this request}`.
"""

import json
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

MAGIC = b"CGPF"
#: Bounds in bytes, because a wrong length could make the reader wait for gigabytes, or allocate them.
_HEAD_MAX = 1 << 20
BODY_MAX = 256 << 20

#: Bytes from host to guest without an acknowledgement; terminal drivers stop reading at about 3.9 KiB.
WINDOW = 2048

_PREFIX = struct.Struct(">4sII")


class FrameError(ValueError):
    """The bytes on the line are not a frame: another program wrote to it, or bytes were lost."""


class Frame(NamedTuple):
    """One message: `head` is a JSON object, `body` any bytes."""

    head: dict[str, Any]
    body: bytes = b""


def encode(frame: Frame) -> bytes:
    """The bytes of one frame; raises FrameError if it is larger than a reader accepts."""
    head = json.dumps(frame.head, separators=(",", ":")).encode()
    _bound(len(head), len(frame.body))
    return _PREFIX.pack(MAGIC, len(head), len(frame.body)) + head + frame.body


class Decoder:
    """Turns chunks of any size into frames; keeps the bytes of an incomplete one."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """Yields every frame that `chunk` completes. Raises FrameError for bytes that are not a frame."""
        self._buffer += chunk
        while (frame := self._take()) is not None:
            yield frame

    def _take(self) -> Frame | None:
        buffer = self._buffer
        if not MAGIC.startswith(buffer[: len(MAGIC)]):
            raise FrameError(f"not a frame: {bytes(buffer[:40])!r}")
        if len(buffer) < _PREFIX.size:
            return None
        _, head_size, body_size = _PREFIX.unpack_from(buffer)
        _bound(head_size, body_size)
        body_at = _PREFIX.size + head_size
        end = body_at + body_size
        if len(buffer) < end:
            return None
        head = _parse_head(bytes(buffer[_PREFIX.size : body_at]))
        body = bytes(buffer[body_at:end])
        del buffer[:end]
        return Frame(head=head, body=body)


def _parse_head(raw: bytes) -> dict[str, Any]:
    try:
        head = json.loads(raw)
    except ValueError as error:
        raise FrameError(f"head is no JSON: {raw[:40]!r}") from error
    if not isinstance(head, dict):
        raise FrameError(f"head is no JSON object: {raw[:40]!r}")
    return head


def _bound(head_size: int, body_size: int) -> None:
    if head_size > _HEAD_MAX or body_size > BODY_MAX:
        raise FrameError(f"frame too large: head {head_size}, body {body_size} bytes")
