"""A machine at the other end of lines: who makes the lines, and the door made of them."""

from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.host.door import Door
from cgroup_preflight.host.remote.asking import Asker
from cgroup_preflight.host.remote.bridge import BridgedManager
from cgroup_preflight.host.remote.files import RemoteFiles
from cgroup_preflight.host.remote.programs import RemoteClock, RemoteProcesses, RemotePrograms

if TYPE_CHECKING:
    import subprocess
    from typing import Protocol

    from cgroup_preflight.host.door import Network
    from cgroup_preflight.host.remote.line import Line
else:
    Protocol = object


class Lines(Protocol):
    """What makes lines to one machine. Each method raises LineError."""

    name: str

    def shell(self) -> "Line":
        """A line to a POSIX shell that reads commands from it."""

    def files(self) -> "Line":
        """A line to an SFTP server; where there is none, it ends before it answers."""

    def bridge(self) -> "Line":
        """A line to a `systemd-stdio-bridge`."""

    def channel(self, script: str) -> "subprocess.Popen[bytes]":
        """A process of this machine that runs a script there: with its input and outputs, and with its exit status."""


def door_of(
    lines: Lines, network: "Network", *, root: bool = False, environment: tuple[tuple[str, str], ...] = ()
) -> tuple[Door, Asker]:
    """The door to a machine, and what asks it; `root`: its user there is root. Nothing is asked before it is needed."""
    asker = Asker(lines.shell, lines.files)
    door = Door(
        files=RemoteFiles(asker), processes=RemoteProcesses(asker),
        programs=RemotePrograms(asker, lines.channel, environment), clock=RemoteClock(asker), network=network,
        manager=BridgedManager(lines.bridge if root else None, asker.count), host=lines.name,
    )  # fmt: skip
    return door, asker
