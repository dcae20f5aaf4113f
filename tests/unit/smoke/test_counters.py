"""What the kernel counted is told for every level, and what it did not count is left out."""

from dataclasses import replace

from cgroup_preflight.smoke.counters import counted_findings
from tests.unit.smoke.fabricate import ABSENT, SLICE, counters, effective, evidence, known, stay

ABOVE = replace(
    counters(peak=80 << 20, cpu={"usage_usec": 9, "nr_periods": 10, "nr_throttled": 5, "throttled_usec": 70}),
    cgroup=SLICE,
    pressure={"cpu": known({"some_avg10": 1.0, "some_total": 2_500_000.0, "full_total": 0.0}), "io": ABSENT},
)


def test_every_level_with_its_name_in_the_config():
    (found,) = counted_findings([evidence(slices=(ABOVE,))])
    assert (found.code, found.status, found.subject) == ("CGP509", "pass", "web")
    assert found.message == (
        "web.service peak 20M, throttled in 10% of periods; "
        "api.slice peak 80M, throttled in 50% of periods, stalled 2.50 s for cpu"
    )
    assert found.evidence["web.service cpu.stat nr_throttled"] == 5
    assert found.evidence["api.slice memory.peak"] == 80 << 20
    assert found.evidence["api.slice memory.events oom_kill"] == 0
    assert found.evidence["api.slice cpu.pressure some_total"] == 2_500_000
    assert "api.slice cpu.pressure some_avg10" not in found.evidence
    assert not any("io.pressure" in key for key in found.evidence)


def test_the_slice_of_the_run_has_no_name_of_the_config():
    (found,) = counted_findings([evidence(slices=(replace(ABOVE, cgroup="/cgpf0123456789ab.slice"),))])
    assert "run.slice memory.peak" in found.evidence


def test_the_limit_in_effect_is_the_tightest_and_says_whose_it_is():
    tightest = effective(memory=48 << 20, memory_at=SLICE, cpus=None, tasks=30, tasks_at="/user.slice/user-1000.slice")
    (found,) = counted_findings([evidence(effective=tightest)])
    told = {key: value for key, value in found.evidence.items() if key.startswith("effective")}
    assert told == {
        "effective memory.max": 48 << 20, "effective memory.max is of": "api.slice",
        "effective pids.max": 30, "effective pids.max is of": "/user.slice/user-1000.slice",
    }  # fmt: skip


def test_nothing_counted_is_no_number():
    nothing = counters(events=ABSENT, peak=ABSENT, cpu=ABSENT)
    (found,) = counted_findings([evidence(counters=nothing, effective=None)])
    assert found.evidence == {}
    assert "no counters" in found.message


def test_a_service_that_never_ran_has_none():
    assert counted_findings([evidence(counters=None)]) == ()


def test_what_the_memory_was_while_the_service_ran():
    seen = evidence(stay=replace(stay(), memory={"anon": 1 << 20, "file": 7 << 20}))
    (found,) = counted_findings([seen])
    assert found.message.endswith("; memory while it ran: anonymous 1M, file 7M")
    assert (found.evidence["anon memory"], found.evidence["file memory"]) == (1 << 20, 7 << 20)
    assert "kernel memory" not in found.evidence
