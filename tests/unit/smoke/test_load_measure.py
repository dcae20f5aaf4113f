"""The load probe on a machine that is played: files of cgroups that grow while the clock runs, and payloads that answer."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from cgroup_preflight.core.reading import Reading, parsed
from cgroup_preflight.core.report import Finding, Status
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.host.fs import LiveFs
from cgroup_preflight.host.local import LocalFiles
from cgroup_preflight.plan.shares import shares
from cgroup_preflight.smoke.load import LoadPlan, plan_load
from cgroup_preflight.smoke.load_measure import MOST_SECONDS, SETTLE_SECONDS, WINDOWS, LoadPlace, LoadProbe, weigh
from cgroup_preflight.smoke.probe_plan import ProbeUnit
from tests.unit.smoke.fabricate import SCOPE, plan

TEXT = """\
[slices.api]
[services.a]
binary = "a"
slice = "api"
CPUWeight = 300
[services.b]
binary = "b"
slice = "api"
"""
TOP, API = f"/{SCOPE}.slice", f"/{SCOPE}.slice/{SCOPE}-api.slice"
A, B = f"{SCOPE}-a.service", f"{SCOPE}-b.service"


class Below(LiveFs):
    """A machine whose files are below a folder, but for what a test writes itself."""

    def tail(self, path: str, offset: int, most: int) -> Reading[bytes]:
        return LocalFiles().tail(path, offset, most)


class Far(Below):
    """The same machine as another one, whose answer with number `late` comes late by `seconds`.

    That is all of it (`within` None), or what follows the file with the number `within` in it.
    """

    def __init__(self, played: "Played", late: int, seconds: float, within: int | None) -> None:
        super().__init__(str(played.root))
        self.played, self.late, self.seconds, self.within = played, late, seconds, within
        self.known: dict[str, Reading[bytes]] = {}
        self.count = 0

    def prefetch(self, paths: Iterable[str], **_others: object) -> None:
        self.count += 1
        for number, path in enumerate(paths):
            if self.count == self.late and number == self.within:
                self.played.sleep(self.seconds)
            self.known[path] = super().quick(path)
        if self.count == self.late and self.within is None:
            self.played.sleep(self.seconds)

    def quick(self, path: str) -> Reading[bytes]:
        return self.known.pop(path) if path in self.known else super().quick(path)

    def read(self, path: str) -> Reading[str]:
        return parsed(self.quick(path), lambda data: data.decode())


class Played:
    """Clock, payloads and the kernel's files of one machine with two CPUs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = 100.0
        load, _ = plan_load(SCOPE, plan(TEXT), frozenset(range(2)))
        assert load is not None
        self.load = load
        self.rates = {name: float(share) for name, share in shares(load.tree.top).items()}
        self.busy, self.steal = 0.0, 0.0
        self.asked: list[tuple[str, str]] = []
        self.written: list[tuple[str, str]] = []
        self.ended, self.has_weights = False, True
        #: Units of the config whose process was killed.
        self.killed: set[str] = set()
        self.refused: dict[str, str] = {}
        self.says, self.answers = "up 7\n", "bound 1\n"
        #: Why payloads are not where they should be, by unit.
        self.unmoved: dict[str, str] = {}
        self.on_start: Callable[[], None] = lambda: None
        self.on_sleep: Callable[[], None] = lambda: None
        #: The files of this machine as another one, if it is one.
        self.far: Far | None = None
        self.used = dict.fromkeys(self.rates, 0.0)
        self.machine = dict.fromkeys(("user", "steal"), 0.0)
        self._write()

    def _cgroups(self) -> dict[str, str]:
        hogs = {self.load.unit_of[item.unit]: self.cgroup(item) for item in self.load.hogs}
        return {f"{SCOPE}.slice": TOP, f"{SCOPE}-api.slice": API, **hogs}

    def _write(self) -> None:
        for name, cgroup in self._cgroups().items():
            folder = self.root / "m" / cgroup.strip("/")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "cpu.stat").write_text(f"usage_usec {int(self.used[name] * 1e6)}\nuser_usec 1\n")
            (folder / "cgroup.procs").write_text("7\n" if name in self.killed else "7\n8\n")
            if self.has_weights:
                (folder / "cpu.weight").write_text("100\n")
        (self.root / "proc").mkdir(exist_ok=True)
        user, steal = int(self.machine["user"] * 100), int(self.machine["steal"] * 100)
        (self.root / "proc" / "stat").write_text(
            f"cpu  1 2\ncpu0 7 7 7 7 7 7 7 7 0 0\ncpu1 {user} 0 0 9 0 0 0 {steal} 0 0\n"
        )

    def monotonic(self) -> float:
        return self.now

    def own_cpu(self) -> float:
        return 0.0

    def cpus(self) -> frozenset[int]:
        return frozenset(range(2))

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        (self.root / "proc" / "uptime").write_text(f"{self.now:.2f} 1.00\n")
        if self.asked:
            for name, rate in self.rates.items():
                self.used[name] += rate * seconds
            self.machine["user"] += (self.rates[f"{SCOPE}.slice"] + self.busy) * seconds
            self.machine["steal"] += self.steal * seconds
            self._write()
        self.on_sleep()

    @contextlib.contextmanager
    def started(self, units: Sequence[ProbeUnit], longest: float) -> Iterator[dict[str, str]]:
        assert longest > SETTLE_SECONDS + MOST_SECONDS
        for item in units:
            Path(self.output(item)).write_text(self.says)
        self.on_start()
        yield self.refused
        self.ended = True

    def enter(self, item: ProbeUnit) -> str:
        return self.unmoved.get(item.unit, "")

    def cgroup(self, item: ProbeUnit) -> str:
        return f"{API}/{item.unit}"

    def ask(self, item: ProbeUnit, line: str) -> None:
        self.asked.append((item.unit, line))
        with Path(self.output(item)).open("a") as file:
            file.write(self.answers if line.startswith("load ") else "")

    def output(self, item: ProbeUnit) -> str:
        return f"{self.root}/{item.unit}.out"

    def place(self) -> LoadPlace:
        fs = self.far or Below(str(self.root))
        slices = {f"{SCOPE}.slice": TOP, f"{SCOPE}-api.slice": API}
        self.files = fs
        self.clock = self.processes = self
        self.host = "web1" if self.far else ""
        return LoadPlace(payloads=self, engine=self, observer=Observer(fs, "/m"), door=self, slices=slices)  # type: ignore[arg-type]

    def write_attribute(self, path: str, text: str) -> None:
        self.written.append((path, text))
        (self.root / path.strip("/")).write_text(text)

    def run(self) -> Finding:
        (found,) = LoadProbe(self.load, self.place()).run()
        assert self.ended
        return found


