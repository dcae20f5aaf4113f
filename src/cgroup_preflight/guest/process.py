"""A guest as a process of the host: its folder, its keeper, its console. Everything goes when it is closed."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import cgroup_preflight
from cgroup_preflight.guest import keeper

#: Seconds until a closed guest must be gone; the keeper kills, so this is not a matter of good will.
_CLOSE_TIMEOUT = 20.0
#: Terminal control sequences (ECMA-48 CSI, and OSC up to BEL), which systemd writes to a serial console.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*\x07?)")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+@~-]{1,70}")
#: The keeper, started without what a user's Python loads of its own.
_KEEPER = (
    "import sys; sys.path.append(sys.argv[1]); from cgroup_preflight.guest import keeper; keeper.main(sys.argv[2:])"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """What an engine may do outside: `fence.put_up` has the words."""

    programs: tuple[str, ...] = ()
    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    network: bool = False


class GuestProcess:
    """A started engine under its keeper; `line` is our end of the agent's channel."""

    def __init__(
        self, folder: Path, command: Callable[[int], tuple[str, ...]], *, environment: Mapping[str, str],
        fence: Fence | None = None, memory: Path | None = None, one_cpu: bool = False,
    ) -> None:  # fmt: skip
        """Starts what `command` makes of the channel's descriptor number, in `folder`, which it takes over.

        So it does with the folder `memory`, if the guest has one. With `one_cpu` the engine stays on one, any one.
        """
        self._folders: tuple[Path, ...] = (folder, *((memory,) if memory is not None else ()))
        self.line, inner = socket.socketpair()
        lifeline, self._hold = os.pipe()
        console = (folder / "console.log").open("ab")
        # Kept open for reading: the tail must be readable when the folder is gone already.
        self._console = (folder / "console.log").open("rb")
        orders = {"folders": [str(path) for path in self._folders], "one_cpu": one_cpu,
                  "fence": asdict(fence) if fence else None}  # fmt: skip
        home = Path(cgroup_preflight.__file__).parents[1]
        argv = (str(home), str(lifeline), str(os.getpid()), json.dumps(orders), *command(inner.fileno()))
        try:
            self._keeper = subprocess.Popen(
                (sys.executable, "-I", "-S", "-B", "-c", _KEEPER, *argv),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                pass_fds=(lifeline, inner.fileno()),
                env=dict(environment),
                # Ctrl-C at the terminal is for us; the guest is ended in order.
                start_new_session=True,
            )
        except BaseException:
            self._console.close()
            self.line.close()
            os.close(self._hold)
            self._remove_folders()
            raise
        finally:
            console.close()
            inner.close()
            os.close(lifeline)

    def console_tail(self, lines: int) -> tuple[str, ...]:
        """The last lines of kernel messages and console."""
        size = os.fstat(self._console.fileno()).st_size
        self._console.seek(max(0, size - 65536))
        text = self._console.read().decode(errors="replace")
        return last_lines(text, lines)

    def close(self) -> None:
        """Ends every process of the guest and removes its folder; may be called twice."""
        if self._hold < 0:
            return
        os.close(self._hold)
        self._hold = -1
        self.line.close()
        self._console.close()
        try:
            self._keeper.wait(_CLOSE_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        self._remove_folders()

    def fence(self) -> str:
        """What keeps the started engine from the host, in words; empty before it was started."""
        try:
            return (self._folders[0] / keeper.FENCE_NOTE).read_text(errors="replace")
        except OSError:
            return ""

    def _remove_folders(self) -> None:
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)


def last_lines(text: str, count: int) -> tuple[str, ...]:
    """The `count` lines of console `text` that say most: from a kernel panic on, else the last ones."""
    plain = _ESCAPES.sub("", text)
    lines = tuple(line.rstrip() for line in plain.splitlines() if line.strip())
    for at, line in enumerate(lines):
        if "Kernel panic" in line:
            # The two lines before name the cause of many a panic; its stack trace would push both out of the tail.
            return lines[max(0, at - 2) : max(0, at - 2) + count]
    return lines[-count:]


def make_folder() -> Path:
    """A new private folder below the temporary directory, or below /tmp where that has an odd name.

    Its path becomes part of user-mode-linux's command line, which is split at blanks, commas and colons, and of the
    paths of sockets (108 bytes).
    """
    temporary = tempfile.gettempdir()
    usual = temporary if _PLAIN_PATH.fullmatch(temporary) else "/tmp"
    return Path(tempfile.mkdtemp(prefix="cgpf-", dir=usual))
