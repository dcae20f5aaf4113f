"""From what one smoke run saw to findings: each way a service can end, and no way to pass by silence."""

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.core.quantities import parse_size
from cgroup_preflight.core.report import Status, Verdict
from cgroup_preflight.core.verdict import verdict_of
from cgroup_preflight.engines.base import UnitState
from cgroup_preflight.engines.ready import Readiness
from cgroup_preflight.engines.session import ENDED_FIRST
from cgroup_preflight.plan.run_unit import RunUnit
from cgroup_preflight.smoke.findings import service_findings, service_result
from cgroup_preflight.smoke.limits import nowhere
from cgroup_preflight.smoke.margins import proposed_max
from tests.unit.smoke.fabricate import (
    ABSENT,
    CGROUP,
    DENIED,
    SLICE,
    TEXT,
    counters,
    effective,
    evidence,
    limits,
    state,
    stay,
)

NOT_READY = Readiness(ok=False, seconds=30.1, why="connection refused at http://127.0.0.1:8080/healthz")
ENDED = Readiness(ok=False, seconds=0.1, why=ENDED_FIRST)
JOB = TEXT.replace('"http://127.0.0.1:8080/healthz"', '"exit"')


def judged(seen, *, required=("memory", "cpu"), swap=False):
    return service_findings(seen, required=required, swap=swap)


def the(findings, code):
    """The one finding with this code."""
    (found,) = [item for item in findings if item.code == code]
    return found


def test_a_service_that_passes():
    findings = judged(evidence())
    assert [(item.code, item.status) for item in findings] == [
        ("CGP501", "pass"),
        ("CGP502", "pass"),
        ("CGP503", "pass"),
    ]
    assert "7 limits" in findings[0].message
    assert all(item.subject == "web" for item in findings)
    result = service_result(evidence())
    assert all(item.ok for item in result.limits)
    assert len(result.limits) == 7
    assert (result.name, result.engine, result.cgroup, result.result, result.exit_status) == (
        "web",
        "systemd",
        CGROUP,
        "success",
        0,
    )
    assert (result.memory_peak_bytes, result.memory_max_bytes, result.oom_kills) == (20 << 20, 64 << 20, 0)
    assert (result.cpu.usage_usec, result.cpu.nr_periods, result.cpu.nr_throttled, result.cpu.throttled_usec) == (
        1_500_000,
        50,
        5,
        90_000,
    )


@pytest.mark.parametrize(
    ("attribute", "actual"),
    [
        ("memory.max", "max"),
        ("memory.max", "67108863"),
        ("cpu.max", "max 100000"),
        ("cpu.max", "60000 100000"),
        ("pids.max", "max"),
        ("memory.swap.max", "max"),
        ("cpu.weight", "100"),
        ("io.weight", "default 100"),
        ("memory.max", ""),
    ],
)
def test_a_limit_that_systemd_accepted_and_the_kernel_does_not_hold(attribute, actual):
    seen = evidence(limits=limits(**{attribute.replace(".", "_"): actual}))
    found = the(judged(seen), "CGP501")
    assert found.status is Status.FAIL
    assert attribute in found.message
    assert found.location.line > 1
    assert found.remedies
    (bad,) = [item for item in service_result(seen).limits if not item.ok]
    assert (bad.file, bad.actual) == (f"{CGROUP.lstrip('/')}/{attribute}", actual)


@pytest.mark.parametrize("attribute", ["memory.max", "cpu.max", "pids.max"])
def test_a_limit_without_a_file(attribute):
    """Booted with cgroup_disable=memory: systemd accepts every setting."""
    seen = evidence(limits=limits(enabled=False, **{attribute.replace(".", "_"): ABSENT}))
    found = the(judged(seen), "CGP501")
    assert found.status is Status.FAIL
    assert "does not exist" in found.message
    assert [item.actual for item in service_result(seen).limits if not item.ok] == [None]


def test_every_bad_limit_is_told_and_none_hides_another():
    seen = evidence(limits=limits(memory_max=ABSENT, cpu_max="max 100000", pids_max="max"))
    assert [item.status for item in judged(seen) if item.code == "CGP501"] == [Status.FAIL] * 3


