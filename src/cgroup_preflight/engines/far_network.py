"""How services on another machine are asked: connections are made there, and who listens is in the kernel's tables there."""

import socket
from collections.abc import Callable

from cgroup_preflight.config.model import ReadyTest
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.engines.listeners import Listeners
from cgroup_preflight.engines.ready import LocalNetwork
from cgroup_preflight.host.cgroup import Observer

if TYPE_CHECKING:
    from cgroup_preflight.host.door import Files


class FarNetwork:
    """As `Network`. `connect` makes a connection to a host and port as that machine knows them; it raises OSError."""

    def __init__(self, files: "Files", mount: str, connect: Callable[[str, int], socket.socket]) -> None:
        self._listeners = Listeners(files, Observer(files, mount))
        self._asker = LocalNetwork(connect)

    def listens(self, test: ReadyTest) -> bool:
        """As `Network.listens`. A connection through a tunnel would also be accepted where nobody listens."""
        return self._listeners.listens(test)

    def ask(self, test: ReadyTest) -> str:
        """As `Network.ask`."""
        # The tables take less time than a connection, and say it in better words.
        return self._asker.ask(test) if self.listens(test) else "connection refused"

    def fetch(self, test: ReadyTest, path: str, most: int) -> bytes:
        """As `Network.fetch`."""
        return self._asker.fetch(test, path, most)
