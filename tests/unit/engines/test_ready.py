"""Readiness: one attempt at a time, each bounded, whatever the service answers or logs."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from cgroup_preflight.config.keys import parse_ready
from cgroup_preflight.engines import http_answer
from cgroup_preflight.engines.http_answer import connected
from cgroup_preflight.engines.ready import LocalNetwork, LogWatch, address, listens, prepare
from cgroup_preflight.host.local import LocalFiles

pytestmark = pytest.mark.timeout(60)
HEAD = b"HTTP/1.1 "
END = b"\r\nContent-Length: 0\r\n\r\n"


def try_http(url: str) -> str:
    return LocalNetwork().ask(parse_ready(url))


@contextmanager
def serving(*answer, pause=0.0, forever=b""):
    """A server on loopback that sends the pieces and ends; gives its URL and what it was asked."""
    asked, stop = [], threading.Event()

    def serve(server):
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            try:
                asked.append(connection.recv(65536))
                for piece in answer:
                    connection.sendall(piece)
                    stop.wait(pause)
                while forever and not stop.is_set():
                    connection.sendall(forever)
                    stop.wait(pause)
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/healthz", asked
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize("status", [b"200 OK", b"204 No Content", b"301 Moved", b"304 Not Modified"])
def test_an_answer_below_400_is_ready(status):
    with serving(HEAD + status + END) as (url, asked):
        assert try_http(url) == ""
    assert asked[0].startswith(b"GET /healthz HTTP/1.1\r\n")


@pytest.mark.parametrize("status", [400, 404, 500, 503, 999])
def test_an_answer_from_400_is_not(status):
    with serving(HEAD + b"%d X" % status + END) as (url, _):
        assert str(status) in try_http(url)


@pytest.mark.parametrize(
    "location",
    [
        b"http://[",
        b"\xff\xfe",
        b"http://127.0.0.1:99999/",
        b"http://192.0.2.1/",
        b"gopher://x",
        b"//",
        b"",
        b"http://example.com/",
    ],
)
def test_a_redirect_is_not_followed_nor_even_read(location):
    """The guard of the unit tests stops any connection to another machine."""
    with serving(HEAD + b"302 Found\r\nLocation: " + location + END) as (url, _):
        assert try_http(url) == ""


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00\xff\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        HEAD + b"200 " + b"a" * 100_000 + END,
        b"SSH-2.0-x\r\n",
        HEAD + b"200 OK\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 500,
        HEAD + b"-1 OK" + END,
    ],
)
def test_an_answer_that_is_no_http_is_a_reason(answer):
    with serving(answer) as (url, _):
        assert isinstance(try_http(url), str)


def test_a_service_that_speaks_no_tls_is_a_reason():
    with serving(HEAD + b"200 OK" + END) as (url, _):
        assert try_http(url.replace("http:", "https:")) == "no TLS connection (WRONG_VERSION_NUMBER)"


def test_the_query_is_sent_and_a_port_is_named():
    with serving(HEAD + b"200 OK" + END) as (url, asked):
        assert try_http(url.replace("/healthz", "?full=1&x=%20")) == ""
    head = asked[0].splitlines()
    assert head[0] == b"GET /?full=1&x=%20 HTTP/1.1"
    assert b"Host: " + url.split("/")[2].encode() in head


def test_an_odd_header_is_no_error():
    with serving(
        HEAD
        + b"200 OK\r\nno colon\r\nContent-Length: x\r\nContent-Encoding: nonsense\r\nTransfer-Encoding: odd\r\n\r\n\xff"
    ) as (url, _):
        assert isinstance(try_http(url), str)


@pytest.mark.parametrize("status", [b"200 OK", b"302 Found\r\nLocation: /x", b"500 No"])
def test_a_body_without_an_end_is_not_read(status):
    began = time.monotonic()
    with serving(HEAD + status + b"\r\n\r\n", forever=b"x" * 100_000, pause=0.001) as (url, _):
        try_http(url)
        assert time.monotonic() - began < 4


@pytest.fixture
def quick(monkeypatch):
    """The limits in tenths of their real length, so that a test waits less."""
    with monkeypatch.context() as patch:
        names = (
            ("http_answer._ANSWER_SECONDS", 0.3),
            ("http_answer._WHOLE_SECONDS", 0.8),
            ("ready._MATCH_SECONDS", 0.1),
        )
        for name, seconds in names:
            patch.setattr(f"cgroup_preflight.engines.{name}", seconds)
        yield


@pytest.mark.usefixtures("quick")
def test_a_service_that_says_nothing_is_a_time_out():
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert try_http(f"http://127.0.0.1:{silent.getsockname()[1]}/") == "no answer in time"
    assert time.monotonic() - began < 3


@pytest.mark.usefixtures("quick")
def test_a_head_that_drips_is_a_time_out():
    """Each byte in time for the socket's own limit, and never an end."""
    began = time.monotonic()
    with serving(HEAD + b"200 OK\r\n", forever=b"a", pause=0.05) as (url, _):
        assert try_http(url) != ""
        assert time.monotonic() - began < 4