def test_a_limit_of_a_slice_above_counts_as_well():
    bad = [
        dataclasses.replace(item, actual=ABSENT) if item.file.endswith("api.slice/memory.max") else item
        for item in limits()
    ]
    found = the(judged(evidence(limits=tuple(bad))), "CGP501")
    assert found.status is Status.FAIL
    assert f"{SLICE.lstrip('/')}/memory.max" in found.message


@pytest.mark.parametrize(("attribute", "controller"), [("io.weight", "io"), ("cpu.weight", "cpu")])
def test_a_share_without_a_file_warns_unless_its_controller_is_required(attribute, controller):
    seen = evidence(limits=limits(enabled=False, **{attribute.replace(".", "_"): ABSENT}))
    free = the(judged(seen, required=("memory",)), "CGP501")
    assert free.status is Status.WARN
    assert "no effect" in free.message
    assert verdict_of(judged(seen, required=("memory",))) is Verdict.PASS
    asked = the(judged(seen, required=("memory", controller)), "CGP501")
    assert asked.status is Status.FAIL


def test_the_cause_of_a_missing_io_weight_is_named():
    found = the(judged(evidence(limits=limits(io_weight=ABSENT))), "CGP501")
    assert "io.cost" in found.message
    assert "bfq" in found.message


@pytest.mark.parametrize(("swap", "status"), [(True, Status.UNVERIFIED), (False, Status.SKIP)])
def test_a_swap_limit_on_a_kernel_without_swap_accounting(swap, status):
    seen = evidence(limits=limits(memory_swap_max=ABSENT))
    found = the(judged(seen, swap=swap), "CGP501")
    assert found.status is status
    assert all("swap" not in item.file for item in service_result(seen).limits)


def test_a_swap_limit_without_the_memory_controller_is_a_fail():
    seen = evidence(limits=limits(enabled=False, memory_swap_max=ABSENT))
    assert the(judged(seen), "CGP501").status is Status.FAIL


@pytest.mark.parametrize("attribute", ["memory.max", "memory.swap.max", "io.weight"])
def test_a_file_that_could_not_be_read_is_not_called_absent(attribute):
    """Denied is not absent: nothing is known about the limit then."""
    seen = evidence(limits=limits(**{attribute.replace(".", "_"): DENIED}))
    found = the(judged(seen, required=("memory",)), "CGP501")
    assert found.status in (Status.UNVERIFIED, Status.FAIL)
    assert "does not exist" not in found.message
    assert "has no" not in found.message


# --- how it ended -------------------------------------------------------------------------------------------


def test_a_slice_that_systemd_gave_no_cgroup_is_unverified():
    nothing = nowhere("x.slice", [item.expected for item in limits()[:1]])
    seen = evidence(limits=(*nothing, *limits()[1:]))
    assert [item.status for item in judged(seen) if item.code == "CGP501"] == ["unverified"]
    assert verdict_of(judged(seen)) is Verdict.UNVERIFIED
    assert service_result(seen).limits[0].ok is False


@pytest.mark.parametrize("change", [{}, {"killed": True}])
def test_one_that_does_not_answer_any_more_fails_though_it_runs(change):
    found = judged(evidence(silent="HTTP status 500", **change))
    assert [item.code for item in found if item.status is Status.FAIL] == ["CGP505"]
    assert "5 s later" in the(found, "CGP505").message
    assert "HTTP status 500" in the(found, "CGP505").message


def test_one_that_ended_with_0_is_told_how_to_say_so():
    found = the(judged(evidence(ended_early=True, ready=ENDED)), "CGP503")
    assert found.status is Status.FAIL
    assert 'ready = "exit"' in found.remedies[0].title


def test_one_that_was_not_executed_in_time_is_not_said_to_be_no_program():
    found = the(judged(evidence(ended_early=True, ready=ENDED, state=state("timeout", "0", "0"))), "CGP503")
    assert found.status is Status.FAIL
    assert "start_timeout" in found.message
    assert "could not be executed" not in found.message


