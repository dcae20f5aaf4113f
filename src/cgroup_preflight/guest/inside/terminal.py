"""A shell at a terminal inside the guest, for `guest shell`. Needs root."""

import fcntl
import os
import pty
import select
import struct
import termios
from typing import NamedTuple

_READ = 1 << 15


class Terminal(NamedTuple):
    """A process with its own terminal; `master` is the agent's end of it."""

    pid: int
    master: int


def start(argv: list[str], environment: dict[str, str], *, rows: int, columns: int) -> Terminal:
    """Starts `argv` at a new terminal of this size in characters."""
    pid, master = pty.fork()
    if pid == 0:
        try:
            os.chdir("/root")
            os.execvpe(argv[0], argv, environment)
        finally:
            os._exit(127)
    _resize(Terminal(pid=pid, master=master), rows=rows, columns=columns)
    return Terminal(pid=pid, master=master)


def _resize(terminal: Terminal, *, rows: int, columns: int) -> None:
    """Sets the size of the terminal in characters (ioctl_tty(2), TIOCSWINSZ)."""
    fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def exchange(terminal: Terminal, typed: bytes, *, timeout: float) -> tuple[bytes, int | None]:
    """Types, waits up to `timeout` seconds for output; returns it, and the exit status once the shell has ended."""
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
