"""The lines into a guest without an agent, as `host.remote.machine.Lines`: what the door to another machine is made of."""

import itertools
import os
import socket
import subprocess
from collections.abc import Callable

from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest.bare import BareGuest
from cgroup_preflight.guest.dial import Dialer
from cgroup_preflight.guest.line import Line as GuestLine
from cgroup_preflight.guest.paced import BusPace, FilesPace, Pace, PacedLine, ShellPace
from cgroup_preflight.guest.spec import GuestEngine
from cgroup_preflight.host.remote.bridge import BRIDGE
from cgroup_preflight.host.remote.line import Line, LineError

#: Where the root of a recipe has it.
FILE_SERVER = "/usr/lib/openssh/sftp-server"
_PLACE = "/run/preflight/text-{}"


class GuestLines:
    """As `Lines`; `file_server` is the path of the SFTP server in the guest, empty for none.

    `dialer` makes its connections.
    """

    name = "guest"

    def __init__(self, guest: BareGuest, file_server: str = FILE_SERVER) -> None:
        self._guest, self._file_server = guest, file_server
        self._numbers = itertools.count(1)
        self.dialer = Dialer(guest.open_line)

    def shell(self) -> Line:
        """As `Lines.shell`."""
        return self._line(("sh", "+i"), lambda: ShellPace(_PLACE.format(next(self._numbers))))

    def files(self) -> Line:
        """As `Lines.files`."""
        return self._line((self._file_server,) if self._file_server else ("false",), FilesPace)

    def bridge(self) -> Line:
        """As `Lines.bridge`."""
        return self._line(BRIDGE, BusPace)

    def connection(self, host: str, port: int) -> socket.socket:
        """A connection of the guest to an address in it; it ends at once where nobody listens. Raises OSError."""
        return self.dialer.connect(host, port)

    def channel(self, script: str) -> "subprocess.Popen[bytes]":
        """As `Lines.channel`: there is none into a guest."""
        raise LineError("a guest has no channel", where=script[:40], remedy=Remedy(title="use run"))

    def _line(self, argv: tuple[str, ...], pace: Callable[[], Pace]) -> Line:
        opened: GuestLine = self._guest.open_line(argv)
        handle = os.dup(opened.fileno())
        if self._guest.spec.engine is GuestEngine.UML:
            return PacedLine(handle, pace(), where=self._guest.spec.name)
        return Line(handle, os.dup(handle), where=self._guest.spec.name)
