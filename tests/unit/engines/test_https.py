"""HTTPS: whose certificates count, and what is said of one that does not; against a real TLS server on loopback."""

import socket
import ssl
import threading
from contextlib import contextmanager

import pytest

from cgroup_preflight.config.model import ReadyKind, ReadyTest
from cgroup_preflight.engines.http_answer import UNTRUSTED
from cgroup_preflight.engines.ready import LocalNetwork
from tests.unit.engines.certificates import make

pytestmark = pytest.mark.timeout(60)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"


@contextmanager
def serving(context: ssl.SSLContext):
    """A TLS server that answers each request; gives its port and how its handshakes ended."""
    handshakes: list[str] = []

    def serve(server):
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(connection, server_side=True) as line:
                    line.recv(65536)
                    line.sendall(ANSWER)
                    handshakes.append("done")
            except OSError as error:
                handshakes.append(type(error).__name__)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1], handshakes
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def asked(port: int, ca: object = "", host: str = "127.0.0.1") -> str:
    return LocalNetwork().ask(ReadyTest(kind=ReadyKind.HTTP, target=f"https://{host}:{port}/healthz", ca=str(ca)))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_certificate_of_the_authority_of_the_project_is_trusted(tmp_path, host):
    """Also where it lacks the key identifiers that Python 3.13 wants by default."""
    with serving(make(tmp_path)) as (port, handshakes):
        assert asked(port, tmp_path / "ca.pem", host) == ""
    assert handshakes == ["done"]


def test_the_certificate_of_the_server_itself_is_enough(tmp_path):
    with serving(make(tmp_path)) as (port, _):
        assert asked(port, tmp_path / "cert.pem") == ""


def test_a_page_is_read_through_it(tmp_path):
    with serving(make(tmp_path)) as (port, _):
        test = ReadyTest(kind=ReadyKind.HTTP, target=f"https://localhost:{port}/", ca=str(tmp_path / "ca.pem"))
        assert LocalNetwork().fetch(test, "/debug/vars", 4) == b"hell"
        assert LocalNetwork().fetch(ReadyTest(kind=ReadyKind.HTTP, target=test.target), "/debug/vars", 4) == b""


def test_without_it_the_reason_of_the_library_is_given(tmp_path):
    with serving(make(tmp_path)) as (port, _):
        assert asked(port) == f"{UNTRUSTED} (unable to get local issuer certificate)"


def test_another_authority_is_not_enough(tmp_path):
    (tmp_path / "other").mkdir()
    make(tmp_path / "other")
    with serving(make(tmp_path)) as (port, _):
        assert asked(port, tmp_path / "other/ca.pem").startswith(UNTRUSTED)


@pytest.mark.parametrize(
    ("names", "days", "reason"),
    [
        (("shop.example",), 1, "IP address mismatch, certificate is not valid for '127.0.0.1'"),
        (("127.0.0.1",), -1, "certificate has expired"),
    ],
)
def test_a_certificate_for_another_name_or_of_another_time_is_not_trusted(tmp_path, names, days, reason):
    with serving(make(tmp_path, names=names, days=days)) as (port, _):
        assert asked(port, tmp_path / "ca.pem") == f"{UNTRUSTED} ({reason})"


@pytest.mark.parametrize("data", [None, b"", b"-----BEGIN CERTIFICATE-----\nnot base64\n-----END CERTIFICATE-----\n"])
def test_a_file_without_a_certificate_is_named(tmp_path, data):
    if data is not None:
        (tmp_path / "odd.pem").write_bytes(data)
    (tmp_path / "real").mkdir()
    with serving(make(tmp_path / "real")) as (port, handshakes):
        assert asked(port, tmp_path / "odd.pem").startswith(
            "the file of ready_ca has no certificate that OpenSSL can read"
        )
    assert not handshakes or handshakes == ["SSLEOFError"] or "Error" in handshakes[0]


def test_the_authority_is_read_once(tmp_path):
    with serving(make(tmp_path)) as (port, handshakes):
        network = LocalNetwork()
        test = ReadyTest(kind=ReadyKind.HTTP, target=f"https://127.0.0.1:{port}/", ca=str(tmp_path / "ca.pem"))
        assert network.ask(test) == ""
        (tmp_path / "ca.pem").unlink()
        assert network.ask(test) == ""
    assert handshakes == ["done", "done"]


def test_a_server_that_begins_no_handshake_is_a_time_out(tmp_path, monkeypatch):
    monkeypatch.setattr("cgroup_preflight.engines.http_answer._ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert asked(server.getsockname()[1]) == "no answer in time"