def test_shares_as_planned_pass_and_all_processes_push_at_the_same_time(tmp_path: Path) -> None:
    played = Played(tmp_path)
    found = played.run()
    assert (found.status, found.code) == (Status.PASS, "CGP517")
    first, second = (item.unit for item in played.load.hogs)
    # All are bound before one begins, and the one that will receive least begins first.
    assert played.asked == [(first, "load 1"), (second, "load 1"), (second, "go"), (first, "go")]
    assert found.evidence["a.service"] == "75.0% of api.slice, planned 75.0%"
    assert found.evidence["cpus"] == "1"


@pytest.mark.parametrize(("late", "windows"), [(0.3, 5), (60.0, WINDOWS)])
def test_it_begins_when_all_processes_have_begun_or_after_a_while(tmp_path: Path, late: float, windows: int) -> None:
    played = Played(tmp_path)
    rates = dict(played.rates)
    one, other = (played.load.unit_of[item.unit] for item in played.load.hogs)
    played.rates |= {one: 0.0, other: rates[one] + rates[other]}

    def begin() -> None:
        if played.now >= 100.0 + late:
            played.rates |= rates

    played.on_sleep = begin
    found = played.run()
    assert found.evidence["windows"] == windows
    assert (found.status is Status.PASS) is (late < 1)


