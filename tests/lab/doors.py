"""Doors into environments of a guest without an agent: its lines, but the program at each of them is in the environment."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from contextlib import closing

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.guest import starter
from cgroup_preflight.guest.bare import BareGuest
from cgroup_preflight.guest.line import Line
from cgroup_preflight.guest.lines import FILE_SERVER, GuestLines
from cgroup_preflight.host.remote.asking import Asker
from tests.lab.environments import Inside

_END_SECONDS = 30.0
#: Tells that the program of a line has ended. It has pipes: systemd changes the settings of a terminal that it gives to a
#: service (setup_input), and then the line has an echo.
_TOLD = 'cat | "$@" | cat; : > "$0"'


class Entered:
    """As the `BareGuest` of `GuestLines`; `name` is that of the environment, which `inside` leads into."""

    def __init__(self, guest: BareGuest, inside: Inside, name: str) -> None:
        self.spec = guest.spec
        self._guest, self._inside, self._name = guest, inside, name
        self._opened: list[tuple[str, Line]] = []

    def open_line(self, argv: Sequence[str]) -> Line:
        """As `BareGuest.open_line`, with the variables that `BareGuest.run` gives."""
        call = self._inside(argv, {})
        user = call.user or "root"
        home = "/root" if user == "root" else f"/home/{user}"
        variables = {
            "PATH": starter.PROGRAM_PATH,
            "HOME": home,
            "USER": user,
            "LOGNAME": user,
            "LANG": "C.UTF-8",
            **call.env,
        }
        become = () if user == "root" else ("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--")
        ended = f"/run/preflight/ended-{self._name}-{len(self._opened)}"
        words = (*become, "env", "-i", *(f"{key}={value}" for key, value in variables.items()), *call.argv)
        line = self._guest.open_line(["sh", "-c", _TOLD, ended, *words])
        self._opened.append((ended, line))
        return line

    def leave(self) -> None:
        """Ends the lines, and waits until the environment has none of their programs any more."""
        for _, line in self._opened:
            line.close()
        deadline = time.monotonic() + _END_SECONDS
        for ended, _ in self._opened:
            while not self._has(ended):
                assert time.monotonic() < deadline, f"a program of the door to {self._name} stays"
                time.sleep(0.2)

    def _has(self, path: str) -> bool:
        with contextlib.suppress(HostError):
            self._guest.read_file(path)
            return True
        return False


@contextlib.contextmanager
def door_into(guest: BareGuest, inside: Inside, name: str, *, file_server: str = FILE_SERVER) -> Iterator[Asker]:
    """What asks an environment of `guest` from here."""
    entered = Entered(guest, inside, name)
    lines = GuestLines(entered, file_server)
    try:
        with closing(Asker(lines.shell, lines.files)) as asker:
            yield asker
    finally:
        entered.leave()
