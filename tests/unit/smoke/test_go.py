"""The proof of the Go runtime's choice: what is read of a process, the trace, and the judgement. No kernel needed."""

import json
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from cgroup_preflight.checks.go.subjects import GoTarget
from cgroup_preflight.config.model import ReadyKind, ReadyTest
from cgroup_preflight.core.limits import Chain, Level
from cgroup_preflight.core.reading import Known, Missing, Reading, Why
from cgroup_preflight.core.report import Finding, Status
from cgroup_preflight.engines.base import Engine, Launch, Phase
from cgroup_preflight.engines.session import local_door
from cgroup_preflight.golang.modinfo import BuildInfo, Module
from cgroup_preflight.golang.program import Binary
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.host.door import Door
from cgroup_preflight.host.door import Status as FileStatus
from cgroup_preflight.plan.build import build_plan
from cgroup_preflight.plan.model import Plan
from cgroup_preflight.smoke import go_view
from cgroup_preflight.smoke.evidence import ServiceEvidence
from cgroup_preflight.smoke.go_findings import differs, plan_findings, proof_findings
from cgroup_preflight.smoke.go_trace import Trace, parse_trace, started_traces
from cgroup_preflight.smoke.go_view import GoMemory, GoView
from tests.unit.core.making import config_of
from tests.unit.engines.machine import Machine

Finish = Callable[[], dict[str, Trace]]
UNIT = "/a.slice/a-app.service"
INFO = BuildInfo(go_version="go1.27.3")
TARGET = GoTarget(cpus=frozenset(range(4)), machine="x86_64", swap=False)
MIB = 1 << 20


class Files:
    """Files and links by path, as `HostFs` gives them."""

    def __init__(self, files: Mapping[str, str], links: Mapping[str, str] | None = None) -> None:
        self.files, self.links = files, links or {}

    def prefetch(self, paths: Iterable[str], *, links: Iterable[str] = ()) -> None:
        """Nothing: they are here."""

    def read(self, path: str) -> Reading[str]:
        return (
            Known(value=self.files[path], source=path) if path in self.files else Missing(source=path, why=Why.ABSENT)
        )

    def data(self, path: str) -> Reading[bytes]:
        text = self.read(path)
        return Known(value=text.value.encode(), source=path) if isinstance(text, Known) else text

    quick = data

    def tail(self, path: str, _offset: int, _most: int) -> Reading[bytes]:
        return Missing(source=path, why=Why.ABSENT)

    def link(self, path: str) -> Reading[str]:
        return (
            Known(value=self.links[path], source=path) if path in self.links else Missing(source=path, why=Why.DENIED)
        )

    def names(self, path: str) -> Reading[tuple[str, ...]]:
        found = {
            name[len(path) + 1 :].split("/")[0] for name in (*self.files, *self.links) if name.startswith(f"{path}/")
        }
        return Known(value=tuple(sorted(found)), source=path) if found else Missing(source=path, why=Why.ABSENT)

    def status(self, path: str) -> Reading[FileStatus]:
        return Known(value=FileStatus(size=7, mode=0, uid=0, gid=0, time=0.0), source=path)

    def read_only(self, path: str) -> Reading[bool]:
        return Known(value=False, source=path)

    def machine(self) -> Reading[str]:
        return Known(value="x86_64", source="uname")


def door_of(
    files: Files, fetch: Callable[[str, int], bytes] | None = None, *, memory: bytes = b"", host: str = ""
) -> Door:
    """A machine with these files, whose pages `fetch` gives; its processes have this `memory` everywhere."""
    processes = SimpleNamespace(memory=lambda _pid, _address, size: memory[:size])
    door = SimpleNamespace(files=files, network=SimpleNamespace(fetch=fetch), processes=processes, host=host)
    return cast("Door", door)


def plan_of(lines: str = 'CPUQuota = "300%"', *, go_settings: bool = True) -> Plan:
    config = config_of(f'[services.app]\nbinary = "bin"\ngo_settings = {str(go_settings).lower()}\n{lines}')
    return build_plan(config, programs={"app": Binary(path="/src/bin", info=INFO)})


