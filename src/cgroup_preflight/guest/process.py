"""A guest as a process of the host, with its folder, keeper and console; closing it removes all of them."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cgroup_preflight
from cgroup_preflight.core.records import asdict, dataclass
from cgroup_preflight.guest import keeper
from cgroup_preflight.guest.ended import has_ended

#: Seconds that the keeper may take to kill a closed guest.
_CLOSE_TIMEOUT = 20.0
#: Terminal control sequences that systemd writes to a serial console (ECMA-48 CSI, and OSC up to BEL).
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*\x07?)")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+@~-]{1,70}")
#: Starts the keeper without the site packages of the user's Python; it ends at once when all is done.
_KEEPER = (
    "import os, sys; sys.path.append(sys.argv[1]); from cgroup_preflight.guest import keeper; "
    "keeper.main(sys.argv[2:]); os._exit(0)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """What an engine may use of the host: the arguments of `fence.put_up`."""

    programs: tuple[str, ...] = ()
    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    network: bool = False


class GuestProcess:
    """An engine under its keeper; `lines` are the host's ends of the lines into the guest, `line` the first."""

    def __init__(
        self, folders: Sequence[Path], command: Callable[[tuple[int, ...]], tuple[str, ...]], *,
        environment: Mapping[str, str], fence: Fence | None = None, one_cpu: bool = False, lines: int = 1,
    ) -> None:  # fmt: skip
        """Starts the keeper. `command` makes the engine's argv from the descriptor numbers of the guest's ends of the lines.

        Owns `folders`, of which the first is the guest's own, and removes them in the end. With `one_cpu` the engine
        runs on one CPU only.
        """
        self._folders = tuple(folders)
        folder = self._folders[0]
        pairs = [socket.socketpair() for _ in range(lines)]
        self.lines = tuple(outer for outer, _ in pairs)
        #: Whether the machine paused in its boot, and the file of the saved state if it resumed from one there.
        self.paused = False
        self.resumed_from: Path | None = None
        #: Puts the inputs of this run on the disk of a machine that pauses in its boot, or with `alone` the agent and the tool.
        self.fill: Callable[..., None] = _no_disk
        self.line, inner = self.lines[0], tuple(end.fileno() for _, end in pairs)
        lifeline, self._hold = os.pipe()
        console = (folder / "console.log").open("ab")
        # Open for reading from the start, because the folder may be removed before somebody reads the tail.
        self._console = (folder / "console.log").open("rb")
        orders = {"folders": [str(path) for path in self._folders], "one_cpu": one_cpu,
                  "fence": asdict(fence) if fence else None}  # fmt: skip
        home = Path(cgroup_preflight.__file__).parents[1]
        argv = (str(home), str(lifeline), str(os.getpid()), json.dumps(orders), *command(inner))
        try:
            self._keeper = subprocess.Popen(
                (sys.executable, "-I", "-S", "-B", "-c", _KEEPER, *argv),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                pass_fds=(lifeline, *inner),
                env=dict(environment),
                # Ctrl-C at the terminal must reach us only; we then end the guest.
                start_new_session=True,
            )
        except BaseException:
            self._console.close()
            self._close_lines()
            os.close(self._hold)
            self._remove_folders()
            raise
        finally:
            console.close()
            for _, end in pairs:
                end.close()
            os.close(lifeline)

    def begin(self) -> None:
        """Starts the engine; until then the keeper, which takes a moment to be ready, waits."""
        # A keeper that is gone shows where the guest's first words are expected.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._hold, keeper.BEGIN)

    def console_tail(self, lines: int) -> tuple[str, ...]:
        """The last lines of kernel messages and console."""
        size = os.fstat(self._console.fileno()).st_size
        self._console.seek(max(0, size - 65536))
        text = self._console.read().decode(errors="replace")
        return _last_lines(text, lines)

    def end(self) -> None:
        """Ends every process of the guest, whose lines end with it; what is on this host stays until `close`."""
        hold, self._hold = self._hold, -1
        if hold >= 0:
            os.close(hold)

    def close(self) -> None:
        """Ends every process of the guest and removes its folders; may be called twice."""
        if self._console.closed:
            return
        self.end()
        self._close_lines()
        self._console.close()
        if not has_ended(self._keeper, _CLOSE_TIMEOUT):
            self._keeper.kill()
            self._keeper.wait()
        self._remove_folders()

    def fence(self) -> str:
        """What confines the engine, in words; empty until the engine has started."""
        try:
            return (self._folders[0] / keeper.FENCE_NOTE).read_text(errors="replace")
        except OSError:
            return ""

    def _close_lines(self) -> None:
        for line in self.lines:
            line.close()

    def _remove_folders(self) -> None:
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)


def _no_disk(*, alone: bool) -> None:
    """The disk of other machines is written before they start."""


def _last_lines(text: str, count: int) -> tuple[str, ...]:
    """At most `count` lines of console `text`: from a kernel panic on, else the last ones."""
    plain = _ESCAPES.sub("", text)
    lines = tuple(line.rstrip() for line in plain.splitlines() if line.strip())
    for at, line in enumerate(lines):
        if "Kernel panic" in line:
            # The two lines before a panic often name its cause; the stack trace after it would push them out of the tail.
            return lines[max(0, at - 2) : max(0, at - 2) + count]
    return lines[-count:]


def make_folder() -> Path:
    """A new private folder in the temporary directory, or in /tmp if that directory has an unusual or long name.

    user-mode-linux splits its command line at blanks, commas and colons, and a socket's path has at most 108 bytes.
    """
    temporary = tempfile.gettempdir()
    usual = temporary if _PLAIN_PATH.fullmatch(temporary) else "/tmp"
    return Path(tempfile.mkdtemp(prefix="cgpf-", dir=usual))