def test_the_alarm_is_as_it_was():
    before = signal.getsignal(signal.SIGALRM)
    with serving(HEAD + b"200 OK" + END) as (url, _):
        try_http(url)
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
@pytest.mark.parametrize("abstract", [False, True])
def test_a_unix_socket_that_listens_and_one_that_does_not(tmp_path, kind, abstract):
    path = f"@{tmp_path}" if abstract else f"{tmp_path}/s"
    test = parse_ready(f"unix:{path}")
    with socket.socket(socket.AF_UNIX, kind) as server:
        assert not listens(test)
        server.bind(path.replace("@", "\0", 1))
        assert not listens(test)
        server.listen()
        assert listens(test)
    # The file of one that has ended stays.
    assert not listens(test)


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listens(parse_ready(f"tcp://127.0.0.1:{port}"))
        assert listens(parse_ready(f"http://localhost:{port}/"))
    assert not listens(parse_ready(f"tcp://127.0.0.1:{port}"))
    assert try_http(f"http://127.0.0.1:{port}/") != ""


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_a_number_is_not_looked_up(monkeypatch, host, shown):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: pytest.fail("looked up"))
    try:
        server = socket.create_server((host if family == socket.AF_INET6 else "127.0.0.1", 0), family=family)
    except OSError:
        pytest.skip("no such addresses here")
    with server:
        port = server.getsockname()[1]
        assert listens(parse_ready(f"tcp://{shown}:{port}"))
    assert not listens(parse_ready(f"tcp://{shown}:{port}"))
    assert try_http(f"http://{shown}:{port}/") == "connection refused"


def test_an_address_with_an_interface_is_looked_up(monkeypatch):
    """Only the resolver knows the number of an interface (RFC 4007)."""
    asked = []

    def looked_up(host, port, *_args, **_more):
        asked.append((host, port))
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    with pytest.raises(ConnectionRefusedError):
        connected("fe80::1%lo", 7)
    assert asked == [("fe80::1%lo", 7)]


def test_no_proxy_of_the_job_is_used(monkeypatch):
    with monkeypatch.context() as patch, serving(HEAD + b"200 OK" + END) as (url, asked):
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            patch.setenv(name, "http://192.0.2.1:3128")
        assert try_http(url) == ""
    assert asked[0].startswith(b"GET /healthz ")


def test_no_password_of_the_job_is_sent(monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    with monkeypatch.context() as patch, serving(HEAD + b"200 OK" + END) as (url, asked):
        patch.setenv("HOME", str(tmp_path))
        patch.setenv("NETRC", str(tmp_path / ".netrc"))
        try_http(url)
    assert b"authorization" not in asked[0].lower()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("http://127.0.0.1:8080/x", ("127.0.0.1", 8080)),
        ("http://localhost/", ("localhost", 80)),
        ("https://127.0.0.1/", ("127.0.0.1", 443)),
        ("http://[::1]:81/", ("::1", 81)),
        ("tcp://[::1]:82", ("::1", 82)),
        ("tcp://127.0.0.1:65535", ("127.0.0.1", 65535)),
    ],
)
def test_addresses(text, found):
    assert address(parse_ready(text)) == found


@pytest.fixture
def log(tmp_path):
    """A function that makes a watch on a log, and opens the log to be written."""
    path = str(tmp_path / "log")
    write = os.open(path, os.O_WRONLY | os.O_CREAT)
    yield lambda pattern: (LogWatch(LocalFiles(), path, pattern), write)
    os.close(write)


