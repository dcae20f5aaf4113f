"""The transport against a server on loopback: one host, one deadline, its own waits between the attempts."""

import pytest
import requests

from cgroup_preflight.publish.clock import RequestClock
from cgroup_preflight.publish.http import ForgeError, Transport, Trouble, shown_path
from tests.contract.forge import github as gh

PULL = "/repos/org/demo/pulls/7"


class Timer:
    """A clock that stands still except while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def clock(self) -> RequestClock:
        return RequestClock(monotonic=lambda: self.now, wall=lambda: 1_700_000_000.0 + self.now, sleep=self.sleep)


@pytest.fixture
def timer():
    return Timer()


def _session(transport):
    session = requests.Session()
    session.mount("http://", transport)
    session.headers["Authorization"] = f"token {gh.TOKEN}"
    return session


def _transport(base, timer, deadline=60.0, **more):
    return _session(Transport(base, deadline=deadline, clock=timer.clock(), **more))


def test_it_waits_between_attempts_and_longer_each_time(github, timer):
    github.fail(method="GET", status=503, times=3)
    assert _transport(github.url, timer).get(github.api_url + PULL).json()["number"] == 7
    assert timer.slept == [0.5, 1.0, 2.0]
    assert len(github.calls) == 4


def test_it_waits_as_long_as_the_server_says(github, timer):
    github.fail(method="GET", status=429, headers={"Retry-After": "7"})
    assert _transport(github.url, timer).get(github.api_url + PULL).ok
    assert timer.slept == [7.0]


def test_four_attempts_and_no_more(github, timer):
    github.fail(method="GET", status=503, times=9)
    with pytest.raises(ForgeError) as caught:
        _transport(github.url, timer).get(f"{github.api_url}{PULL}?a=b")
    assert len(github.calls) == 4
    error = caught.value
    assert (error.trouble, error.status, error.ambiguous) == (Trouble.SERVER, 503, False)
    assert (error.method, error.path) == ("GET", f"/api/v3{PULL}?a=b")
    assert str(error) == f"GET /api/v3{PULL}?a=b: server error"


def test_no_attempt_starts_after_the_deadline(github, timer):
    github.fail(method="GET", status=503, times=9)
    with pytest.raises(ForgeError) as caught:
        _transport(github.url, timer, deadline=1.2).get(github.api_url + PULL)
    assert caught.value.trouble is Trouble.SERVER
    assert timer.slept == [0.5]
    with pytest.raises(ForgeError) as caught:
        _transport(github.url, timer, deadline=timer.now).get(github.api_url + PULL)
    assert (caught.value.trouble, caught.value.status) == (Trouble.DEADLINE, None)
    assert len(github.calls) == 2


def test_a_post_that_only_reads_is_repeated(github, timer):
    address = f"{github.url}/api/graphql"
    github.fail(method="POST", status=502)
    session = _transport(github.url, timer, reads=(address,))
    assert session.post(address, json={"query": ""}).ok
    github.fail(method="POST", status=502)
    with pytest.raises(ForgeError) as caught:
        _transport(github.url, timer).post(address, json={"query": ""})
    assert caught.value.ambiguous
    assert len(github.graphql) == 1


@pytest.mark.parametrize(
    "base", ["http://127.0.0.1:1", "https://{host}", "http://localhost:{port}", "http://127.0.0.1"]
)
def test_another_port_scheme_or_host_gets_no_request(github, timer, base):
    host = github.url.removeprefix("http://")
    session = _transport(base.format(host=host, port=host.split(":")[1]), timer)
    with pytest.raises(ForgeError) as caught:
        session.get(github.api_url + PULL)
    assert caught.value.trouble is Trouble.MOVED
    assert github.calls == []


@pytest.mark.parametrize(("base", "url"), [
    ("http://a.example", "http://a.example:80/x"), ("https://a.example:443", "https://a.example/x"),
    ("https://A.example", "https://a.example/x"),
])  # fmt: skip
def test_the_port_of_a_scheme_may_be_written_or_not(timer, base, url):
    """The deadline is over, so nothing is sent; a wrong host would be refused before that."""
    request = requests.Request("GET", url).prepare()
    with pytest.raises(ForgeError) as caught:
        Transport(base, deadline=0.0, clock=timer.clock()).send(request)
    assert caught.value.trouble is Trouble.DEADLINE


@pytest.mark.parametrize("url", ["http://a.example:99999/x", "http://a.example:x/", "ftp://a.example/", ""])
def test_addresses_that_are_none_are_another_host(timer, url):
    request = requests.Request("GET", "http://a.example/").prepare()
    request.url = url
    with pytest.raises(ForgeError) as caught:
        Transport("http://a.example", deadline=9.0, clock=timer.clock()).send(request)
    assert caught.value.trouble is Trouble.MOVED


@pytest.mark.parametrize(("fault", "trouble", "ambiguous"), [
    ({"status": 200, "body": "{}", "headers": {"Content-Type": "text/html"}}, Trouble.CONTENT, True),
    ({"status": 200, "body": '{"id"'}, Trouble.CUT, True),
    ({"status": 299, "body": "[", "headers": {"Content-Type": "Application/JSON"}}, Trouble.CUT, True),
    ({"status": 300}, Trouble.MOVED, False),
    ({"status": 399, "headers": {"Content-Type": "text/html"}}, Trouble.MOVED, False),
    ({"status": 400, "body": "<p>"}, Trouble.STATUS, False),
    ({"status": 500}, Trouble.SERVER, True),
    ({"kind": "half"}, Trouble.CUT, True),
    ({"kind": "cut"}, Trouble.CUT, True),
])  # fmt: skip
def test_what_a_bad_answer_is_called(github, timer, fault, trouble, ambiguous):
    github.fail(**fault)
    with pytest.raises(ForgeError) as caught:
        _transport(github.url, timer).post(f"{github.api_url}/repos/org/demo/check-runs", json={})
    assert (caught.value.trouble, caught.value.ambiguous) == (trouble, ambiguous)
    assert timer.slept == []


def test_a_success_without_a_body_needs_no_json(github, timer):
    github.fail(status=204, body="", headers={"Content-Type": "text/plain"})
    assert _transport(github.url, timer).delete(github.api_url + PULL).status_code == 204


def test_the_beginning_of_an_answer_is_kept(github, timer):
    github.fail(status=418, body="x" * 500, headers={"Content-Type": "text/plain"})
    with pytest.raises(ForgeError) as caught:
        _transport(github.url, timer).get(github.api_url + PULL)
    assert caught.value.answer.excerpt == "x" * 200
    assert caught.value.answer.header("content-type") == "text/plain"
    assert caught.value.answer.header("x-none") == ""


def test_paths_in_messages():
    assert shown_path("https://a.example/x?y=1#z") == "/x?y=1"
    assert shown_path("https://a.example/x") == "/x"