@pytest.mark.parametrize(
    ("result", "code", "status"),
    [
        ("oom-kill", "2", "9"),
        ("signal", "2", "9"),
        ("exit-code", "1", "2"),
        ("success", "1", "0"),
        ("success", "2", "15"),
    ],
)
def test_an_oom_kill_is_a_fail_whatever_systemd_says(result, code, status):
    """systemd may call it signal, exit-code or even success; memory.events does not lie."""
    seen = evidence(
        state=state(result, code, status),
        ended_early=result != "success",
        counters=counters(events={"oom": 1, "oom_kill": 1}, peak=64 << 20),
    )
    found = the(judged(seen), "CGP504")
    assert found.status is Status.FAIL
    assert verdict_of(judged(seen)) is Verdict.FAIL
    assert "64M" in found.message
    assert "raise MemoryMax to 128M" in found.remedies[0].title
    memory_max = next(item for item in seen.service.settings if item.property == "MemoryMax")
    assert found.location == memory_max.location
    assert found.evidence["oom_kill"] == 1
    assert service_result(seen).oom_kills == 1


def test_an_oom_kill_names_the_limit_and_whose_it_is():
    seen = evidence(
        counters=counters(events={"oom_kill": 1}, peak=70 << 20), effective=effective(32 << 20, memory_at=SLICE)
    )
    found = the(judged(seen), "CGP504")
    assert f"peak 70M (limit 32M at {SLICE})" in found.message
    assert found.evidence["memory_max_bytes"] == 32 << 20
    assert "raise MemoryMax to 64M" in found.remedies[0].title, "the kernel counts in batches, so the lower one counts"
    seen = evidence(counters=counters(events={"oom_kill": 1}, peak=64 << 20), effective=None)
    found = the(judged(seen), "CGP504")
    assert found.evidence["memory_max_bytes"] is None
    assert "(limit" not in found.message


def test_without_memory_events_only_a_memory_limit_leaves_the_end_open():
    """Where memory is not limited, a kernel that does not count kills takes nothing away from the proof."""
    unseen = counters(events=ABSENT)
    assert the(judged(evidence(counters=unseen)), "CGP503").status is Status.UNVERIFIED
    bare = '[services.web]\nbinary = "dist/web"\nTasksMax = 64\n'
    assert the(judged(evidence(bare, counters=unseen)), "CGP503").status is Status.PASS
    high = bare.replace("TasksMax = 64", 'MemoryHigh = "64M"')
    assert the(judged(evidence(high, counters=unseen)), "CGP503").status is Status.UNVERIFIED


@pytest.mark.parametrize(
    ("engine", "words"), [("systemd", "read the journal"), ("cgroupfs", "takes away a controller")]
)
def test_what_to_read_about_an_unknown_end_depends_on_the_engine(engine, words):
    seen = evidence(counters=counters(events=ABSENT), engine=engine)
    found = the(judged(seen), "CGP503")
    assert found.status is Status.UNVERIFIED
    assert words in found.remedies[0].title
    assert ("journal" in found.remedies[0].title) is (engine == "systemd")


@pytest.mark.parametrize("engine", ["systemd", "cgroupfs"])
def test_a_limit_that_something_wrote_has_a_journal_only_with_a_service_manager(engine):
    seen = evidence(limits=limits(memory_max="max"), engine=engine)
    found = the(judged(seen), "CGP501")
    assert found.status is Status.FAIL
    assert ("journal" in found.remedies[0].title) is (engine == "systemd")


def test_no_refused_task_is_made_up():
    found = the(
        judged(evidence(ended_early=True, state=state("exit-code", "1", "2"), counters=counters(pids={"x": 1}))),
        "CGP503",
    )
    assert "TasksMax" not in found.message
    assert found.evidence["tasks_refused"] == 0


def test_an_oom_kill_that_only_systemd_saw():
    """oomd, or an event counted by nobody: Result alone."""
    seen = evidence(state=state("oom-kill", "2", "9"), ended_early=True, counters=counters(events=ABSENT, peak=ABSENT))
    found = the(judged(seen), "CGP504")
    assert found.status is Status.FAIL
    assert "peak unknown" in found.message
    assert service_result(seen).memory_peak_bytes is None


def test_an_oom_kill_of_a_child_while_the_service_went_on():
    seen = evidence(counters=counters(events={"oom_kill": 2}))
    assert the(judged(seen), "CGP504").status is Status.FAIL
    assert not [item for item in judged(seen) if item.code == "CGP503"]


