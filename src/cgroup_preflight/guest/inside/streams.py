"""Connections carried over the channel, at either of its ends: bytes, the end of each direction, the close.

Both ends use this module. A frame about connections has in its head `data` (pairs of number and length, in the order of
the body), `eof` and `close` (numbers), and `full` (numbers for which this end can take no more now). For one thread.
"""

import errno
import socket
from typing import Any

#: Bytes of one connection in a frame, and of all together.
PIECE, FRAME = 1 << 14, 1 << 16
#: Bytes that wait for a slow reader before the other end is told to pause.
_WAITING_MAX = 1 << 18
#: Bytes that wait at most: a far end that sends more does not pause, and loses the connection.
_WAITING_END = _WAITING_MAX + 8 * FRAME


class _Line:
    """One connection: `waiting` is for its socket; `read_all`: its socket sent an end of file; `last`: so did the far end.

    `peer` is the address to which it does not reach yet, empty once it does.
    """

    def __init__(self, line: socket.socket, peer: tuple[Any, ...]) -> None:
        self.socket = line
        self.peer = peer
        self.waiting = bytearray()
        self.read_all = self.last = self.broken = False

    @property
    def over(self) -> bool:
        return self.broken or (self.read_all and self.last and not self.waiting)


class Streams:
    """The connections of one end, by the numbers that both ends have for them."""

    def __init__(self) -> None:
        self._lines: dict[int, _Line] = {}
        self._full: frozenset[int] = frozenset()
        self._closed: list[int] = []
        self._told: list[int] = []
        #: Whether the last `collect` found something that the far end does not know yet.
        self.news = False

    def __len__(self) -> int:
        """How many connections there are."""
        return len(self._lines)

    @property
    def has_news(self) -> bool:
        """Whether the far end must learn, without anything to read, that a connection ended, or can take more again."""
        return bool(self._closed) or self._too_full() != self._told

    def add(self, number: int, line: socket.socket, peer: tuple[Any, ...] = ()) -> None:
        """A connected socket, which this object owns from now on; with `peer` one that does not block and will be connected."""
        line.setblocking(False)
        self._lines[number] = _Line(line, peer)
        self._flush(self._lines[number])

    def refuse(self, number: int) -> None:
        """Tells the far end that there is no such connection."""
        self._closed.append(number)

    def readers(self) -> list[socket.socket]:
        """Sockets to read from when they have something."""
        return [
            line.socket for number, line in self._lines.items()
            if not line.read_all and not line.peer and number not in self._full
        ]  # fmt: skip

    def writers(self) -> list[socket.socket]:
        """Sockets to write to when they have room."""
        return [line.socket for line in self._lines.values() if line.waiting or line.peer]

    def apply(self, head: dict[str, Any], body: bytes) -> None:
        """Takes what the far end sent; numbers that are unknown here count as closed. Raises ValueError for nonsense."""
        at = 0
        for number, length in head.get("data", ()):
            if length < 0 or at + length > len(body):
                raise ValueError("lengths of connections do not fit the body")
            if line := self._lines.get(number):
                line.waiting += body[at : at + length]
                line.broken = line.broken or len(line.waiting) > _WAITING_END
            at += length
        for number in head.get("eof", ()):
            if line := self._lines.get(number):
                line.last = True
        for number in head.get("close", ()):
            if line := self._lines.pop(number, None):
                # What came before the close is still for the socket, as far as it takes it at once.
                self._flush(line)
                line.socket.close()
        self._full = frozenset(head.get("full", ()))
        self.flush()

    def flush(self) -> None:
        """Writes what waits, as far as the sockets take it."""
        for number, line in list(self._lines.items()):
            self._flush(line)
            self._end(number, line)

    def collect(self) -> tuple[dict[str, Any], bytes]:
        """Head and body of what the sockets have for the far end; `news` says whether that is anything new."""
        pieces: list[tuple[int, bytes]] = []
        eof: list[int] = []
        for number, line in list(self._lines.items()):
            if line.read_all or line.peer or number in self._full or sum(len(piece) for _, piece in pieces) >= FRAME:
                continue
            data, last = _read(line)
            if data:
                pieces.append((number, data))
            if last:
                eof.append(number)
            self._end(number, line)
        closed, self._closed = self._closed, []
        full = self._too_full()
        self.news = bool(pieces or eof or closed or full != self._told)
        self._told = full
        head = {"data": [(number, len(piece)) for number, piece in pieces], "eof": eof, "close": closed, "full": full}
        return {name: value for name, value in head.items() if value}, b"".join(piece for _, piece in pieces)

    def _too_full(self) -> list[int]:
        return [number for number, line in self._lines.items() if len(line.waiting) > _WAITING_MAX]

    def close(self) -> None:
        """Closes every connection."""
        for line in self._lines.values():
            line.socket.close()
        self._lines.clear()

    def _flush(self, line: _Line) -> None:
        if line.broken or not _connected(line):
            return
        try:
            while line.waiting:
                del line.waiting[: line.socket.send(line.waiting[:PIECE])]
            if line.last:
                line.socket.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            return
        except OSError:
            line.broken = True
            line.waiting.clear()

    def _end(self, number: int, line: _Line) -> None:
        if line.over and number in self._lines:
            del self._lines[number]
            line.socket.close()
            if line.broken:
                self._closed.append(number)


def _connected(line: _Line) -> bool:
    """Whether its peer is reached, which a busy service can delay; one that cannot be reached is broken."""
    if line.peer:
        error = line.socket.connect_ex(line.peer)
        if error in (errno.EINPROGRESS, errno.EALREADY, errno.EINTR):
            return False
        line.peer = ()
        if error not in (0, errno.EISCONN):
            line.broken = line.read_all = True
            line.waiting.clear()
            return False
    return True


def _read(line: _Line) -> tuple[bytes, bool]:
    """What the socket has now, and whether it sent an end of file."""
    try:
        data = line.socket.recv(PIECE)
    except BlockingIOError:
        return b"", False
    except OSError:
        line.broken = line.read_all = True
        return b"", False
    line.read_all = not data
    return data, not data
