"""Carries connections to ports of this host's loopback to services of a guest without an agent, as `guest.relay` does with one."""

from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.guest.dial import Dialer
from cgroup_preflight.guest.relay import Listeners

if TYPE_CHECKING:
    import socket


class Forwards:
    """The connections of one guest, each on a line of its own; `most` of them at the same time, and others wait."""

    def __init__(self, listeners: Listeners, dialer: Dialer, most: int) -> None:
        self._listeners, self._dialer, self._most = listeners, dialer, most

    def look(self) -> None:
        """Takes the connections that wait. Raises GuestError."""
        for listener, forward in tuple(self._listeners.sockets.items()):
            while self._dialer.carried < self._most and (line := _accepted(listener)) is not None:
                self._dialer.carry(line, forward.host, forward.port)


def _accepted(listener: "socket.socket") -> "socket.socket | None":
    try:
        line, _ = listener.accept()
    except OSError:
        return None
    # It may have what its listener has (accept(2) of other systems), and the thread that carries it waits.
    line.setblocking(True)
    return line
