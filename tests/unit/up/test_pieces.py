"""The parts of `up` that need no engine: builds, addresses, causes, pauses, the stream and the table."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.core.reading import Known, Missing, Why
from cgroup_preflight.engines.base import Exit, How, UnitState
from cgroup_preflight.host.cgroup import Counters
from cgroup_preflight.host.local import LocalFiles
from cgroup_preflight.plan.build import build_plan
from cgroup_preflight.up.build import builds, run_builds
from cgroup_preflight.up.death import cause_of, is_failure
from cgroup_preflight.up.oom import Reached
from cgroup_preflight.up.pauses import Pauses
from cgroup_preflight.up.ports import place_of, taken
from cgroup_preflight.up.stream import Prefixes, Stream, Tail
from cgroup_preflight.up.table import Row, rates, table_lines
from cgroup_preflight.up.watching import digest, is_source
from tests.unit.core.making import config_of

SERVICES = """\
[services.a]
binary = "a"
build = ["go", "build", "./cmd/a"]
[services.b]
binary = "b"
build = ["go", "build", "./cmd/a"]
[services.c]
binary = "c"
build = ["make"]
build_folder = "other/module"
[services.d]
binary = "d"
"""


def test_each_command_runs_once_in_its_folder():
    found = builds("/src", config_of(SERVICES).services)
    assert [(one.command[0], one.folder, one.services) for one in found] == [
        ("go", "/src", ("a", "b")), ("make", "/src/other/module", ("c",)),
    ]  # fmt: skip


@pytest.mark.starts_processes
def test_a_build_that_fails_has_its_last_lines_and_its_status(tmp_path):
    script = "print('x\\x1b[2J'); [print(n) for n in range(100)]; raise SystemExit(3)"
    (config,) = (config_of(f'[services.a]\nbinary = "a"\nbuild = [{sys.executable!r}, "-c", {script!r}]\n').services,)
    said = []
    (failure,) = run_builds(builds(str(tmp_path), config), said.append)
    assert (failure.why, failure.lines[-1], len(failure.lines)) == ("exit status 3", "99", 20)
    assert said == ["building a"]


@pytest.mark.starts_processes
def test_a_build_that_works_says_nothing(tmp_path):
    services = config_of('[services.a]\nbinary = "a"\nbuild = ["/bin/sh", "-c", "echo hello; pwd > where"]\n').services
    assert run_builds(builds(str(tmp_path), services), lambda _: None) == ()
    assert (tmp_path / "where").read_text() == f"{tmp_path}\n"


@pytest.mark.starts_processes
def test_a_build_without_its_program_is_one_line(tmp_path):
    services = config_of('[services.a]\nbinary = "a"\nbuild = ["no-such-program-here"]\n').services
    (failure,) = run_builds(builds(str(tmp_path), services), lambda _: None)
    assert "cannot run no-such-program-here" in failure.why


def planned(*ready):
    text = "".join(
        f'[services.s{number}]\nbinary = "x"\n[services.s{number}.smoke]\nready = "{one}"\n' for number, one in enumerate(ready)
    )  # fmt: skip
    return build_plan(config_of(text)).services


def test_places():
    assert [place_of(one.smoke.ready) for one in planned("tcp://[::1]:80", "unix:/run/x.sock", "exit")] == [
        "[::1]:80", "/run/x.sock", "",
    ]  # fmt: skip


def test_an_address_that_is_taken_names_the_program():
    services = planned("tcp://127.0.0.1:8080", "log:up")
    assert taken(services, lambda _test: False, lambda _test: "x") == ()
    assert taken(services, lambda _test: True, lambda _test: "nginx (PID 7)") == (
        "s0 cannot listen at 127.0.0.1:8080: nginx (PID 7) does already",
    )
    assert "another program does" in taken(services, lambda _test: True, lambda _test: "")[0]


ABSENT = Missing(source="x", why=Why.ABSENT)


def counted(kills=0, peak=31 << 20):
    return Counters(
        cgroup="/a", cpu_stat=ABSENT, memory_events=Known(value={"oom_kill": kills}, source="x"),
        memory_peak=Known(value=peak, source="x"), memory_current=ABSENT, pids_events=ABSENT, pressure={},
    )  # fmt: skip


LIMIT = Reached(unit="web.service", limit=32 << 20)
KILLED = Exit(how=How.KILLED, status=9)


@pytest.mark.parametrize(
    ("state", "counters", "limit", "text"),
    [
        (UnitState(result="oom-kill", exit=KILLED), counted(1), LIMIT,
         "killed by the kernel for memory: peak 31M, limit 32M of web.service"),
        (UnitState(result="oom-kill", exit=KILLED), counted(1), Reached(unit="api.slice"),
         "killed by the kernel for memory: peak 31M in api.slice"),
        (UnitState(result="oom-kill", exit=KILLED), counted(1), Reached(),
         "killed by the kernel for memory: peak 31M; no limit was reached, so the machine itself was short of memory"),
        (UnitState(result="signal", exit=KILLED), counted(1), None, "killed by the kernel for memory: peak 31M"),
        (UnitState(result="oom-kill"), None, None, "killed by the kernel for memory"),
        (UnitState(result="signal", exit=KILLED), counted(0), LIMIT, "ended by signal SIGKILL"),
        (UnitState(result="exit-code", exit=Exit(how=How.EXITED, status=3)), counted(1), LIMIT, "ended with exit status 3"),
        (UnitState(result="core-dump", exit=Exit(how=How.DUMPED, status=11)), None, None,
         "ended by signal SIGSEGV (core dumped)"),
        (UnitState(result="signal", exit=Exit(how=How.KILLED, status=200)), None, None, "ended by signal 200"),
        (UnitState(), None, None, "ended (nobody knows how)"),
    ],
)  # fmt: skip
def test_the_cause_of_an_end(state, counters, limit, text):
    assert cause_of(state, counters, limit) == text


def test_only_success_is_no_failure():
    assert [is_failure(UnitState(result=word)) for word in ("success", "exit-code", "")] == [False, True, True]


def test_pauses_grow_and_start_over_after_a_steady_run():
    pauses = Pauses()
    assert [pauses.after(1.0) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert [pauses.after(61.0), pauses.after(1.0)] == [1, 2]


def test_lines_have_names_of_one_width_and_control_nothing():
    plain, coloured = (Prefixes(["web", "gateway"], colour=colour) for colour in (False, True))
    assert plain.line("web", "a\tb\x1b[31mred\x1b[0m\x1b]0;title\x07") == "web     | a       bred?]0;title?\n"
    assert plain.line("up", "x") == "up      | x\n"
    assert coloured.line("gateway", "x") == "\033[33mgateway | \033[0mx\n"


def test_a_tail_gives_whole_lines_in_order(tmp_path):
    path = tmp_path / "log"
    tail = Tail(str(path), LocalFiles())
    assert tail.read() == []
    path.write_bytes(b"one\r\ntwo\nthr")
    assert tail.read() == ["one", "two"]
    with path.open("ab") as file:
        file.write(b"ee\n\xff\nrest")
    assert tail.read() == ["three", "\ufffd"]
    assert tail.read(last=True) == ["rest"]
    path.write_bytes(b"new\n")
    assert tail.read() == ["new"]


def test_a_line_without_an_end_does_not_grow_without_limit(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"x" * (1 << 20))
    tail = Tail(str(path), LocalFiles())
    (line,) = tail.read()
    assert len(line) == 16 << 10


@given(st.lists(st.binary(max_size=30), max_size=10))
def test_nothing_is_lost_however_it_arrives(tmp_path_factory, pieces):
    path = tmp_path_factory.mktemp("tail") / "log"
    tail, found = Tail(str(path), LocalFiles()), []
    for piece in pieces:
        with path.open("ab") as file:
            file.write(piece)
        found += tail.read()
    found += tail.read(last=True)
    whole = b"".join(pieces).split(b"\n")
    wanted = whole[:-1] if whole[-1] == b"" else whole
    assert found == [line.decode("utf-8", "replace").removesuffix("\r") for line in wanted]


def test_a_stream_prints_before_it_says(tmp_path):
    (tmp_path / "web").write_text("hello\n")
    said = []
    stream = Stream(Prefixes(["web"], colour=False), {"web": str(tmp_path / "web")}, said.append, LocalFiles())
    stream.say("ready", "web")
    stream.say("over")
    assert said == ["web | hello\n", "web | ready\n", "up  | over\n"]


def test_the_last_words_of_a_service_that_wrote_a_lot_are_printed(tmp_path):
    """They say why it died; in a guest, the log of this host has only what was printed."""
    path = tmp_path / "web"
    path.write_text(("x" * 99 + "\n") * 8000 + "panic: at last")
    said = []
    stream = Stream(Prefixes(["web"], colour=False), {"web": str(path)}, said.append, LocalFiles())
    stream.pump()
    assert len(said) == 1
    stream.pump(last=True)
    lines = "".join(said).splitlines()
    assert len(lines) == 8001
    assert lines[-1] == "web | panic: at last"


def test_rates_are_those_between_two_readings():
    before = {"usage_usec": 1_000_000, "nr_periods": 10, "nr_throttled": 5}
    after = {"usage_usec": 2_000_000, "nr_periods": 30, "nr_throttled": 15}
    assert rates(before, after, 2.0) == (0.5, 0.5)
    assert rates({}, after, 2.0) == (None, None)
    assert rates(before, before, 1.0) == (0.0, None)


def test_the_table_is_aligned():
    rows = [
        Row(name="web", state="runs", cpus=0.5, quota=1.5, throttled=0.25, memory=1 << 20, limit=32 << 20, ready="yes"),
        Row(name="gateway", state="waits to start"),
    ]
    assert table_lines(rows) == (
        "service  state           CPU       throttled  memory  ready",
        "web      runs            0.50/1.5  25%        1M/32M  yes",
        "gateway  waits to start  -         -          -       -",
    )


def test_what_is_watched(tmp_path):
    assert [is_source(name) for name in ("/a/x.go", "/a/go.mod", "/a/go.work", "/a/x.py", "/a/.x.go.swp")] == [
        True, True, True, False, False,
    ]  # fmt: skip
    (tmp_path / "a").write_text("1")
    first = digest(str(tmp_path / "a"))
    (tmp_path / "a").write_text("2")
    assert digest(str(tmp_path / "a")) != first
    assert digest(str(tmp_path / "none")) == ""
