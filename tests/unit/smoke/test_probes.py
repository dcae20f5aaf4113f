"""Probes against a kernel that is played: what is pushed against, in which order, and what is undone afterwards."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Missing, Reading, Why
from cgroup_preflight.engines.base import Launch
from cgroup_preflight.smoke.payloads import ServicePayloads
from cgroup_preflight.smoke.probe_plan import Capacity, Probe, allowed_usec, plan_probes, shows_quota
from cgroup_preflight.smoke.probes import ProbeEvidence, Probes
from tests.unit.engines.machine import MOUNT, NUMBERS, Machine, Unit, Units, slice_cgroup
from tests.unit.smoke.fabricate import SCOPE, SLICE, plan

SERVICE = '[slices.api]\nMemoryMax = "256M"\n[services.web]\nbinary = "x"\nslice = "api"\n{}\n'
MIB = 1 << 20


class Trial:
    """All probes of a plan; `reply` writes what the payload of a unit says to a line on its input."""

    def __init__(self, tmp_path: Path, text: str, capacity: Capacity | None = None) -> None:
        self.machine = Machine()
        self.units = Units(self.machine, str(tmp_path))
        self.folder = tmp_path
        self.plan = plan(text)
        self.capacity = capacity or Capacity(cpus=2, available_bytes=4 << 30, swap_bytes=1 << 30)
        for item in self.plan.slices:
            self.units.slices[item.unit] = slice_cgroup(item.unit)
            self.units.make(item.unit, slice_cgroup(item.unit), [(one.property, one.text) for one in item.settings])
        self.units.on_started = self._started
        self.up = True
        self.lines: list[tuple[str, str]] = []
        self.held: list[dict[str, str]] = []
        self.said: list[str] = []
        #: What a payload says to a line, by its kind, its cgroup and its unit.
        self.reply: Callable[[str, str, Unit], str] = lambda _kind, _cgroup, _unit: ""
        self._inputs: list[int] = []

    def run(
        self, meanwhile: Iterable[None] = (), may_begin: Callable[[Probe], bool] = lambda _: True
    ) -> tuple[ProbeEvidence, ...]:
        machine = self.machine
        probes, _ = plan_probes(self.plan, NUMBERS, self.capacity)
        payloads = ServicePayloads(self.units, machine, self.units.slices, str(self.folder), None)
        made = Probes(self.units, machine.observer(), machine.door(), self.units.slices, payloads)
        try:
            return made.run_all(
                SCOPE, probes, self.said.append, iter(meanwhile), self.capacity, may_begin=may_begin
            )  # fmt: skip
        finally:
            for handle in self._inputs:
                os.close(handle)

    def _started(self, launch: Launch, unit: Unit) -> None:
        if self.up:
            Path(launch.output).write_text("noise (\n[1]\nup 7\n")
        handle = os.open(launch.input, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._inputs.append(handle)

        def tick() -> None:
            with contextlib.suppress(BlockingIOError):
                for line in os.read(handle, 4096).decode().splitlines():
                    self.lines.append((line, unit.name))
                    self.held.append(dict(self.machine.files))
                    text = self.reply(line.split(" ")[0], unit.cgroup, unit)
                    with open(launch.output, "a") as out:
                        out.write(text)

        self.machine.ticks.append(tick)


SAYS = {
    "tasks": "started 128\n", "push": "full 1\n", "keep": "full 1\n", "own": "full 1\n",
    "drop": "over 0\n",
}  # fmt: skip


def well(kind: str, _cgroup: str, _unit: Unit) -> str:
    """A payload that does all that it is asked for, against limits that do nothing."""
    return SAYS.get(kind, "")


def turns(count: int, end: Callable[[], object]) -> Iterator[None]:
    """Some turns of something else, and what it does at its end."""
    yield from [None] * count
    end()


def asked(trial: Trial, kind: str) -> list[str]:
    return [line for line, _ in trial.lines if line.startswith(f"{kind} ")]


def test_a_probe_of_a_service_runs_in_its_own_cgroup_with_the_limit(tmp_path):
    def reply(kind: str, cgroup: str, unit: Unit) -> str:
        if kind == "tasks":
            trial.machine.write(own, pids_current="3\n")
        return well(kind, cgroup, unit)

    trial = Trial(tmp_path, SERVICE.format("TasksMax = 64"))
    trial.reply = reply
    own = f"{SLICE}/{SCOPE}-_probe-0.service"
    trial.machine.write(own, pids_current="1\n")
    seen = {one.probe.kind: one for one in trial.run()}
    assert (seen["tasks"].cgroup, seen["tasks"].in_force) == (own, "64")
    # Of 128 that have started few are left.
    assert seen["tasks"].said == (
        {"refused": False, "started": 128, "alive": 3, "killed": True, "pids.current": "3", "pids.max": "64"},
    )
    assert asked(trial, "tasks") == ["tasks 128"]
    assert [line.split()[0] for line, _ in trial.lines] == ["tasks", "drop", "push", "drop"]
    assert trial.said[0] == "testing TasksMax of web (1/2)"
    assert ("removed", (f"{SCOPE}-_probe-0.service",)) in trial.units.calls


@pytest.mark.parametrize(("held", "in_force"), [("max", "max"), ("63", "63"), ("absent", None)])
def test_a_limit_that_is_not_in_force_is_not_pushed_against(tmp_path, held, in_force):
    """What the kernel has, and not what was expected, is what the evidence says."""
    trial = Trial(tmp_path, SERVICE.format("TasksMax = 64"))
    trial.reply = well
    trial.units.wrong[f"{SCOPE}-_probe-0.service"] = {"pids.max": held}
    (tasks,) = [one for one in trial.run() if one.probe.kind == "tasks"]
    assert (tasks.in_force, tasks.said, tasks.before, tasks.after) == (in_force, (), {}, {})
    assert not asked(trial, "tasks")


def test_limits_that_act_first_are_lifted_for_the_push_and_put_back(tmp_path):
    text = '[slices.api]\nMemoryMax = "256M"\nMemoryHigh = "200M"\n[services.web]\nbinary = "x"\nslice = "api"\nMemoryMax = "64M"\n'
    trial = Trial(tmp_path, text)
    trial.reply = well
    seen = trial.run()
    own = f"{SLICE}/{SCOPE}-_probe-0.service"
    high, limit, roof = f"{MOUNT}{SLICE}/memory.high", f"{MOUNT}{own}/memory.max", f"{MOUNT}{SLICE}/memory.max"
    assert [line.split()[0] for line, _ in trial.lines] == ["push", "drop"] * 3
    # MemoryHigh of the slice, then the service's MemoryMax, then that of the slice, each until all has ended.
    assert [held[limit] for held in trial.held] == [*2 * ["max"], *2 * [str(64 * MIB)], *2 * ["max"]]
    assert [held[high] for held in trial.held] == [*4 * [str(200 * MIB)], *2 * ["max"]]
    # What services left in the slice may not take the room of a smaller limit in it.
    assert [held[roof] for held in trial.held] == [*2 * [str(256 * MIB)], *2 * ["max"], *2 * [str(256 * MIB)]]
    assert trial.machine.files[high] == str(200 * MIB)
    assert trial.machine.files[roof] == str(256 * MIB)
    assert trial.machine.files[limit] == str(64 * MIB)
    assert {one.probe.label for one in seen} == {"web", "api.slice"}


def test_what_a_limit_refuses_until_it_is_lifted_is_not_counted(tmp_path):
    """Tasks of the push before stay, and more of them may just be starting."""

    def reply(kind: str, cgroup: str, unit: Unit) -> str:
        trial.machine.write(cgroup, pids_current="200\n")
        return "started 9\n" if kind == "tasks" else well(kind, cgroup, unit)

    text = '[slices.api]\nTasksMax = 400\n[services.web]\nbinary = "x"\nslice = "api"\nTasksMax = 200\n'
    trial = Trial(tmp_path, text)
    trial.reply = reply
    write = trial.units.write_attribute

    def late(path: str, value: str) -> None:
        trial.machine.files[f"{path.rpartition('/')[0]}/pids.events"] = "max 7\n"
        write(path, value)

    trial.units.write_attribute = late
    seen = {one.probe.label: one for one in trial.run()}
    assert seen["api.slice"].before == seen["api.slice"].after == {"max": 7, "oom_kill": 0}


def test_quotas_are_lifted_for_all_other_pushes_and_for_the_end_of_their_own(tmp_path):
    """Under them, what starts many processes takes many periods; and these would end with their next period only."""
    text = (
        '[slices.api]\nCPUQuota = "60%"\n[services.web]\nbinary = "x"\nslice = "api"\nCPUQuota = "50%"\nTasksMax = 64\n'
    )
    trial = Trial(tmp_path, text)
    own = f"{SLICE}/{SCOPE}-_probe-0.service"
    stats = {cgroup: f"{MOUNT}{cgroup}/cpu.stat" for cgroup in (own, SLICE)}
    write = trial.units.write_attribute

    def reply(kind: str, cgroup: str, unit: Unit) -> str:
        if kind == "cpu":
            trial.machine.files |= dict.fromkeys(stats.values(), "usage_usec 2000\nnr_throttled 5\n")
        return well(kind, cgroup, unit)

    def late(path: str, value: str) -> None:
        # What is used while the quota is lifted would look like one that does nothing.
        if value == "max" and path.endswith("/cpu.max") and asked(trial, "cpu"):
            trial.machine.files |= dict.fromkeys(stats.values(), "usage_usec 900000000\nnr_throttled 5\n")
        write(path, value)

    trial.reply, trial.units.write_attribute = reply, late
    seen = trial.run()
    limits = {cgroup: f"{MOUNT}{cgroup}/cpu.max" for cgroup in (own, SLICE)}
    held = [
        (line.split()[0], files[limits[own]].split()[0], files[limits[SLICE]].split()[0])
        for (line, _), files in zip(trial.lines, trial.held, strict=True)
    ]
    assert held == [
        ("cpu", "max", "60000"), ("drop", "max", "max"), ("cpu", "50000", "60000"), ("drop", "max", "60000"),
        ("tasks", "max", "max"), ("drop", "max", "max"),
    ]  # fmt: skip
    assert [trial.machine.files[limits[cgroup]] for cgroup in (own, SLICE)] == ["50000 100000", "60000 100000"]
    used = [line["stat"]["usage_usec"] for one in seen for line in one.said if "stat" in line]
    assert len(used) == 2
    assert max(used) < 900_000


@pytest.mark.parametrize(
    ("quota", "weight", "meanwhile"),
    [
        ("CPUQuota = '20%'", "80", "1"),
        ("CPUQuota = '20%'", "0", "0"),
        ("", "80", "80"),
        ("CPUQuota = '20%'", None, None),
    ],
)
def test_other_probes_leave_the_cpu_to_quotas(tmp_path, quota, weight, meanwhile):
    """By the least weight; a cgroup that is idle cannot have one, nor one without the controller."""
    trial = Trial(tmp_path, SERVICE.format(f"TasksMax = 64\n{quota}"))
    trial.reply = throttles(trial)
    path = f"{MOUNT}{SLICE}/cpu.weight"
    trial.machine.files.pop(path, None)
    if weight is not None:
        trial.machine.files[path] = f"{weight}\n"
    trial.run()
    held = [
        (line.split()[0], files.get(path, "").strip() or None)
        for (line, _), files in zip(trial.lines, trial.held, strict=True)
    ]
    quotas = [("cpu", weight), ("drop", weight)] if quota else []
    assert held == [*quotas, *((kind, meanwhile) for kind in ("tasks", "drop", "push", "drop"))]
    assert trial.machine.files.get(path, "").strip() == (weight or "")


@pytest.mark.parametrize(
    ("shared", "used", "throttled", "pushes"),
    [(True, 0.1, 0, 2), (True, 0.1, 1, 1), (True, 14.0, 0, 1), (False, 0.1, 0, 1)],
)
def test_a_quota_that_received_too_little_cpu_time_next_to_others_is_tested_alone(
    tmp_path, shared, used, throttled, pushes
):  # fmt: skip
    """One that was used up, or not enforced, is not: another try must not hide that."""
    text = '[slices.a]\n[slices.b]\n[services.p]\nbinary = "x"\nslice = "a"\nCPUQuota = "50%"\n'
    text += '[services.q]\nbinary = "x"\nslice = "b"\nCPUQuota = "40%"\n' if shared else ""
    trial = Trial(tmp_path, text)

    def reply(kind: str, cgroup: str, unit: Unit) -> str:
        if kind == "cpu":
            stat = f"usage_usec {int(used * 1e6)}\nnr_throttled {throttled}\n"
            trial.machine.later(1, lambda: trial.machine.files.update({f"{MOUNT}{cgroup}/cpu.stat": stat}))
            trial.machine.files[f"{MOUNT}{cgroup}/cpu.stat"] = "usage_usec 0\nnr_throttled 0\n"
        return well(kind, cgroup, unit)

    trial.reply = reply
    seen = trial.run()
    assert len(asked(trial, "cpu")) == pushes * len(seen)
    assert {line["stat"]["nr_throttled"] for one in seen for line in one.said} == {throttled}


def test_what_is_no_limit_is_not_lifted(tmp_path):
    trial = Trial(tmp_path, SERVICE.format(""))
    trial.reply = well
    trial.machine.files[f"{MOUNT}{SLICE}/memory.high"] = "max\n"
    trial.run()
    assert trial.units.written == []


def test_counters_are_those_of_just_before_and_just_after(tmp_path):
    def reply(kind: str, _cgroup: str, unit: Unit) -> str:
        for place in (unit.cgroup, SLICE):
            trial.machine.write(place, pids_events="max 3\n", memory_events_local="", memory_events="oom_kill 2\n")
            trial.machine.files[f"{MOUNT}{place}/memory.events.local"] = "max 8\nhigh 4\n"
        return "" if kind in ("tasks", "push") else well(kind, _cgroup, unit)

    trial = Trial(tmp_path, SERVICE.format('TasksMax = 64\nMemoryMax = "64M"\nCPUQuota = "50%"'))
    trial.reply = reply
    seen = {(one.probe.label, one.probe.kind): one for one in trial.run()}
    assert seen["web", "cpu"].before == seen["web", "cpu"].after == {}
    tasks = seen["web", "tasks"]
    # The counters were there when the probe of CPU time ended.
    assert tasks.before == tasks.after == {"max": 3, "oom_kill": 2}
    assert seen["web", "max"].after == {"max": 8, "high": 4, "oom_kill": 2}
    assert seen["api.slice", "max"].after["oom_kill"] == 2


def test_a_refused_fork_counts_at_the_probe_or_at_the_slice(tmp_path):
    def reply(kind: str, _cgroup: str, unit: Unit) -> str:
        if kind == "tasks":
            for place, count in ((unit.cgroup, 1), (SLICE, 2)):
                trial.machine.write(place, pids_events=f"max {count}\n", pids_current="90\n")
        return SAYS["drop"] if kind == "drop" else ""

    trial = Trial(tmp_path, "[slices.api]\nTasksMax = 90\n[services.web]\nbinary = 'x'\nslice = 'api'\n")
    trial.reply = reply
    (seen,) = trial.run()
    assert (seen.before, seen.after) == ({"max": 0, "oom_kill": 0}, {"max": 3, "oom_kill": 0})
    # No payload says it: the kernel does.
    assert seen.said == (
        {"refused": True, "started": 90, "alive": 90, "killed": False, "pids.current": "90", "pids.max": "90"},
    )
    assert trial.machine.now < 1002


@pytest.mark.parametrize(("alive", "killed"), [("130", False), ("129", True), ("", False)])
def test_tasks_that_have_started_are_compared_with_those_that_the_kernel_counts(tmp_path, alive, killed):
    def reply(kind: str, cgroup: str, unit: Unit) -> str:
        trial.machine.write(cgroup, pids_current=f"{alive}\n")
        return well(kind, cgroup, unit)

    trial = Trial(tmp_path, "[services.web]\nbinary = 'x'\nTasksMax = 64\n")
    trial.reply = reply
    (seen,) = trial.run()
    assert [(line["alive"], line["killed"]) for line in seen.said] == [(int(alive or 128), killed)]


def test_tasks_stay_for_the_limit_of_the_slice_and_not_longer(tmp_path):
    """It needs only those beyond them; memory is pushed without them, whose fork could be refused."""

    def reply(kind: str, cgroup: str, unit: Unit) -> str:
        count = {"tasks 84": 20, "tasks 135": 90}.get(trial.lines[-1][0], 1)
        counts = {"pids_current": f"{count}\n"} | ({"pids_events": f"max {count}\n"} if count > 1 else {})
        for place in (unit.cgroup, SLICE):
            trial.machine.write(place, **counts)
        return "" if kind == "tasks" else well(kind, cgroup, unit)

    text = (
        '[slices.api]\nTasksMax = 90\n[services.web]\nbinary = "x"\nslice = "api"\nTasksMax = 20\nMemoryMax = "64M"\n'
    )
    trial = Trial(tmp_path, text)
    trial.reply = reply
    own, slices, _ = sorted(trial.run(), key=lambda one: one.probe.kind != "tasks")
    assert [line for line, _ in trial.lines] == ["tasks 84", "tasks 135", "drop 0", f"push {80 * MIB}", "drop 0"]
    assert [(one.said[0]["refused"], one.said[0]["alive"]) for one in (own, slices)] == [(True, 20), (True, 90)]


@pytest.mark.parametrize(("config", "key"), [('MemoryMax = "64M"', "oom_kill"), ('MemoryHigh = "64M"', "high")])
def test_memory_is_pushed_no_longer_when_the_kernel_has_acted(tmp_path, config, key):
    def reply(kind: str, cgroup: str, _unit: Unit) -> str:
        if kind == "push":
            name = "memory.events" if key == "oom_kill" else "memory.events.local"
            trial.machine.later(1, lambda: trial.machine.files.update({f"{MOUNT}{cgroup}/{name}": f"{key} 1\n"}))
        return SAYS["drop"] if kind == "drop" else ""

    trial = Trial(tmp_path, f"[services.web]\nbinary = 'x'\n{config}\n")
    trial.reply = reply
    (seen,) = trial.run()
    assert (seen.said, seen.after[key]) == ((), 1)
    assert 1001 < trial.machine.now < 1002


def test_what_is_in_use_is_read_before_it_is_dropped(tmp_path):
    def reply(kind: str, cgroup: str, unit: Unit) -> str:
        trial.machine.write(cgroup, memory_current="80000000\n" if kind == "push" else "7\n")
        return well(kind, cgroup, unit)

    trial = Trial(tmp_path, '[services.web]\nbinary = "x"\nMemoryMax = "64M"\n')
    trial.reply = reply
    (seen,) = trial.run()
    assert seen.said == ({"eaten": 80 * MIB, "finished": True, "current": 80000000},)


@pytest.mark.parametrize(
    ("looks", "ends_at"),
    [
        # Seconds, what was used until then, throttled periods. As it should be: after two.
        ([(0.15, 0.03, 1), (0.25, 0.06, 3), (0.35, 0.061, 3), (0.45, 0.09, 4)], 0.25),
        # They begin one after the other, and the second is counted at its end.
        ([(0.15, 0.01, 0), (0.25, 0.03, 1), (0.29, 0.03, 1), (0.36, 0.05, 2), (0.4, 0.06, 2), (0.46, 0.07, 3)], 0.36),
        # The machine stood still, and what that cost is paid back.
        ([(0.35, 0.3, 3), (0.8, 0.3, 3), (1.45, 0.3, 9)], 1.45),
        # What a slice has given before it was throttled is never paid back: 12 ms more than quota and period.
        ([(0.35, 0.102, 3), (5.0, 1.032, 50), (15.1, 3.052, 150)], 0.35),
        # It never is: until the time is over.
        ([(0.35, 0.3, 3), (14.0, 14.0, 40), (15.1, 15.0, 45), (15.2, 15.0, 45), (15.3, 0.0, 99)], 15.1),
        ([(0.35, 3.0, 0), (5.3, 9.0, 0), (16.0, 9.0, 0)], 16.0),
    ],
)
def test_a_quota_is_measured_until_what_was_used_beyond_it_is_paid_back(tmp_path, looks, ends_at):
    """All reads at one time, so that the window is exact."""
    begin: list[float] = []

    def reply(kind: str, cgroup: str, unit: Unit) -> str:
        begin[:] = begin or [trial.machine.now]
        return well(kind, cgroup, unit)

    def tick() -> None:
        for seconds, used, throttled in looks if begin else ():
            if seconds > trial.machine.now - begin[0]:
                # As a clock that jumps: there are no other looks in between.
                trial.machine.now = begin[0] + seconds
                stat = f"usage_usec {int(used * 1e6)}\nnr_throttled {throttled}\n"
                trial.machine.write(f"{SCOPE}.slice/{SCOPE}-_probe-0.service", cpu_stat=stat)
                trial.machine.files[f"{MOUNT}/{SCOPE}.slice/{SCOPE}-_probe-0.service/cpu.stat"] = stat
                return

    trial = Trial(tmp_path, '[services.web]\nbinary = "x"\nCPUQuota = "20%"\n')
    trial.reply = reply
    trial.machine.ticks.append(tick)
    (seen,) = trial.run()
    (line,) = seen.said
    assert line["longest"] == pytest.approx(ends_at, abs=0.06)
    assert line["shortest"] <= line["longest"]


@pytest.mark.parametrize(
    ("quota", "period", "window", "throttled", "shown"),
    [
        ("50%", "100ms", 131, 2, True), ("50%", "100ms", 129, 2, False), ("50%", "100ms", 129, 3, True),
        ("50%", "100ms", 200, 1, False), ("90%", "100ms", 300, 2, False), ("90%", "100ms", 300, 3, True),
        ("120%", "100ms", 190, 2, True), ("120%", "100ms", 180, 2, False), ("190%", "100ms", 400, 2, False),
        ("60%", "1s", 1550, 2, True), ("60%", "1s", 1500, 2, False),
    ],
)  # fmt: skip
def test_two_throttled_periods_are_enough_where_use_tells_something(quota, period, window, throttled, shown):
    """In a window of so many ms, in which the processes would use more without the quota than is allowed."""
    text = f'[services.web]\nbinary = "x"\nCPUQuota = "{quota}"\nCPUQuotaPeriodSec = "{period}"\n'
    capacity = Capacity(cpus=4, available_bytes=1 << 30, swap_bytes=0)
    (probe,), _ = plan_probes(plan(text), NUMBERS, capacity)
    assert shows_quota(probe, throttled, window * 1e3) is shown
    assert shown <= (throttled == 3 or allowed_usec(probe, window * 1e3) < probe.amount * window * 1e3)


def test_swap_has_counters_of_its_own(tmp_path):
    def reply(kind: str, cgroup: str, unit: Unit) -> str:
        files = trial.machine.files
        files[f"{MOUNT}{cgroup}/memory.swap.peak"] = "4096\n"
        files[f"{MOUNT}{cgroup}/memory.swap.events"] = "max 5\n"
        files[f"{MOUNT}{unit.cgroup}/memory.events"] = "oom_kill 1\n"
        return SAYS["drop"] if kind == "drop" else ""

    trial = Trial(tmp_path, "[services.web]\nbinary = 'x'\nMemorySwapMax = '8M'\n")
    trial.reply = reply
    (seen,) = trial.run()
    assert seen.before == {"oom_kill": 0, "swap max": 0, "swap peak": 0}
    assert seen.after == {"oom_kill": 1, "swap max": 5, "swap peak": 4096}
    # Pages of a file would not be swapped.
    assert [line.split()[0] for line, _ in trial.lines] == ["own", "drop"]
    assert trial.machine.now < 1002


def test_a_push_that_does_not_end_ends_with_its_time(tmp_path):
    trial = Trial(tmp_path, SERVICE.format("TasksMax = 64"))
    trial.reply = lambda *_: ""
    tasks, memory = trial.run()
    assert (tasks.said[0]["refused"], memory.said) == (False, ())
    # The time of each push, and of waiting for its end.
    assert 1000 + 21.4 + 15 + 2 * 30 < trial.machine.now < 1000 + 21.4 + 15 + 2 * 30 + 2


def fails(trial: Trial, name: str, when: Callable[[], bool] = lambda: True) -> None:
    """Files of this name cannot be read, as on another machine that does not answer in time."""
    read = trial.machine.read

    def broken(path: str) -> Reading[str]:
        failed = path.endswith(f"/{name}") and when()
        return Missing(source=path, why=Why.FAILED) if failed else read(path)

    trial.machine.read = broken


def says(trial: Trial, unit: Unit, text: str) -> None:
    """A payload says something some time after it was asked."""
    with open(f"{trial.folder}/{unit.name}.out", "a") as out:
        out.write(text)


def test_a_slow_machine_has_more_time_as_long_as_processes_start(tmp_path):
    """Each start takes it ten seconds."""

    def reply(kind: str, cgroup: str, unit: Unit) -> str:
        if kind != "push":
            return well(kind, cgroup, unit)
        for seconds in (10, 20, 30):
            trial.machine.later(seconds, lambda: trial.machine.spawn("dd", cgroup))
        trial.machine.later(40, lambda: says(trial, unit, "full 1\n"))
        return ""

    trial = Trial(tmp_path, '[services.web]\nbinary = "x"\nMemoryMax = "64M"\n')
    trial.reply = reply
    (seen,) = trial.run()
    assert seen.said == ({"eaten": 80 * MIB, "finished": True, "current": None},)


@pytest.mark.parametrize(
    ("limit_from", "gone", "in_force", "refused"),
    [(3, False, str(64 * MIB), ""), (99, False, None, ""), (99, True, None, "its process ended before its turn")],
)
def test_a_limit_that_is_absent_for_a_moment_is_looked_for(tmp_path, limit_from, gone, in_force, refused):
    """One that stays absent is not in force, unless the probe and its cgroup are gone."""
    trial = Trial(tmp_path, '[services.web]\nbinary = "x"\nMemoryMax = "64M"\n')
    trial.reply = well
    read, looks = trial.machine.read, iter(range(1, 100))

    def late(path: str) -> Reading[str]:
        absent = path.endswith("/memory.max") and next(looks) < limit_from
        absent = absent or (gone and path.endswith("/cgroup.procs"))
        return Missing(source=path, why=Why.ABSENT) if absent else read(path)

    trial.machine.read = late
    (seen,) = trial.run()
    assert (seen.in_force, seen.refused) == (in_force, refused)
    assert bool(seen.said) is (in_force is not None)


@pytest.mark.parametrize(("size", "said"), [(63 * MIB, False), (64 * MIB, True)])
def test_memory_that_is_not_in_the_cgroup_says_nothing_about_its_limit(tmp_path, size, said):
    """A limit that is not enforced has more than that in its cgroup."""

    def reply(kind: str, cgroup: str, unit: Unit) -> str:
        trial.machine.write(cgroup, memory_current=f"{size}\n")
        return well(kind, cgroup, unit)

    trial = Trial(tmp_path, '[services.web]\nbinary = "x"\nMemoryMax = "64M"\n')
    trial.reply = reply
    (seen,) = trial.run()
    assert bool(seen.said) is said


def test_processes_that_start_again_and_again_have_a_minute(tmp_path):
    def reply(kind: str, cgroup: str, unit: Unit) -> str:
        if kind == "push":
            for seconds in range(1, 200):
                trial.machine.later(seconds, lambda: trial.machine.spawn("sh", cgroup))
        return SAYS["drop"] if kind == "drop" else ""

    trial = Trial(tmp_path, '[services.web]\nbinary = "x"\nMemoryMax = "64M"\n')
    trial.reply = reply
    (seen,) = trial.run()
    assert seen.said == ()
    assert 1060 < trial.machine.now < 1062


def test_a_payload_whose_processes_cannot_be_read_has_not_ended(tmp_path):
    def reply(kind: str, cgroup: str, unit: Unit) -> str:
        if kind == "drop":
            return SAYS["drop"]
        trial.machine.later(3, lambda: says(trial, unit, "full 1\n"))
        return ""

    trial = Trial(tmp_path, '[services.web]\nbinary = "x"\nMemoryMax = "64M"\n')
    trial.reply = reply
    fails(trial, "cgroup.procs", lambda: trial.lines != [])
    (seen,) = trial.run()
    assert [line["finished"] for line in seen.said] == [True]


@pytest.mark.parametrize(
    ("config", "name"),
    [("MemoryHigh = '64M'", "memory.events.local"), ("MemoryMax = '64M'", "memory.events"), ("TasksMax = 64", "pids.events"),
     ("MemorySwapMax = '8M'", "memory.swap.events"), ("MemorySwapMax = '8M'", "memory.swap.peak")],
)  # fmt: skip
def test_counters_that_cannot_be_read_are_not_zero(tmp_path, config, name):
    """Before, earlier ones would count for this probe; and after, the limit would seem to do nothing."""
    for asked_before in (False, True):
        folder = tmp_path / str(asked_before)
        folder.mkdir()
        trial = Trial(folder, f"[services.web]\nbinary = 'x'\n{config}\n")
        trial.reply = well
        fails(trial, name, lambda trial=trial, asked=asked_before: bool(trial.lines) is asked)
        (seen,) = trial.run()
        assert seen.unread
        assert bool(trial.lines) is asked_before


def test_a_quota_is_not_measured_from_a_count_that_cannot_be_read(tmp_path):
    trial = Trial(tmp_path, '[services.web]\nbinary = "x"\nCPUQuota = "20%"\n')
    trial.reply = well
    fails(trial, "cpu.stat")
    (seen,) = trial.run()
    assert (seen.said, trial.lines) == ((), [])


@pytest.mark.parametrize(("config", "name"), [("MemoryMax = '64M'", "memory_max"), ("TasksMax = 64", "pids_max")])
def test_a_limit_that_somebody_sets_meanwhile_is_what_the_evidence_says(tmp_path, config, name):
    """A lower one acts too, and proves nothing about this one."""

    def reply(kind: str, cgroup: str, unit: Unit) -> str:
        if kind == "drop":
            trial.machine.write(cgroup, **{name: "8192\n"})
        return well(kind, cgroup, unit)

    trial = Trial(tmp_path, f"[services.web]\nbinary = 'x'\n{config}\n")
    trial.reply = reply
    (seen,) = trial.run()
    assert seen.in_force == "8192"


def test_a_probe_that_is_killed_with_all_it_is_in_is_waited_for_no_longer(tmp_path):
    def reply(_kind: str, _cgroup: str, unit: Unit) -> str:
        trial.machine.processes.clear()
        return ""

    trial = Trial(tmp_path, SERVICE.format(""))
    trial.reply = reply
    (seen,) = trial.run()
    assert seen.said == ()
    assert trial.machine.now < 1002


def test_one_that_does_not_start_says_so(tmp_path):
    trial = Trial(tmp_path, SERVICE.format(""))
    trial.up = False
    (seen,) = trial.run()
    assert (seen.refused, seen.in_force, seen.cgroup) == ("it did not start in time", None, SLICE)
    assert 1020 <= trial.machine.now < 1021


def test_the_words_of_a_refusal_are_kept(tmp_path):
    trial = Trial(tmp_path, SERVICE.format(""))
    trial.units.refuses = {"_probe-": "Unit is masked."}
    (seen,) = trial.run()
    assert seen.refused == "Unit is masked."


def test_probes_of_one_slice_take_turns_and_those_of_others_do_not_wait(tmp_path):
    text = (
        "[slices.a]\nTasksMax = 90\n[slices.b]\nMemoryMax = '64M'\n"
        "[services.x]\nbinary = 'x'\nslice = 'a'\nTasksMax = 20\n[services.y]\nbinary = 'x'\nslice = 'b'\n"
    )
    open_now: list[str] = []
    most: list[int] = []
    trial = Trial(tmp_path, text)

    def reply(kind: str, cgroup: str, unit: Unit) -> str:
        if kind == "drop":
            return well(kind, cgroup, unit)
        open_now.append(kind)
        most.append(len(open_now))
        path = f"{tmp_path}/{unit.name}.out"

        def answer() -> None:
            open_now.remove(kind)
            with open(path, "a") as out:
                out.write(SAYS[kind])

        trial.machine.later(1, answer)
        return ""

    trial.reply = reply
    assert len(trial.run()) == 3
    assert max(most) == 2
    assert 1002 < trial.machine.now < 1004


def test_without_probes_the_rest_is_done_all_the_same(tmp_path):
    trial = Trial(tmp_path, "[services.web]\nbinary = 'x'\n")
    done = []
    assert trial.run(turns(3, lambda: done.append(1))) == ()
    assert done == [1]
    assert not trial.units.calls


def test_only_quotas_are_pushed_against_before_the_end_of_what_is_done_meanwhile(tmp_path):
    """A second run of a program is in the same slices: it must not be refused memory or tasks there."""
    trial = Trial(tmp_path, SERVICE.format('CPUQuota = "50%"\nTasksMax = 64'))
    trial.reply = well
    trial.run(turns(9, lambda: trial.lines.append(("meanwhile", ""))))
    asked = [line.split()[0] for line, _ in trial.lines]
    assert asked.index("cpu") < asked.index("meanwhile") < asked.index("tasks")
    assert "push" not in asked[: asked.index("meanwhile")]


TWO = """[slices.a]
CPUWeight = 10
[slices.b]
CPUWeight = 10
[services.one]
binary = "x"
slice = "a"
CPUQuota = "20%"
[services.two]
binary = "x"
slice = "b"
CPUQuota = "30%"
"""


def throttles(trial: Trial) -> Callable[[str, str, Unit], str]:
    """A quota that acts as soon as it is pushed against."""

    def reply(kind: str, cgroup: str, unit: Unit) -> str:
        if kind == "cpu":
            trial.machine.write(cgroup, cpu_stat="usage_usec 0\nnr_throttled 3\n")
        return well(kind, cgroup, unit)

    return reply


def test_a_quota_that_may_not_begin_waits_for_the_end_of_what_is_done_meanwhile(tmp_path):
    """Services that stop can share a slice with it."""
    trial = Trial(tmp_path, TWO)
    trial.reply = throttles(trial)
    seen = trial.run(
        turns(90, lambda: trial.lines.append(("meanwhile", ""))), lambda probe: probe.in_slice == f"{SCOPE}-b.slice"
    )
    assert [one.probe.label for one in seen] == ["one", "two"]
    begun = [unit or line for line, unit in trial.lines if line.split()[0] in ("cpu", "meanwhile")]
    assert begun == [f"{SCOPE}-_probe-1.service", "meanwhile", f"{SCOPE}-_probe-0.service"]


def test_a_quota_that_did_not_act_while_services_stopped_is_tried_once_more(tmp_path):
    """They may have had its CPU time; one that acted is not tried again, nor one that began later."""
    trial = Trial(tmp_path, TWO)
    alone: list[bool] = []

    def reply(kind: str, cgroup: str, unit: Unit) -> str:
        if kind == "cpu" and (alone or unit.name.endswith("1.service")):
            trial.machine.write(cgroup, cpu_stat="usage_usec 0\nnr_throttled 3\n")
        return well(kind, cgroup, unit)

    trial.reply = reply
    seen = trial.run(turns(2000, lambda: alone.append(True)))
    assert [one.said[0]["stat"]["nr_throttled"] for one in seen] == [3, 3]
    assert [unit for line, unit in trial.lines if line.startswith("cpu ")].count(f"{SCOPE}-_probe-0.service") == 2
    assert len(asked(trial, "cpu")) == 3
    later = tmp_path / "later"
    later.mkdir()
    trial = Trial(later, TWO.partition("[services.two]")[0])
    trial.reply = well
    assert [one.said[0]["stat"].get("nr_throttled", 0) for one in trial.run()] == [0]
    assert len(asked(trial, "cpu")) == 1


def test_a_quota_that_was_not_enforced_while_services_stopped_has_no_other_try(tmp_path):
    """What stopped was in other slices: nothing but a quota that does not act explains so much CPU time."""
    trial = Trial(tmp_path, TWO)

    def reply(kind: str, cgroup: str, unit: Unit) -> str:
        if kind == "cpu":
            trial.machine.write(cgroup, cpu_stat="usage_usec 90000000\nnr_throttled 0\n")
        return well(kind, cgroup, unit)

    trial.reply = reply
    seen = trial.run(turns(2000, lambda: None))
    assert [one.said[0]["stat"]["nr_throttled"] for one in seen] == [0, 0]
    assert len(asked(trial, "cpu")) == 2


def test_limits_are_put_back_and_inputs_closed_after_an_error(tmp_path):
    text = '[slices.api]\nMemoryMax = "256M"\nMemoryHigh = "200M"\n[services.web]\nbinary = "x"\nslice = "api"\n'
    trial = Trial(tmp_path, text)
    before = len(os.listdir("/proc/self/fd"))

    def reply(kind: str, cgroup: str, unit: Unit) -> str:
        if kind == "push":
            raise HostError("gone", remedy=None)
        return well(kind, cgroup, unit)

    trial.reply = reply
    with pytest.raises(HostError):
        trial.run()
    assert trial.machine.files[f"{MOUNT}{SLICE}/memory.high"] == str(200 * MIB)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    "line", ["", "full", "full x", "full 1 2", "full -1", f"full {'9' * 5000}", "'full' 1", "ended,1", "\\0"]
)
def test_a_line_of_a_payload_that_is_no_word_and_number_is_left_out(tmp_path, line):
    trial = Trial(tmp_path, SERVICE.format(""))
    trial.reply = lambda kind, cgroup, unit: f"{line}\n{well(kind, cgroup, unit)}"
    (seen,) = trial.run()
    assert seen.said == ({"eaten": 272 * MIB, "finished": True, "current": None},)
    assert trial.machine.now < 1002
