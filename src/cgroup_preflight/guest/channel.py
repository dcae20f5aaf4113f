"""The host's end of the channel to the agent: one request, one answer, always within a time limit."""

import socket
import time
from collections import deque
from typing import Any

from cgroup_preflight.guest.inside.frames import WINDOW, Decoder, Frame, FrameError, encode

#: Seconds for what has come already.
_MOMENT = 1.0


class ChannelError(Exception):
    """The guest no longer answers; the message says how that was noticed."""


class Channel:
    """Frames over a stream socket; for one thread."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._decoder = Decoder()
        self._ready: deque[Frame] = deque()

    def send(self, head: dict[str, Any], body: bytes = b"", *, timeout: float) -> None:
        """Sends one request within `timeout` seconds, one window at a time; raises ChannelError."""
        deadline = time.monotonic() + timeout
        data = encode(Frame(head=head, body=body))
        for start in range(0, len(data), WINDOW):
            while start and self._next(deadline, timeout).head.get("received", 0) < start:
                pass
            try:
                self._line.sendall(data[start : start + WINDOW])
            except OSError as error:
                raise ChannelError(f"closed the channel ({error.strerror})") from error

    def receive(self, *, timeout: float) -> Frame:
        """The next answer, whole within `timeout` seconds; raises ChannelError."""
        deadline = time.monotonic() + timeout
        while "received" in (frame := self._next(deadline, timeout)).head:
            pass
        return frame

    def has_answer(self, *, read: bool) -> bool:
        """Whether a whole answer has come, after what can be read now is taken with `read`; raises ChannelError.

        What else comes is no answer: a piece of one, or the word that a piece of a request was received.
        """
        if read:
            self._take(self._chunk(time.monotonic() + _MOMENT, _MOMENT))
        while self._ready and "received" in self._ready[0].head:
            self._ready.popleft()
        return bool(self._ready)

    def close(self) -> None:
        """Closes this end."""
        self._line.close()

    def _next(self, deadline: float, timeout: float) -> Frame:
        while not self._ready:
            self._take(self._chunk(deadline, timeout))
        return self._ready.popleft()

    def _take(self, chunk: bytes) -> None:
        try:
            self._ready.extend(self._decoder.feed(chunk))
        except FrameError as error:
            raise ChannelError(f"sent something that is not a frame: {error}") from error

    def _chunk(self, deadline: float, timeout: float) -> bytes:
        left = deadline - time.monotonic()
        if left <= 0:
            raise ChannelError(f"gave no answer for {timeout:.0f} s")
        self._line.settimeout(left)
        try:
            chunk = self._line.recv(1 << 16)
        except TimeoutError:
            raise ChannelError(f"gave no answer for {timeout:.0f} s") from None
        except OSError as error:
            raise ChannelError(f"closed the channel ({error.strerror})") from error
        if not chunk:
            raise ChannelError("ended")
        return chunk
