"""A proxy on loopback, as companies have between their runners and a forge: CONNECT for https, whole addresses else."""

import base64
import contextlib
import http.client
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

USER, PASSWORD = "runner", "pr0xy-passw0rd"


class Proxy:
    """`seen` has what went through it; `refuses` makes it say 407 to everybody."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.refuses = False
        self.url = ""

    @contextmanager
    def running(self) -> Iterator["Proxy"]:
        proxy = self

        class Handler(_Handler):
            owner = proxy

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.url = f"http://{USER}:{PASSWORD}@127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    owner: Proxy
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def _known(self) -> bool:
        self.owner.seen.append(f"{self.command} {self.path}")
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Proxy-Authorization") == wanted and not self.owner.refuses:
            return True
        self.send_response(407)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def do_CONNECT(self) -> None:
        if not self._known():
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as there:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                _both_ways(self.connection, there)
        self.close_connection = True

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self._known():
            return
        parts = urlsplit(self.path)
        headers = {name: value for name, value in self.headers.items() if not name.lower().startswith("proxy-")}
        with contextlib.closing(http.client.HTTPConnection(parts.netloc)) as there:
            there.request(self.command, f"{parts.path}?{parts.query}" if parts.query else parts.path, body, headers)
            answer = there.getresponse()
            content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "date", "server"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _forward


def _both_ways(here: socket.socket, there: socket.socket) -> None:
    other = {here: there, there: here}
    with selectors.DefaultSelector() as waiting:
        for one in other:
            waiting.register(one, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                assert isinstance(key.fileobj, socket.socket)
                data = key.fileobj.recv(65536)
                if not data:
                    return
                other[key.fileobj].sendall(data)
