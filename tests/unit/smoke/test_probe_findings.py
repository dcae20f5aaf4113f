"""A limit that does not bite is a fail, one that was not reached is unverified; the tolerance to the microsecond."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.core.records import replace
from cgroup_preflight.core.report import Status
from cgroup_preflight.smoke.probe_findings import probe_findings
from cgroup_preflight.smoke.probe_plan import Capacity, plan_probes
from cgroup_preflight.smoke.probes import ProbeEvidence
from tests.unit.smoke.fabricate import CGROUP, NUMBERS, plan

SETTINGS = {"cpu": "CPUQuota='50%'", "tasks": "TasksMax=64", "high": "MemoryHigh='64M'", "max": "MemoryMax='64M'",
            "swap": "MemorySwapMax='64M'"}  # fmt: skip
LIMIT = 64 << 20


def probe(kind, settings=""):
    made, _ = plan_probes(
        plan(f"[services.a]\nbinary='x'\n{settings or SETTINGS[kind]}\n"),
        NUMBERS,
        Capacity(cpus=8, available_bytes=8 << 30, swap_bytes=8 << 30),
    )
    return made[0]


def seen_by(kind, said=(), before=None, after=None, *, in_force=None, refused="", settings=""):
    made = probe(kind, settings)
    return ProbeEvidence(
        probe=made,
        cgroup=CGROUP,
        in_force=made.expectation.text if in_force is None else in_force or None,
        said=tuple(said),
        before=before or {},
        after=after or {},
        refused=refused,
    )


def judged(*args, **changes):
    (found,) = probe_findings([seen_by(*args, **changes)], [])
    assert found.code == "CGP511"
    assert found.message
    assert (found.status is Status.PASS) == (not found.remedies)
    assert found.location.line > 0
    return found


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_limit_that_is_not_in_force_is_a_fail(kind):
    found = judged(kind, in_force="max")
    assert found.status is Status.FAIL
    assert "'max'" in found.message


@pytest.mark.parametrize("kind", SETTINGS)
def test_counters_that_could_not_be_read_are_unverified(kind):
    seen = replace(seen_by(kind, said=[{"finished": True}], before={"oom": 1}), unread=True)
    (found,) = probe_findings([seen], [])
    assert (found.status, "could not be read" in found.message) == (Status.UNVERIFIED, True)


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_probe_that_was_not_started_is_unverified(kind):
    found = judged(kind, refused="Unit x already exists.")
    assert found.status is Status.UNVERIFIED
    assert "already exists" in found.message


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_probe_that_said_nothing_is_unverified(kind):
    assert judged(kind).status is Status.UNVERIFIED


# --- CPU ----------------------------------------------------------------------------------------------------


def cpu(usage, window, throttled=5, settings=""):
    stat = {"usage_usec": usage, "nr_periods": 10, "nr_throttled": throttled, "throttled_usec": 1000}
    return judged("cpu", [{"shortest": window, "longest": window, "stat": stat, "workers": 1}], settings=settings)


# Half a CPU for 1 s, one period of 100 ms more, 15 ms for the one CPU that is pushed.
ALLOWED = 500_000 + 50_000 + 15_000


@pytest.mark.parametrize(
    ("usage", "status"),
    [(500_000, "pass"), (ALLOWED, "pass"), (ALLOWED + 1, "fail"), (1_000_000, "fail"), (2_000_000, "fail")],
)
def test_the_tolerance_of_a_quota(usage, status):
    assert cpu(usage, 1.0).status == status


def test_the_tolerance_grows_with_the_cpus_that_are_pushed():
    allowed = 1_500_000 + 150_000 + 2 * 15_000
    assert cpu(allowed, 1.0, settings="CPUQuota='150%'").status is Status.PASS
    assert cpu(allowed + 1, 1.0, settings="CPUQuota='150%'").status is Status.FAIL


def test_the_tolerance_never_hides_a_missing_limit():
    """Over three periods or more, a full CPU beyond the quota is seen."""
    for quota in range(5, 96, 5):
        assert cpu(1_000_000, 1.0, throttled=0, settings=f"CPUQuota='{quota}%'").status is (
            Status.FAIL if quota < 90 else Status.UNVERIFIED
        )


@pytest.mark.parametrize(("throttled", "status"), [(1, "pass"), (0, "unverified")])
def test_a_quota_has_to_be_reached(throttled, status):
    assert cpu(100_000, 1.0, throttled).status == status


def test_usage_beyond_the_quota_is_a_fail_although_it_was_throttled():
    assert cpu(900_000, 1.0, throttled=9).status is Status.FAIL


@pytest.mark.parametrize(
    "said", [[{"stat": None}], [{"stat": {}}], [{"stat": []}], [{"other": 1}], [{"stat": {"usage_usec": 5}}]]
)
def test_a_cpu_probe_that_says_odd_things_never_passes(said):
    said = [{"longest": 1.0, "shortest": 1.0, **item} for item in said]
    assert judged("cpu", said).status is not Status.PASS


# --- tasks --------------------------------------------------------------------------------------------------


def tasks(started=63, refused=True, current="64", limit="64", before=2, after=3, alive=None, oom_kill=0, **more):
    said = [
        {
            "started": started, "alive": started if alive is None else alive, "refused": refused,
            "pids.current": current, "pids.max": limit, **more,
        }
    ]  # fmt: skip
    return judged("tasks", said, {"max": before, "oom_kill": 1}, {"max": after, "oom_kill": 1 + oom_kill})


def test_tasks_refused_at_the_limit_and_counted():
    found = tasks()
    assert found.status is Status.PASS
    assert "64" in found.message


@pytest.mark.parametrize(
    "changes",
    [
        {"refused": False, "started": 64, "current": "66"},
        {"refused": False, "started": 128, "current": "130"},
        {"refused": False, "started": 128, "current": None},
        {"refused": True, "started": 64, "after": 2, "current": "65"},
    ],
)
def test_more_tasks_than_the_limit_are_a_fail(changes):
    assert tasks(**changes).status is Status.FAIL


@pytest.mark.parametrize(
    "changes", [{"after": 2}, {"current": "40"}, {"refused": False, "started": 10}, {"current": None}, {"after": 0}]
)
def test_tasks_refused_by_something_else_are_unverified(changes):
    """ulimit, pid_max, another slice, memory: not counted at this limit, or not at it."""
    assert tasks(**changes).status is Status.UNVERIFIED


def test_tasks_that_were_not_alive_at_once_are_no_fail_of_the_host():
    """The kernel kills whole groups for memory, and the probe starts others: more were started than may be alive."""
    found = tasks(refused=False, started=1564, alive=40, current="42", oom_kill=3, killed=True)
    assert found.status is Status.UNVERIFIED
    assert "memory was reached first, with 40 tasks alive at once" in found.message
    assert "MemoryMax" in found.remedies[0].title
    assert found.evidence["memory.events oom_kill"] == 3


def test_the_kernels_own_count_speaks_against_a_fail():
    assert tasks(refused=False, started=64, alive=64, current="64").status is Status.UNVERIFIED


def test_a_probe_that_was_killed_by_something_else_is_unverified():
    found = tasks(refused=False, started=300, alive=32, current="34", killed=True)
    assert (found.status, "were killed" in found.message) == (Status.UNVERIFIED, True)


def test_a_probe_of_tasks_that_memory_killed_whole_says_so():
    found = judged("tasks", [], {"oom_kill": 0}, {"oom_kill": 1})
    assert found.status is Status.UNVERIFIED
    assert "memory was reached first" in found.message
    assert "less busy" not in found.remedies[0].title


@pytest.mark.parametrize(
    ("kills", "status"), [({"oom": 1, "oom_kill": 1}, Status.SKIP), ({}, Status.UNVERIFIED)]
)  # fmt: skip
def test_tasks_beyond_a_memory_limit_that_is_proven_are_out_of_reach(kills, status):
    """Nothing is unverified then: the limit that stops the service is the proven one."""
    said = [{"started": 300, "alive": 32, "refused": False, "killed": True, "pids.current": "34", "pids.max": "64"}]
    crowd, memory = seen_by("tasks", said, {}, {"oom_kill": 1}), seen_by("max", [], {}, kills)
    found = probe_findings([crowd, memory], ())
    assert found[0].status is status
    assert "memory was reached first" in found[0].message


def test_too_few_tasks_in_time_is_said_to_be_that():
    assert "only 10 tasks could be started in time" in tasks(refused=False, started=10).message


def test_numbers_that_could_not_be_read_are_not_equal():
    assert tasks(current=None, limit=None).status is not Status.PASS


# --- memory -------------------------------------------------------------------------------------------------

FULL = {"eaten": LIMIT + (16 << 20), "finished": True, "current": LIMIT + 4096}


@pytest.mark.parametrize(
    ("after", "said", "status"),
    [
        ({"oom": 1, "oom_kill": 1}, [], "pass"),
        ({"oom": 3, "oom_kill": 2}, [], "pass"),
        ({"oom": 0, "oom_kill": 1}, [], "unverified"),
        ({"oom": 1, "oom_kill": 0}, [], "unverified"),
        ({}, [], "unverified"),
        ({"max": 50}, [FULL], "fail"),
        ({}, [FULL], "fail"),
        ({}, [{**FULL, "finished": False}], "unverified"),
        ({}, [{"eating": 5}], "unverified"),
        ({"oom_kill": 1}, [FULL], "fail"),
    ],
)
def test_memory_max(after, said, status):
    assert judged("max", said, {}, after).status == status


@pytest.mark.parametrize(
    ("after", "said", "status"),
    [
        ({"high": 1}, [], "pass"),
        ({"high": 900}, [FULL], "pass"),
        ({}, [FULL], "fail"),
        ({"max": 5}, [FULL], "fail"),
        ({}, [], "unverified"),
        ({"oom": 1, "oom_kill": 1}, [], "unverified"),
        ({}, [{**FULL, "finished": False}], "unverified"),
    ],
)
def test_memory_high(after, said, status):
    assert judged("high", said, {}, after).status == status


@pytest.mark.parametrize(
    ("after", "said", "limit", "status"),
    [
        ({"oom_kill": 1, "swap max": 3}, [], "64M", "pass"),
        ({"oom_kill": 1, "swap max": 0}, [], "64M", "unverified"),  # killed for something else
        ({"oom_kill": 1, "swap max": 0}, [], "0", "pass"),  # the kernel does not even try to swap
        ({"oom_kill": 1, "swap peak": 63 << 20}, [], "64M", "pass"),
        ({"oom_kill": 1, "swap peak": 20 << 20}, [], "64M", "unverified"),
        ({"oom_kill": 1, "swap peak": 70 << 20}, [], "64M", "fail"),
        ({"oom_kill": 1, "swap peak": 20 << 20}, [], "0", "fail"),
        ({"oom_kill": 0, "swap max": 3}, [], "64M", "unverified"),
        ({"oom_kill": 0, "swap max": 3}, [FULL], "64M", "fail"),
        ({}, [FULL], "0", "fail"),
        ({}, [{**FULL, "finished": False}], "0", "unverified"),
    ],
)
def test_memory_swap_max(after, said, limit, status):
    assert judged("swap", said, {}, after, settings=f"MemorySwapMax='{limit}'").status == status


def test_a_kernel_without_accounting_for_swap_is_unverified():
    found = judged("swap", in_force="")
    assert found.status is Status.UNVERIFIED
    assert "account" in found.remedies[0].title


def test_no_swap_is_a_skip_that_says_so():
    _, untried = plan_probes(
        plan("[services.a]\nbinary='x'\nMemorySwapMax=0\n"), NUMBERS, Capacity(cpus=1, available_bytes=0)
    )
    (found,) = probe_findings([], untried)
    assert found.status is Status.SKIP
    assert "no swap" in found.message


@pytest.mark.parametrize(
    ("kind", "key"), [("max", "oom_kill"), ("high", "high"), ("tasks", "max"), ("swap", "oom_kill")]
)
def test_what_was_counted_before_does_not_count(kind, key):
    said = {"tasks": [{"started": 5, "refused": True, "pids.current": "64", "pids.max": "64"}]}.get(kind, [])
    assert (
        judged(kind, said, {key: 7, "oom": 7, "swap max": 7}, {key: 7, "oom": 7, "swap max": 7}).status
        is Status.UNVERIFIED
    )


def test_memory_that_was_counted_elsewhere_is_no_proof_of_a_fail():
    """The probe finished, but the kernel says the cgroup never held that much."""
    assert judged("max", [{**FULL, "current": 1 << 20}]).status is Status.UNVERIFIED


@given(
    st.sampled_from(sorted(SETTINGS)),
    st.dictionaries(st.sampled_from(["high", "max", "oom", "oom_kill"]), st.integers(0, 5)),
    st.dictionaries(st.sampled_from(["high", "max", "oom", "oom_kill"]), st.integers(0, 5)),
)
def test_no_pass_without_a_count(kind, before, after):
    grown = {key for key in after if after[key] > before.get(key, 0)}
    needed = {"cpu": None, "tasks": "max", "high": "high", "max": "oom_kill", "swap": "oom_kill"}[kind]
    if judged(kind, [], before, after).status is Status.PASS:
        assert needed in grown


def test_each_untried_limit_is_unverified_with_its_reason():
    _, untried = plan_probes(
        plan("[services.a]\nbinary='x'\nCPUQuota='800%'\nTasksMax=99999\nMemoryMax='64M'\nMemoryHigh='32M'\n"
             "MemorySwapMax='8M'\nMemoryZSwapMax='8M'\n"),
        NUMBERS,
        Capacity(cpus=1, available_bytes=0, swap_bytes=1 << 20),
    )  # fmt: skip
    found = probe_findings([], untried)
    assert {item.message.split("=")[0] for item in found} == {
        "CPUQuota", "TasksMax", "MemoryMax", "MemoryHigh", "MemorySwapMax", "MemoryZSwapMax",
    }  # fmt: skip
    assert all(
        item.status is Status.UNVERIFIED
        and "was not tested" in item.message
        and item.remedies[0].title
        and item.location.line
        for item in found
    )
