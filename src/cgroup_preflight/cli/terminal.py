"""What the terminal is like: whether to use colour, and its width."""

import os
import sys

from cgroup_preflight.core.records import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

#: The narrowest that lines are broken for, columns.
_NARROWEST = 40


def use_colour() -> bool:
    """Whether to use colour on stdout: on a terminal, or where FORCE_COLOR is set; never where NO_COLOR is.

    An empty variable counts as not set (no-color.org, force-color.org); of both, NO_COLOR wins, as in Python itself.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return _is_terminal(sys.stdout) and os.environ.get("TERM") != "dumb"


def width_of(stream: "TextIO | None") -> int | None:
    """The columns of the terminal behind `stream`; None for a file or a pipe, whose lines stay whole.

    COLUMNS wins, as everywhere else.
    """
    if stream is None or not _is_terminal(stream):
        return None
    try:
        columns = int(os.environ.get("COLUMNS") or os.get_terminal_size(stream.fileno()).columns)
    except (ValueError, OSError):
        return None
    # A terminal that nobody told its size says 0.
    return max(columns, _NARROWEST) if columns > 0 else None


def _is_terminal(stream: "TextIO | None") -> bool:
    return stream is not None and stream.isatty()