@given(st.integers(1, 1 << 42))
def test_the_proposed_limit_is_not_smaller_and_as_systemd_spells_it(needed):
    proposed = parse_size(proposed_max(needed)).bytes
    assert proposed >= max(needed, 16 << 20)
    assert proposed - needed <= 16 << 20


@pytest.mark.parametrize(
    ("needed", "text"),
    [(0, "16M"), (1, "16M"), (16 << 20, "16M"), (64 << 20, "64M"), (65 << 20, "80M"), (1 << 30, "1G")],
)
def test_proposed_limits(needed, text):
    assert proposed_max(needed) == text


@pytest.mark.parametrize("status", ["0", "1", "2", "255"])
def test_an_exit_before_its_time(status):
    seen = evidence(ended_early=True, state=state("success" if status == "0" else "exit-code", "1", status))
    found = the(judged(seen), "CGP503")
    assert found.status is Status.FAIL
    assert f"exited with status {status}" in found.message


@pytest.mark.parametrize(
    ("status", "name"),
    [
        ("9", "SIGKILL"),
        ("11", "SIGSEGV"),
        ("6", "SIGABRT"),
        ("15", "SIGTERM"),
        ("2", "SIGINT"),
        ("1", "SIGHUP"),
        ("31", "signal(7)"),
    ],
)
def test_killed_by_a_signal_before_its_time(status, name):
    seen = evidence(ended_early=True, state=state("success" if status == "15" else "signal", "2", status))
    found = the(judged(seen), "CGP503")
    assert found.status is Status.FAIL
    assert f"signal {status}" in found.message
    assert name in found.message


def test_a_program_that_could_not_be_executed():
    seen = evidence(ended_early=True, ready=ENDED, stay=None, state=state("exit-code", "1", "203"))
    assert f"could not execute {seen.service.binary}: it is not executable" in the(judged(seen), "CGP503").message
    found = the(judged(dataclasses.replace(seen, absent="/usr/bin/gone")), "CGP503")
    assert found.message.endswith("could not execute /usr/bin/gone: there is no such file")
    assert "[target] packages" in found.remedies[0].title
    seen = evidence(ended_early=True, ready=None, stay=None, state=UnitState())
    assert the(judged(seen), "CGP503").status is Status.FAIL


def test_a_program_that_ends_with_a_status_of_systemds_has_run_and_its_limits_are_judged():
    seen = evidence(ended_early=True, ready=ENDED, state=state("exit-code", "1", "226"), limits=limits(pids_max="max"))
    assert the(judged(seen), "CGP503").status is Status.FAIL
    found = the(judged(seen), "CGP501")
    assert (found.status, "pids.max" in found.message) == (Status.FAIL, True)


def test_never_ready():
    seen = evidence(ready=NOT_READY)
    found = the(judged(seen), "CGP505")
    assert found.status is Status.FAIL
    assert found.message == "not ready after 30 s: connection refused at http://127.0.0.1:8080/healthz"
    assert found.location == seen.service.ready_location
    assert not [item for item in judged(seen) if item.code == "CGP503"]


@pytest.mark.parametrize(
    ("text", "cpu", "hint"),
    [
        (
            TEXT,
            {"nr_periods": 300, "nr_throttled": 300},
            " (throttled in 100% of periods: CPUQuota=50% may be too low)",
        ),
        (TEXT, {"nr_periods": 2, "nr_throttled": 1}, " (throttled in 50% of periods: CPUQuota=50% may be too low)"),
        (TEXT, {"nr_periods": 4, "nr_throttled": 1}, " (throttled in 25% of periods: CPUQuota=50% may be too low)"),
        (TEXT, {"nr_periods": 300, "nr_throttled": 74}, ""),
        (TEXT, {"usage_usec": 5}, ""),
        (TEXT, ABSENT, ""),
        (
            TEXT.replace('CPUQuota = "50%"\n', ""),
            {"nr_periods": 9, "nr_throttled": 9},
            " (throttled in 100% of periods: a CPU quota of a slice above may be too low)",
        ),
    ],
)
def test_a_quota_that_may_be_the_reason_is_named(text, cpu, hint):
    found = the(judged(evidence(text, ready=NOT_READY, counters=counters(cpu=cpu))), "CGP505")
    assert found.message == f"not ready after 30 s: {NOT_READY.why}{hint}"


