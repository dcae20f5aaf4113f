"""Kernels from 6.12 on count elsewhere, and newer systemd writes a limit that is not in force: both ways, kernel by kernel."""

import dataclasses

import pytest

from cgroup_preflight.core.report import Status
from cgroup_preflight.core.slack import memory_slack
from cgroup_preflight.engines.ready import Readiness
from cgroup_preflight.smoke.counters import counted_findings
from cgroup_preflight.smoke.findings import service_findings, service_result
from cgroup_preflight.smoke.not_begun import full_slice
from tests.unit.smoke.fabricate import CGROUP, SCOPE, SLICE, counters, evidence, known, limits, state

NOT_READY = Readiness(ok=False, seconds=30.1, why="connection refused")
EXITED = {"ended_early": True, "state": state("exit-code", "1", "1")}
QUIET = {"usage_usec": 1_000_000, "nr_periods": 50, "nr_throttled": 0, "throttled_usec": 0}
BUSY = {"usage_usec": 1_000_000, "nr_periods": 50, "nr_throttled": 49, "throttled_usec": 4_000_000}
CONCURRENCY = (
    f"Failed to start x.service: Concurrency limit of the slice unit '{SCOPE}-api.slice' (or any of its parents) the unit "
    "'x.service' is contained in has been reached, refusing start job."
)


def judged(seen):
    return service_findings(seen, required=("memory", "cpu"), swap=False)


def the(seen, code):
    (found,) = [item for item in judged(seen) if item.code == code]
    return found


def level(**changes):
    """The counters of the slice."""
    return dataclasses.replace(counters(cpu=QUIET), cgroup=SLICE, **changes)


# --- tasks that pids.max of the slice refused


@pytest.mark.parametrize(
    ("own", "of_slice", "local", "says", "count"),
    [
        # Linux 6.1: at the service, and pids.events.local does not exist.
        (3, 0, None, "TasksMax refused it 3 process(es)", 3),
        # Linux 6.12: at the slice alone.
        (0, 3, 3, "TasksMax of api.slice refused its services 3 process(es)", 3),
        # Linux 6.12, the service's own limit: its refusals count in pids.events of the slice, too, and not in .local.
        (3, 3, 0, "TasksMax refused it 3 process(es)", 3),
        (0, 0, 0, "it exited with status 1", 0),
        (0, 0, None, "it exited with status 1", 0),
    ],
)
def test_a_refused_task_is_named_wherever_the_kernel_counts_it(own, of_slice, local, says, count):
    above = level(pids_events=known({"max": of_slice}))
    if local is not None:
        above = dataclasses.replace(above, pids_local=known({"max": local}))
    found = the(evidence(counters=counters(pids={"max": own}), slices=(above,), **EXITED), "CGP503")
    assert says in found.message
    assert found.evidence["tasks_refused"] == count
    assert ("TasksMax" in found.remedies[0].title) == bool(count)


# --- time under the quota of the slice


@pytest.mark.parametrize(
    ("own", "above", "says"),
    [
        (QUIET, BUSY, " (throttled in 98% of periods: the CPUQuota of api.slice may be too low)"),
        (BUSY, QUIET, " (throttled in 98% of periods: CPUQuota=50% may be too low)"),
        (BUSY, BUSY, " (throttled in 98% of periods: CPUQuota=50% may be too low)"),
        (QUIET, QUIET, ""),
    ],
)
def test_a_service_that_is_late_under_the_quota_of_its_slice_is_told_so(own, above, says):
    """Each level counts the periods of its own quota, on every kernel."""
    seen = evidence(ready=NOT_READY, counters=counters(cpu=own), slices=(level(cpu_stat=known(above)),))
    assert the(seen, "CGP505").message == f"not ready after 30 s: {NOT_READY.why}{says}"


