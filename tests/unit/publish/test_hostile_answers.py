"""Answers of a server, or of a proxy in front of it, that do harm: bounded in size and in time, checked before shown.

Each server is a real one on loopback that writes bytes of its own choice.
"""

import gzip
import json
import socket
import threading
import time
import tracemalloc
import zlib
from contextlib import contextmanager

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.publish.answers import dig, id_of, sha_of, text_of, url_of
from cgroup_preflight.publish.body import DEPTH_MAX, BrokenError, LateError, TooLargeError, is_json, read_body
from cgroup_preflight.publish.clock import RequestClock
from cgroup_preflight.publish.http import ForgeError, Transport, Trouble
from tests.contract.forge import github as gh
from tests.contract.forge import gitlab as gl
from tests.unit.publish.jobs import FAIL, github_env, gitlab_env, write_report

JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
#: How long a server goes on that never ends, seconds: far longer than every deadline here.
ENDLESS = 60
MARGIN = 6  # for a machine with other work


class Raw:
    """Reads each request, and then lets `answer(connection, ended)` write; `requests` has the first line of each."""

    def __init__(self, answer):
        self._answer = answer
        self._ended = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.requests = []

    def serve(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection):
        with connection:
            try:
                got = b""
                while b"\r\n\r\n" not in got:
                    part = connection.recv(65536)
                    if not part:
                        return
                    got += part
                self.requests.append(got.splitlines()[0].decode())
                self._answer(connection, self._ended)
            except OSError:
                pass  # the client has gone, as it should

    def close(self):
        self._ended.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@contextmanager
def serving(answer):
    server = Raw(answer)
    threading.Thread(target=server.serve, daemon=True).start()
    try:
        yield server
    finally:
        server.close()


def whole(head, body=b""):
    return lambda connection, _ended: connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def drip(start, part=b" ", pause=0.02):
    """Writes `start`, then `part` again and again."""

    def answer(connection, ended):
        connection.sendall(start)
        until = time.monotonic() + ENDLESS
        while time.monotonic() < until and not ended.wait(pause):
            connection.sendall(part)

    return answer


def flood(start, part):
    return drip(start, part * 1000, 0.0)


def get(server, seconds=20.0):
    clock = RequestClock(sleep=lambda _seconds: None)
    session = requests.Session()
    session.mount("http://", Transport(server.url, deadline=clock.monotonic() + seconds, clock=clock))
    return session.get(f"{server.url}/x", headers={"Authorization": f"token {gh.TOKEN}"})


def trouble(answer, seconds=20.0):
    with serving(answer) as server, pytest.raises(ForgeError) as caught:
        get(server, seconds)
    return caught.value.trouble


@pytest.mark.parametrize("body", [b"[]", b'{"a": "' + b"x" * 200_000 + b'"}'])
@pytest.mark.parametrize("encoding", ["", "identity", "gzip", "x-gzip", "GZIP", "deflate"])
def test_honest_bodies_are_read(body, encoding):
    packed = {"gzip": gzip.compress, "x-gzip": gzip.compress, "GZIP": gzip.compress, "deflate": zlib.compress}.get(
        encoding, bytes
    )(body)
    head = JSON_HEAD + (f"Content-Encoding: {encoding}\r\n".encode() if encoding else b"")
    with serving(whole(head, packed)) as server:
        response = get(server)
    assert (response.content, response.json()) == (body, json.loads(body))