def test_a_line_of_the_log(log):
    watch, write = log(r"listening on :\d+")
    watch.read()
    assert not watch.found
    os.write(write, b"starting\nlistening on :80")
    watch.read()
    os.write(write, b"80\nmore\n")
    watch.read()
    assert watch.found


def test_a_log_in_pieces_and_in_odd_bytes(log):
    watch, write = log("ready")
    for piece in (b"\xff\xfe\n", b"\x1b[32mrea", b"dy\x1b[0m", b"\xe2\x80", b"\n"):
        os.write(write, piece)
        watch.read()
    assert watch.found


def test_a_last_line_without_a_newline_is_one_when_nothing_more_comes(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"starting\nready")
    watch = LogWatch(LocalFiles(), str(path), "ready$")
    for _ in range(15):
        watch.read()
    with path.open("ab") as file:
        file.write(b" soon")
    for _ in range(30):
        watch.read()
    assert not watch.found
    with path.open("ab") as file:
        file.write(b"\nready")
    for _ in range(22):
        watch.read()
    assert watch.found


def test_a_line_that_ends_as_windows_does_is_matched_as_it_is_shown(log):
    watch, write = log("^ready$")
    os.write(write, b"ready\r\n")
    watch.read()
    assert watch.found


def test_a_log_that_never_ends_a_line_stays_small(log):
    watch, write = log("ready")
    for _ in range(50):
        os.write(write, b"x" * 60_000)
        watch.read()
    os.write(write, b"\nready\n")
    watch.read()
    assert watch.found


def test_a_log_has_more_to_read_until_a_look_finds_nothing(log):
    watch, write = log("ready")
    os.write(write, b"x" * 300_000)
    assert watch.has_more
    for has_more in (True, True, False):
        watch.read()
        assert watch.has_more is has_more
    assert watch.offset == 300_000
    os.write(write, b"\nready\n")
    watch.read()
    assert watch.has_more
    assert watch.found


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "pattern", [r"(a+)+$", r"(a|a)*$", r"(a*)*b", r"^(([a-z])+.)+[A-Z]([a-z])+$", r"(.*)*x(.*)*y\Z"]
)
def test_a_catastrophic_pattern_ends_in_time(log, pattern):
    """Any number of lines: a pattern from a pull request may not hold the run beyond its time-outs."""
    watch, write = log(pattern)
    os.write(write, (b"a" * 60 + b"!\n") * 500)
    began = time.monotonic()
    for _ in range(3):
        watch.read()
    assert time.monotonic() - began < 4


@pytest.mark.usefixtures("quick")
def test_the_alarm_is_as_it_was_after_a_slow_pattern(log):
    before = signal.getsignal(signal.SIGALRM)
    watch, write = log(r"(a+)+$")
    os.write(write, b"a" * 60 + b"!\n")
    watch.read()
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


@pytest.mark.parametrize(
    ("tests", "cpus", "loaded"),
    [
        (["tcp://127.0.0.1:1", "http://127.0.0.1:1/"], 2, ["http.client"]),
        (["http://127.0.0.1:1/"], 1, []),
        (["tcp://127.0.0.1:1", "log:x", "exit"], 2, []),
    ],
)
def test_what_http_takes_is_loaded_beside_where_it_is_needed_and_a_cpu_is_free(monkeypatch, tests, cpus, loaded):
    found = []
    done = threading.Event()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cpus)))
    monkeypatch.setattr(http_answer.importlib, "import_module", lambda name: (found.append(name), done.set()))
    prepare(map(parse_ready, tests))
    assert done.wait(30 if loaded else 0) is bool(loaded)
    assert found == loaded


@pytest.mark.starts_processes
def test_the_http_client_is_loaded_without_openssl_unless_it_is_needed():
    """In a Python of its own, because this one has loaded it."""
    code = (
        "import sys; from cgroup_preflight.engines.http_answer import http_client\n"
        "for tls in (False, True, False):\n"
        "    client = http_client(tls=tls)\n"
        "    print(hasattr(client, 'HTTPConnection'), hasattr(client, 'HTTPSConnection'), 'ssl' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout.splitlines() == ["True False False", "True False False", "True False False"]