@pytest.mark.parametrize(
    ("stat", "local", "says"),
    [
        # Linux 6.12 and later, a quota of the slice alone.
        (
            {"usage_usec": 1, "nr_periods": 0, "nr_throttled": 0},
            {"throttled_usec": 18_080_000},
            "stood still for 18.08 s",
        ),
        ({"usage_usec": 1}, {}, ""),
        # A quota of its own is told by its periods.
        (BUSY, {"throttled_usec": 4_000_000}, "throttled in 98% of periods"),
        (QUIET, {"throttled_usec": 0}, "throttled in 0% of periods"),
    ],
)
def test_the_counters_name_time_under_the_quota_of_another_level(stat, local, says):
    own = dataclasses.replace(counters(cpu=stat), cpu_local=known(local))
    (found,) = counted_findings([evidence(counters=own)])
    assert says in found.message
    if not says:
        assert "stood" not in found.message
    wanted = local.get("throttled_usec") or None
    assert found.evidence.get("web.service cpu.stat.local throttled_usec") == wanted


def test_refused_tasks_are_in_the_numbers_of_each_level():
    own = counters(pids={"max": 2})
    above = level(pids_events=known({"max": 7}), pids_local=known({"max": 5}))
    (found,) = counted_findings([evidence(counters=own, slices=(above,))])
    numbers = {key: value for key, value in found.evidence.items() if "pids.events" in key}
    assert numbers == {
        "web.service pids.events max": 2, "api.slice pids.events max": 7, "api.slice pids.events.local max": 5,
    }  # fmt: skip


# --- in force is more than "reads back"


def used(count, attribute=f"{CGROUP[1:]}/memory.max"):
    return tuple(dataclasses.replace(item, used=count) if item.file == attribute else item for item in limits())


@pytest.mark.parametrize(
    ("above", "status"), [(-1, Status.PASS), (0, Status.PASS), (1, Status.FAIL), (40 << 20, Status.FAIL)]
)
def test_a_usage_above_a_limit_that_reads_back_is_a_fail(above, status):
    limit, slack = 64 << 20, memory_slack(1, 4096)
    seen = evidence(limits=used(limit + slack + above))
    found = the(seen, "CGP501")
    assert found.status is status
    (row,) = [item for item in service_result(seen).limits if item.file == f"{CGROUP[1:]}/memory.max"]
    assert row.ok == (status is Status.PASS)
    assert row.actual == str(limit)
    if status is Status.FAIL:
        assert "the kernel does not enforce it" in found.message
        assert found.evidence[f"{CGROUP[1:]}/memory.current"] == limit + slack + above
        assert "without waiting" in found.remedies[0].why


def test_a_usage_above_the_limit_of_a_slice_is_a_fail_too():
    found = the(evidence(limits=used(300 << 20, f"{SLICE[1:]}/memory.max")), "CGP501")
    assert found.status is Status.FAIL
    assert f"{SLICE[1:]}/memory.max is '{256 << 20}', but memory.current is {300 << 20}" in found.message


def test_without_a_usage_or_without_a_limit_nothing_is_above_it():
    assert the(evidence(limits=used(None)), "CGP501").status is Status.PASS
    (reading, *_) = (item for item in limits(memory_max="max") if item.file == f"{CGROUP[1:]}/memory.max")
    assert dataclasses.replace(reading, used=1 << 40).excess(0) == 0


# --- a full slice


def test_a_full_slice_is_named_and_fails_the_service():
    seen = evidence(refused=CONCURRENCY, cgroup="", limits=(), ready=None, counters=None, stay=None)
    (found,) = judged(seen)
    assert (found.code, found.status) == ("CGP507", Status.FAIL)
    assert found.message == (
        "systemd refused to start it, because api.slice has as many active units as ConcurrencyHardMax allows"
    )


@pytest.mark.parametrize("words", ["", "Unit x.service is masked.", "Concurrency limit of the slice unit ''"])
def test_another_refusal_is_not_about_a_full_slice(words):
    assert full_slice(words) == ""
    seen = evidence(refused=words or "no", cgroup="", limits=(), ready=None, counters=None, stay=None)
    assert judged(seen)[0].status is Status.UNVERIFIED


# --- a list of CPUs that the kernel refused


def test_an_empty_list_of_cpus_says_why():
    text = "[services.web]\nbinary = 'x'\nAllowedCPUs = '0-7'\n"
    for actual, says in (("", "refuses the whole list"), ("0-3", "accepts the limit")):
        seen = evidence(text, limits=limits(text, cpuset_cpus=actual, cpuset_cpus_effective="0-3"))
        bad = [item for item in judged(seen) if item.code == "CGP501" and "cpuset.cpus " in item.message]
        assert [item.status for item in bad] == [Status.FAIL]
        assert says in bad[0].remedies[0].why
