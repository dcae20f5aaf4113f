"""Where traces come from, and the join with the readings: whose a trace is, and whether it is of their time."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Finding
from cgroup_preflight.golang.trace import NotATraceError
from cgroup_preflight.host.command import LiveRunner
from cgroup_preflight.metrics.go_delays import GoDelays
from cgroup_preflight.metrics.join import joined
from cgroup_preflight.metrics.series import series_of
from cgroup_preflight.metrics.traces import SIZE_MAX, Fetches, TraceData, TraceWord, fetch, parse_word, steps_of
from tests.unit.golang.traces import START, STATUS, TICK, UNBLOCK, batch, events, header, trace
from tests.unit.metrics.readings import contended

#: The readings begin at 100 s; the trace's clock begins at 1 s.
_BEGIN = 99 * 10**9 // TICK
_STEP = 10**8 // TICK


def _trace(thread: int = 4001, begin: int = _BEGIN, version: int = 26) -> bytes:
    """A goroutine that waits a tenth of a second, again and again, for four seconds."""
    steps = [(STATUS, 0, 1, 2**64 - 1, 4)]
    for n in range(20):
        steps += [(UNBLOCK, _STEP, 1, n, 0), (START, _STEP, 1, n), (STATUS, 0, 1, 2**64 - 1, 4)]
    return trace(batch(thread, begin, events(*steps)), version=version)


def _joined(data: TraceData, tops: tuple[str, ...] = ()) -> GoDelays | Finding:
    readings = contended()
    return joined(data, series_of(readings), readings, tops, LiveRunner({"PATH": "/nonexistent"}))


def _word(unit: str = "", place: str = "x.trace") -> TraceWord:
    return TraceWord(unit=unit, place=place)


def test_a_trace_is_that_of_the_cgroup_with_its_threads() -> None:
    found = _joined(TraceData(word=_word(), data=_trace()))
    assert isinstance(found, GoDelays)
    assert found.path == "/api.slice/a.service"
    assert (found.count, found.whole) == (20, True)
    assert found.median == pytest.approx(0.1, rel=0.01)
    share = found.share(100, 104)
    assert share is not None
    assert share[0] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("data", "tops", "says"),
    [
        (TraceData(word=_word(), why="it could not be fetched: refused"), (), "refused"),
        (TraceData(word=_word(), data=b"<html>404"), (), "not a Go execution trace"),
        (TraceData(word=_word(), data=header(21)), (), "needs `go tool trace`, and no Go is installed here"),
        (TraceData(word=_word(), data=trace()), (), "it has no events"),
        (TraceData(word=_word(), data=_trace(thread=77)), (), "it is of another program"),
        (TraceData(word=_word(), data=_trace(begin=10**9)), (), "it is of another time"),
        (TraceData(word=_word("other.service"), data=_trace()), (), "there is no cgroup other.service in the readings"),
        (TraceData(word=_word(), data=_trace()), ("/api.slice/calm.service",), "a.service, which was not chosen"),
    ],
)
def test_a_trace_that_cannot_be_joined_is_one_clear_line(data: TraceData, tops: tuple[str, ...], says: str) -> None:
    found = _joined(data, tops)
    assert isinstance(found, Finding)
    assert (found.code, found.status.value) == ("CGP734", "unverified")
    assert says in found.message
    assert "\n" not in found.message


def test_a_trace_can_be_given_to_a_unit_by_name() -> None:
    found = _joined(TraceData(word=_word("calm.service"), data=_trace(thread=77)))
    assert isinstance(found, GoDelays)
    assert found.path == "/api.slice/calm.service"


@pytest.mark.parametrize(
    ("text", "unit", "place"),
    [
        ("x=y.trace", "", "x=y.trace"), ("a.service=x.trace", "a.service", "x.trace"),
        ("http://127.0.0.1:6060/?a=b", "", "http://127.0.0.1:6060/?a=b"),
        ("a.service=http://[::1]:1", "a.service", "http://[::1]:1"), ("http://localhost:1", "", "http://localhost:1"), ("HTTP://127.0.0.1:1", "", "HTTP://127.0.0.1:1"),
    ],
)  # fmt: skip
def test_a_word_names_a_file_or_an_address(text: str, unit: str, place: str) -> None:
    assert parse_word(text, allow_remote=False) == TraceWord(unit=unit, place=place)


@pytest.mark.parametrize(
    "text",
    ["http://10.0.0.1:6060", "http://example.com", "http://127.0.0.1.example.com", "http://localhost.example.com",
     "http://0.0.0.0:1", "HTTP://10.0.0.1:6060", "Https://example.com", "https://[2001:db8::1]/", "http://127.1@example.com/"],
)  # fmt: skip
def test_an_address_elsewhere_is_refused_unless_it_is_allowed(text: str) -> None:
    with pytest.raises(UsageError, match="is not this machine's loopback address") as error:
        parse_word(text, allow_remote=False)
    assert "--allow-remote-trace" in error.value.remedy.title
    assert parse_word(text, allow_remote=True).place == text


@pytest.mark.parametrize(
    "text", ["", "a.service=", "http://", "http://[::1", "http://127.0.0.1:x/", "http://127.0.0.1/\x1b", "http://a b"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_word(text, allow_remote=True)


def test_a_file_that_is_no_trace_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("profile")
    with pytest.raises(UsageError, match="not a Go execution trace"):
        parse_word(str(tmp_path / "x"), allow_remote=False)
    # The program may write it while we measure.
    (tmp_path / "x").write_text("")
    parse_word(str(tmp_path / "x"), allow_remote=False)
    parse_word(str(tmp_path / "later"), allow_remote=False)


class _Pprof(http.server.BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        status = {"/moved": 302, "/denied": 400}.get(self.path.partition("?")[0], 200)
        body = b"profile duration exceeds server's WriteTimeout\n" if status == 400 else _trace()
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://example.com/")
        self.send_header("Content-Length", str(SIZE_MAX + 9 if self.path.startswith("/large") else len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def pprof() -> Iterator[tuple[str, list[str]]]:
    handler = type("Handler", (_Pprof,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_address[1]}", handler.asked
        server.shutdown()


def test_a_trace_is_fetched_for_the_time_of_the_readings(pprof: tuple[str, list[str]]) -> None:
    address, asked = pprof
    words = (parse_word(f"a.service={address}", allow_remote=False), TraceWord(unit="", place="/nonexistent"))
    fetches = Fetches(words, 2.0)
    first, second = fetches.all()
    assert fetches.done()
    assert first == TraceData(word=words[0], data=_trace())
    assert second.why == "it cannot be read: No such file or directory"
    assert fetch(f"{address}/x?seconds=90&k=v", 3.0) == _trace()
    assert asked == ["/debug/pprof/trace?seconds=2", "/x?k=v&seconds=3"]


@pytest.mark.parametrize(
    ("path", "says"), [("/moved", "the answer was 302"), ("/denied", "the answer was 400: profile duration exceeds")]
)
def test_an_answer_that_is_no_trace_is_said_and_no_redirect_is_followed(
    pprof: tuple[str, list[str]], path: str, says: str
) -> None:
    (found,) = Fetches([parse_word(f"{pprof[0]}{path}", allow_remote=False)], 1.0).all()
    assert says in found.why
    assert len(pprof[1]) == 1


def test_nobody_listens(pprof: tuple[str, list[str]]) -> None:
    (found,) = Fetches([parse_word("http://127.0.0.1:1", allow_remote=False)], 1.0).all()
    assert "it could not be fetched: " in found.why


@pytest.mark.starts_processes
def test_formats_that_are_not_known_are_given_to_go_tool_trace(tmp_path: Path) -> None:
    """A stand-in for Go: what the real tool prints is compared in tests/golang."""
    go = tmp_path / "go"
    go.write_text('#!/bin/sh\ntest "$1 $2 $3" = "tool trace -d=parsed" || exit 9\n'
                  'echo "M=1 P=0 G=1 StateTransition Time=5 GoID=1 NotExist->Running Reason="\nexit ${STATUS:-0}\n')  # fmt: skip
    go.chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"
    source, steps = steps_of(header(99), LiveRunner({"PATH": path}))
    assert source == "go tool trace"
    assert [step.goroutine for generation in steps for step in generation.steps] == [1]
    with pytest.raises(NotATraceError, match="go tool trace refused it: it said nothing"):
        list(steps_of(header(99), LiveRunner({"PATH": path, "STATUS": "1"}))[1])
