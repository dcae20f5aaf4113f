"""The host's end of a relay: prints what a job in the guest prints, and forwards ports of loopback to services in it.

Everything goes over the channel of the guest, so no network device is needed. Connections are made from this host to the
guest only, and only to the addresses that are given.
"""

import select
import socket
from collections.abc import Callable, Sequence
from typing import Any

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest.inside.frames import Frame
from cgroup_preflight.guest.inside.streams import Streams
from cgroup_preflight.guest.session import Guest
from cgroup_preflight.guest.spec import Background, GuestError

#: Seconds after which a turn ends without any news.
TURN = 1.0
_BACKLOG = 64
#: Further connections wait until one ends: select(2) knows no descriptor above 1023, here and in the guest.
CONNECTIONS_MAX = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """A service's address in the guest; this host listens at the same port of its loopback, of the same family."""

    host: str
    port: int

    @property
    def local(self) -> tuple[str, int]:
        """Where this host listens."""
        return ("::1" if ":" in self.host else "127.0.0.1"), self.port


class Listeners:
    """Sockets that listen at the local side of forwards, from before the guest boots; closes them at the end."""

    def __init__(self, forwards: Sequence[Forward]) -> None:
        """Raises UsageError for an address that is taken."""
        self.sockets: dict[socket.socket, Forward] = {}
        for forward in dict.fromkeys(forwards):
            try:
                self.add(forward)
            except OSError as error:
                self.close()
                raise UsageError(
                    f"cannot forward {forward.local[0]}:{forward.port} to the guest: {error.strerror}", where="up",
                    remedy=Remedy(title="end the program that listens there, or change the address"),
                ) from None  # fmt: skip

    def add(self, forward: Forward) -> None:
        """Listens for one more. Raises OSError for an address that is taken."""
        line = socket.socket(socket.AF_INET6 if ":" in forward.local[0] else socket.AF_INET, socket.SOCK_STREAM)
        try:
            # Connections of an `up` before this one are no reason to wait.
            line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            line.bind(forward.local)
            line.listen(_BACKLOG)
            line.setblocking(False)
        except OSError:
            line.close()
            raise
        self.sockets[line] = forward

    def close(self) -> None:
        """Closes all of them."""
        for line in self.sockets:
            line.close()


class Relay:
    """One job of a guest that was started `piped`; `write` gets what it prints. Methods raise GuestError, HostError."""

    def __init__(self, guest: Guest, job: Background, listeners: Listeners, write: Callable[[bytes], None]) -> None:
        self._guest, self._job, self._listeners, self._write = guest, job, listeners, write
        self._streams = Streams()
        self._numbers = 0
        self._opened: list[tuple[int, str, int]] = []
        self._later: tuple[dict[str, Any], bytes] = ({}, b"")

    def turn(self, wake: int) -> bool:
        """Carries what there is, and waits for more, at most `TURN` seconds; False once all that the job prints has come.

        It also returns when the descriptor `wake` is readable.
        """
        about, body = self._later
        opened, self._opened, self._later = self._opened, [], ({}, b"")
        head = {"op": "relay", "job": self._job.job, "timeout": TURN, "open": opened, **about}
        self._guest.request(head, body, timeout=TURN)
        early = not self._answered(wake)
        if early:
            # It makes the guest answer the request before it.
            self._guest.request({"op": "relay", "job": self._job.job, "timeout": 0.0})
        ended = False
        for _ in range(1 + early):
            ended = self._take(self._guest.answer("relay", timeout=TURN)) or ended
        self._accept()
        self._later = self._streams.collect()
        return not ended

    def close(self) -> None:
        """Ends the connections."""
        self._streams.close()

    def _answered(self, wake: int) -> bool:
        """Waits for the guest's answer; False when something on this side comes first.

        The answer has to be whole: whoever waits for the rest of one does not see what comes on this side meanwhile.
        """
        if self._guest.has_answer(read=False):
            return True
        while not self._streams.has_news:
            sources: list[Guest | int | socket.socket] = [
                self._guest,
                wake,
                *self._open_listeners(),
                *self._streams.readers(),
            ]
            readable, writable, _ = select.select(sources, self._streams.writers(), [])
            if self._guest in readable and self._guest.has_answer(read=True):
                return True
            if any(one is not self._guest for one in readable):
                return False
            if writable:
                # A reader that has caught up must be known to the guest, which sends it nothing until then.
                self._streams.flush()
        return False

    def _take(self, answer: Frame) -> bool:
        """Takes one answer of the guest, which may be hostile; whether that was the last output."""
        size = answer.head.get("output", 0)
        if not isinstance(size, int) or not 0 <= size <= len(answer.body):
            raise self._nonsense()
        if size:
            self._write(answer.body[:size])
        try:
            self._streams.apply(answer.head, answer.body[size:])
        except (TypeError, ValueError):
            raise self._nonsense() from None
        return bool(answer.head.get("ended"))

    def _nonsense(self) -> GuestError:
        return GuestError(f"{self._guest.spec.name} sent a wrong answer", console=self._guest.console_tail(),
                          remedy=Remedy(title="start it again; if it happens again, a service has changed the guest's system"))  # fmt: skip

    def _open_listeners(self) -> dict[socket.socket, Forward]:
        return self._listeners.sockets if len(self._streams) < CONNECTIONS_MAX else {}

    def _accept(self) -> None:
        for listener, forward in self._listeners.sockets.items():
            if not self._open_listeners():
                return
            try:
                line, _ = listener.accept()
            except OSError:
                continue
            self._numbers += 1
            self._streams.add(self._numbers, line)
            self._opened.append((self._numbers, forward.host, forward.port))
