"""D-Bus with the service manager of a machine at the other end, through `systemd-stdio-bridge` (systemd-stdio-bridge(1))."""

import time
from collections.abc import Callable

from cgroup_preflight.host.manager_line import MANAGER_SOCKET
from cgroup_preflight.host.remote.line import Line, LineError

_SECONDS = 30.0
#: The bridge to the manager's own socket: root needs no bus for it.
BRIDGE = ("systemd-stdio-bridge", f"--bus-path=unix:path={MANAGER_SOCKET}")
#: What one part of a message may bring.
_MESSAGE_MAX = 1 << 20


class LineStream:
    """As `Stream`, over a line; each call has a limit of time. A line that is lost raises OSError.

    `count` is called for each time that something is sent; `answered` says whether a part of a message came back.
    """

    def __init__(self, line: Line, seconds: float = _SECONDS, count: Callable[[], None] = lambda: None) -> None:
        self._line, self._seconds, self._count = line, seconds, count
        self._data = bytearray()
        self.answered = self.closed = False

    def sendall(self, data: bytes, /) -> None:
        """As `Stream.sendall`."""
        self._count()
        try:
            self._line.send(data)
            self._line.flush(time.monotonic() + self._seconds)
        except LineError as error:
            raise OSError(error.message) from None

    def read(self, size: int, /) -> bytes:
        """As `Stream.read`."""
        if not size:
            return b""
        found = self._taken(lambda: size if len(self._data) >= size else 0)
        # Lines are those of the log-in; the greeting of a shell can be one.
        self.answered = True
        return found

    def readline(self, most: int, /) -> bytes:
        """As `Stream.readline`."""
        return self._taken(lambda: min(self._data.find(b"\n") + 1, most) or (most if len(self._data) >= most else 0))

    def close(self) -> None:
        """As `Stream.close`."""
        self.closed = True
        self._line.close()

    def _taken(self, enough: Callable[[], int]) -> bytes:
        until = time.monotonic() + self._seconds
        while not (size := enough()):
            try:
                self._line.allow(_MESSAGE_MAX)
                self._data += self._line.receive(until)
            except LineError as error:
                raise OSError(error.message) from None
        found = bytes(self._data[:size])
        del self._data[:size]
        return found


class BridgedManager:
    """As `Manager`; `open_bridge` makes a line to a bridge, and there is none for a user who is not root.

    `count` is called for each time that the manager is waited for.
    """

    def __init__(self, open_bridge: Callable[[], Line] | None, count: Callable[[], None] = lambda: None) -> None:
        self._open_bridge, self._count = open_bridge, count
        self._streams: list[LineStream] = []

    @property
    def way(self) -> str:
        """Which program asked the manager until now: who uses this takes `systemctl` where a bridge fails."""
        if not any(stream.answered for stream in self._streams):
            return "systemctl"
        # A line stays open until it fails.
        failed = any(stream.closed for stream in self._streams)
        return f"{BRIDGE[0]} and systemctl" if failed else BRIDGE[0]

    def usable(self) -> bool:
        """As `Manager.usable`."""
        return self._open_bridge is not None

    def connect(self) -> LineStream:
        """As `Manager.connect`."""
        if self._open_bridge is None:
            raise OSError("only root has a line to the manager")
        self._streams.append(LineStream(self._open_bridge(), count=self._count))
        return self._streams[-1]
