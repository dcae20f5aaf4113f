"""From readings to windows: what went back or jumped is left out and said, and too little is said rather than too much."""

import pytest

from cgroup_preflight.metrics.contention import judge
from cgroup_preflight.metrics.moment import Moment
from cgroup_preflight.metrics.series import series_of
from tests.unit.metrics.readings import contended, moment, sample, throttled

_A = "/api.slice/a.service"


def test_counters_become_shares_of_the_time() -> None:
    series = series_of(contended())
    cpu = series.whole.groups[_A].cpu
    assert cpu is not None
    assert cpu.pressure is not None
    assert (cpu.usage, cpu.quota, cpu.periods, cpu.throttled, cpu.weight) == (pytest.approx(0.5), 0.5, 50, 50, 100)
    assert (cpu.throttled_cpus, cpu.pressure.waiting) == (pytest.approx(1.5), pytest.approx(0.9))
    assert len(series.parts) == 5
    assert series.whole.seconds == pytest.approx(5)
    assert series.pressure
    assert series.local_stat
    assert series.notes == ()
    found = judge(series).diagnoses
    assert [(item.rule, item.victim, item.confidence.value) for item in found] == [("C1", _A, "high")]


def test_one_reading_is_not_enough() -> None:
    with pytest.raises(ValueError, match="two readings at different times are needed"):
        series_of(contended()[:1])
    with pytest.raises(ValueError, match="two readings"):
        series_of([contended()[0]] * 3)


def test_a_clock_that_goes_back_costs_that_reading_only() -> None:
    readings = contended()
    series = series_of([*readings[:3], readings[0], *readings[3:]])
    assert series.notes == ("a reading was left out: the clock went back by 2.0 s",)
    assert len(series.parts) == 5
    assert judge(series).diagnoses[0].rule == "C1"


def test_a_wall_clock_that_is_set_changes_nothing_but_is_said() -> None:
    readings = contended()
    late = moment(106, readings[-1].snapshot.samples, wall=1e9 + 106 + 3600)
    series = series_of([*readings, late])
    assert series.notes == ("the wall clock jumped by +3600 s; times are those of the monotonic clock",)


def _restarted(identity: int) -> list[Moment]:
    """The counters begin again in the middle."""
    counts = [0, 10, 20, 0, 10, 20]
    return [
        moment(100 + n, {_A: throttled(_A, 100 + n, periods=count, stopped=count, identity=7 if n < 3 else identity)})
        for n, count in enumerate(counts)
    ]


@pytest.mark.parametrize(
    ("identity", "why"), [(8, "the cgroup was removed and created again"), (7, "cpu.stat usage_usec went back")]
)
def test_counters_that_go_back_cost_that_part_only(identity: int, why: str) -> None:
    series = series_of(_restarted(identity))
    assert series.notes == (f"{_A}: {why}, in 1 of 5 parts of the time, which do not count for it",)
    cpu = series.whole.groups[_A].cpu
    assert cpu is not None
    # 40 of the 50 periods, divided by the whole time.
    assert (cpu.periods, cpu.usage) == (40, pytest.approx(0.4))
    lost = series.parts[2].groups.get(_A)
    assert lost is None or (lost.cpu, lost.reborn) == (None, 1)


def test_a_unit_that_is_started_again_in_each_part_is_known_by_its_limits() -> None:
    """Killed and restarted faster than it is read: the slice has the count, and only one unit in it can be meant."""

    def at(n: int) -> Moment:
        events = f"low 0\nhigh 0\nmax {9 * n}\noom {n}\noom_kill {n}\n"
        level = sample("/a.slice", n, 1, memory_events=events, memory_events_local="low 0\nhigh 0\nmax 0\noom 0\n")
        return moment(
            n,
            {"/a.slice": level, "/a.slice/k.service": sample("/a.slice/k.service", n, 50 + n, memory_max="41943040\n")},
        )

    found = judge(series_of([at(n) for n in range(5)])).diagnoses
    assert [(item.rule, item.victim, item.confidence.value) for item in found] == [("M1", "/a.slice/k.service", "high")]
    assert "killed 4 of its processes for memory at its own MemoryMax=40M" in found[0].message


def test_memory_that_grew_is_not_that_of_an_earlier_cgroup() -> None:
    def at(seconds: float, size: int, identity: int) -> Moment:
        return moment(seconds, {_A: sample(_A, seconds, identity, memory_current=f"{size}\n")})

    same = series_of([at(0, 100, 7), at(1, 300, 7)]).whole.groups[_A].memory
    assert same is not None
    assert same.grown == 200
    other = series_of([at(0, 100, 7), at(1, 0, 8), at(2, 300, 8)]).whole.groups[_A].memory
    assert other is not None
    assert other.grown == 300


def test_the_host_is_read_from_its_own_files() -> None:
    def at(seconds: float, busy: int, idle: int, steal: int) -> Moment:
        stat = f"cpu  {busy} 0 0 {idle} 0 0 0 {steal} 0 0\ncpu0 1\ncpu1 1\ncpu2 1\n".encode()
        host = {
            "/proc/stat": stat, "/proc/meminfo": b"MemTotal: 1024 kB\nMemAvailable: 512 kB\n",
            "/proc/pressure/memory": f"some avg10=0 total={int(seconds * 250_000)}\n".encode(),
            "/sys/kernel/sched_ext/state": b"enabled\n", "/sys/kernel/sched_ext/root/ops": b"rusty\n",
        }  # fmt: skip
        return moment(seconds, {}, host=host)

    host = series_of([at(0, 0, 0, 0), at(2, 60, 30, 10)]).whole.host
    assert (host.cpus, host.busy, host.steal) == (3, pytest.approx(0.7), pytest.approx(0.1))
    assert (host.memory_total, host.memory_available, host.other_scheduler) == (1 << 20, 1 << 19, "rusty")
    assert host.memory is not None
    assert host.memory.waiting == pytest.approx(0.25)


def test_malformed_files_are_as_absent_ones() -> None:
    broken = [moment(n, {_A: sample(_A, n, cpu_stat="what\n", cpu_pressure="x\n", memory_current="many\n")}, host={"/proc/stat": b"\xff"})
              for n in range(2)]  # fmt: skip
    answer = judge(series_of(broken))
    assert answer.diagnoses == ()
    assert [(item.code, item.status.value) for item in answer.findings if item.status == "unverified"] == [
        ("CGP790", "unverified")
    ]


def test_devices_with_a_limit_are_known() -> None:
    files = {
        "io_stat": "8:0 rbytes=0\n",
        "io_max": "8:0 rbps=max wbps=1048576 riops=max wiops=max\n8:16 rbps=max wbps=max\n",
    }
    found = series_of([moment(n, {"/a.service": sample("/a.service", n, **files)}) for n in (1, 2)])
    io = found.whole.groups["/a.service"].io
    assert io is not None
    assert io.limited == {"8:0"}


@pytest.mark.timeout(60)
def test_a_root_that_is_another_one_each_time_is_no_cgroup_of_its_own() -> None:
    """A host can say so; who divides the time of each cgroup among those in it would never end."""
    readings = [
        moment(100 + n, {**one.snapshot.samples, "": sample("", 100 + n, identity=n + 1)})
        for n, one in enumerate(contended())
    ]
    series = series_of(readings)
    assert "" not in series.whole.groups
    assert [item.rule for item in judge(series).diagnoses] == ["C1"]
