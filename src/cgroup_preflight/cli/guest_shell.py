"""The terminal of `guest shell`: keys go to the guest, and what it prints comes back."""

import os
import select
import shutil
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

from cgroup_preflight.guest.bare import BareGuest
from cgroup_preflight.guest.session import Guest

#: Seconds that the guest waits for output before we read the keyboard again: the largest delay of a key.
_TURN = 0.03


def attach(guest: Guest | BareGuest) -> int:
    """Runs a shell in `guest` on this terminal (or on pipes) until it ends; its exit status. Raises HostError."""
    keyboard, screen = sys.stdin.fileno(), sys.stdout.fileno()
    size = shutil.get_terminal_size()
    guest.open_terminal(["bash", "-l"], rows=size.lines, columns=size.columns)
    watched = [keyboard]
    with _raw(keyboard):
        while True:
            typed = b""
            if watched and select.select(watched, [], [], 0)[0]:
                typed = os.read(keyboard, 1024)
                if not typed:
                    # The end of a pipe is Ctrl-D at a terminal.
                    watched, typed = [], b"\x04"
            shown, status = guest.exchange(typed, timeout=_TURN)
            while shown:
                shown = shown[os.write(screen, shown) :]
            if status is not None:
                return status


@contextmanager
def _raw(keyboard: int) -> Iterator[None]:
    """Sends every key to the guest, Ctrl-C too."""
    if not os.isatty(keyboard):
        yield
        return
    before = termios.tcgetattr(keyboard)
    tty.setraw(keyboard)
    try:
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