def view_of(
    *,
    environ: Mapping[str, str] | None = None,
    cpus: float | None = 3,
    opened: tuple[str, ...] = (f"/sys/fs/cgroup{UNIT}/cpu.max",),
    memory: GoMemory | None = None,
    info: BuildInfo | None = INFO,
    v1: bool = False,
    procs: int | None = None,
) -> GoView:
    level = Level(name=UNIT, cpus=cpus, has_cpu_max=cpus is not None)
    return GoView(
        pid=7,
        cgroup=UNIT,
        info=info,
        environ=Known(value=environ or {}, source="environ"),
        cpu_max_open=Known(value=opened, source="fd"),
        chain=Chain(levels=(level,), v1_cpu=v1),
        cpus=frozenset(range(4)),
        address_space=None,
        memory=memory,
        procs=procs,
    )


def proof(view: GoView, trace: Trace, plan: Plan | None = None) -> list[Finding]:
    plan = plan or plan_of()
    seen = ServiceEvidence(service=plan.services[0], engine="systemd", go=view)
    return proof_findings([seen], {plan.services[0].unit: trace}, plan, TARGET)


def choice(view: GoView, trace: Trace, plan: Plan | None = None) -> Finding:
    (found,) = [item for item in proof(view, trace, plan) if item.code == "CGP418"]
    return found


def test_the_trace_gives_the_first_and_the_last_number() -> None:
    text = (
        b"starting\nSCHED 0ms: gomaxprocs=4 idleprocs=1\nlog SCHED 1ms: gomaxprocs=9 \nSCHED 250ms: gomaxprocs=2 idle\n"
    )
    assert parse_trace(text) == Trace(first=4, last=2)
    assert parse_trace(b"SCHED nothing\n").first is None
    assert parse_trace(b"").why


class Units:
    """An engine whose units print what `output` says for their slice, and are in the phase that `phases` says.

    Those of the slices `refused` and `not here` do not start.
    """

    def __init__(self, output: Mapping[str, str], phases: Mapping[str, Phase]) -> None:
        self.output, self.end_phases = output, phases
        self.launches: dict[str, Launch] = {}
        self.killed: list[str] = []
        self.removed: list[str] = []
        self.asked = 0

    @contextmanager
    def started(self, launches: Sequence[Launch]) -> Iterator[dict[str, str]]:
        self.launches = {launch.unit: launch for launch in launches}
        yield {launch.unit: "no such user" for launch in launches if launch.slice == "refused"}
        self.removed += self.launches

    def phases(self, units: Iterable[str]) -> dict[str, Phase]:
        self.asked += 1
        if self.asked == 1:  # nothing has begun
            return dict.fromkeys(units, Phase.QUEUED)
        for launch in self.launches.values():
            Path(launch.output).write_text(self.output.get(launch.slice, ""), "utf-8")
        return {
            unit: self.end_phases.get(self.launches[unit].slice, Phase.STARTED)
            for unit in units
            if self.launches[unit].slice != "refused"
        }

    def kill(self, units: Iterable[str]) -> None:
        self.killed += units


@contextmanager
def traces_of(units: Units, launches: Mapping[str, Launch], folder: Path) -> Iterator[Finish]:
    door = Machine().door()

    def finished(turns: Generator[None, None, dict[str, Trace]]) -> dict[str, Trace]:
        while True:
            try:
                next(turns)
            except StopIteration as end:
                return cast("dict[str, Trace]", end.value)
            door.clock.sleep(0.02)

    with started_traces(cast("Engine", units), door, launches, "cgpf00", str(folder)) as turns:
        yield partial(finished, turns)


def launch_in(slice_name: str, folder: str = "/") -> Launch:
    return Launch(
        unit=f"{slice_name}.service", slice=slice_name, description="", command=("/src/bin", "--port=$1"),
        settings=(("CPUQuota", "300%"), ("Type", "notify"), ("User", "shop")), env=(("GODEBUG", "gctrace=1"),), folder=folder,
    )  # fmt: skip