def test_ended_before_it_was_ready():
    found = judged(evidence(ready=ENDED, ended_early=True, stay=None, state=state("exit-code", "1", "1")))
    assert "exited with status 1" in the(found, "CGP503").message
    found = judged(evidence(ready=ENDED, ended_early=False, stay=None, state=state("exit-code", "1", "1")))
    assert "exit status 1" in the(found, "CGP505").message


@pytest.mark.parametrize("how", ["killed", "timeout"])
def test_a_service_that_ignores_sigterm(how):
    changes = (
        {"killed": True, "state": state("signal", "2", "9")}
        if how == "killed"
        else {"state": state("timeout", "2", "9")}
    )
    found = the(judged(evidence(**changes)), "CGP506")
    assert found.status is Status.FAIL
    assert "3 s" in found.message
    assert "SIGTERM" in found.message
    assert "stop_timeout" in found.remedies[0].title


@pytest.mark.parametrize(("code", "status"), [("2", "15"), ("1", "0")])
def test_a_clean_stop(code, status):
    assert verdict_of(judged(evidence(state=state("success", code, status)))) is Verdict.PASS


def test_a_status_after_sigterm_is_a_warning():
    found = judged(evidence(state=state("exit-code", "1", "143")))
    assert the(found, "CGP506").status is Status.WARN
    assert "143" in the(found, "CGP506").message
    assert verdict_of(found) is Verdict.PASS


@pytest.mark.parametrize(
    ("result", "code", "status"),
    [
        ("core-dump", "3", "11"),
        ("signal", "2", "11"),
        ("signal", "2", "6"),
        ("watchdog", "2", "6"),
        ("resources", "0", "0"),
        ("protocol", "0", "0"),
        ("start-limit-hit", "0", "0"),
    ],
)
def test_a_crash_while_it_stopped_is_not_a_pass(result, code, status):
    assert verdict_of(judged(evidence(state=state(result, code, status)))) is Verdict.FAIL


@pytest.mark.parametrize(
    ("result", "code", "status", "verdict"),
    [
        ("success", "1", "0", Verdict.PASS),
        ("exit-code", "1", "1", Verdict.FAIL),
        ("signal", "2", "11", Verdict.FAIL),
        ("core-dump", "3", "6", Verdict.FAIL),
        ("success", "2", "15", Verdict.FAIL),
        ("exit-code", "1", "203", Verdict.FAIL),
        ("", "", "", Verdict.FAIL),
    ],
)
def test_a_job_passes_only_with_status_0(result, code, status, verdict):
    """`ready = "exit"`: it is there to end by itself, and how it ends is the answer."""
    seen = evidence(JOB, stay=None, state=state(result, code, status))
    assert verdict_of(judged(seen)) is verdict


def test_a_job_that_does_not_end():
    seen = evidence(JOB, ready=Readiness(ok=False, seconds=30.0, why="exit : still running"))
    assert the(judged(seen), "CGP505").status is Status.FAIL


def test_tasks_that_were_refused_are_named():
    found = the(
        judged(evidence(ended_early=True, state=state("exit-code", "1", "2"), counters=counters(pids={"max": 4}))),
        "CGP503",
    )
    assert "TasksMax refused it 4" in found.message
    assert "TasksMax" in found.remedies[0].title


# --- where it ran -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cgroup", ["/", "/system.slice/x.service", f"{CGROUP}x", SLICE, "/../elsewhere"])
def test_a_process_outside_its_unit(cgroup):
    found = the(judged(evidence(stay=stay(cgroup))), "CGP502")
    assert found.status is Status.FAIL
    assert cgroup in found.message


@pytest.mark.parametrize("cgroup", [CGROUP, f"{CGROUP}/sub", f"{CGROUP}/a/b"])
def test_a_process_in_its_unit_or_below(cgroup):
    assert the(judged(evidence(stay=stay(cgroup))), "CGP502").status is Status.PASS


def test_a_child_that_left():
    found = the(judged(evidence(stay=stay(strays=((4711, "/user.slice"), (4712, "/"))))), "CGP502")
    assert found.status is Status.FAIL
    assert "2 child process" in found.message
    assert "4711" in found.message
    assert "/user.slice" in found.message


