"""The HTTP server with real connections on loopback: good clients, wrong requests, and clients that want to do harm."""

import asyncio
import gzip
import http.client
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from ci.cgroup_tree import CgroupTree

from cgroup_preflight.metrics import server as server_module
from cgroup_preflight.metrics.exposition import Style
from cgroup_preflight.metrics.readings import Readings
from cgroup_preflight.metrics.request import RefusedError, parse_request
from cgroup_preflight.metrics.server import Server, serve
from cgroup_preflight.metrics.service import Service
from tests.unit.metrics.conftest import readings_of


class Running:
    """A server in a thread of its own."""

    def __init__(self, pages: object, scrape_seconds: float = 5.0) -> None:
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._stop: asyncio.Event
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(pages, scrape_seconds))
        self._thread.start()
        assert self._ready.wait(20)

    def _run(self, pages: object, scrape_seconds: float) -> None:
        async def main() -> None:
            self._stop = asyncio.Event()
            await serve(Server(pages, scrape_seconds), "127.0.0.1", 0, self._note, self._stop)  # type: ignore[arg-type]

        self._loop.run_until_complete(main())
        self._loop.close()

    def _note(self, address: str) -> None:
        self.port = int(address.rpartition(":")[2])
        self._ready.set()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    def connect(self, timeout: float = 20) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def get(self, path: str = "/metrics", method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def raw(self, data: bytes) -> bytes:
        with self.connect() as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.fixture
def run() -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def start(pages: object, **options: float) -> Running:
        running.append(Running(pages, **options))
        return running[-1]

    yield start
    for each in running:
        each.stop()


@pytest.fixture
def readings(cgroups: CgroupTree) -> Readings:
    return readings_of(cgroups, time.monotonic_ns)


@pytest.fixture
def served(run: Callable[..., Running], readings: Readings) -> Running:
    return run(Service(readings, 5.0))


class BigPage:
    """A page of 4 MB; `delay` is how long it takes to make it."""

    def __init__(self, *, delay: float = 0.0, known: bool = True) -> None:
        self.parts = [b"x" * 999 + b"\n"] * 4000
        self.delay = delay
        self.known = known

    async def page(self, style: Style, *, packed: bool, seconds: float) -> Sequence[bytes]:
        del style, packed
        if self.delay > seconds and not self.known:
            await asyncio.sleep(seconds)
            raise TimeoutError
        await asyncio.sleep(min(self.delay, seconds))
        return self.parts

    def healthy(self) -> bool:
        return self.known


def test_scrapes_with_a_real_client(served: Running, cgroups: CgroupTree) -> None:
    status, headers, text = served.get()
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert int(headers["content-length"]) == len(text)
    assert b'\nslice_pids_current{slice="a.slice",unit="one.service"} 1\n' in text
    cgroups.use_cpu("/a.slice/one.service", 5)
    time.sleep(1.1)
    status, headers, packed = served.get(Accept="application/openmetrics-text", Accept_Encoding="gzip")
    assert headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert (headers["content-encoding"], headers["vary"]) == ("gzip", "Accept, Accept-Encoding")
    text = gzip.decompress(packed)
    assert text.endswith(b"\n# EOF\n")
    assert b'{slice="a.slice",unit="one.service",mode="user"} 0.000005\n' in text


def test_what_else_is_served(served: Running) -> None:
    served.get()
    assert served.get("/healthz")[::2] == (200, b"ok\n")
    assert b"/metrics" in served.get("/")[2]
    assert served.get("/metrics?name=x")[0] == 200
    status, headers, body = served.get(method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 1000
    assert served.get("/etc/passwd")[0] == 404
    status, headers, _ = served.get(method="POST")
    assert (status, headers["allow"]) == (405, "GET, HEAD")


def test_one_connection_for_many_scrapes(served: Running) -> None:
    client = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    for _ in range(3):
        client.request("GET", "/metrics")
        assert len(client.getresponse().read()) > 1000
        ours = client.sock.getsockname() if client.sock else None
        assert ours is not None
    client.close()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /metrics HTTP/1.0\r\n\r\n", 200),
        (b"GET  /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET http://x/ HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n folded: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"DELETE / HTTP/1.1\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 20000 + b"\r\n\r\n", 431),
    ],
)
def test_wrong_requests(served: Running, data: bytes, status: int) -> None:
    answer = served.raw(data)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer[:80]
    assert b"Connection: close" in answer


def test_a_header_that_comes_twice_is_one_list() -> None:
    request = parse_request(b"GET /m?x HTTP/1.1\r\nAccept: a\r\naccept:b \r\n\r\n")
    assert (request.path, request.headers["accept"], request.keeps) == ("/m", "a, b", True)
    with pytest.raises(RefusedError):
        parse_request(b"\r\n\r\n")


def test_a_scrape_that_takes_too_long_gets_the_page_before(run: Callable[..., Running]) -> None:
    slow = run(BigPage(delay=30), scrape_seconds=0.2)
    assert slow.get()[0] == 200
    none = run(BigPage(delay=30, known=False), scrape_seconds=0.2)
    assert none.get()[0] == 503
    assert none.get("/healthz")[0] == 503


