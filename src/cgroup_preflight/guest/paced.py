"""Lines of user-mode-linux: no more than a window of bytes is under way without an answer (`guest.line`).

What an answer is, the protocol on a line knows: for SFTP each packet has one, for D-Bus each call, and a shell is made to
answer in the middle of a long text.
"""

import os
import shlex
import struct
from collections import deque
from collections.abc import Callable

from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.guest.line import WINDOW
from cgroup_preflight.host.remote.line import Line

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object

#: More would fill the buffer of the terminal.
_UNIT_MAX = 3500
#: Text of a shell in one piece, before and after it is quoted.
_TEXT_PIECE, _QUOTED_MAX = 1200, 1800
#: Data of one SFTP write.
_WRITE_PIECE = 1024
_WRITE, _STATUS = 6, 101
#: Numbers of requests of our own; the client counts from 1 on.
_OWN = 0xF0000000
_BEGIN = b"BEGIN\r\n"


class Pace(Protocol):
    """Cuts what goes out into units, and finds in what comes how many bytes of them are answered."""

    def cut(self, data: bytes) -> list[tuple[int, bytes]]:
        """The units of `data`, each at most a window long, with the bytes that an answer to it releases, or 0."""

    def take(self, data: bytes) -> tuple[bytes, int]:
        """What of the incoming `data` is for the reader, and how many bytes of units it answers."""


class PacedLine(Line):
    """As `Line`; sends a unit only where it fits into the window."""

    def __init__(self, handle: int, pace: Pace, *, where: str, end: Callable[[], None] = lambda: None) -> None:
        super().__init__(handle, os.dup(handle), where=where, end=end)
        self._pace = pace
        self._units: deque[tuple[int, bytes]] = deque()
        self._under_way = 0
        self._came = bytearray()

    def send(self, data: bytes) -> None:
        """As `Line.send`."""
        self._units += self._pace.cut(data)
        self._push()

    def receive(self, until: float) -> bytes:
        """As `Line.receive`."""
        while not self._came:
            self._take(until)
        data = bytes(self._came)
        self._came.clear()
        return data

    def flush(self, until: float) -> None:
        """As `Line.flush`."""
        while self._units:
            self._take(until)
        super().flush(until)

    def _take(self, until: float) -> None:
        data, answered = self._pace.take(super().receive(until))
        self._came += data
        self._under_way = max(self._under_way - answered, 0)
        self._push()

    def _push(self) -> None:
        while self._units and (not self._under_way or self._under_way + len(self._units[0][1]) <= WINDOW):
            cost, unit = self._units.popleft()
            if len(unit) > _UNIT_MAX:
                raise self.fail(f"{len(unit)} bytes at once are too much for this line")
            self._under_way += cost
            super().send(unit)


class FilesPace:
    """SFTP: an answer has the number of its request. A long write becomes several, whose first failure is the answer."""

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}
        self._own = _OWN
        #: Of a write in pieces: the number of its last piece by those of the others, and failures by that number.
        self._whole: dict[int, int] = {}
        self._failed: dict[int, bytes] = {}
        self._data = bytearray()

    def cut(self, data: bytes) -> list[tuple[int, bytes]]:
        """As `Pace.cut`, of one packet."""
        kind, number = data[4], int.from_bytes(data[5:9], "big")
        if kind != _WRITE or len(data) <= WINDOW:
            return [self._noted(number if len(data) >= 9 and kind != 1 else 0, data)]
        size = int.from_bytes(data[9:13], "big")
        handle, (offset,) = data[9 : 13 + size], struct.unpack_from(">Q", data, 13 + size)
        content, units = data[25 + size :], list[tuple[int, bytes]]()
        for at in range(0, len(content), _WRITE_PIECE):
            piece = content[at : at + _WRITE_PIECE]
            own = number
            if at + _WRITE_PIECE < len(content):
                self._own = own = max((self._own + 1) & 0xFFFFFFFF, _OWN)
                self._whole[own] = number
            body = struct.pack(">BI", _WRITE, own) + handle + struct.pack(">QI", offset + at, len(piece)) + piece
            units.append(self._noted(own, struct.pack(">I", len(body)) + body))
        return units

    def _noted(self, number: int, data: bytes) -> tuple[int, bytes]:
        self._sizes[number] = len(data)
        return len(data), data

    def take(self, data: bytes) -> tuple[bytes, int]:
        """As `Pace.take`. What is no packet is passed on: the reader refuses it."""
        self._data += data
        passed, answered = bytearray(), 0
        while len(self._data) >= 9:
            size = 4 + int.from_bytes(self._data[:4], "big")
            if not 9 <= size <= 1 << 20:
                passed += self._data
                self._data.clear()
                break
            if len(self._data) < size:
                break
            packet = bytes(self._data[:size])
            del self._data[:size]
            number = 0 if packet[4] == 2 else int.from_bytes(packet[5:9], "big")
            answered += self._sizes.pop(number, 0)
            whole = self._whole.pop(number, None)
            if whole is None:
                passed += self._failed.pop(number, packet)
            elif packet[4] != _STATUS or packet[9:13] != bytes(4):
                self._failed.setdefault(whole, packet[:5] + whole.to_bytes(4, "big") + packet[9:])
        return bytes(passed), answered