def test_the_traced_run_is_the_same_program_and_waits_for_no_dead_one(tmp_path: Path) -> None:
    lines = "SCHED 0ms: gomaxprocs=4 x\nSCHED 250ms: gomaxprocs=3 x\n"
    units = Units({"alive": lines, "dead": "SCHED 0ms: gomaxprocs=2 x\n"}, {"dead": Phase.OVER, "mute": Phase.OVER})
    launches = {name: launch_in(name) for name in ("alive", "dead", "mute", "refused")}
    with traces_of(units, launches, tmp_path) as finish:
        traces = finish()
    assert {name: (trace.first, trace.last) for name, trace in traces.items()} == {
        "alive": (4, 3), "dead": (2, 2), "mute": (None, None), "refused": (None, None),
    }  # fmt: skip
    assert traces["refused"].why == "no such user"
    assert sorted(units.killed) == sorted(units.removed) == sorted(units.launches)
    for launch in units.launches.values():
        assert launch.command == ("/src/bin", "--port=$1")
        assert launch.env == (("GODEBUG", "gctrace=1,schedtrace=100"),)
        assert launch.settings == (("CPUQuota", "300%"), ("User", "shop"))
        assert (launch.hold_before, launch.hold_after) == (0, 0)


def test_a_program_that_prints_no_line_is_not_waited_for_without_end(tmp_path: Path) -> None:
    units = Units({}, {})
    with traces_of(units, {"x": launch_in("alive")}, tmp_path) as finish:
        assert finish() == {"x": Trace(why="it printed no scheduler trace")}
    assert units.killed


def test_what_was_started_for_a_trace_is_ended_in_any_case(tmp_path: Path) -> None:
    units = Units({}, {})
    with pytest.raises(KeyboardInterrupt), traces_of(units, {"x": launch_in("x")}, tmp_path):
        raise KeyboardInterrupt
    assert units.killed == ["cgpf00-_gotrace-0.service"]


def test_without_a_program_nothing_is_started(tmp_path: Path) -> None:
    units = Units({}, {})
    with traces_of(units, {}, tmp_path) as finish:
        assert finish() == {}
    assert not units.killed
    assert not units.launches


def test_as_foreseen_is_a_pass() -> None:
    found = choice(view_of(), Trace(first=3, last=3))
    assert (found.status, found.evidence["gomaxprocs"]) == (Status.PASS, 3)


@pytest.mark.parametrize(
    ("view", "trace", "words"),
    [
        (view_of(), Trace(first=4, last=4), "GOMAXPROCS is 4, not 3"),
        (view_of(), Trace(first=3, last=1), "GOMAXPROCS is 1 (started with 3), not 3"),
        (view_of(environ={"GOMAXPROCS": "3"}), Trace(first=3, last=3), "its environment has GOMAXPROCS=3, not None"),
        (view_of(opened=()), Trace(first=3, last=3), "is not open"),
        (view_of(opened=("/sys/fs/cgroup/cpu.max",)), Trace(first=3, last=3), "is not open"),
        (view_of(cpus=None), Trace(first=4, last=4), "should not"),
    ],
)
def test_each_difference_is_a_warning_in_words(view: GoView, trace: Trace, words: str) -> None:
    found = choice(view, trace)
    assert found.status is Status.WARN
    assert words in found.message
    assert found.remedies


def test_what_a_program_that_watches_others_has_open_is_its_own_affair() -> None:
    watching = view_of(cpus=None, opened=("/sys/fs/cgroup/b.slice/cpu.max",))
    assert choice(watching, Trace(first=4, last=4)).status is Status.PASS


def test_a_variable_that_got_lost() -> None:
    found = choice(view_of(environ={}), Trace(first=1, last=1), plan_of('CPUQuota = "50%"'))
    assert "GOMAXPROCS is not in its environment" in found.message


def test_without_a_trace_it_is_skipped_and_says_why() -> None:
    found = choice(view_of(), Trace(why="refused"))
    assert (found.status, "refused" in found.message) == (Status.SKIP, True)


def untraced(view: GoView) -> Finding:
    """The finding where no second run was made."""
    plan = plan_of()
    seen = ServiceEvidence(service=plan.services[0], engine="systemd", go=view)
    (found,) = [item for item in proof_findings([seen], {}, plan, TARGET) if item.code == "CGP418"]
    return found


