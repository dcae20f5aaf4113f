"""Headroom and throttling: a warning from the share that the policy names, with a value that makes it go away."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.config.model import Policy
from cgroup_preflight.core.quantities import parse_size
from cgroup_preflight.core.report import Status
from cgroup_preflight.engines.ready import Readiness
from cgroup_preflight.smoke.evidence import Hold
from cgroup_preflight.smoke.margins import margin_findings
from cgroup_preflight.smoke.throttling import proposed_quota
from tests.unit.smoke.fabricate import ABSENT, CGROUP, SLICE, TEXT, counters, evidence, stay

MIB = 1 << 20
JOB = TEXT.replace('"http://127.0.0.1:8080/healthz"', '"exit"')
QUOTA_ABOVE = TEXT.replace('CPUQuota = "50%"\n', "").replace(
    'MemoryMax = "256M"', 'MemoryMax = "256M"\nCPUQuota = "80%"'
)


SLOW_PERIODS = TEXT.replace('CPUQuota = "50%"', 'CPUQuota = "50%"\nCPUQuotaPeriodSec = "1s"')
_POLICY = Policy()


def judged(*seen, policy=_POLICY, **policies):
    return margin_findings(seen, policy, policies)


def hold(throttled, periods=50, cgroup=CGROUP, before=0):
    start = {"nr_periods": before, "nr_throttled": before, "throttled_usec": 7 * before}
    end = {"nr_periods": before + periods, "nr_throttled": before + throttled, "throttled_usec": 9 * before}
    return Hold(cgroup=cgroup, before=start, after=end)


# --- headroom: 64M, so 20 % are 12.8M ---------------------------------------------------------------------------


@pytest.mark.parametrize(("peak", "warns"), [(20 * MIB, False), (51 * MIB, False), (52 * MIB, True), (64 * MIB, True)])
def test_headroom_below_a_fifth_is_a_warning_with_the_number(peak, warns):
    found = judged(evidence(counters=counters(peak=peak)))
    assert [(item.code, item.status, item.subject) for item in found] == [("CGP514", Status.WARN, "web")] * warns
    if warns:
        assert f"headroom {100 * (64 * MIB - peak) // (64 * MIB)}% is below 20%" in found[0].message
        assert found[0].location.line == 7
        assert found[0].evidence["memory_peak_bytes"] == peak


@pytest.mark.parametrize(
    ("memory", "is_cache"),
    [
        ({}, False),
        ({"file": 40 * MIB}, False),
        ({"file": 40 * MIB, "shmem": 0}, True),
        ({"file": 40 * MIB, "shmem": 39 * MIB}, False),
        ({"file": 4 * MIB, "shmem": 0}, False),
    ],
)
def test_file_cache_up_to_the_limit_is_no_reason_to_raise_it(memory, is_cache):
    stayed = dataclasses.replace(stay(), memory=memory)
    (found,) = judged(evidence(counters=counters(peak=64 * MIB), stay=stayed))
    assert found.status is Status.WARN
    assert ("file cache" in found.message) is is_cache
    assert ("raise MemoryMax to" in found.remedies[0].title) is not is_cache


@pytest.mark.parametrize(
    ("times", "memory", "warns"),
    [
        (9, {"file": 0, "shmem": 0}, True),
        (0, {"file": 0, "shmem": 0}, False),
        (9, {"file": 40 * MIB, "shmem": 0}, False),
        (9, {"file": 40 * MIB, "shmem": 39 * MIB}, True),
        (9, {}, False),
    ],
)
def test_a_service_above_its_memory_high_is_told(times, memory, warns):
    """It passes however slow it is, unless what reached the limit was file cache, or nobody knows."""
    text = TEXT.replace('MemoryMax = "64M"', 'MemoryHigh = "64M"')
    stayed = dataclasses.replace(stay(), memory=memory)
    found = judged(evidence(text, counters=counters(events={"high": times}, peak=66 * MIB), stay=stayed))
    assert [(item.code, item.status, item.subject) for item in found] == [("CGP514", Status.WARN, "web")] * warns
    if warns:
        assert found[0].message == "the kernel slowed it down 9 times at MemoryHigh=64M: peak 66M"
        assert found[0].remedies[0].title.startswith("raise MemoryHigh to 96M")


@given(st.integers(52 * MIB, 65 * MIB), st.integers(20, 80))
def test_with_the_proposed_limit_the_same_peak_has_headroom_enough(peak, least):
    policy = Policy(headroom_min=least / 100)
    (found,) = judged(evidence(counters=counters(peak=peak)), policy=policy)
    proposed = parse_size(found.remedies[0].title.split()[3].rstrip(",")).bytes
    assert 1 - peak / proposed > policy.headroom_min


def test_twice_the_limit_after_a_kill_leaves_headroom_for_one_that_needs_a_third_more():
    """What a service needs that was killed at 64M is unknown: half as much again could leave 11 %."""
    assert 1 - (64 * 4 / 3) / 128 > 0.2


def test_the_policy_of_a_service_wins():
    near, far = evidence(counters=counters(peak=60 * MIB)), evidence(counters=counters(peak=40 * MIB))
    assert judged(near, web=Policy(headroom_min=0.05)) == ()
    assert judged(near, other=Policy(headroom_min=0.05)) != ()
    (found,) = judged(far, web=Policy(headroom_min=0.5))
    assert "below 50%" in found.message


@pytest.mark.parametrize("changes", [{"peak": ABSENT}, {"peak": 60 * MIB, "events": {"oom_kill": 1}}])
def test_without_a_peak_or_after_a_kill_nothing_is_said_of_headroom(changes):
    assert judged(evidence(counters=counters(**changes))) == ()


def test_a_service_that_never_ran_has_no_headroom():
    assert judged(evidence(counters=None)) == ()


def test_a_slice_is_judged_by_its_own_peak_and_once():
    above = dataclasses.replace(counters(peak=250 * MIB), cgroup=SLICE)
    one = evidence(slices=(above,))
    (found,) = judged(one, one)
    assert (found.subject, found.location.line) == ("api.slice", 2)
    assert "peak 250M of MemoryMax=256M" in found.message
    # The policy of a service is not for its slice.
    assert judged(one, web=Policy(headroom_min=0.0)) == (found,)


# --- throttling -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("throttled", "periods", "warns"), [(12, 50, False), (13, 50, True), (50, 50, True), (9, 9, False), (0, 0, False)]
)
def test_throttling_after_the_start_is_a_warning(throttled, periods, warns):
    found = judged(evidence(hold=(hold(throttled, periods, before=300),)))
    assert [(item.code, item.status, item.subject) for item in found] == [("CGP515", Status.WARN, "web")] * warns
    if warns:
        assert f"of {periods} periods after the start, more than 25%: CPUQuota=50%" in found[0].message
        assert "raise CPUQuota to 75%" in found[0].remedies[0].title
        assert found[0].evidence["nr_throttled"] == throttled


def test_a_start_may_be_throttled():
    stat = {"nr_periods": 400, "nr_throttled": 390}
    assert judged(evidence(counters=counters(cpu=stat), hold=(hold(0, before=390),))) == ()


def test_a_job_may_use_all_it_is_given():
    assert judged(evidence(JOB, hold=(hold(50),))) == ()


def test_throttling_is_policy_too():
    seen = evidence(hold=(hold(40),))
    assert judged(seen, web=Policy(throttled_max=0.9)) == ()
    assert judged(seen, policy=Policy(throttled_max=0.9)) == ()


@pytest.mark.parametrize(
    ("throttled", "usec", "seconds", "warns"),
    [
        (5, 4_000_000, 5.0, True),
        (5, 1_000_000, 5.0, False),
        (1, 1_000_000, 3.0, True),
        (2, 9_000_000, 5.0, True),
        (1, 9_000_000, 5.0, False),
        (0, 0, 5.0, False),
        (5, 4_000_000, 0.0, False),
    ],
)
def test_of_few_periods_the_time_counts(throttled, usec, seconds, warns):
    """A period of a second has five of them in five seconds; time of several CPUs is no longer than the periods were."""
    after = {"nr_periods": 5, "nr_throttled": throttled, "throttled_usec": usec}
    one = Hold(cgroup=CGROUP, before={}, after=after, seconds=seconds)
    found = judged(evidence(SLOW_PERIODS, hold=(one,)))
    assert [item.code for item in found] == ["CGP515"] * warns
    if warns:
        waited = min(usec / 1e6, throttled)
        assert (
            found[0].message
            == f"throttled for {waited:.1f} s of {seconds:.1f} s after the start, more than 25%: CPUQuota=50%"
        )


def starting(throttled, periods, *, usec=0, ready=16.0, after=0):
    """A service whose start was throttled, and `after` of 50 periods after it."""
    before = {"nr_periods": periods, "nr_throttled": throttled, "throttled_usec": usec}
    end = {"nr_periods": periods + 50, "nr_throttled": throttled + after, "throttled_usec": usec}
    one = Hold(cgroup=CGROUP, before=before, after=end, seconds=5.0)
    return {"hold": (one,), "ready": Readiness(ok=True, seconds=ready)}


_NEEDED = "it needed 16 s of its start_timeout of 30 s to become ready, throttled in 93% of 160 periods of the start"
_LATE = "throttled in 40% of 50 periods after the start"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (starting(150, 160), _NEEDED),
        (starting(150, 160, after=20), f"{_NEEDED}, and in 40% of 50 periods after it"),
        (starting(0, 160, after=20), _LATE),
        ({**starting(0, 160, after=20), "silent": "refused"}, f"it did not answer at the end of its time, {_LATE}"),
    ],
)
def test_what_suffered_comes_first(changes, words):
    (found,) = judged(evidence(**changes))
    assert (found.status, found.message) == (Status.WARN, f"{words}, more than 25%: CPUQuota=50%")


def test_a_slow_start_of_few_periods_is_judged_by_its_time():
    changes = starting(5, 5, usec=4_500_000)
    (found,) = judged(evidence(SLOW_PERIODS, **changes))
    assert "throttled for 4.5 s of 16.0 s of the start" in found.message
    assert found.evidence["nr_throttled"] == 5
    assert judged(evidence(SLOW_PERIODS, **starting(5, 5, usec=3_900_000))) == ()


@pytest.mark.parametrize(
    "changes", [starting(150, 160, ready=14.0), starting(40, 160), {"silent": "refused", **starting(0, 1)}]
)
def test_a_start_that_was_quick_or_was_not_throttled_is_no_reason(changes):
    assert judged(evidence(**changes)) == ()


def test_a_service_that_suffered_is_named_for_the_quota_of_its_slice():
    """Although another one in the slice comes first."""
    slow = starting(150, 160)
    slow["hold"] = (dataclasses.replace(slow["hold"][0], cgroup=SLICE),)
    quick = {**slow, "ready": Readiness(ok=True, seconds=1.0)}
    first, second = evidence(QUOTA_ABOVE, **quick), evidence(QUOTA_ABOVE, **slow)
    other = dataclasses.replace(first, cgroup=f"{SLICE}/other.service")
    (found,) = judged(other, second)
    assert found.subject == "api.slice"
    assert found.message.startswith("web needed 16 s of its start_timeout of 30 s")
    assert judged(other) == ()


def test_the_quota_of_a_slice_is_judged_at_the_slice():
    (found,) = judged(evidence(QUOTA_ABOVE, hold=(hold(50, cgroup=SLICE), hold(0))))
    assert (found.subject, found.location.line) == ("api.slice", 3)
    assert "CPUQuota=80%" in found.message


@pytest.mark.parametrize(("cpus", "text"), [(0.5, "75%"), (0.1, "15%"), (0.2, "30%"), (1.5, "225%"), (0.05, "10%")])
def test_proposed_quotas(cpus, text):
    assert proposed_quota(cpus) == text
