"""Time and the terminal as publishing sees them; tests bring their own."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """`monotonic` for deadlines, `wall` (Unix time) for dates in answers, `sleep` in seconds."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """`say` prints a line to stdout, where GitHub's runner looks for commands."""

    say: Callable[[str], None]
    clock: Clock