def test_what_is_seen_in_memory_needs_no_second_run_unless_it_differs() -> None:
    service = plan_of().services[0]
    assert not differs(view_of(procs=3), service)
    assert untraced(view_of(procs=3)).status is Status.PASS
    assert untraced(view_of(procs=3)).evidence["gomaxprocs"] == 3
    for procs in (None, 4):
        assert differs(view_of(procs=procs), service)
    assert untraced(view_of(procs=4)).status is Status.WARN
    assert (untraced(view_of()).status, "not traced" in untraced(view_of()).message) == (Status.SKIP, True)
    # What nothing is said about is not run again.
    assert not differs(view_of(info=None), service)
    assert not differs(view_of(v1=True), service)
    # A second run says what it began with, and ends before a program changes it.
    changed = choice(view_of(procs=4), Trace(first=3, last=3))
    assert (changed.status, "GOMAXPROCS is 4 (started with 3), not 3" in changed.message) == (Status.WARN, True)
    assert choice(view_of(procs=4), Trace(why="refused")).status is Status.WARN


def test_automaxprocs_is_foreseen() -> None:
    linked = replace(INFO, deps=(Module(path="go.uber.org/automaxprocs", version="v1.6.0"),))
    assert choice(view_of(info=linked, cpus=2.5), Trace(first=3, last=2)).status is Status.PASS


def test_what_cannot_be_foreseen_is_left_out() -> None:
    assert not proof(view_of(info=None), Trace(first=3, last=3))
    assert not proof(view_of(v1=True), Trace(first=3, last=3))
    plan = plan_of()
    (found,) = proof_findings([ServiceEvidence(service=plan.services[0], engine="user")], {}, plan, TARGET)
    assert (found.code, found.status, "was not seen" in found.message) == ("CGP418", Status.SKIP, True)
    script = build_plan(config_of('[services.app]\nbinary = "bin"'), programs={})
    assert not proof_findings([ServiceEvidence(service=script.services[0], engine="user")], {}, script, TARGET)


def memory_of(**more: int | None) -> GoMemory:
    values: dict[str, int | None] = {
        "sys": 30 * MIB,
        "heap_sys": 20 * MIB,
        "heap_alloc": 12 * MIB,
        "heap_released": 10 * MIB,
        "current": 40 * MIB,
        "peak": 50 * MIB,
        "anon": 18 * MIB,
        "file": 20 * MIB,
        "kernel": 2 * MIB,
        **more,
    }
    return GoMemory(source="/debug/pprof/heap", collected=True, **values)  # type: ignore[arg-type]


def test_memory_that_the_runtime_does_not_know() -> None:
    (found,) = [item for item in proof(view_of(memory=memory_of()), Trace(first=3, last=3)) if item.code == "CGP419"]
    assert (found.evidence["go_counts"], found.evidence["unknown_to_go"]) == (20 * MIB, 22 * MIB)
    assert "at least 22M (55%)" in found.message
    (found,) = [item for item in proof(view_of(memory=memory_of(anon=None)), Trace()) if item.code == "CGP419"]
    assert found.evidence["unknown_to_go"] == 20 * MIB
    (found,) = [item for item in proof(view_of(memory=memory_of(current=None)), Trace()) if item.code == "CGP419"]
    assert found.evidence["unknown_to_go"] is None


def test_a_heap_too_near_its_limit_is_found_by_the_run() -> None:
    plan = plan_of('MemoryMax = "100M"')
    near = proof(view_of(memory=memory_of(heap_alloc=80 * MIB)), Trace(), plan)
    assert [item.status for item in near if item.code == "CGP408"] == [Status.WARN]
    far = proof(view_of(memory=memory_of()), Trace(), plan)
    assert not [item for item in far if item.code == "CGP408"]


def test_what_is_said_before_the_run_is_about_each_service() -> None:
    codes = {item.code for item in plan_findings(plan_of('MemoryMax = "512M"', go_settings=False), TARGET)}
    assert {"CGP400", "CGP405"} <= codes


