"""Lines to a shell of this machine, as if it were another one: a real `sh`, without an SFTP server and without a network."""

import os
import subprocess

from cgroup_preflight.engines.ready import LocalNetwork
from cgroup_preflight.host.door import Door
from cgroup_preflight.host.remote.asking import Asker
from cgroup_preflight.host.remote.line import Line, LineError
from cgroup_preflight.host.remote.machine import door_of


class ShellLines:
    """As `Lines`: each shell has these variables, and those of the test."""

    name = "far"

    def __init__(self, shell: tuple[str, ...] = ("sh",), **variables: str) -> None:
        self._shell, self._variables = shell, variables
        self.processes: list[subprocess.Popen[bytes]] = []

    def shell(self) -> Line:
        process = self._start(self._shell)
        assert process.stdin is not None
        assert process.stdout is not None
        handles = os.dup(process.stdout.fileno()), os.dup(process.stdin.fileno())
        process.stdin.close()
        process.stdout.close()
        return Line(*handles, where=self.name, end=lambda: process.wait(10) and None)  # type: ignore[func-returns-value]

    def files(self) -> Line:
        raise LineError("no SFTP", where=self.name, remedy=None)  # type: ignore[arg-type]

    def bridge(self) -> Line:
        raise LineError("no bridge", where=self.name, remedy=None)  # type: ignore[arg-type]

    def channel(self, script: str) -> "subprocess.Popen[bytes]":
        return self._start((*self._shell, "-c", script))

    def _start(self, argv: tuple[str, ...]) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ | self._variables,
            start_new_session=True,
        )  # fmt: skip
        self.processes.append(process)
        return process


def far_door(lines: ShellLines) -> tuple[Door, Asker]:
    """The door to that machine, over its shell alone."""
    door, asker = door_of(lines, LocalNetwork())
    asker._open_files = None
    return door, asker
