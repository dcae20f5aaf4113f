"""The exporter at work: a snapshot every interval, or earlier for a scrape, and the reports of the kernel.

All reading is done by one thread, so that a file of the kernel that takes long never keeps a client waiting for an answer
beyond its deadline.
"""

import asyncio
import contextlib
import functools
import gc
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from cgroup_preflight.core.errors import PreflightError
from cgroup_preflight.metrics.exposition import Style
from cgroup_preflight.metrics.readings import Readings

T = TypeVar("T")

#: A scrape gets a snapshot that is at most this old.
FRESH_SECONDS = 1.0
#: How long a scrape waits for a new snapshot before it gets the one before.
DEADLINE_SECONDS = 5.0
#: Between two readings because of reports of the kernel.
_PAUSE_SECONDS = 0.1


class _Reader:
    """The thread that reads. It ends with the process, also while a read does not return."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="reader", daemon=True).start()

    def _work(self) -> None:
        while True:
            self._jobs.get()()

    def call(self, act: Callable[[], T]) -> "asyncio.Future[T]":
        """What `act` returns or raises in that thread."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            try:
                result = act()
            except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                answer = functools.partial(_fail, future, error)
            else:
                answer = functools.partial(_finish, future, result)
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile, and nobody waits
                loop.call_soon_threadsafe(answer)

        self._jobs.put(run)
        return future


def _finish(future: "asyncio.Future[T]", result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: "asyncio.Future[T]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


class Service:
    """Keeps `readings` fresh; `publish` is called after each snapshot of the interval, with the page in the text format."""

    def __init__(self, readings: Readings, interval: float, publish: Callable[[bytes], None] | None = None) -> None:
        self._readings = readings
        self._interval = interval
        self._publish = publish
        self._reader = _Reader()
        self._refreshing: asyncio.Future[None] | None = None
        self._rendering: dict[tuple[Style, bool], asyncio.Future[list[bytes]]] = {}
        self._stale: set[tuple[Style, bool]] = set()
        self._pages: dict[tuple[Style, bool], Sequence[bytes]] = {}

    def healthy(self) -> bool:
        """Whether the last snapshot is not older than three intervals."""
        return self._readings.age_seconds < 3 * self._interval + DEADLINE_SECONDS

    async def page(self, style: Style, *, packed: bool, seconds: float) -> Sequence[bytes]:
        """The page with a snapshot of the last second, or the one before where that takes longer than `seconds`.

        Raises TimeoutError where there is none.
        """
        key = (style, packed)
        try:
            async with asyncio.timeout(seconds):
                if self._readings.age_seconds > FRESH_SECONDS:
                    await self._refresh()
                self._pages[key] = await self._render(style, packed=packed)
        except TimeoutError:
            self._readings.own.errors["deadline"] += 1
            if key not in self._pages:
                raise
        return self._pages[key]

    async def _refresh(self) -> None:
        """Takes one snapshot, however many wait for it."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = self._reader.call(self._readings.refresh)
            self._refreshing.add_done_callback(lambda _: self._stale.update(self._rendering))
        await asyncio.shield(self._refreshing)

    async def _render(self, style: Style, *, packed: bool) -> list[bytes]:
        """Makes a page where it is stale, once, however many wait for it."""
        key = (style, packed)
        if key in self._stale or key not in self._rendering:
            # Before the wait: what comes meanwhile makes it stale again.
            self._stale.discard(key)
            self._rendering[key] = self._reader.call(lambda: self._readings.render(style, packed=packed))
        return await asyncio.shield(self._rendering[key])

    async def run(self, complain: Callable[[str], None]) -> None:
        """Takes snapshots until it is cancelled."""
        frozen = False
        while True:
            age = self._readings.age_seconds
            if age < self._interval:
                await asyncio.sleep(self._interval - age)
                continue
            await self._refresh()
            if not frozen:
                # What the first snapshot made stays. Each collection of cycles would look at all of it again.
                gc.freeze()
                frozen = True
            if self._publish is not None:
                await self._write(self._publish, complain)

    async def _write(self, publish: Callable[[bytes], None], complain: Callable[[str], None]) -> None:
        try:
            parts = await self.page(Style.TEXT, packed=False, seconds=DEADLINE_SECONDS)
            await self._reader.call(lambda: publish(b"".join(parts)))
        except PreflightError as error:
            complain(str(error))
        except TimeoutError:
            complain("the first page takes long; it is written after the next snapshot")

    async def follow(self, handle: int) -> None:
        """Reads again whenever the kernel reports something at `handle`, until it is cancelled."""
        loop, quiet_until = asyncio.get_running_loop(), 0.0
        while True:
            woken = await _reported(handle)
            # What comes in this time is read together.
            await asyncio.sleep(max(quiet_until - loop.time(), 0.0))
            await self._reader.call(functools.partial(self._readings.notice, woken))
            self._stale.update(self._rendering)
            quiet_until = loop.time() + _PAUSE_SECONDS


async def _reported(handle: int) -> int:
    """Waits until there is something to read; since when, CLOCK_MONOTONIC in nanoseconds."""
    loop = asyncio.get_running_loop()
    reported: asyncio.Future[int] = loop.create_future()
    loop.add_reader(handle, lambda: _finish(reported, time.monotonic_ns()))
    try:
        return await reported
    finally:
        loop.remove_reader(handle)