@pytest.fixture
def go_process(monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.setattr(go_view, "read_image", lambda _image: INFO)
    top = "/sys/fs/cgroup"
    return Files(
        {
            "/proc/7/environ": "A=1\0GOMAXPROCS=3\0GOMAXPROCS=4\0EMPTY=\0",
            "/proc/7/limits": "Limit  Soft Limit\nMax address space         524288000      unlimited      bytes\n",
            "/proc/7/cgroup": f"0::{UNIT}\n",
            "/proc/7/status": "Name:\tapp\nCpus_allowed_list:\t0,2-3\n",
            f"{top}{UNIT}/cpu.max": "150000 50000\n",
            f"{top}{UNIT}/memory.max": "max\n",
            f"{top}/a.slice/memory.max": "1048576\n",
            f"{top}{UNIT}/memory.current": "900\n",
            f"{top}{UNIT}/memory.stat": "anon 100\nfile 200\nkernel 300\n",
        },
        {"/proc/7/fd/0": "/dev/null", "/proc/7/fd/5": f"{top}{UNIT}/cpu.max", "/proc/7/fd/6": "/x/cpu.max.old"},
    )


def test_a_process_is_read(go_process: Files) -> None:
    seen = go_view.look(
        door_of(go_process), Observer(go_process, "/sys/fs/cgroup"), 7, UNIT, ReadyTest(kind=ReadyKind.STARTED)
    )
    assert seen is not None
    assert seen.environ == Known(value={"A": "1", "GOMAXPROCS": "3", "EMPTY": ""}, source="/proc/7/environ")
    assert seen.cpu_max_open == Known(value=(f"/sys/fs/cgroup{UNIT}/cpu.max",), source="/proc/7/fd")
    assert seen.address_space == 524288000
    assert seen.cpus == {0, 2, 3}
    assert [(level.name, level.cpus, level.period_usec, level.has_cpu_max) for level in seen.chain.levels] == [
        (UNIT, 3, 50000, True),
        ("/a.slice", None, 100000, False),
    ]
    assert seen.chain.memory_max()[0] == 1048576
    assert seen.memory is None


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        ({"/debug/pprof/heap": b"# Sys = 30\n# HeapSys = 20\n# HeapAlloc = 7\n# HeapReleased = 5\n"}, (True, 25, 7)),
        (
            {
                "/debug/vars": json.dumps(
                    {"memstats": {"Sys": 30, "HeapSys": 20, "HeapAlloc": 7, "HeapReleased": 6}}
                ).encode()
            },
            (False, 24, 7),
        ),
        ({"/debug/vars": b'{"memstats": 3}', "/debug/pprof/heap": b"# Sys = 30\n"}, None),
        ({"/debug/vars": b"[" * 100000}, None),
        ({}, None),
    ],
)
def test_the_runtimes_own_count_is_fetched_where_it_is_offered(
    go_process: Files, pages: dict[str, bytes], expected: tuple[bool, int, int] | None
) -> None:
    def fetch(asked: ReadyTest, path: str, _most: int) -> bytes:
        assert asked is ready
        return pages.get(path.partition("?")[0], b"")

    ready = ReadyTest(kind=ReadyKind.HTTP, target="http://127.0.0.1:80/healthz")
    seen = go_view.look(door_of(go_process, fetch), Observer(go_process, "/sys/fs/cgroup"), 7, UNIT, ready)
    assert seen is not None
    memory = seen.memory
    assert (None if memory is None else (memory.collected, memory.known, memory.heap_alloc)) == expected
    assert memory is None or (memory.current, memory.anon, memory.file, memory.kernel) == (900, 100, 200, 300)


@pytest.mark.parametrize(
    ("address", "memory", "host", "procs"),
    [
        (0x600000, (3).to_bytes(4, sys.byteorder), "", 3),
        (0x600000, (3).to_bytes(4, sys.byteorder), "web1", None),
        (None, (3).to_bytes(4, sys.byteorder), "", None),
        (0x600000, b"", "", None),
        (0x600000, b"\1\0", "", None),
        (0x600000, bytes(4), "", None),
        (0x600000, b"\xff" * 4, "", None),
        (0x600000, (1 << 20).to_bytes(4, sys.byteorder), "", None),
    ],
)
def test_gomaxprocs_is_seen_in_memory_where_that_can_be_read(
    go_process: Files, monkeypatch: pytest.MonkeyPatch, address: int | None, memory: bytes, host: str, procs: int | None
) -> None:
    monkeypatch.setattr(go_view, "address_of", lambda _program, _name, _size: address)
    door, ready = door_of(go_process, memory=memory, host=host), ReadyTest(kind=ReadyKind.STARTED)
    seen = go_view.look(door, Observer(go_process, "/sys/fs/cgroup"), 7, UNIT, ready)
    assert seen is not None
    assert seen.procs == procs