def test_a_chunked_body_is_read():
    def answer(connection, _ended):
        connection.sendall(JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n[\r\n3\r\n1,2\r\n1\r\n]\r\n0\r\n\r\n")

    with serving(answer) as server:
        assert get(server).json() == [1, 2]


@pytest.mark.parametrize(("head", "body", "called"), [
    (b"Content-Encoding: gzip\r\n", gzip.compress(b"[" + b" " * (33 << 20) + b"]"), Trouble.LARGE),
    (b"Content-Encoding: deflate\r\n", zlib.compress(b"0" * (33 << 20)), Trouble.LARGE),
    (b"Content-Encoding: gzip, gzip\r\n", gzip.compress(gzip.compress(b"[]")), Trouble.CUT),
    (b"Content-Encoding: br\r\n", b"[]", Trouble.CUT),
    (b"Content-Encoding: gzip\r\n", b"[]", Trouble.CUT),
    (b"Content-Encoding: gzip\r\n", gzip.compress(b"[]")[:-6], Trouble.CUT),
    (b"Content-Encoding: gzip\r\n", gzip.compress(b"[]") * 2, Trouble.CUT),
    (b"", b"[" * 100_000, Trouble.CUT),
    (b"", b"[" * 80 + b"]" * 80, Trouble.CUT),
    (b"", b"1" * 5000, Trouble.CUT),
    (b"X-Long: " + b"x" * 1_000_000 + b"\r\n", b"[]", Trouble.CUT),
    (b"".join(b"X-%d: x\r\n" % number for number in range(1000)), b"[]", Trouble.CUT),
], ids=["gzip bomb", "deflate bomb", "packed twice", "brotli", "not packed", "cut", "two members", "deep", "nested", "number",
        "long header", "many headers"])  # fmt: skip
def test_bodies_and_headers_are_bounded(head, body, called):
    assert trouble(whole(JSON_HEAD + head, body)) is called


def test_a_body_without_an_end_is_left():
    start = time.monotonic()
    assert trouble(flood(JSON_HEAD + b"\r\n", b" " * 64)) is Trouble.LARGE
    assert time.monotonic() - start < ENDLESS / 2


def test_all_answers_together_are_bounded():
    page = b"[" + b" " * (20 << 20) + b"]"
    clock = RequestClock()
    with serving(whole(JSON_HEAD + b"Content-Encoding: gzip\r\n", gzip.compress(page, 1))) as server:
        session = requests.Session()
        session.mount("http://", Transport(server.url, deadline=clock.monotonic() + 60, clock=clock))
        for _ in range(6):
            assert session.get(f"{server.url}/x").ok
        with pytest.raises(ForgeError) as caught:
            session.get(f"{server.url}/x")
    assert caught.value.trouble is Trouble.LARGE


def test_a_codec_that_the_server_names_is_not_used():
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=punycode\r\n"
    with serving(whole(head, '["ä"]'.encode())) as server:
        assert get(server).text == '["ä"]'


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(status):
    with serving(whole(JSON_HEAD, b"[]")) as other:
        for target in (f"{other.url}/y", "/y", "//127.0.0.1/y", "https://evil.example/"):
            head = f"HTTP/1.1 {status} Moved\r\nLocation: {target}\r\n".encode()
            with serving(whole(head)) as server, pytest.raises(ForgeError) as caught:
                get(server)
            assert (caught.value.trouble, len(server.requests)) == (Trouble.MOVED, 1)
    assert other.requests == []


#: Servers that never end, each in another part of the answer.
SLOW = {
    "status line": drip(b"HTTP/1.1 200 ", b"O"),
    "header": drip(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
    "body": drip(JSON_HEAD + b"Content-Length: 100000\r\n\r\n"),
    "size of a chunk": drip(JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x"),
    "packed body": drip(JSON_HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"[]")[:10], b"\0"),
    "100 Continue": drip(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "silence": drip(b"", b""),
    "rate limit": whole(b"HTTP/1.1 429 No\r\nRetry-After: 86400\r\n"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SLOW)
def test_the_deadline_holds(kind, github, call, tmp_path, capsys):
    """Both channels end within `--deadline`, whatever part of the answer comes byte by byte."""
    report = write_report(tmp_path / "report.json", FAIL)
    with serving(SLOW[kind]) as server:
        env = github_env(github, tmp_path) | {
            "GITHUB_API_URL": server.url,
            "GITHUB_GRAPHQL_URL": f"{server.url}/graphql",
        }
        start = time.monotonic()
        assert call(env, report, "--deadline", "1.6", "--publish", "strict") == 5
        assert time.monotonic() - start < 1.6 + MARGIN
    told = capsys.readouterr().err
    assert told.count("failed ") == 2
    assert len(server.requests) >= 2  # both channels tried


def test_a_server_that_answers_late_but_in_time(github, call, tmp_path):
    github.fail(method="GET", path="check-runs", kind="slow", seconds=0.5)
    report = write_report(tmp_path / "report.json", FAIL)
    assert call(github_env(github, tmp_path), report, "--publish", "strict") == 0


EVIL_URLS = [
    "https://evil.example/org/demo", "javascript:alert(1)", "https://github.example/x\n::error::y", "https://github.example/\x1b[2J",
    "https://github.example.evil.example/x", "https://me@github.example/x", "https://github.example:444/x", "http://github.example/x",
    "https://github.example/" + "x" * 5000, "//github.example/x", "https://github.example\\@evil.example/", "https://github.example/\u202ex",
    "https://github.example/\r\nX: y", 7, None, ["https://github.example/x"], "https://github.example/)[x](y", "", "x", "https://[/x",
]  # fmt: skip


@pytest.mark.parametrize("url", EVIL_URLS)
def test_addresses_of_pages_are_checked(github, call, tmp_path, capsys, url):
    made = {"id": 5, "html_url": url, "body": "x", "user": {"login": "github-actions[bot]"}}
    github.fail(method="POST", path="check-runs$", status=201, body=json.dumps(made))
    github.fail(method="POST", path="comments$", status=201, body=json.dumps(made), times=2)
    receipt = tmp_path / "receipt.json"
    assert call(github_env(github, tmp_path), write_report(tmp_path / "r.json", FAIL), "--receipt", str(receipt)) == 0
    told = {item["channel"].split()[0]: item for item in json.loads(receipt.read_text())}
    assert (told["check"]["delivery"], told["check"]["url"], told["comment"]["url"]) == ("delivered", "", "")
    captured = capsys.readouterr()
    outputs = (tmp_path / "output").read_text()
    assert "check-url" not in outputs
    for text in (captured.err, captured.out, outputs, (tmp_path / "summary.md").read_text()):
        assert "evil.example" not in text
        assert "\x1b" not in text
        assert "::error::y" not in text


def test_an_address_of_the_server_is_shown(github, call, tmp_path):
    assert call(github_env(github, tmp_path), write_report(tmp_path / "r.json", FAIL)) == 0
    assert github.checks[0]["html_url"] in (tmp_path / "output").read_text()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([*EVIL_URLS[:6], "id", gh.SHA]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["id", "body", "user", "login", "html_url", "head", "sha", "parents", "check_runs", "external_id", "conclusion"]), inner),
    max_leaves=12,
)  # fmt: skip


@given(JSON)
def test_values_of_every_type(value):
    assert dig(value, "head", "sha") is None or isinstance(value, dict)
    number, url = id_of(value), url_of(value, "https://github.example")
    assert number is None or (number > 0 and type(number) is int)
    assert url == "" or (
        url.startswith("https://github.example/") and url.isascii() and url.isprintable() and " " not in url
    )
    assert sha_of(value) in ("", gh.SHA)
    assert isinstance(text_of(value), str)


@given(st.text())
def test_no_text_becomes_an_address_of_another_server(text):
    for made in (text, f"https://github.example{text}", f"https://github.example/{text}"):
        found = url_of(made, "https://github.example")
        assert found in ("", made)
        if found:
            assert requests.utils.urlparse(found).hostname == "github.example"
            assert found.isprintable()


ODD = ["null", "7", '"x"', "[]", "{}", "[[]]", "[null, 7]", '[{"id": "x"}]', '{"id": true}', '{"id": -1}', '{"check_runs": {"a": 1}}',
       '{"check_runs": [{"external_id": 7, "conclusion": [], "html_url": {}}]}', '{"id": 1e400}', '{"id": NaN}', '{"id": 5, "body": "\\ud800"}',
       '{"head": {"sha": "\\u001b[2J"}, "sha": ["x"]}', '[{"id": 5, "user": {"login": ["x"]}, "body": {}}]']  # fmt: skip


@pytest.mark.parametrize("body", ODD)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_json_of_other_types_never_ends_the_command(github, gitlab, call, tmp_path, capsys, body, method):
    """Every answer to `method` has this body; the command says what happened in lines of its own."""
    report = write_report(tmp_path / "report.json", FAIL)
    for forge, env in ((github, github_env(github, tmp_path)), (gitlab, gitlab_env(gitlab, tmp_path))):
        forge.fail(method=method, status=200 if method == "GET" else 201, body=body, times=99)
        assert call(env, report, "--deadline", "20") == 0
        lines = capsys.readouterr().err.splitlines()
        assert all(
            line.split()[0] in ("delivered", "unchanged", "skipped", "degraded", "failed", "next:") for line in lines
        ), lines
        assert all(line.isprintable() for line in lines)


def test_the_newest_commit_is_shown_only_if_it_is_one(gitlab, call, tmp_path, capsys):
    gitlab.fail(method="GET", path="merge_requests/5$", status=200, body=json.dumps({"sha": "\x1b[2Jx" * 10}), times=9)
    assert call(gitlab_env(gitlab, tmp_path), write_report(tmp_path / "r.json", FAIL)) == 0
    assert "the branch is now at" not in capsys.readouterr().err
    gitlab.fail(method="GET", path="merge_requests/5$", status=200, body=json.dumps({"sha": "e" * 40}), times=9)
    gitlab.notes.clear()
    del gitlab.faults[0]
    call(gitlab_env(gitlab, tmp_path), write_report(tmp_path / "r.json", FAIL))
    assert f"the branch is now at {'e' * 12}; this result is for {gl.SHA[:12]}" in capsys.readouterr().err


@pytest.mark.parametrize(("body", "fine"), [
    (b"1", True), (b"[" * DEPTH_MAX + b"]" * DEPTH_MAX, True), (b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1), False),
    (b'{"a":' * 60 + b"1" + b"}" * 60, True), (b'{"a":' * 70 + b"1" + b"}" * 70, False), (b"", False), (b"\xff", False), (b"[1", False),
])  # fmt: skip
def test_depth_of_json(body, fine):
    assert is_json(body) is fine


@pytest.mark.parametrize(("size", "error"), [(1000, None), (1001, TooLargeError)])
@pytest.mark.parametrize("packed", [True, False])
def test_the_limit_to_the_byte(size, error, packed):
    body = b" " * size
    head = b"HTTP/1.1 200 OK\r\n" + (b"Content-Encoding: gzip\r\n" if packed else b"")
    with serving(whole(head, gzip.compress(body) if packed else body)) as server:
        response = requests.get(server.url, stream=True, timeout=10)
        if error is None:
            assert read_body(response, limit=1000, left=lambda: 1.0) == body
            return
        with pytest.raises(error):
            read_body(response, limit=1000, left=lambda: 1.0)


def test_a_bomb_takes_no_memory():
    bomb = gzip.compress(b" " * (200 << 20), 1)
    with serving(whole(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n", bomb)) as server:
        response = requests.get(server.url, stream=True, timeout=10)
        tracemalloc.start()
        try:
            with pytest.raises(TooLargeError):
                read_body(response, limit=2 << 20, left=lambda: 1.0)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 20 << 20


def test_reading_ends_with_the_time():
    with serving(whole(b"HTTP/1.1 200 OK\r\n", b"[]")) as server:
        response = requests.get(server.url, stream=True, timeout=10)
        with pytest.raises(LateError):
            read_body(response, limit=1000, left=lambda: 0.0)


def test_a_body_that_ends_early():
    def answer(connection, _ended):
        connection.sendall(JSON_HEAD + b"Content-Length: 10\r\n\r\n[1]")

    with serving(answer) as server:
        response = requests.get(server.url, stream=True, timeout=10)
        with pytest.raises(BrokenError):
            read_body(response, limit=1000, left=lambda: 1.0)
