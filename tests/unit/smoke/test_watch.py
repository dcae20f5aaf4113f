"""Limits that are lifted and put back, counters that contradict them, and the tolerance of each; on a played machine."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.core.report import Status
from cgroup_preflight.core.slack import memory_slack, refused_slack
from cgroup_preflight.host.cgroupfs import CpuMax
from cgroup_preflight.smoke.findings import service_findings
from cgroup_preflight.smoke.watch import INTERVAL, Change, Watch, Watched
from cgroup_preflight.smoke.watch_findings import contradictions, cpu_slack
from tests.unit.engines.machine import MOUNT, Machine, Program, Unit, Units
from tests.unit.smoke import fabricate as fake
from tests.unit.smoke.test_services import CGROUP, URL, Trial, statuses

LIMITS = ("memory.max", "cpu.max", "pids.max", "cpu.weight", "cpuset.cpus")
MIB = 1 << 20


def machine() -> Machine:
    made = Machine()
    made.cgroups |= {"/a.slice", "/a.slice/a.service"}
    made.write(
        "/a.slice/a.service",
        memory_max="64",
        cpu_max="50000 100000",
        pids_max="10",
        cpu_stat="usage_usec 0",
        cpu_weight="50",
        cpuset_cpus="0",
    )
    return made


def watch(made: Machine) -> Watch:
    found = Watch(made.observer(), made.door())
    found.begin({"/a.slice/a.service": LIMITS})
    return found


@pytest.mark.parametrize("attribute", LIMITS)
def test_a_limit_that_is_lifted_and_put_back_between_two_readings_is_seen(attribute):
    made = machine()
    watched = watch(made)
    path = f"{MOUNT}/a.slice/a.service/{attribute}"
    before = made.files[path]
    made.later(1.0, lambda: made.files.update({path: "max"}))
    made.later(1.3, lambda: made.files.update({path: before}))
    watched.door.clock.sleep(3)
    (change,) = watched.seen("/a.slice/a.service").changes
    assert (change.attribute, change.before, change.text) == (attribute, before, "max")
    assert 1.0 <= change.seconds <= 1.0 + 2 * INTERVAL
    assert watched.seen("/a.slice/a.service").samples >= 28
    watched.end()
    assert not made.held


def test_each_limit_of_a_cgroup_that_is_lifted_is_seen_once():
    made = machine()
    watched = watch(made)
    folder = f"{MOUNT}/a.slice/a.service"
    made.later(1.0, lambda: made.files.update({f"{folder}/memory.max": "max"}))
    made.later(2.0, lambda: made.files.update({f"{folder}/pids.max": "max"}))
    watched.door.clock.sleep(3)
    found = [(item.attribute, item.text) for item in watched.seen("/a.slice/a.service").changes]
    assert found == [("memory.max", "max"), ("pids.max", "max")]


def test_a_burst_that_nobody_set_is_a_change_and_what_the_kernel_does_to_cpus_is_none():
    made = machine()
    made.files[f"{MOUNT}/a.slice/a.service/cpu.max.burst"] = "0"
    made.files[f"{MOUNT}/a.slice/a.service/cpuset.cpus.effective"] = "0-1"
    watched = Watch(made.observer(), made.door())
    watched.begin({"/a.slice/a.service": ("cpu.max", "cpuset.cpus.effective")})
    made.later(1.0, lambda: made.files.update({f"{MOUNT}/a.slice/a.service/cpu.max.burst": "20000"}))
    made.later(1.0, lambda: made.files.update({f"{MOUNT}/a.slice/a.service/cpuset.cpus.effective": "0"}))
    watched.door.clock.sleep(2)
    assert [item.attribute for item in watched.seen("/a.slice/a.service").changes] == ["cpu.max.burst"]


def test_a_limit_that_stays_is_no_change():
    made = machine()
    watched = watch(made)
    watched.door.processes.wait([], 3)
    seen = watched.seen("/a.slice/a.service")
    assert (seen.changes, seen.longest_gap <= 2 * INTERVAL, seen.standstill) == ((), True, 0)
    assert watched.seen("/other") == Watched(cgroup="/other")


def test_nothing_is_read_before_the_gate_and_after_the_end():
    made = machine()
    watched = Watch(made.observer(), made.door())
    watched.door.clock.sleep(1)
    watched.sample()
    assert not made.held
    watched.begin({"/a.slice/a.service": LIMITS})
    watched.end()
    watched.door.clock.sleep(1)
    assert not made.held


def test_a_file_of_a_cgroup_that_is_gone_is_no_change():
    made = machine()
    watched = watch(made)
    made.later(1.0, lambda: made.files.pop(f"{MOUNT}/a.slice/a.service/memory.max"))
    watched.door.clock.sleep(2)
    assert watched.seen("/a.slice/a.service").changes == ()


def uses(made: Machine, spans: list[tuple[float, float]]) -> Watched:
    """A cgroup with half a CPU that uses `share` of one for `seconds`, one span after the other."""
    watched = watch(made)
    begun, done = made.now, 0.0

    def tick() -> None:
        left, used = made.now - begun, 0.0
        for seconds, share in spans:
            used += min(left, seconds) * share
            left = max(left - seconds, 0.0)
        made.write("/a.slice/a.service", cpu_stat=f"usage_usec {round(used * 1e6)}")

    made.ticks.append(tick)
    watched.door.clock.sleep(sum(seconds for seconds, _ in spans))
    assert done == 0.0
    return watched.seen("/a.slice/a.service")


def test_cpu_time_above_the_quota_is_seen_although_the_service_rests_before_and_after():
    seen = uses(machine(), [(3.0, 0.0), (1.0, 1.0), (3.0, 0.0)])
    assert 0.4e6 < seen.cpu_excess_usec < 0.6e6
    (found,) = contradictions(fake.evidence(watched=(seen,)))
    assert (found.code, found.status) == ("CGP501", Status.FAIL)
    assert "cpu.stat" in found.message


def test_cpu_time_up_to_the_quota_is_none():
    seen = uses(machine(), [(3.0, 0.0), (4.0, 0.5)])
    assert seen.cpu_excess_usec < cpu_slack(seen, 1)
    assert not list(contradictions(fake.evidence(watched=(seen,))))


def test_a_virtual_cpu_that_stood_still_under_a_task_is_no_lifted_quota():
    """The time counts as used in one piece, and the kernel makes the cgroup pay it back."""
    seen = uses(machine(), [(1.0, 0.5), (0.1, 4.0), (1.0, 0.0), (1.0, 0.5)])
    assert seen.cpu_excess_usec > cpu_slack(seen, 1) - seen.cpu_jump_usec
    assert not list(contradictions(fake.evidence(watched=(seen,))))


@given(st.integers(1, 64), st.floats(0, 5))
def test_the_tolerance_of_cpu_time_is_a_period_and_a_slice_and_a_tick_for_each_cpu(cpus, standstill):
    quota = CpuMax(50_000, 100_000)
    slack = cpu_slack(Watched(cgroup="/x", quota=quota, standstill=standstill), cpus)
    assert slack == pytest.approx(50_000 + cpus * (15_000 + standstill * 1e6))
    for excess, count in ((slack, 0), (slack + 1, 1)):
        seen = Watched(cgroup="/x", quota=quota, standstill=standstill, cpu_excess_usec=excess)
        assert len(list(contradictions(fake.evidence(watched=(seen,), cpus=cpus)))) == count


def test_a_machine_that_stood_still_is_noticed():
    made = machine()
    watched = watch(made)
    sleep = made.sleep
    made.sleep = lambda seconds: sleep(seconds + 2.0)
    watched.door.clock.sleep(0.05)
    assert watched.seen("/a.slice/a.service").standstill == pytest.approx(2.0)


def counted(peak: int = MIB, pids_peak: int = 3):
    counters = replace(fake.counters(peak=peak), pids_peak=fake.known(pids_peak))
    return fake.evidence(counters=counters, watched=(Watched(cgroup=fake.CGROUP),))


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (counted(peak=64 * MIB + memory_slack(1, 4096)), ""),
        (counted(peak=64 * MIB + memory_slack(1, 4096) + 1), "memory.peak"),
        (counted(peak=129 * MIB), "memory.peak"),
        (counted(pids_peak=66), ""),
        (counted(pids_peak=67), "pids.peak"),
    ],
)
def test_a_peak_above_the_limit_is_never_a_pass(seen, words):
    found = [item for item in service_findings(seen, required=(), swap=False) if item.code == "CGP501"]
    assert [item.status for item in found] == [Status.FAIL if words else Status.PASS]
    assert words in found[0].message


def test_a_limit_that_was_looser_when_the_run_began_excuses_no_peak():
    """Also where the levels were read at another moment than the limit."""
    seen = replace(counted(peak=129 * MIB), effective=fake.effective(memory=1 << 30))
    assert ["memory.peak" in item.message for item in contradictions(seen)] == [True]


@pytest.mark.parametrize("own", ["", 'MemoryMax = "1G"\n'])
@pytest.mark.parametrize(("more", "fails"), [(0, False), (1, True)])
def test_a_huge_page_that_a_slice_refused_is_in_the_peak_of_its_service(own, more, fails):
    """The service has no limit of its own, or a looser one, and fills its slice."""
    text = fake.TEXT.replace('MemoryMax = "64M"\n', own)
    most = 256 * MIB + memory_slack(1, 4096) + 2 * MIB
    seen = fake.evidence(
        text, counters=fake.counters(peak=most + more), effective=fake.effective(memory=256 * MIB, memory_at=fake.SLICE)
    )
    assert ["above memory.max 256M" in item.message for item in contradictions(seen)] == [True] * fails


@pytest.mark.parametrize(("peak", "fails"), [(256, False), (259, True)])
def test_a_slice_may_use_more_than_one_of_its_services(peak, fails):
    level = replace(fake.counters(peak=peak * MIB), cgroup=fake.SLICE)
    seen = fake.evidence(slices=(level,))
    assert [f"{fake.SLICE[1:]}/memory.peak" in item.message for item in contradictions(seen)] == [True] * fails


@pytest.mark.parametrize(("peak", "fails"), [(20 + 2 * 3, False), (20 + 2 * 3 + 1, True)])
def test_each_service_of_a_slice_may_have_two_tasks_moved_in(peak, fails):
    text = fake.TEXT.replace('MemoryMax = "256M"', "TasksMax = 20", 1)
    level = replace(fake.counters(), cgroup=fake.SLICE, pids_peak=fake.known(peak))
    seen = replace(fake.evidence(text), slices=(level,), sharing={fake.SLICE: 3})
    assert [f"pids.peak is {peak}" in item.message for item in contradictions(seen)] == [True] * fails


def test_a_run_counts_the_services_of_each_slice(tmp_path):
    seen = Trial(tmp_path, Program(address=URL)).one()
    assert set(seen.sharing.values()) == {1}
    assert set(seen.sharing) == {level.cgroup for level in seen.slices}


@pytest.mark.parametrize(("host", "late", "unwatched"), [("far", 12.0, True), ("far", 8.0, False), ("", 12.0, False)])
def test_another_machine_that_answers_late_was_not_watched(host, late, unwatched):
    made = machine()
    watched = Watch(made.observer(), replace(made.door(), host=host))
    watched.begin({"/a.slice/a.service": LIMITS})
    sleep = made.sleep
    made.sleep = lambda seconds: sleep(seconds + late)
    watched.door.clock.sleep(0.5)
    assert watched.seen("/a.slice/a.service").unwatched == (pytest.approx(late, abs=0.6) if unwatched else 0.0)


def test_what_nobody_watched_is_unverified_and_no_fail():
    seen = fake.evidence(watched=(Watched(cgroup=fake.CGROUP, samples=5, longest_gap=12.3, unwatched=12.3),))
    found = [item for item in service_findings(seen, required=(), swap=False) if item.code == "CGP501"]
    assert {item.status for item in found} == {Status.PASS, Status.UNVERIFIED}
    (late,) = [item for item in found if item.status is Status.UNVERIFIED]
    assert "did not answer for 12 s" in late.message


def test_a_change_is_named_with_its_file_value_and_moment():
    change = Change(attribute="memory.max", before="67108864", text="max", seconds=2.34)
    seen = fake.evidence(watched=(Watched(cgroup=fake.CGROUP, changes=(change,)),))
    (found,) = [item for item in service_findings(seen, required=(), swap=False) if item.code == "CGP501"]
    assert found.status is Status.FAIL
    for words in (f"{fake.CGROUP[1:]}/memory.max", "'max'", "2.3 s", "'67108864'"):
        assert words in found.message


def test_a_limit_that_was_lifted_and_not_put_back_is_one_fail_with_its_own_remedy():
    change = Change(attribute="memory.max", before="67108864", text="max", seconds=2.34)
    watched = (Watched(cgroup=fake.CGROUP, changes=(change,)),)
    seen = fake.evidence(watched=watched, limits=fake.limits(memory_max="max"))
    (found,) = [item for item in service_findings(seen, required=(), swap=False) if item.code == "CGP501"]
    assert found.status is Status.FAIL
    assert found.remedies[0].title.startswith("do not change the limits")


def test_a_limit_that_was_never_in_force_is_told_although_another_one_was_lifted():
    change = Change(attribute="memory.max", before="67108864", text="max", seconds=2.34)
    watched = (Watched(cgroup=fake.CGROUP, changes=(change,)),)
    seen = fake.evidence(watched=watched, limits=fake.limits(memory_max="max", pids_max="max"))
    found = [item.message for item in service_findings(seen, required=(), swap=False) if item.code == "CGP501"]
    assert [("pids.max" in text, "memory.max" in text) for text in found] == [(True, False), (False, True)]


def test_what_is_mounted_over_a_cgroup_is_a_fail():
    seen = fake.evidence(covered=(fake.SLICE,))
    (found,) = [item for item in service_findings(seen, required=(), swap=False) if item.code == "CGP501"]
    assert found.status is Status.FAIL
    assert f"mounted over the folder of {fake.SLICE}" in found.message


def test_the_tolerance_of_memory_is_a_batch_for_each_cpu_and_a_megabyte():
    assert memory_slack(1, 4096) == MIB + 64 * 4096
    assert memory_slack(4, 65536) == MIB + 16 * MIB


@pytest.mark.parametrize(("page_size", "huge"), [(4096, 2 * MIB), (16384, 32 * MIB), (65536, 512 * MIB)])
def test_what_a_level_above_refuses_is_a_huge_page_for_each_cpu(page_size, huge):
    """Documentation/admin-guide/mm/hugetlbpage.rst and arch/arm64: the sizes of one level of page tables."""
    assert refused_slack(3, page_size) == 3 * huge


def test_a_whole_run_sees_what_a_service_does_between_two_readings(tmp_path):
    def lifts(units: Units, _unit: Unit) -> None:
        units.machine.later(2.0, lambda: units.machine.write(CGROUP, memory_max="max"))
        units.machine.later(2.5, lambda: units.machine.write(CGROUP, memory_max="67108864"))

    seen = Trial(tmp_path, Program(address=URL, does=lifts)).one()
    assert statuses(seen)["CGP501"] is Status.FAIL
    honest = Trial(tmp_path, Program(address=URL)).one()
    assert statuses(honest)["CGP501"] is Status.PASS
    assert honest.watched[-1].samples > 40
