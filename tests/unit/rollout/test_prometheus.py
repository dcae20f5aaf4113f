"""Answers of a Prometheus server."""

import http.server
import json
import socket
import threading

import pytest

from cgroup_preflight.config.rollout import Prometheus, Query
from cgroup_preflight.rollout.prometheus import answer_of, ask

QUERY = Query(expression="up", operator="<", bound=2.0)


def body(result, kind="vector", status="success"):
    return json.dumps({"status": status, "data": {"resultType": kind, "result": result}}).encode()


def one(value):
    return [{"metric": {}, "value": [1, value]}]


@pytest.mark.parametrize(
    ("data", "value", "holds", "error"),
    [
        (body(one("1")), 1.0, True, ""),
        (body(one("2")), 2.0, False, ""),
        (body([1, "1.5"], "scalar"), 1.5, True, ""),
        (body([]), None, None, ""),
        (body(one("NaN")), None, None, ""),
        (body(one("+Inf")), float("inf"), False, ""),
        (body(one("1") * 2), None, None, "2 values"),
        (body([], status="error"), None, None, "not understood"),
        (body([], "matrix"), None, None, "matrix"),
        (b"<html>", None, None, "not understood"),
        (b"[]", None, None, "not understood"),
        (body([{"value": [1, 10**400]}]), None, None, "not understood"),
        (b"[" * 100_000, None, None, "not understood"),
    ],
)
def test_one_number_or_why_not(data, value, holds, error):
    found = answer_of(QUERY, data)
    assert (found.value, found.holds) == (value, holds)
    assert error in found.error
    assert bool(error) == bool(found.error)


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        self.send_response(302 if "elsewhere" in self.path else 200)
        self.send_header("Location", "/other")
        self.end_headers()
        self.wfile.write(body(one("1")))

    def log_message(self, *_args):
        pass


def test_a_server_is_asked_and_sends_nobody_elsewhere():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        found = ask(Prometheus(url=url, queries=(QUERY, Query(expression="elsewhere", operator=">", bound=0.0))), 60.0)
        server.shutdown()
    assert found[0].holds is True
    assert found[1].holds is None
    assert found[1].error
    assert [path.partition("&")[0] for path in server.asked] == [
        "/api/v1/query?query=up",
        "/api/v1/query?query=elsewhere",
    ]


class ByteByByte(http.server.BaseHTTPRequestHandler):
    """Each byte comes before any time-out of a socket."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        while not self.server.over.wait(0.02):
            try:
                self.wfile.write(b" ")
            except OSError:
                return

    def log_message(self, *_args):
        pass


@pytest.mark.timeout(60)
def test_an_answer_that_comes_byte_by_byte_ends():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), ByteByByte) as server:
        server.over = threading.Event()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (found,) = ask(Prometheus(url=f"http://127.0.0.1:{server.server_port}", queries=(QUERY,)), 0.5)
        server.over.set()
        server.shutdown()
    assert (found.error, found.holds) == ("the answer is not whole in time", None)


def test_no_server_is_an_error_and_no_success():
    (found,) = ask(Prometheus(url="http://127.0.0.1:9", queries=(QUERY,)), 60.0)
    assert found.error
    assert found.holds is None


@pytest.mark.parametrize(
    "said", [b"220 mail ready\r\n", b"", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"]
)
def test_a_server_that_speaks_no_http_is_an_error_and_no_success(said):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            line, _ = server.accept()
            with line:
                line.recv(4096)
                line.sendall(said)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        (found,) = ask(Prometheus(url=f"http://127.0.0.1:{server.getsockname()[1]}", queries=(QUERY,)), 60.0)
        thread.join(20)
    assert found.error
    assert found.holds is None


def test_each_query_has_its_part_of_the_time():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ask(Prometheus(url=f"http://127.0.0.1:{server.server_port}", queries=(QUERY, QUERY)), 15.0)
        server.shutdown()
    assert [path.rpartition("timeout=")[2] for path in server.asked] == ["7.5s", "7.5s"]