def test_a_place_that_could_not_be_read():
    found = the(judged(evidence(stay=stay(DENIED))), "CGP502")
    assert found.status is Status.UNVERIFIED
    assert verdict_of(judged(evidence(stay=stay(DENIED)))) is Verdict.UNVERIFIED


# --- before it ran ------------------------------------------------------------------------------------------


def test_a_blocked_port_is_unverified_and_the_only_finding():
    seen = evidence(
        ready=Readiness(ok=False, seconds=0.0, why="nginx (PID 7) already answers", blocked=True),
        cgroup="",
        limits=(),
        counters=None,
        state=UnitState(),
        stay=None,
    )
    (found,) = judged(seen)
    assert (found.code, found.status) == ("CGP507", Status.UNVERIFIED)
    assert "nginx (PID 7) already answers at http://127.0.0.1:8080/healthz, so" in found.message
    assert found.location == seen.service.ready_location


@pytest.mark.parametrize(
    "changes",
    [{"refused": "Unit x.service already exists."}, {"cgroup": "", "state": UnitState(word="failed")}, {"cgroup": ""}],
)
def test_refused_by_the_manager(changes):
    seen = evidence(
        **{
            "ready": None,
            "limits": (),
            "counters": None,
            "state": UnitState(),
            "stay": None,
            "effective": None,
            **changes,
        }
    )
    (found,) = judged(seen)
    assert (found.code, found.status) == ("CGP507", Status.UNVERIFIED)
    assert changes.get("refused", "") in found.message
    assert service_result(seen).exit_status is None


# --- limits above the plan ----------------------------------------------------------------------------------


def test_a_tighter_limit_outside_the_plan():
    inside = f"/user.slice/user-1000.slice/user@1000.service{CGROUP}"
    seen = evidence(
        cgroup=inside, stay=stay(inside), effective=effective(memory=32 << 20, memory_at="/user.slice/user-1000.slice")
    )
    found = the(judged(seen), "CGP508")
    assert found.status is Status.WARN
    assert "/user.slice/user-1000.slice/memory.max" in found.message


def test_the_plans_own_slices_are_no_surprise():
    assert not [
        item
        for item in judged(evidence(effective=effective(memory=32 << 20, memory_at=SLICE)))
        if item.code == "CGP508"
    ]


# --- whatever was seen --------------------------------------------------------------------------------------

RESULTS = [
    "",
    "success",
    "oom-kill",
    "signal",
    "core-dump",
    "exit-code",
    "timeout",
    "protocol",
    "resources",
    "watchdog",
    "start-limit-hit",
    "new-word",
]


@pytest.mark.parametrize("text", [TEXT, JOB], ids=["service", "job"])
def test_no_combination_passes_but_a_clean_one(text):
    """Every Result, code and status systemd can give, with and without what the tool saw itself."""
    base = evidence(text)
    cases = itertools.product(
        RESULTS, ("", "0", "1", "2", "3"), ("", "0", "1", "9", "11", "15"), (True, False), (True, False), (True, False)
    )
    for result, code, status, ready, early, killed in cases:
        seen = dataclasses.replace(
            base,
            state=state(result, code, status),
            ready=Readiness(ok=ready, seconds=1.0, why="no"),
            ended_early=early,
            killed=killed,
        )
        findings = judged(seen)
        ends = [item for item in findings if item.code in ("CGP503", "CGP504", "CGP505", "CGP506")]
        assert ends
        if verdict_of(findings) is Verdict.PASS:
            assert ready
            assert not early
            assert not killed
            assert seen.state.result in ("success", "exit-code"), "a pass needs a word from systemd"


@given(
    st.sampled_from(RESULTS),
    st.text(max_size=3),
    st.text(max_size=3),
    st.dictionaries(st.text(max_size=8), st.integers(0, 9), max_size=4),
)
def test_odd_words_of_systemd_are_no_error(result, code, status, events):
    seen = evidence(
        state=state(result, code, status),
        counters=counters(events=events, cpu=events),
    )
    assert judged(seen)
    service_result(seen)


def test_an_end_that_nobody_saw_is_no_pass():
    """The cgroup and the unit were gone before they were read: whether the kernel killed anything is not known."""
    unseen = counters(events=ABSENT, peak=ABSENT, cpu=ABSENT)
    assert verdict_of(judged(evidence(state=UnitState(), counters=unseen))) is Verdict.UNVERIFIED
    assert verdict_of(judged(evidence(counters=unseen))) is Verdict.UNVERIFIED


