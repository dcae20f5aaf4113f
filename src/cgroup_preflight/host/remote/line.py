"""A line to a program at the other end: two descriptors, of pipes, a socket or a serial line, that carry all 8 bits.

Nothing here waits without an end, and both directions move at the same time: a peer that cannot write does not read.
"""

import os
import select
import time
from collections.abc import Callable

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.report import Remedy

_PIECE = 1 << 16
#: What is kept of the complaints at the other end, bytes.
_ERRORS_MAX = 4096
_ERROR_SECONDS = 0.5
#: Seconds after the end of a call in which what has come already is still read: this process may have been kept waiting.
_LATE = 5.0


class LineError(HostError):
    """The other end is gone, silent, or answers what nobody asked; later calls fail with the same reason at once."""


class Budget:
    """What answers may take in all: a moment of time.monotonic(), and bytes that several lines share. `within` is a wider one."""

    def __init__(self, seconds: float, most: int, within: "Budget | None" = None) -> None:
        self._seconds, self._most, self._left, self._within = seconds, most, most, within
        self.until = time.monotonic() + seconds

    def moment(self, until: float) -> float:
        """The moment `until`, or the end of this budget or a wider one where that is earlier."""
        until = min(until, self.until)
        return self._within.moment(until) if self._within else until

    def spend(self, size: int) -> str:
        """Counts bytes that came; why no more may come, else empty."""
        self._left -= size
        if self._left < 0:
            return f"its answers are longer than {self._most >> 20}M in all"
        return self._within.spend(size) if self._within else ""

    def late(self) -> str:
        """Why it is too late, else empty."""
        if time.monotonic() >= self.until:
            return f"its answers take longer than {self._seconds:g} s in all"
        return self._within.late() if self._within else ""


class Line:
    """Bytes to and from one program.

    `reader` and `writer` may be the same descriptor; `errors`, if there is one, is what the other end complains on. All
    are given to this object, which `close` closes before it calls `end`.
    """

    def __init__(
        self, reader: int, writer: int, *, errors: int = -1, where: str = "", end: Callable[[], None] = lambda: None
    ) -> None:
        self._reader, self._writer, self._errors = reader, writer, errors
        self._where, self._end = where, end
        self._out, self._complaints = bytearray(), bytearray()
        self._deaf = False
        #: How many more bytes the current call may bring.
        self._allowed = 0
        #: What several calls may bring and take together.
        self.budget: Budget | None = None
        self.lost = ""
        for handle in {reader, writer, errors} - {-1}:
            os.set_blocking(handle, False)

    def send(self, data: bytes) -> None:
        """Puts data into the queue; `receive` and `flush` send it. Raises LineError on a line that is lost."""
        self._require()
        if not self._deaf:
            self._out += data

    def allow(self, most: int) -> None:
        """Sets how many bytes may come from now on; more lose the line."""
        self._allowed = most

    def receive(self, until: float) -> bytes:
        """At least one byte, while what waits in the queue is sent; until a moment of time.monotonic(). Raises LineError."""
        self._require()
        while True:
            if self._wait(until, read=True) and (data := self._read()):
                return data

    def push(self) -> None:
        """Sends what the other end takes at once, without waiting, so that it works while something else is done here."""
        self._require()
        while self._out and self._poll({self._writer: select.POLLOUT}, 0.0):
            self._write()

    def flush(self, until: float) -> None:
        """Sends what waits in the queue. Raises LineError."""
        while self._out:
            self._require()
            self._wait(until, read=False)

    @property
    def waiting(self) -> int:
        """How many bytes of the queue are not sent yet."""
        return len(self._out)

    def fileno(self) -> int:
        """The descriptor that can be waited on."""
        return self._reader

    def fail(self, reason: str) -> LineError:
        """Gives the line up because of what came; the error to raise."""
        self.lost = self.lost or reason
        return LineError(self.lost, where=self._where, remedy=Remedy(title="look at the machine and its connection"))

    def complaint(self) -> str:
        """The last line that the other end complained with, printable; empty for none."""
        until = time.monotonic() + _ERROR_SECONDS
        while self._errors >= 0 and self._poll({self._errors: select.POLLIN}, until):
            self._read_errors()
        lines = [line.strip() for line in self._complaints.decode("utf-8", "replace").splitlines() if line.strip()]
        return printable(lines[-1])[:300] if lines else ""

    def close(self) -> None:
        """Closes the descriptors and ends the program; a line that is closed already stays so."""
        self.lost = self.lost or "the line was closed"
        handles = {self._reader, self._writer, self._errors} - {-1}
        self._reader = self._writer = self._errors = -1
        for handle in handles:
            os.close(handle)
        if handles:
            self._end()

    def _require(self) -> None:
        if self.lost:
            raise self.fail(self.lost)

    def _wait(self, until: float, *, read: bool) -> bool:
        """Sends what can be sent after the next event; whether something can be read now. Raises LineError."""
        wanted: dict[int, int] = {}
        if read:
            wanted[self._reader] = select.POLLIN
        if self._out:
            wanted[self._writer] = wanted.get(self._writer, 0) | select.POLLOUT
        if self._errors >= 0:
            wanted[self._errors] = select.POLLIN
        if self.budget is not None and (late := self.budget.late()):
            raise self.fail(late)
        found = self._poll(wanted, until if self.budget is None else self.budget.moment(until))
        # Who complains without end, or sends as fast as this reads, is always ready.
        if not found or time.monotonic() > until + _LATE:
            raise self.fail((self.budget.late() if self.budget else "") or "it did not answer in time")
        if self._errors in found:
            self._read_errors()
        if self._out and found.get(self._writer, 0) & ~select.POLLIN:
            self._write()
        return read and bool(found.get(self._reader, 0) & ~select.POLLOUT)

    def _poll(self, wanted: dict[int, int], until: float) -> dict[int, int]:
        poll = select.poll()
        for handle, events in wanted.items():
            poll.register(handle, events)
        return dict(poll.poll(max(until - time.monotonic(), 0.0) * 1000))

    def _read(self) -> bytes:
        try:
            data = os.read(self._reader, _PIECE)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self.fail(error.strerror or "it cannot be read") from None
        if not data:
            raise self.fail(self.complaint() or "the other end closed the connection")
        self._allowed -= len(data)
        if self._allowed < 0:
            raise self.fail("its answers are longer than is allowed")
        if self.budget is not None and (much := self.budget.spend(len(data))):
            raise self.fail(much)
        return data

    def _write(self) -> None:
        try:
            del self._out[: os.write(self._writer, self._out[:_PIECE])]
        except BlockingIOError:
            return
        except OSError:
            # Nobody reads any more; what was said before that is still to be read.
            self._out.clear()
            self._deaf = True

    def _read_errors(self) -> None:
        try:
            data = os.read(self._errors, _PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._complaints += data
        del self._complaints[:-_ERRORS_MAX]
        if not data:
            os.close(self._errors)
            self._errors = -1