def test_it_stops_when_the_shares_are_clear_and_goes_on_to_the_end_where_they_are_not(tmp_path: Path) -> None:
    assert Played(tmp_path).run().evidence["windows"] == 5
    played = Played(tmp_path)
    played.rates |= {A: 0.5, B: 0.5}
    found = played.run()
    assert found.evidence["windows"] == WINDOWS
    assert found.evidence["seconds"] == pytest.approx(MOST_SECONDS)


def test_limits_of_slices_are_lifted_meanwhile(tmp_path: Path) -> None:
    played = Played(tmp_path)
    (tmp_path / "m" / API.strip("/") / "memory.max").write_text("4096\n")
    (tmp_path / "m" / API.strip("/") / "pids.max").write_text("max\n")
    played.run()
    assert played.written == [(f"/m{API}/memory.max", "max"), (f"/m{API}/memory.max", "4096\n")]


def test_a_quota_that_the_manager_writes_when_it_starts_a_unit_is_lifted_and_so_is_one_that_comes_later(
    tmp_path: Path,
) -> None:
    played = Played(tmp_path)
    path = tmp_path / "m" / API.strip("/") / "cpu.max"
    played.on_start = lambda: path.write_text("30000 100000\n") and None  # type: ignore[func-returns-value]
    assert played.run().status is Status.PASS
    assert path.read_text() == "30000 100000\n"
    later = Played(tmp_path)
    times = iter(range(100))
    later.on_sleep = lambda: path.write_text("30000 100000\n") if next(times) == 3 else None  # type: ignore[assignment, return-value]
    assert later.run().status is Status.PASS
    always = Played(tmp_path)
    always.on_sleep = lambda: path.write_text("30000 100000\n") and None  # type: ignore[func-returns-value]
    found = always.run()
    assert (found.status, "again and again" in found.message) == (Status.UNVERIFIED, True)
    # Until shortly before the time is over: what is left is too short, and its error too large for that.
    almost = Played(tmp_path)
    almost.rates |= {A: 0.725, B: 0.275}
    almost.on_sleep = lambda: path.write_text("30000 100000\n") if almost.now < 119.3 else None  # type: ignore[assignment, return-value]
    found = almost.run()
    assert (found.status, "again and again" in found.message) == (Status.UNVERIFIED, True)


def planned(text: str) -> tuple[LoadPlan | None, str]:
    return plan_load(SCOPE, plan(text), frozenset({0, 1}))


def test_weigh_says_what_it_does_and_nothing_where_no_weight_counts(tmp_path: Path) -> None:
    played, said = Played(tmp_path), list[str]()
    (found,) = weigh(played.place(), *planned(TEXT), said.append, required=True)
    assert (found.status, said) == (Status.PASS, ["testing CPUWeight with 2 services at the same time"])
    assert weigh(played.place(), *planned(TEXT.replace("CPUWeight = 300\n", "")), said.append, required=True) == ()
    limited = TEXT.replace("CPUWeight = 300", 'CPUWeight = 300\nAllowedCPUs = "0"') + 'AllowedCPUs = "1"\n'
    (found,) = weigh(played.place(), *planned(limited), said.append, required=True)
    assert (found.status, len(said)) == (Status.SKIP, 1)


def test_weights_without_effect_fail(tmp_path: Path) -> None:
    played = Played(tmp_path)
    played.rates |= {A: 0.5, B: 0.5}
    found = played.run()
    assert (found.status, found.evidence["a.service"]) == (Status.FAIL, "50.0% of api.slice, planned 75.0%")


@pytest.mark.parametrize(("busy", "steal", "says"), [(0.5, 0.0, "outside of the run"), (0.0, 0.2, "steal")])
def test_load_that_was_measured_makes_it_unverified(tmp_path: Path, busy: float, steal: float, says: str) -> None:
    played = Played(tmp_path)
    played.rates |= {A: 0.5, B: 0.5}
    played.busy, played.steal = busy, steal
    found = played.run()
    assert (found.status, says in found.message) == (Status.UNVERIFIED, True)


def test_a_level_without_cpu_weight_is_named(tmp_path: Path) -> None:
    played = Played(tmp_path)
    played.rates |= {A: 0.5, B: 0.5}
    played.has_weights = False
    for path in tmp_path.rglob("cpu.weight"):
        path.unlink()
    found = played.run()
    assert "cpu controller is not enabled in api.slice" in found.message


