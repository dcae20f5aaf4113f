"""Time and the terminal as publishing sees them; tests bring their own.

One limit on wall time around everything that waits for a forge.
"""

import threading
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


def run_within(seconds: float, job: Callable[[], None]) -> None:
    """Runs `job` in a thread of its own, and waits for its end as long as that.

    The seam has time-outs, but each of them begins anew with every byte, and a server can send one a second for
    hours. The thread is a daemon: what it still waits for ends with the process.
    """
    ended = threading.Event()

    def work() -> None:
        try:
            job()
        finally:
            ended.set()

    threading.Thread(target=work, name="publish", daemon=True).start()
    ended.wait(seconds)
