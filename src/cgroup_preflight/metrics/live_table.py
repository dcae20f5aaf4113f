"""`diagnose --watch`: the table in a terminal, updated every two seconds; plain lines where there is no terminal."""

import contextlib
import os
import select
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from cgroup_preflight.metrics.choice import find
from cgroup_preflight.metrics.contention import judge
from cgroup_preflight.metrics.diagnosis import percent
from cgroup_preflight.metrics.live_rows import KEYS, rows_of, table
from cgroup_preflight.metrics.moment import Moment
from cgroup_preflight.metrics.series import series_of
from cgroup_preflight.metrics.window import below

_EVERY = 2.0
_PLAIN_LINES = 200
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"


class Screen:
    """Where the table goes: `size` is columns and lines, `key` waits so long for a key, and is empty without one."""

    def __init__(
        self, size: Callable[[], tuple[int, int]], key: Callable[[float], str], show: Callable[[Sequence[str]], None]
    ) -> None:
        self.size = size
        self.key = key
        self.show = show


def watch(read: Callable[[], Moment], words: Sequence[str], seconds: float) -> int:
    """Until `q`, or until nobody reads what is written. Raises UsageError for a unit that does not exist."""
    first = read()
    tops = tuple(path for word in words for path in find(word, first.snapshot.samples))
    with contextlib.suppress(BrokenPipeError):
        if sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
            with _terminal() as screen:
                follow(screen, read, first, tops, seconds)
        else:
            follow(_plain(), read, first, tops, seconds)
    return 0


def follow(screen: Screen, read: Callable[[], Moment], first: Moment, tops: Sequence[str], seconds: float) -> None:
    """Reads and shows again and again; returns when `q` is pressed."""
    moments, sort = deque([first]), "c"
    key = screen.key(min(_EVERY, seconds))
    while key not in ("q", "\x03", "\x04"):
        sort = key if key in KEYS else sort
        if not key or len(moments) < 2:
            moments.append(read())
            while len(moments) > 2 and moments[-1].time - moments[1].time >= seconds:
                moments.popleft()
        screen.show(_lines(moments, tops, sort, screen.size()))
        key = screen.key(_EVERY)


def _lines(moments: Sequence[Moment], tops: Sequence[str], sort: str, size: tuple[int, int]) -> list[str]:
    try:
        series = series_of(tuple(moments))
    except ValueError:
        return ["the clock did not move"]
    answer = judge(series, tops)
    rows = [row for row in rows_of(series, answer.diagnoses, sort) if not tops or below(row.path, tops)]
    host = series.whole.host
    busy = "?" if host.busy is None else percent(host.busy)
    keys = " ".join(KEYS)
    head = f"{series.whole.seconds:.0f} s, {host.cpus} CPUs {busy} busy, sorted by {KEYS[sort]}; keys: {keys}, q=quit"
    return table(rows, size[0], size[1], head)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _plain() -> Screen:
    """Blocks of lines, each with an empty one after it."""

    def key(wait: float) -> str:
        time.sleep(wait)
        return ""

    return Screen(lambda: (132, _PLAIN_LINES), key, lambda lines: _write("\n".join([*lines, "", ""])))


@contextlib.contextmanager
def _terminal() -> Iterator[Screen]:
    """The terminal without echo and without waiting for whole lines; afterwards it is as before."""
    import termios
    import tty

    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)

    def size() -> tuple[int, int]:
        found = os.get_terminal_size(sys.stdout.fileno())
        return found.columns or 80, found.lines or 24

    def key(wait: float) -> str:
        ready, _, _ = select.select([handle], [], [], wait)
        if not ready:
            return ""
        # An empty read: the terminal is gone.
        return os.read(handle, 1).decode("ascii", "replace").lower() or "q"

    def show(lines: Sequence[str]) -> None:
        _write("\x1b[H" + "\x1b[K\n".join(lines) + "\x1b[K\x1b[J")

    try:
        tty.setcbreak(handle)
        _write(_ENTER)
        yield Screen(size, key, show)
    finally:
        with contextlib.suppress(OSError):
            _write(_LEAVE)
        termios.tcsetattr(handle, termios.TCSADRAIN, before)
