"""Runs the reading half of a pipeline in a thread: unpacking and packing then use two processors, as in a shell."""

import queue
import threading
from collections.abc import Iterable, Iterator

#: Chunks in flight; more only cost memory.
_DEPTH = 8


def ahead(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same chunks; what they raise is raised here. The thread ends when this generator does."""
    fifo: queue.Queue[bytes | BaseException | None] = queue.Queue(_DEPTH)
    stop = threading.Event()
    thread = threading.Thread(target=_fill, args=(chunks, fifo, stop), daemon=True)
    thread.start()
    try:
        while (item := fifo.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        while thread.is_alive():
            try:
                fifo.get(timeout=0.05)
            except queue.Empty:
                continue
        thread.join()


def _fill(chunks: Iterable[bytes], fifo: "queue.Queue[bytes | BaseException | None]", stop: threading.Event) -> None:
    try:
        for chunk in chunks:
            fifo.put(chunk)
            if stop.is_set():
                return
        fifo.put(None)
    except BaseException as error:  # noqa: BLE001 - it is raised again on the other side
        fifo.put(error)
