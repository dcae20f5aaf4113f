"""A line into a guest: bytes in both directions over a socket, with a time-out on each part.

user-mode-linux's serial line hangs for good when its terminal buffer (4 KiB) is full: it does not arm its edge-triggered
wait again. So no more than `WINDOW` bytes may wait there unread, and only an answer tells that bytes were read. A line
with a `window` therefore waits for answers while it sends; what an answer is, the protocol on it knows.
"""

import select
import socket
import time
from collections.abc import Callable

#: Bytes that may be without an answer; terminal drivers stop reading at about 3.9 KiB.
WINDOW = 2048
#: Bytes of answers that wait for their reader at most, so that a hostile guest cannot fill this program's memory.
_WAITING_MAX = 64 << 20
_CHUNK = 1 << 16


class LineError(OSError):
    """The guest no longer answers on a line; the message says how that was noticed."""


class Line:
    """One end of a line, as `host.door.Stream`; for one thread. `seconds` is the limit for each call."""

    def __init__(self, end: socket.socket, *, seconds: float = 30.0) -> None:
        self._end = end
        self._buffer = bytearray()
        self.seconds = seconds

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._end.fileno()

    def sendall(self, data: bytes, /) -> None:
        """Sends all of it within `seconds`. Raises LineError."""
        self._end.settimeout(self.seconds)
        try:
            self._end.sendall(data)
        except TimeoutError:
            raise LineError(f"took no data for {self.seconds:.0f} s") from None
        except OSError as error:
            raise LineError(f"closed the line ({error.strerror})") from error

    def read(self, size: int, /) -> bytes:
        """Exactly `size` bytes, fewer only at the end. Raises LineError."""
        return self._take(size, lambda: size if len(self._buffer) >= size else None)

    def readline(self, most: int, /) -> bytes:
        """A line with its end, at most `most` bytes of it. Raises LineError."""

        def found() -> int | None:
            at = self._buffer.find(b"\n", 0, most)
            return at + 1 if at >= 0 else most if len(self._buffer) >= most else None

        return self._take(most, found)

    def waits(self, seconds: float) -> bool:
        """Whether something can be read within `seconds`."""
        return bool(self._buffer) or bool(select.select([self._end], [], [], max(seconds, 0.0))[0])

    def some(self, most: int = _CHUNK) -> bytes:
        """What can be read now, at least one byte; empty only at the end. Raises LineError."""
        if not self._buffer:
            self._fill(time.monotonic() + self.seconds)
        data = bytes(self._buffer[:most])
        del self._buffer[:most]
        return data

    def close(self) -> None:
        """Closes this end."""
        self._end.close()

    def _take(self, most: int, found: Callable[[], int | None]) -> bytes:
        deadline = time.monotonic() + self.seconds
        while (size := found()) is None:
            if not self._fill(deadline):
                size = most
                break
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _fill(self, deadline: float) -> bool:
        """Adds what comes next to the buffer; False at the end."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise LineError(f"gave no answer for {self.seconds:.0f} s")
        if len(self._buffer) > _WAITING_MAX:
            raise LineError(f"sent more than {_WAITING_MAX >> 20}M without a question")
        self._end.settimeout(left)
        try:
            chunk = self._end.recv(_CHUNK)
        except TimeoutError:
            raise LineError(f"gave no answer for {self.seconds:.0f} s") from None
        except OSError as error:
            raise LineError(f"closed the line ({error.strerror})") from error
        self._buffer += chunk
        return bool(chunk)