def test_a_scheduler_of_sched_ext_is_named(tmp_path: Path) -> None:
    played = Played(tmp_path)
    played.rates |= {A: 0.5, B: 0.5}
    folder = tmp_path / "sys" / "kernel" / "sched_ext"
    (folder / "root").mkdir(parents=True)
    (folder / "state").write_text("enabled\n")
    (folder / "root" / "ops").write_text("simple\n")
    assert "'simple'" in played.run().message
    (folder / "state").write_text("disabled\n")
    again = Played(tmp_path)
    again.rates |= {A: 0.5, B: 0.5}
    assert "'simple'" not in again.run().message


def test_processes_that_do_not_start_are_unverified(tmp_path: Path) -> None:
    played = Played(tmp_path)
    played.refused = {"x": "no room"}
    assert (played.run().status, played.asked) == (Status.UNVERIFIED, [])
    silent = Played(tmp_path)
    silent.says = "noise\n"
    found = silent.run()
    assert (found.status, "did not start within" in found.message) == (Status.UNVERIFIED, True)


def test_a_process_that_may_not_use_its_cpu_is_unverified(tmp_path: Path) -> None:
    played = Played(tmp_path)
    played.answers = "refused 1\n"
    found = played.run()
    assert (found.status, "ended before its time" in found.message) == (Status.UNVERIFIED, True)


def test_a_process_that_the_kernel_killed_is_no_error_of_the_weights(tmp_path: Path) -> None:
    """Nobody says it: the payload itself stays."""
    played = Played(tmp_path)
    played.killed.add(B)
    played.rates |= {A: 1.0, B: 0.0}
    found = played.run()
    assert (found.status, "ended before its time" in found.message) == (Status.UNVERIFIED, True)


def test_a_counter_that_goes_away_is_unverified(tmp_path: Path) -> None:
    played = Played(tmp_path)

    def lose() -> None:
        if played.asked:
            (tmp_path / "proc" / "stat").write_text("broken\n")

    played.on_sleep = lose
    found = played.run()
    assert (found.status, "could not be read" in found.message) == (Status.UNVERIFIED, True)


def far(root: Path, shares: float, late: int, seconds: float, within: int | None) -> tuple[Finding, int]:
    """The load of another machine, on which a gets `shares` of the CPU time in place of 75 percent; how often it was asked."""
    root.mkdir(exist_ok=True)
    played = Played(root)
    played.rates |= {A: shares, B: 1.0 - shares}
    played.sleep(0.0)
    played.far = Far(played, late, seconds, within)
    return played.run(), played.far.count


#: Between the counters of the two services; before and after all of them; the whole answer.
_WITHIN = (4, 1, 6, None)


@pytest.mark.parametrize("within", _WITHIN)
@pytest.mark.parametrize("seconds", [0.3, 5.0])
@pytest.mark.parametrize("late", range(1, 9))
def test_a_late_answer_of_another_machine_fails_no_weight(
    tmp_path: Path, late: int, seconds: float, within: int | None
) -> None:
    whole, count = far(tmp_path / "whole", 0.75, 0, 0.0, None)
    assert (whole.status, count) == (Status.PASS, 8)
    found, _ = far(tmp_path / "late", 0.75, late, seconds, within)
    assert found.status in (Status.PASS, Status.UNVERIFIED), found
    # The time is that of the machine, to which nothing came late.
    assert (late, within) != (8, None) or found.evidence["seconds"] == pytest.approx(whole.evidence["seconds"])


@pytest.mark.parametrize("within", _WITHIN)
@pytest.mark.parametrize("late", [2, 3, 4, 45])
def test_a_late_answer_of_another_machine_passes_no_weight(tmp_path: Path, late: int, within: int | None) -> None:
    """Two thirds in place of three quarters, and a counter that is read later by so much that three quarters are seen."""
    found, count = far(tmp_path, 2 / 3, late, 3.4, within)
    assert count >= 44
    assert found.status in (Status.FAIL, Status.UNVERIFIED), found
