"""Asks a gRPC service for its health: one call of grpc.health.v1.Health/Check over HTTP/2 without TLS.

By hand, because the usual clients are native code, or need libraries that a guest does not have, and one call needs little
of HTTP/2: of the answer only one message and one header count. Sources: RFC 9113 (frames), gRPC's PROTOCOL-HTTP2.md,
its statuscodes.md, and health.proto.
"""

import socket
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from cgroup_preflight.core.records import dataclass
from cgroup_preflight.engines.hpack import find, literal
from cgroup_preflight.engines.http_answer import connected
from cgroup_preflight.engines.time_limit import time_limit

_ANSWER_SECONDS = 2.0
_WHOLE_SECONDS = 5.0
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY, _CONTINUATION = 0, 1, 3, 4, 7, 9
_ACK = _END_STREAM = 1
_END_HEADERS, _PADDED, _PRIORITY = 4, 8, 32
#: The stream of the one call.
_CALL = 1
#: The longest frame from whoever was told of no other limit (RFC 9113, 4.2), and the most frames of an answer.
_FRAME_MAX = 1 << 14
_FRAMES_MAX = 100
_STATUS = "grpc-status"
_STATUSES = tuple(map(str, range(17)))
_STATUS_WORDS = {"5": "NOT_FOUND: it knows no such service", "12": "UNIMPLEMENTED: it has no grpc.health.v1.Health"}
_SERVING = 1
_HEALTH_WORDS = {0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


class NotGrpcError(ValueError):
    """The answer is not that of a gRPC service, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One frame of HTTP/2 (RFC 9113, 4.1)."""

    kind: int
    flags: int
    stream: int
    payload: bytes = b""

    def encoded(self) -> bytes:
        """The bytes of it."""
        head = len(self.payload).to_bytes(3, "big") + bytes((self.kind, self.flags))
        return head + self.stream.to_bytes(4, "big") + self.payload


def ask(url: str, connect: Callable[[str, int], socket.socket] = connected) -> str:
    """Empty when the service at `grpc://HOST:PORT/SERVICE` is SERVING, else what it is instead.

    Raises OSError, TooSlow, ValueError (with words) for an answer that is not gRPC.
    """
    parts = urlsplit(url)
    with time_limit(_WHOLE_SECONDS), connect(parts.hostname or "", parts.port or 0) as line:
        line.settimeout(_ANSWER_SECONDS)
        line.sendall(request(parts.netloc, parts.path.removeprefix("/")))
        with line.makefile("rb") as stream:
            return answer(stream.read, line.sendall)


def request(authority: str, service: str) -> bytes:
    """All that the client sends before the answer: the preface, its settings, and the call with its one message."""
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    headers = {
        ":method": "POST", ":scheme": "http", ":path": "/grpc.health.v1.Health/Check", ":authority": authority,
        "te": "trailers", "content-type": "application/grpc", "user-agent": "cgroup-preflight",
    }  # fmt: skip
    frames = (
        Frame(kind=_SETTINGS, flags=0, stream=0),
        Frame(
            kind=_HEADERS, flags=_END_HEADERS, stream=_CALL, payload=b"".join(map(literal, headers, headers.values()))
        ),
        Frame(kind=_DATA, flags=_END_STREAM, stream=_CALL, payload=b"\0" + len(message).to_bytes(4, "big") + message),
    )
    return b"".join((_PREFACE, *(frame.encoded() for frame in frames)))


def answer(read: Callable[[int], bytes], send: Callable[[bytes], object]) -> str:
    """What an answer says, empty for SERVING; `read` gives so many bytes, fewer only at the end. Raises ValueError."""
    block, data, status = b"", b"", ""
    ended = continues = False
    for frame in _frames(read):
        if frame.kind == _SETTINGS and not frame.flags & _ACK:
            send(Frame(kind=_SETTINGS, flags=_ACK, stream=0).encoded())
        elif frame.kind == _GOAWAY and (code := int.from_bytes(frame.payload[4:8], "big")):
            raise NotGrpcError(f"it ended the connection with the HTTP/2 error {code}")
        elif frame.stream == _CALL and frame.kind == _RST_STREAM:
            raise NotGrpcError(f"it ended the call with the HTTP/2 error {int.from_bytes(frame.payload, 'big')}")
        elif frame.stream == _CALL and frame.kind in (_DATA, _HEADERS, _CONTINUATION):
            # A block that continues in more frames has the end of the stream in its first one (RFC 9113, 6.2).
            ended = ended or (frame.kind != _CONTINUATION and bool(frame.flags & _END_STREAM))
            if frame.kind == _DATA:
                data += _content(frame)
            else:
                block, continues = block + _content(frame), not frame.flags & _END_HEADERS
            if not continues:
                status, block = find(block, _STATUS, _STATUSES) or status, b""
            if ended and not continues:
                return _verdict(status, data)
    raise NotGrpcError(f"no end after {_FRAMES_MAX} frames")


def _frames(read: Callable[[int], bytes]) -> Iterator[Frame]:
    """The first frames of a connection, of which the first is SETTINGS (RFC 9113, 3.4)."""
    for number in range(_FRAMES_MAX):
        head = read(9)
        length = int.from_bytes(head[:3], "big")
        if number == 0 and head and (len(head) < 9 or length > _FRAME_MAX or head[3] != _SETTINGS):
            raise NotGrpcError("it does not speak HTTP/2 without TLS")
        payload = read(length) if length <= _FRAME_MAX else b""
        if len(head) < 9 or len(payload) < length:
            raise NotGrpcError("it ended the connection")
        yield Frame(kind=head[3], flags=head[4], stream=int.from_bytes(head[5:9], "big") & 0x7FFFFFFF, payload=payload)


def _content(frame: Frame) -> bytes:
    """The payload without padding and priority (RFC 9113, 6.1 and 6.2)."""
    content = frame.payload
    if frame.kind != _CONTINUATION and frame.flags & _PADDED:
        content = content[1 : max(len(content) - content[0], 1)] if content else b""
    return content[5:] if frame.kind == _HEADERS and frame.flags & _PRIORITY else content


def _verdict(status: str, data: bytes) -> str:
    """What the status of the call and its one message say: a byte, four of the length, the message."""
    if not status:
        raise NotGrpcError("it has no grpc-status")
    if status != "0":
        return f"gRPC status {_STATUS_WORDS.get(status, status)}"
    if len(data) < 5 or data[0] or int.from_bytes(data[1:5], "big") != len(data) - 5:
        raise NotGrpcError("it has no message of its health")
    state = _first_number(data[5:])
    return "" if state == _SERVING else f"its health is {_HEALTH_WORDS.get(state, state)}"


def _first_number(message: bytes) -> int:
    """The last value of the field 1, which is a number; 0 without it (Protocol Buffers, "Encoding")."""
    value = at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        if tag & 7:
            raise NotGrpcError("its message is not that of a health check")
        number, at = _read_varint(message, at)
        value = number if tag >> 3 == 1 else value
    return value


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for turn, byte in enumerate(message[at : at + 10]):
        value |= (byte & 0x7F) << (7 * turn)
        if not byte & 0x80:
            return value, at + turn + 1
    raise NotGrpcError("its message is not that of a health check")


def _varint(value: int) -> bytes:
    return bytes((value,)) if value < 0x80 else bytes((value & 0x7F | 0x80,)) + _varint(value >> 7)
