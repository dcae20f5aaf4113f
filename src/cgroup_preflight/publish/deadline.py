"""One limit on wall time around everything that waits for a forge."""

import threading
from collections.abc import Callable


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