class BusPace:
    """D-Bus: the login, and calls, each answered by its number (D-Bus specification, "Message Format")."""

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}
        self._data = bytearray()
        self._begun = False

    def cut(self, data: bytes) -> list[tuple[int, bytes]]:
        """As `Pace.cut`, of the login or of calls."""
        units, begin = list[tuple[int, bytes]](), b""
        if not self._begun:
            if not data.startswith(_BEGIN):
                return [(0, data)]
            self._begun, begin, data = True, _BEGIN, data[len(_BEGIN) :]
        while len(data) >= 16:
            size = _message_size(data)
            self._sizes[int.from_bytes(data[8:12], "little")] = size
            # systemd reads what follows the login together with it.
            units.append((size, begin + data[:size]))
            begin, data = b"", data[size:]
        return units

    def take(self, data: bytes) -> tuple[bytes, int]:
        """As `Pace.take`."""
        if not self._begun:
            return data, 0
        self._data += data
        answered = 0
        while len(self._data) >= 16 and (size := _message_size(self._data)) <= len(self._data):
            number = _reply_to(bytes(self._data[:size]))
            answered += self._sizes.pop(number, 0)
            del self._data[:size]
        return data, answered


def _message_size(data: bytes | bytearray) -> int:
    body, _, fields = struct.unpack_from("<III", data, 4)
    return int(16 + -(-fields // 8) * 8 + body)


def _reply_to(message: bytes) -> int:
    """The number that a message answers: the field 5, whose value is a number of 32 bits; 0 for none."""
    (fields,) = struct.unpack_from("<I", message, 12)
    at = message.find(b"\x05\x01u\x00", 16, 16 + fields)
    return int.from_bytes(message[at + 4 : at + 8], "little") if at >= 0 else 0


class ShellPace:
    """A shell: a long text is put together in a file first, and each piece of it is answered by a word."""

    def __init__(self, place: str) -> None:
        self._place = shlex.quote(place)
        self._word = b""
        self._sizes: deque[int] = deque()
        self._data = bytearray()

    def cut(self, data: bytes) -> list[tuple[int, bytes]]:
        """As `Pace.cut`, of complete commands."""
        if len(data) <= WINDOW // 2:
            return [(0, data)]
        if not self._word:
            self._word = b"\x1e" + os.urandom(12).hex().encode() + b"\n"
        text, units, at = data.decode("utf-8", "surrogateescape"), list[tuple[int, bytes]](), 0
        while at < len(text):
            piece = text[at : at + _TEXT_PIECE]
            while len(quoted := shlex.quote(piece).encode("utf-8", "surrogateescape")) > _QUOTED_MAX:
                piece = piece[: len(piece) // 2]
            sign = b">>" if at else b">"
            word = self._word[1:-1]
            # In two parts: where the line has an echo, that is no answer.
            said = b"printf '\\036%s%s\\n' " + word[:12] + b" " + word[12:]
            unit = b"printf %s " + quoted + b" " + sign + self._place.encode() + b"; " + said + b"\n"
            units.append((len(unit), unit))
            self._sizes.append(len(unit))
            at += len(piece)
        return [*units, (0, b". " + self._place.encode() + b"\n")]

    def take(self, data: bytes) -> tuple[bytes, int]:
        """As `Pace.take`: without the words; the end of what may be one stays until more comes."""
        if not self._word:
            return data, 0
        self._data += data
        answered = 0
        while (at := self._data.find(self._word)) >= 0:
            del self._data[at : at + len(self._word)]
            answered += self._sizes.popleft() if self._sizes else 0
        kept = next(
            (size for size in range(len(self._word) - 1, 0, -1) if self._data.endswith(self._word[:size])), 0
        ) if self._sizes else 0  # fmt: skip
        passed = bytes(self._data[: len(self._data) - kept])
        del self._data[: len(self._data) - kept]
        return passed, answered
