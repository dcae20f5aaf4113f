"""A time limit for what has none of its own: a search by a regular expression, an answer that comes byte by byte."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class TooSlow(Exception):
    """The time of `time_limit` is over."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TooSlow after `seconds`, also inside a search that never ends. Main thread only."""

    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
