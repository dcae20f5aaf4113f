"""Time and the terminal as publishing sees them, so that tests can hand in their own."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestClock:
    """`monotonic` for deadlines, `wall` (Unix time) for dates in answers, `sleep` in seconds."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """`say` prints one line to stdout, where GitHub's runner looks for commands."""

    say: Callable[[str], None]
    clock: RequestClock


def run_within(seconds: float, job: Callable[[], None]) -> None:
    """Runs `job` in a thread of its own and waits at most `seconds` for its end.

    The time-out of a request begins again with every byte, so a server that sends one byte a second could block for
    hours. The thread is a daemon: if it still waits, it ends with the process.
    """
    ended = threading.Event()

    def work() -> None:
        try:
            job()
        finally:
            ended.set()

    threading.Thread(target=work, name="publish", daemon=True).start()
    ended.wait(seconds)
