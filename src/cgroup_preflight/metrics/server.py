"""The HTTP server of the exporter: few answers, and limits on everything that a client can use up.

Where there are too many connections, the one that waits longest for its request or for a snapshot is closed; where there are
too many answers at once, the one whose client has read nothing for the longest time. So clients that do nothing cannot keep out the others.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping, Sequence

from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.metrics.exposition import Style, style_for, wants_gzip
from cgroup_preflight.metrics.request import HEAD_MAX, RefusedError, Request, parse_request, response_head

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object

#: Seconds: for a request to arrive whole, between two requests, and for a client to read a whole answer.
_HEAD_SECONDS, _IDLE_SECONDS, _ANSWER_SECONDS = 5.0, 120.0, 20.0
#: Connections without a request, those that wait for a snapshot, and answers that are being sent.
_WAITING_MAX, _PENDING_MAX, _ANSWERS_MAX = 128, 256, 64
#: Bytes that are given to a connection at once.
_BATCH = 1 << 16
_BACKLOG = 4096
_PLAIN = {"Content-Type": "text/plain; charset=utf-8"}
_INDEX = b"cgroup-preflight exporter\n\n/metrics  the metrics of all slices and units\n/healthz  whether snapshots are taken\n"


class Pages(Protocol):
    """What is served."""

    async def page(self, style: Style, *, packed: bool, seconds: float) -> Sequence[bytes]:
        """The metrics in parts, after at most so many seconds. Raises TimeoutError where there are none yet."""

    def healthy(self) -> bool:
        """Whether snapshots are taken in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    parts: Sequence[bytes]


class _Connection:
    """One client: since when nothing has happened, and the task that serves it."""

    __slots__ = ("since", "task", "writer")

    def __init__(self, writer: asyncio.StreamWriter, task: "asyncio.Task[None]", since: float) -> None:
        self.writer = writer
        self.task = task
        self.since = since


