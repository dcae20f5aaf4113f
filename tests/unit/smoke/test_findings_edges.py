"""Findings of a run where the kernel shows less than usual, and at the very edge of what is tolerated."""

import dataclasses

import pytest

from cgroup_preflight.core.report import Status
from tests.unit.smoke.fabricate import ABSENT, counters, effective, evidence, known, state
from tests.unit.smoke.test_findings import judged as service_judged
from tests.unit.smoke.test_findings import the
from tests.unit.smoke.test_probe_findings import LIMIT, judged

NO_MEMORY = """\
[services.web]
binary = "dist/web"
CPUQuota = "50%"
[services.web.smoke]
ready = "http://127.0.0.1:8080/healthz"
"""


@pytest.mark.parametrize(("number", "name"), [("1", "SIGHUP"), ("2", "SIGINT"), ("9", "SIGKILL"), ("15", "SIGTERM")])
def test_a_signal_is_named(number, name):
    found = the(service_judged(evidence(ended_early=True, state=state("signal", "2", number))), "CGP503")
    assert f"signal {number} ({name})" in found.message


def test_without_a_memory_limit_nobody_misses_memory_events():
    blind = counters(events=ABSENT)
    assert the(service_judged(evidence(NO_MEMORY, counters=blind)), "CGP503").status is Status.PASS
    assert the(service_judged(evidence(counters=blind)), "CGP503").status is Status.UNVERIFIED


@pytest.mark.parametrize(
    ("tightest", "limit", "place"),
    [(effective(), 64 << 20, "limit 64M"), (None, None, ""), (effective(memory=None), None, "")],
)
def test_an_oom_kill_shows_its_limit_where_it_is_known(tightest, limit, place):
    killed = counters(events={"oom_kill": 1}, peak=80 << 20)
    found = the(service_judged(evidence(counters=killed, effective=tightest)), "CGP504")
    assert found.evidence["memory_max_bytes"] == limit
    assert place in found.message
    assert ("limit" in found.message) is (limit is not None)
    assert found.remedies[0].title.startswith(f"raise MemoryMax to {'128M' if limit else '160M'} ")


def test_a_kernel_without_the_counter_of_refused_tasks_blames_no_limit_of_tasks():
    blind = dataclasses.replace(counters(), pids_events=known({}))
    ended = state("exit-code", "1", "2")
    found = the(service_judged(evidence(counters=blind, ended_early=True, state=ended)), "CGP503")
    assert "TasksMax" not in found.message
    assert found.evidence["tasks_refused"] == 0


@pytest.mark.parametrize(("beyond", "status"), [(1 << 20, "pass"), ((1 << 20) + 1, "fail")])
def test_the_kernel_swaps_in_batches_of_at_most_a_megabyte(beyond, status):
    assert judged("swap", (), {}, {"oom_kill": 1, "swap peak": LIMIT + beyond}).status == status


def test_a_host_is_distrusted_only_for_a_failure():
    failed = judged("swap", (), {}, {"oom_kill": 1, "swap peak": 2 * LIMIT})
    unsure = judged("max", (), {}, {})
    assert (failed.status, "do not rely" in failed.remedies[0].title) == (Status.FAIL, True)
    assert (unsure.status, "less busy" in unsure.remedies[0].title) == (Status.UNVERIFIED, True)


def test_a_refusal_counts_where_there_was_no_count_before():
    said = [{"started": 60, "refused": True, "pids.current": "64", "pids.max": "64"}]
    assert judged("tasks", said, {}, {"max": 1}).status is Status.PASS


@pytest.mark.parametrize("kind", ["max", "high"])
def test_a_probe_that_used_all_its_memory_on_a_kernel_that_does_not_count_it_is_a_failure(kind):
    assert judged(kind, [{"finished": True}], {}, {}).status is Status.FAIL
