"""The load probe on a machine that is played: files of cgroups that grow while the clock runs, and payloads that answer."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from cgroup_preflight.core.report import Finding, Status
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.host.fs import LiveFs
from cgroup_preflight.plan.shares import shares
from cgroup_preflight.smoke.load import plan_load
from cgroup_preflight.smoke.load_measure import SETTLE_SECONDS, WINDOW_SECONDS, WINDOWS, LoadProbe
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
        self.ended = False
        self.refused: dict[str, str] = {}
        self.says = "{'up': 7}\n"
        self.on_sleep: Callable[[], None] = lambda: None
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
            if not (folder / "cpu.weight").exists():
                (folder / "cpu.weight").write_text("100\n")
        (self.root / "proc").mkdir(exist_ok=True)
        user, steal = int(self.machine["user"] * 100), int(self.machine["steal"] * 100)
        (self.root / "proc" / "stat").write_text(f"cpu  {user} 0 0 9 0 0 0 {steal} 0 0\ncpu0 1\n")

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.asked:
            for name, rate in self.rates.items():
                self.used[name] += rate * seconds
            self.machine["user"] += (self.rates[f"{SCOPE}.slice"] + self.busy) * seconds
            self.machine["steal"] += self.steal * seconds
            self._write()
        self.on_sleep()

    @contextlib.contextmanager
    def started(self, units: Sequence[ProbeUnit], longest: float) -> Iterator[dict[str, str]]:
        assert longest > SETTLE_SECONDS + WINDOWS * WINDOW_SECONDS
        for item in units:
            Path(self.output(item)).write_text(self.says)
        yield self.refused
        self.ended = True

    def cgroup(self, item: ProbeUnit) -> str:
        return f"{API}/{item.unit}"

    def ask(self, item: ProbeUnit, line: str) -> None:
        self.asked.append((item.unit, line))

    def output(self, item: ProbeUnit) -> str:
        return f"{self.root}/{item.unit}.out"

    def run(self) -> Finding:
        fs = LiveFs(str(self.root))
        slices = {f"{SCOPE}.slice": TOP, f"{SCOPE}-api.slice": API}
        (found,) = LoadProbe(self.load, self, Observer(fs, "/m"), fs, self, slices).run()  # type: ignore[arg-type]
        assert self.ended
        return found


def test_shares_as_planned_pass_and_all_processes_push_at_the_same_time(tmp_path: Path) -> None:
    played = Played(tmp_path)
    found = played.run()
    assert (found.status, found.code) == (Status.PASS, "CGP517")
    assert [unit for unit, _ in played.asked] == [item.unit for item in played.load.hogs]
    assert all(line.startswith("load 2 ") and f"/m{API}/" in line for _, line in played.asked)
    assert found.evidence["seconds"] == WINDOWS * WINDOW_SECONDS
    assert found.evidence["windows"] == WINDOWS


def test_weights_without_effect_fail(tmp_path: Path) -> None:
    played = Played(tmp_path)
    played.rates |= {A: 1.0, B: 1.0}
    found = played.run()
    assert (found.status, found.evidence["measured_percent"]) == (Status.FAIL, 50.0)


@pytest.mark.parametrize(("busy", "steal", "says"), [(0.5, 0.0, "outside of the run"), (0.0, 0.2, "steal")])
def test_load_that_was_measured_makes_it_unverified(tmp_path: Path, busy: float, steal: float, says: str) -> None:
    played = Played(tmp_path)
    played.rates |= {A: 1.0, B: 1.0}
    played.busy, played.steal = busy, steal
    found = played.run()
    assert (found.status, says in found.message) == (Status.UNVERIFIED, True)


def test_a_level_without_cpu_weight_is_named(tmp_path: Path) -> None:
    played = Played(tmp_path)
    played.rates |= {A: 1.0, B: 1.0}
    (tmp_path / "m" / API.strip("/") / f"{SCOPE}-_load-1.service" / "cpu.weight").unlink()
    found = played.run()
    assert "cpu controller is not enabled in api.slice" in found.message


def test_a_scheduler_of_sched_ext_is_named(tmp_path: Path) -> None:
    played = Played(tmp_path)
    played.rates |= {A: 1.0, B: 1.0}
    folder = tmp_path / "sys" / "kernel" / "sched_ext"
    (folder / "root").mkdir(parents=True)
    (folder / "state").write_text("enabled\n")
    (folder / "root" / "ops").write_text("simple\n")
    assert "'simple'" in played.run().message
    (folder / "state").write_text("disabled\n")
    again = Played(tmp_path)
    again.rates |= {A: 1.0, B: 1.0}
    assert "'simple'" not in again.run().message


def test_processes_that_do_not_start_are_unverified(tmp_path: Path) -> None:
    played = Played(tmp_path)
    played.refused = {"x": "no room"}
    assert (played.run().status, played.asked) == (Status.UNVERIFIED, [])
    silent = Played(tmp_path)
    silent.says = "noise\n"
    found = silent.run()
    assert (found.status, "did not start within" in found.message) == (Status.UNVERIFIED, True)


def test_a_counter_that_goes_away_is_unverified(tmp_path: Path) -> None:
    played = Played(tmp_path)

    def lose() -> None:
        if played.asked:
            (tmp_path / "proc" / "stat").write_text("broken\n")

    played.on_sleep = lose
    found = played.run()
    assert (found.status, "could not be read" in found.message) == (Status.UNVERIFIED, True)
