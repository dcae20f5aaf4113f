"""Connections to services in a guest without an agent: bash makes them there, and a line carries one at a time.

The host sends the address, then pieces of data with their sizes, then the end. The guest sends what the service sends, and
a random word of the host's where the service has closed the connection.
"""

import contextlib
import os
import re
import select
import socket
import threading
from collections.abc import Callable, Sequence

from cgroup_preflight.guest.line import Line, LineError

_HOST = re.compile(r"[0-9a-zA-Z.:%_-]{1,255}")
#: Bytes of the host in one piece: each is read by a program before the next one is sent, so that the line stays free.
_PIECE = 1024
_READ = 1 << 16
#: bash(1), "REDIRECTION": /dev/tcp/HOST/PORT. `$0` is the word. Its `read` changes a terminal, and takes no byte too many
#: only of a pipe: so there is one in between.
_PROGRAM = ("sh", "-c", 'cat | bash -c "$0" "$1"')
SCRIPT = r"""
# Each job gets a process group of its own, which is killed as a whole. What is said ends with its only end of a line, so
# that it is one write(2): two processes write here.
set -m
while read -r word host port; do
    [ "$word" = "$0" ] || continue
    if { exec 3<>"/dev/tcp/$host/$port"; } 2>/dev/null; then
        ( cat <&3; printf '%s closed\n' "$0" ) &
        while read -r kind size; do
            case $kind in
                D) head -c "$size" >&3; printf '%s taken\n' "$0" ;;
                E) break ;;
            esac
        done
        kill -- "-$!"
        wait $!
        exec 3>&-
    else
        printf '%s closed\n' "$0"
        while read -r kind size; do
            case $kind in
                D) head -c "$size" > /dev/null; printf '%s taken\n' "$0" ;;
                E) break ;;
            esac
        done
    fi 2>/dev/null
    printf '%s over\n' "$0"
done
"""


class Dialer:
    """Makes connections; `open_line` starts a program at a line of its own. Lines are used again."""

    def __init__(self, open_line: Callable[[Sequence[str]], Line]) -> None:
        self._open_line = open_line
        self._free: list[tuple[Line, bytes]] = []
        self._threads: list[threading.Thread] = []

    @property
    def carried(self) -> int:
        """The connections that are not over."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        return len(self._threads)

    def connect(self, host: str, port: int) -> socket.socket:
        """A connection of the guest to an address in it; it ends at once where nobody listens. Raises OSError, GuestError."""
        here, there = socket.socketpair()
        try:
            self.carry(there, host, port)
        except BaseException:
            here.close()
            raise
        return here

    def carry(self, there: socket.socket, host: str, port: int) -> None:
        """Carries what comes from a socket, which it closes, to an address in the guest. Raises OSError, GuestError.

        A socket whose other end has ended in one direction ends in both, because bash knows no shutdown(2).
        """
        with contextlib.ExitStack() as undo:
            undo.callback(there.close)
            self._begin(there, host, port)
            undo.pop_all()

    def _begin(self, there: socket.socket, host: str, port: int) -> None:
        if not _HOST.fullmatch(host) or not 0 < port < 65536:
            raise OSError(f"no address: {host[:60]!r}")
        if not self._free:
            word = os.urandom(12).hex()
            self._free.append((self._open_line((*_PROGRAM, SCRIPT, word)), word.encode()))
        line, word_sent = self._free.pop()
        thread = threading.Thread(target=self._carry, args=(line, word_sent, there, f"{host} {port}"), daemon=True)
        thread.start()
        self._threads.append(thread)

    def _carry(self, line: Line, word: bytes, there: socket.socket, address: str) -> None:
        try:
            with there:
                line.sendall(word + b" " + address.encode() + b"\n")
                if _carried(line, word, there):
                    self._free.append((line, word))
        except (OSError, ValueError):
            # The line is lost or closed, and the connection ends; whoever uses the guest next sees why.
            return


def _carried(line: Line, word: bytes, there: socket.socket) -> bool:
    """Carries one connection to its end; whether the line can be used again. Raises OSError."""
    data, taken, closed, ended = b"", True, False, False
    marks = {name: word + b" " + name + b"\n" for name in (b"closed", b"taken", b"over")}
    while True:
        sources: list[Line | socket.socket] = [line, *([there] if taken and not ended else [])]
        ready, _, _ = select.select(sources, [], [])
        if line in ready:
            more = line.some()
            if not more:
                raise LineError("ended")
            data, found = _passed(data + more, marks, there)
            taken = taken or b"taken" in found
            if b"over" in found:
                return True
            if b"closed" in found and not closed:
                closed = True
                with contextlib.suppress(OSError):
                    there.shutdown(socket.SHUT_WR)
        if taken and not ended:
            piece = b"" if closed else _received(there) if there in ready else None
            if piece is not None:
                line.sendall(b"D %d\n" % len(piece) + piece if piece else b"E\n")
                taken, ended = not piece, not piece


def _received(there: socket.socket) -> bytes:
    try:
        return there.recv(_PIECE)
    except OSError:
        return b""


def _passed(data: bytes, marks: dict[bytes, bytes], there: socket.socket) -> tuple[bytes, set[bytes]]:
    """Passes on what is no mark; what may be the beginning of one, and the marks that came."""
    found = set[bytes]()
    while places := [(at, name) for name, mark in marks.items() if (at := data.find(mark)) >= 0]:
        at, name = min(places)
        _send(there, data[:at])
        data = data[at + len(marks[name]) :]
        found.add(name)
    longest = max(map(len, marks.values()))
    kept = next(
        (size for size in range(min(longest, len(data)), 0, -1) if any(mark.startswith(data[-size:]) for mark in marks.values())), 0
    )  # fmt: skip
    _send(there, data[: len(data) - kept])
    return data[len(data) - kept :], found


def _send(there: socket.socket, data: bytes) -> None:
    try:
        there.sendall(data)
    except OSError:
        # The client has closed its end.
        return