def test_missing_counters_are_none_never_zero():
    result = service_result(evidence(counters=counters(events=ABSENT, peak=ABSENT, cpu=ABSENT)))
    assert (result.oom_kills, result.memory_peak_bytes, result.cpu) == (None, None, None)
    result = service_result(evidence(counters=counters(cpu={"usage_usec": 5})))
    assert (result.cpu.usage_usec, result.cpu.nr_throttled) == (5, None)


def test_a_status_that_the_config_calls_success():
    """SuccessExitStatus=143: systemd's result is success, and then the status is no failure."""
    found = judged(evidence(state=state("success", "1", "143")))
    assert [item.code for item in found if item.code == "CGP506"] == []
    assert verdict_of(found) is Verdict.PASS
    assert verdict_of(judged(evidence(JOB, state=state("success", "1", "75")))) is Verdict.PASS
    assert verdict_of(judged(evidence(JOB, state=state("exit-code", "1", "75")))) is Verdict.FAIL


@pytest.mark.parametrize(
    ("line", "result", "status", "found"),
    [
        ("WorkingDirectory = '/absent'", "exit-code", "200", "200: systemd could not set up CHDIR: WorkingDirectory="),
        ("User = 'nobody-here'", "exit-code", "217", "217: systemd could not set up USER: User="),
        ("EnvironmentFile = '/absent'", "resources", "0", "a file of EnvironmentFile= cannot be read"),
        ("EnvironmentFile = ['-/absent', '/absent']", "resources", "0", "a file of EnvironmentFile= cannot be read"),
        ("EnvironmentFile = '-/absent'", "resources", "0", ""),
        ("CPUQuotaPeriodSec = '1s'", "resources", "0", ""),
        ("CPUQuotaPeriodSec = '1s'", "exit-code", "1", ""),
    ],
)
def test_a_service_that_a_key_keeps_from_starting(line, result, status, found):
    text = TEXT.replace("TasksMax", f"{line}\nTasksMax")
    code = "1" if result == "exit-code" else "0"
    seen = evidence(text, cgroup="", ready=None, stay=None, counters=None, state=state(result, code, status))
    (finding,) = judged(seen)
    if found:
        assert (finding.code, finding.status) == ("CGP503", "fail")
        assert found in finding.message
        assert finding.remedies
    else:
        assert (finding.code, finding.status) == ("CGP507", "unverified")


@pytest.mark.parametrize(
    ("tasks", "result", "code", "verdict"),
    [("1", "resources", "", "unverified"), ("2", "resources", "", "fail"), ("1", "exit-code", "1", "fail")],
)
def test_a_single_task_that_the_gate_took_is_no_fault_of_the_service(tasks, result, code, verdict):
    text = TEXT.replace("TasksMax = 64", f"TasksMax = {tasks}")
    ready = Readiness(ok=False, seconds=1.0, why="it ended before it was ready")
    seen = evidence(text, state=state(result, code, "1" if code else ""), ready=ready, ended_early=True, stay=None)
    assert str(verdict_of(judged(seen))) == verdict


def test_what_a_kill_mode_leaves_running_is_a_warning():
    found = service_findings(evidence(outlasting=("app --work",)), required=(), swap=False)
    assert [(item.status, item.message) for item in found if item.code == "CGP506"] == [
        (Status.WARN, "KillMode=process leaves processes of it running after the stop: app --work")
    ]
    assert [item.status for item in found if item.code == "CGP503"] == [Status.PASS]


@pytest.mark.parametrize(("kind", "says"), [("forking", "does not know its main process"), ("exec", "cannot tell how")])
def test_a_service_whose_main_process_nobody_knows_is_unverified_with_the_remedy(kind, says):
    seen = evidence(state=dataclasses.replace(state(), exit=None))
    own = dataclasses.replace(seen.service, run_unit=RunUnit(text="", type=kind))
    found = service_findings(dataclasses.replace(seen, service=own), required=(), swap=False)
    (ended,) = [item for item in found if item.code == "CGP503"]
    assert ended.status is Status.UNVERIFIED
    assert says in ended.message
    assert ("PIDFile=" in ended.remedies[0].title) is (kind == "forking")