@pytest.mark.parametrize(
    ("before", "now", "reads"),
    [("/a", "/a", 1), ("/a", "/b", 2), ("", "", 2)],
)
def test_a_program_is_read_once_unless_the_process_has_executed_another_one(
    go_process: Files, monkeypatch: pytest.MonkeyPatch, before: str, now: str, reads: int
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(go_view, "read_image", lambda _image: seen.append("") or INFO)
    monkeypatch.setattr(go_view, "address_of", lambda _program, _name, _size: 0x600000 if len(seen) == reads else None)

    def runs(place: str) -> Files:
        return Files(go_process.files, {**go_process.links, **({"/proc/7/exe": place} if place else {})})

    program = go_view.program_of(door_of(runs(before)), 7)
    door = door_of(runs(now), memory=(3).to_bytes(4, sys.byteorder))
    view = go_view.look(
        door, Observer(go_process, "/sys/fs/cgroup"), 7, UNIT, ReadyTest(kind=ReadyKind.STARTED), program
    )
    assert len(seen) == reads
    assert view is not None
    assert view.procs == 3


def test_a_line_of_version_1_is_seen(go_process: Files) -> None:
    files = Files({**go_process.files, "/proc/7/cgroup": f"4:cpu,cpuacct:/x\n0::{UNIT}\n"}, go_process.links)
    seen = go_view.look(door_of(files), Observer(files, "/sys/fs/cgroup"), 7, UNIT, ReadyTest(kind=ReadyKind.STARTED))
    assert seen is not None
    assert seen.chain.v1_cpu


def test_what_the_kernel_charges_beside_go_is_told_and_is_never_a_verdict() -> None:
    (found,) = [item for item in proof(view_of(memory=memory_of()), Trace(first=3, last=3)) if item.code == "CGP419"]
    assert found.status is Status.PASS
    assert {"memory_current", "memory_peak", "memory_anon", "memory_file", "memory_kernel", "go_counts"} <= set(
        found.evidence
    )


def test_open_files_that_cannot_be_read_say_nothing() -> None:
    view = replace(view_of(), cpu_max_open=Missing(source="/proc/7/fd", why=Why.DENIED))
    found = choice(view, Trace(first=3, last=3))
    assert (found.status, found.evidence["cpu.max open"]) == (Status.PASS, "unknown")


def test_without_a_folder_of_descriptors_or_limits_nothing_is_made_up(go_process: Files) -> None:
    files = {path: text for path, text in go_process.files.items() if path not in ("/proc/7/limits", "/proc/7/status")}
    bare = Files(files)
    seen = go_view.look(door_of(bare), Observer(bare, "/sys/fs/cgroup"), 7, UNIT, ReadyTest(kind=ReadyKind.STARTED))
    assert seen is not None
    assert isinstance(seen.cpu_max_open, Missing)
    assert (seen.address_space, seen.cpus) == (None, frozenset())


def test_an_address_space_without_a_limit(go_process: Files) -> None:
    text = "Max address space         unlimited            unlimited      bytes\n"
    files = Files({**go_process.files, "/proc/7/limits": text})
    seen = go_view.look(door_of(files), Observer(files, "/sys/fs/cgroup"), 7, UNIT, ReadyTest(kind=ReadyKind.STARTED))
    assert seen is not None
    assert seen.address_space is None


@pytest.mark.parametrize("ended", [True, False])
def test_a_program_that_is_no_go_program_is_not_looked_into(ended: bool) -> None:
    """One that has ended, and that of this test, Python."""
    pid = 5_000_000 if ended else os.getpid()
    door = local_door({})
    test = ReadyTest(kind=ReadyKind.EXIT)
    assert go_view.look(door, Observer(door.files, "/sys/fs/cgroup"), pid, UNIT, test) is None
