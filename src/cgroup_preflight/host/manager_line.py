"""The line to this machine's systemd: its private socket, without a bus. Root only."""

import io
import os
import socket

#: What `systemctl` of root uses.
MANAGER_SOCKET = "/run/systemd/private"
_SECONDS = 30.0
#: Read at once: all properties of a unit are twenty thousand bytes, and signals come in crowds.
_BUFFER = 1 << 16


class SocketStream:
    """As `Stream`, a connected socket with a time-out."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._reader = io.BufferedReader(line.makefile("rb", buffering=0), _BUFFER)

    def sendall(self, data: bytes, /) -> None:
        """As `Stream.sendall`."""
        self._line.sendall(data)

    def read(self, size: int, /) -> bytes:
        """As `Stream.read`."""
        return self._reader.read(size)

    def readline(self, most: int, /) -> bytes:
        """As `Stream.readline`."""
        return self._reader.readline(most)

    def close(self) -> None:
        """As `Stream.close`."""
        self._reader.close()
        self._line.close()


class LocalManager:
    """As `Manager`."""

    def usable(self) -> bool:
        """As `Manager.usable`."""
        return os.geteuid() == 0 and os.path.exists(MANAGER_SOCKET)

    def connect(self) -> SocketStream:
        """As `Manager.connect`."""
        return unix_stream(MANAGER_SOCKET)


def unix_stream(path: str, seconds: float = _SECONDS) -> SocketStream:
    """A connection to a Unix socket; `seconds` for each part of a read. Raises OSError."""
    line = socket.socket(socket.AF_UNIX)
    try:
        line.settimeout(seconds)
        line.connect(path)
        return SocketStream(line)
    except BaseException:
        line.close()
        raise
