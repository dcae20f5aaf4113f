"""A forge on loopback: routes, a log of requests, and faults that happen on purpose."""

import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

ECHO = "{echo}"  # in the body of a fault: replaced by the request's own authorization


@dataclass(slots=True, kw_only=True)
class Call:
    """One request as it came in; `path` without the prefix of the API."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any = None


@dataclass(slots=True, kw_only=True)
class Reply:
    status: int = 200
    content: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Fault:
    """What goes wrong with the next `times` requests that fit, after the first `skip` of them.

    kind: `status` answers `status` with `headers` and `body`; `cut` closes without an answer; `lost` does what was
    asked and closes; `half` sends half of an answer; `slow` waits `seconds` first; `drip` sends a byte now and then.
    """

    method: str = ""
    path: str = ""
    times: int = 1
    skip: int = 0
    kind: str = "status"
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: str = "{}"
    seconds: float = 0.0

    def fits(self, call: Call) -> bool:
        return self.times > 0 and self.method in ("", call.method) and bool(re.search(self.path, call.path))


Route = tuple[str, re.Pattern[str], Callable[..., Reply]]


class Forge:
    """Base: subclasses give `prefix` and `routes`. `contract` takes each call and names what is wrong with it."""

    prefix = ""

    def __init__(self, contract: Callable[[Call], list[str]] | None = None) -> None:
        self.calls: list[Call] = []
        self.problems: list[str] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()
        self.latency = 0.0
        self.tls: ssl.SSLContext | None = None
        self._contract = contract
        self._address = ("127.0.0.1", 0)

    def routes(self) -> list[Route]:
        raise NotImplementedError

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self._address[1]}"

    @property
    def api_url(self) -> str:
        return f"{self.url}{self.prefix}"

    def fail(self, **fault: Any) -> None:
        self.faults.append(Fault(**fault))

    def writes(self) -> list[str]:
        return [f"{call.method} {call.path}" for call in self.calls if call.method != "GET"]

    def take(self, call: Call) -> Fault | None:
        with self.lock:
            self.calls.append(call)
            if self._contract is not None:
                self.problems += self._contract(call)
            for fault in self.faults:
                if fault.fits(call) and fault.skip:
                    fault.skip -= 1
                elif fault.fits(call):
                    fault.times -= 1
                    return fault
        return None

    def answer(self, call: Call) -> Reply:
        for method, pattern, handler in self.routes():
            found = pattern.fullmatch(call.path)
            if found and method == call.method:
                with self.lock:
                    return handler(call, *found.groups())
        self.problems.append(f"unknown path: {call.method} {call.path}")
        return Reply(status=404, content={"message": "Not Found"})

    @contextmanager
    def running(self) -> Iterator["Forge"]:
        forge = self

        class Handler(_Handler):
            owner = forge

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        if self.tls is not None:
            # The handshake belongs to the connection's own thread: a client that breaks it off stops nobody else.
            server.socket = self.tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        self._address = server.server_address[:2]  # type: ignore[assignment]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    owner: Forge
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        try:
            super().handle()
        except (OSError, ssl.SSLError):
            pass  # a client that does not like the certificate

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        path = parts.path.removeprefix(self.owner.prefix)
        call = Call(
            method=self.command,
            path=path,
            query=dict(parse_qsl(parts.query)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=json.loads(raw) if raw else None,
        )
        fault = self.owner.take(call)
        time.sleep(self.owner.latency)
        if fault is None or fault.kind == "slow":
            time.sleep(fault.seconds if fault else 0)
            self._reply(self.owner.answer(call))
            return
        self._misbehave(fault, call)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _handle

    def _misbehave(self, fault: Fault, call: Call) -> None:
        if fault.kind == "status":
            echo = call.headers.get("authorization", "") + call.headers.get("private-token", "")
            self._send(fault.status, fault.body.replace(ECHO, echo).encode(), fault.headers)
            return
        if fault.kind == "lost":
            self.owner.answer(call)
        if fault.kind == "half":
            self.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"id"')
        if fault.kind == "drip":
            self._drip(fault.seconds)
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _drip(self, seconds: float) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                self.wfile.write(b" ")
                self.wfile.flush()
            except OSError:
                return
            time.sleep(0.05)

    def _reply(self, reply: Reply) -> None:
        content = b"" if reply.content is None else json.dumps(reply.content).encode()
        self._send(reply.status, content, reply.headers)

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        shown = {"Content-Type": "application/json; charset=utf-8", "Content-Length": str(len(content)), **headers}
        try:
            self.send_response(status)
            for name, value in shown.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            pass  # the client did not wait


def paged(call: Call, items: list[Any], address: str, *, short: bool = False) -> tuple[list[Any], str]:
    """One page and the text of the Link header; `short` leaves entries of full pages for the next one."""
    size = int(call.query.get("per_page", 20))
    size = min(size, 100) if not short else 3
    page = int(call.query.get("page", 1))
    part = items[(page - 1) * size : page * size]
    if page * size >= len(items):
        return part, ""
    query = "&".join([*(f"{name}={value}" for name, value in call.query.items() if name != "page"), f"page={page + 1}"])
    return part, f'<{address}{call.path}?{query}>; rel="next"'