class Server:
    """Serves `pages`; `scrape_seconds` is how long a scrape may wait for a new snapshot."""

    def __init__(self, pages: Pages, scrape_seconds: float) -> None:
        self._pages = pages
        self._scrape_seconds = scrape_seconds
        self._waiting: dict[_Connection, None] = {}
        self._pending: dict[_Connection, None] = {}
        self._answering: dict[_Connection, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> asyncio.Server:
        """Listens. Raises OSError."""
        return await asyncio.start_server(self._accept, host, port, limit=HEAD_MAX, backlog=_BACKLOG)

    async def close(self) -> None:
        """Ends all connections."""
        for connection in (*self._waiting, *self._pending, *self._answering):
            connection.writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection = _Connection(writer, task, self._now())
        writer.transport.set_write_buffer_limits(high=_BATCH)
        # The kernel would take megabytes for each client that reads nothing.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _BATCH)
        try:
            await self._serve(connection, reader)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            pass  # the client is gone, or too slow
        finally:
            for among in (self._waiting, self._pending, self._answering):
                among.pop(connection, None)
            writer.transport.abort()
            self._tasks.discard(task)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def _serve(self, connection: _Connection, reader: asyncio.StreamReader) -> None:
        seconds, keeps = _HEAD_SECONDS, True
        while keeps:
            try:
                request = await self._request(connection, reader, seconds)
                answer, keeps = await self._answer(connection, request), request.keeps
                if request.method == "HEAD":
                    answer = _Answer(status=answer.status, headers=_sized(answer), parts=())
            except RefusedError as refused:
                answer, keeps = _text(refused.status, f"{refused}\n".encode()), False
            await self._send(connection, answer, keeps=keeps)
            seconds = _IDLE_SECONDS
        connection.writer.write_eof()
        # Closing at once would reset the connection where the client has sent more, and take the answer back.
        _note(self._waiting, connection, _WAITING_MAX)
        async with asyncio.timeout(1.0):
            while await reader.read(HEAD_MAX):
                pass

    async def _request(self, connection: _Connection, reader: asyncio.StreamReader, seconds: float) -> Request:
        connection.since = self._now()
        _note(self._waiting, connection, _WAITING_MAX)
        try:
            async with asyncio.timeout(seconds):
                return parse_request(await reader.readuntil(b"\r\n\r\n"))
        except asyncio.LimitOverrunError:
            raise RefusedError(431) from None
        finally:
            self._waiting.pop(connection, None)

    async def _answer(self, connection: _Connection, request: Request) -> _Answer:
        if request.path == "/metrics":
            _note(self._pending, connection, _PENDING_MAX)
            try:
                return await self._metrics(request)
            finally:
                self._pending.pop(connection, None)
        if request.path == "/healthz":
            return _text(200, b"ok\n") if self._pages.healthy() else _text(503, b"the last snapshot is too old\n")
        return _text(200, _INDEX) if request.path == "/" else _text(404, b"not found; see /metrics\n")

    async def _metrics(self, request: Request) -> _Answer:
        style = style_for(request.headers.get("accept", ""))
        packed = wants_gzip(request.headers.get("accept-encoding", ""))
        try:
            seconds = min(self._scrape_seconds, _client_seconds(request) / 2)
            parts = await self._pages.page(style, packed=packed, seconds=seconds)
        except TimeoutError:
            return _text(503, b"no snapshot yet\n")
        headers = {"Content-Type": style.value, "Vary": "Accept, Accept-Encoding"}
        return _Answer(status=200, headers=headers | ({"Content-Encoding": "gzip"} if packed else {}), parts=parts)

    async def _send(self, connection: _Connection, answer: _Answer, *, keeps: bool) -> None:
        connection.since = self._now()
        _note(self._answering, connection, _ANSWERS_MAX)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                headers = answer.headers if "Content-Length" in answer.headers else _sized(answer)
                connection.writer.write(response_head(answer.status, headers, keeps=keeps))
                await self._write(connection, answer.parts)
        finally:
            self._answering.pop(connection, None)

    async def _write(self, connection: _Connection, parts: Sequence[bytes]) -> None:
        """Writes in batches, so that no connection has a whole page in its buffer."""
        batch, size = list[bytes](), 0
        for part in parts:
            batch.append(part)
            size += len(part)
            if size >= _BATCH:
                await self._flush(connection, b"".join(batch))
                batch, size = [], 0
        await self._flush(connection, b"".join(batch))

    async def _flush(self, connection: _Connection, data: bytes) -> None:
        for start in range(0, len(data), _BATCH):
            connection.writer.write(data[start : start + _BATCH])
            await connection.writer.drain()
            connection.since = self._now()


def _note(among: dict[_Connection, None], connection: _Connection, most: int) -> None:
    """Adds a connection; above the limit, the one where nothing has happened for the longest time is closed."""
    if len(among) >= most:
        oldest = min(among, key=lambda each: each.since)
        del among[oldest]
        oldest.writer.transport.abort()
        # One that waits for a snapshot would not notice.
        oldest.task.cancel()
    among[connection] = None


def _text(status: int, text: bytes) -> _Answer:
    allow = {"Allow": "GET, HEAD"} if status == 405 else {}
    return _Answer(status=status, headers=_PLAIN | allow, parts=(text,))


def _sized(answer: _Answer) -> dict[str, str]:
    return {**answer.headers, "Content-Length": str(sum(map(len, answer.parts)))}


def _client_seconds(request: Request) -> float:
    """How long the client waits for a scrape: Prometheus says it in a header."""
    try:
        seconds = float(request.headers.get("x-prometheus-scrape-timeout-seconds", ""))
    except ValueError:
        return float("inf")
    return seconds if seconds > 0 else float("inf")


async def serve(server: Server, host: str, port: int, ready: Callable[[str], None], stop: asyncio.Event) -> None:
    """Serves until `stop` is set; `ready` is called with each address. Raises OSError."""
    listening = await server.start(host, port)
    for each in listening.sockets:
        name = each.getsockname()
        ready(f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}")
    try:
        await stop.wait()
    finally:
        listening.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(server.close(), 2.0)
