"""One limit on wall time around everything that waits for a forge."""

import threading
from collections.abc import Callable, Sequence


def run_within(seconds: float, jobs: Sequence[Callable[[], None]]) -> bool:
    """Runs `jobs` in order in a thread of its own; False where they have not ended in time.

    The seam has time-outs, but each of them begins anew with every byte, and a server can send one a second for
    hours. The thread is a daemon: what it still waits for ends with the process.
    """
    ended = threading.Event()

    def work() -> None:
        try:
            for job in jobs:
                job()
        finally:
            ended.set()

    threading.Thread(target=work, name="publish", daemon=True).start()
    return ended.wait(seconds)