def test_a_reading_that_hangs_does_not_keep_a_client_waiting(run: Callable[..., Running], readings: Readings) -> None:
    hang = threading.Event()
    service = Service(readings, 5.0)
    served = run(service, scrape_seconds=0.5)
    first = served.get()[2]
    refresh = readings.refresh
    readings.refresh = lambda: (hang.wait(20), refresh())[1]  # type: ignore[method-assign]
    time.sleep(1.1)
    started = time.monotonic()
    status, _, text = served.get(X_Prometheus_Scrape_Timeout_Seconds="0.4")
    assert (status, text) == (200, first)
    assert time.monotonic() - started < 10
    hang.set()
    deadline = time.monotonic() + 20
    while b'reason="deadline"} 1' not in served.get()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_two_scrapes_at_once_both_get_the_new_snapshot(cgroups: CgroupTree) -> None:
    """As of two Prometheus servers that watch the same hosts: the page before is as old as the scrape before."""
    service = Service(readings_of(cgroups, time.monotonic_ns), 300.0)

    async def scrape() -> bytes:
        return b"".join(await service.page(Style.TEXT, packed=False, seconds=20.0))

    async def both() -> list[bytes]:
        await scrape()
        cgroups.grow("/a.slice", "cpu.stat", "nr_periods", 77)
        await asyncio.sleep(1.1)
        return await asyncio.gather(*(scrape() for _ in range(3)))

    wanted = b'\nslice_cpu_periods_total{slice="a.slice",unit=""} 77\n'
    assert [wanted in page for page in asyncio.run(both())] == [True, True, True]


def test_an_address_that_is_taken_is_an_error(served: Running) -> None:
    async def again() -> None:
        await Server(BigPage(), 1.0).start("127.0.0.1", served.port)

    with pytest.raises(OSError, match="in use"):
        asyncio.run(again())


_CLIENTS = 1000


def _silent(client: socket.socket) -> None:
    del client


def _endless_header(client: socket.socket) -> None:
    client.sendall(b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 4000)


def _never_reads(client: socket.socket) -> None:
    client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n" * 3)


def _garbage(client: socket.socket) -> None:
    client.sendall(b"\0" * 4000)


@pytest.mark.parametrize("harm", [_silent, _endless_header, _never_reads, _garbage])
def test_a_thousand_hostile_clients_delay_nobody(
    run: Callable[..., Running], harm: Callable[[socket.socket], None]
) -> None:
    """The bounds are those of the product: a good scrape within a second, and less than 100 MiB more."""
    _raise_limit(3 * _CLIENTS)
    served = run(BigPage())
    served.get()
    before = _resident()
    clients: list[socket.socket] = []
    slowest = 0.0
    try:
        for number in range(_CLIENTS):
            client = served.connect()
            clients.append(client)
            try:
                harm(client)
            except OSError:
                pass  # the server has closed it already
            if number % 100 == 99:
                started = time.monotonic()
                status, _, body = served.get()
                slowest = max(slowest, time.monotonic() - started)
                assert (status, len(body)) == (200, 4_000_000)
        grown = _resident() - before
    finally:
        for client in clients:
            client.close()
    # The test's own threads share the machine with others: ten times the product's bound is a hang.
    assert slowest < 10
    print(f"slowest scrape {slowest:.3f} s, {grown / (1 << 20):.1f} MiB more")
    assert grown < 100 << 20


def test_connections_without_a_request_are_few(run: Callable[..., Running], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_WAITING_MAX", 5)
    served = run(BigPage())
    clients = [served.connect() for _ in range(6)]
    clients[0].settimeout(20)
    assert clients[0].recv(1) == b"", "the one that waited longest was closed"
    clients[5].sendall(b"HEAD / HTTP/1.1\r\n\r\n")
    assert clients[5].recv(12) == b"HTTP/1.1 200"
    for client in clients:
        client.close()


def test_connections_that_wait_for_a_snapshot_are_few(
    run: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_PENDING_MAX", 5)
    served = run(BigPage(delay=1.0))
    clients = []
    for _ in range(6):
        clients.append(served.connect())
        clients[-1].sendall(b"HEAD /metrics HTTP/1.1\r\n\r\n")
        time.sleep(0.02)
    assert [client.recv(12) for client in clients] == [b"", *[b"HTTP/1.1 200"] * 5]
    for client in clients:
        client.close()


def test_a_request_has_to_arrive_in_time(run: Callable[..., Running], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_HEAD_SECONDS", 0.2)
    served = run(BigPage())
    with served.connect() as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert client.recv(1) == b""


def test_an_answer_has_to_be_read_in_time(run: Callable[..., Running], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_ANSWER_SECONDS", 0.3)
    served = run(BigPage())
    with served.connect() as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        time.sleep(1.0)
        with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
            answer = http.client.HTTPResponse(client)
            answer.begin()
            answer.read()


def _raise_limit(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (min(wanted, hard) if hard != resource.RLIM_INFINITY else wanted, hard)
        )


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
