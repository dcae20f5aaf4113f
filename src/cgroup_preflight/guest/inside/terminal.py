"""A shell at a terminal inside the guest, for `guest shell`. Linux only; runs as root."""

import fcntl
import os
import pty
import select
import struct
import termios
from dataclasses import dataclass

_READ = 1 << 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """A process that leads a session of its own; `master` is our end of its terminal."""

    pid: int
    master: int


def start(argv: list[str], environment: dict[str, str], *, rows: int, columns: int) -> Terminal:
    """Starts `argv` at a new terminal of this size."""
    pid, master = pty.fork()
    if pid == 0:
        try:
            os.chdir("/root")
            os.execvpe(argv[0], argv, environment)
        finally:
            os._exit(127)
    resize(Terminal(pid=pid, master=master), rows=rows, columns=columns)
    return Terminal(pid=pid, master=master)


def resize(terminal: Terminal, *, rows: int, columns: int) -> None:
    """Tells the terminal its size, in characters (ioctl_tty(2), TIOCSWINSZ)."""
    fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def exchange(terminal: Terminal, typed: bytes, *, timeout: float) -> tuple[bytes, int | None]:
    """Types, waits up to `timeout` seconds for output, and returns it with the exit status once the shell has ended."""
    while typed:
        typed = typed[os.write(terminal.master, typed) :]
    readable, _, _ = select.select([terminal.master], [], [], timeout)
    try:
        shown = os.read(terminal.master, _READ) if readable else b""
    except OSError:  # EIO: the last process has closed its end (pty(7))
        shown = b""
    if readable and not shown:
        _, status = os.waitpid(terminal.pid, 0)
        os.close(terminal.master)
        return b"", os.waitstatus_to_exitcode(status)
    return shown, None
