"""Samples to a verdict: what is good, what is bad, and what is neither."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.config.rollout import Thresholds
from cgroup_preflight.rollout.judge import Answer, Verdict, Window, judge

LIMITS = Thresholds()
QUIET = Window(seconds=10.0, periods=100, throttled=0.0, cpu_waiting=0.01, memory_stalled=0.0, memory_events=0.0)
BASE = (QUIET,) * 3


def window(**changed) -> Window:
    return Window(**{name: getattr(QUIET, name) for name in Window.__slots__} | changed)


def test_three_quiet_samples_are_a_success():
    found = judge((QUIET,) * 3, BASE, LIMITS)
    assert (found.verdict, found.samples) == (Verdict.SUCCESS, 3)
    assert found.numbers["baseline_throttled"] == 0.0


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_samples_are_never_a_success(count):
    found = judge((QUIET,) * count, BASE, LIMITS)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reasons == (f"{count} of 3 samples",)


def test_a_void_sample_does_not_count():
    found = judge((QUIET, QUIET, window(void="a counter went back", throttled=1.0)), BASE, LIMITS)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "a counter went back" in found.reasons[0]


def test_what_is_taken_back_at_once_needs_no_other_sample():
    found = judge((window(void="another cgroup", at_once=("an OOM kill",)),), BASE, LIMITS)
    assert (found.verdict, found.reasons) == (Verdict.FAILED, ("an OOM kill",))


@pytest.mark.parametrize(
    ("bad", "good", "word"),
    [
        ({"throttled": 0.2}, {"throttled": 0.04}, "throttled"),
        ({"cpu_waiting": 0.3}, {"cpu_waiting": 0.09}, "waited for a CPU"),
        ({"memory_events": 3.0}, {"memory_events": 0.5}, "memory events"),
        ({"neighbours": {"db.slice": 0.4}}, {"neighbours": {"db.slice": 0.05}}, "neighbour"),
    ],
)
def test_each_number_has_a_side_that_fails_and_one_that_does_not(bad, good, word):
    failed = judge((QUIET, QUIET, window(**bad)), BASE, LIMITS)
    assert failed.verdict is Verdict.FAILED
    assert word in failed.reasons[0]
    assert judge((window(**good),) * 3, BASE, LIMITS).verdict is Verdict.SUCCESS


def test_a_share_of_few_periods_does_not_count():
    assert judge((window(throttled=1.0, periods=10),) * 3, BASE, LIMITS).verdict is Verdict.SUCCESS


def test_what_the_control_slice_has_too_is_not_the_change():
    assert judge((window(throttled=0.3, control_throttled=0.28),) * 3, BASE, LIMITS).verdict is Verdict.SUCCESS
    assert judge((window(throttled=0.3, control_throttled=0.1),) * 3, BASE, LIMITS).verdict is Verdict.FAILED


def test_what_was_so_before_is_not_the_change():
    base = (window(throttled=0.3),) * 3
    assert judge((window(throttled=0.33),) * 3, base, LIMITS).verdict is Verdict.SUCCESS
    assert judge((window(throttled=0.4),) * 3, base, LIMITS).verdict is Verdict.FAILED


def answers(*given_: Answer) -> tuple[Window, ...]:
    return tuple(window(answers=(answer,)) for answer in given_)


GOOD = Answer(query="q", value=1.0, bound="< 2", holds=True)
BAD = Answer(query="q", value=3.0, bound="< 2", holds=False)
EMPTY = Answer(query="q", bound="< 2")
BROKEN = Answer(query="q", bound="< 2", error="connection refused")


def test_answers_of_a_server():
    assert judge(answers(GOOD, GOOD, GOOD), BASE, LIMITS).verdict is Verdict.SUCCESS
    assert judge(answers(GOOD, BAD, GOOD), BASE, LIMITS).verdict is Verdict.FAILED
    assert judge(answers(GOOD, GOOD, EMPTY), BASE, LIMITS).verdict is Verdict.INCONCLUSIVE
    assert judge(answers(*[BROKEN] * 4), BASE, LIMITS).verdict is Verdict.INCONCLUSIVE
    assert judge(answers(*[BROKEN] * 5), BASE, LIMITS).verdict is Verdict.ERROR
    assert judge(answers(*[BROKEN] * 4, GOOD), BASE, LIMITS).verdict is Verdict.SUCCESS


def test_failed_wins_over_error_and_error_over_inconclusive():
    failed_and_inconclusive = (window(at_once=("an OOM kill",), answers=(EMPTY,)),)
    assert judge(failed_and_inconclusive, BASE, LIMITS).verdict is Verdict.FAILED
    assert judge((*answers(*[BROKEN] * 5), window(throttled=1.0)), BASE, LIMITS).verdict is Verdict.FAILED


windows = st.builds(
    window, throttled=st.floats(0, 1), cpu_waiting=st.floats(0, 1), periods=st.integers(0, 200),
    void=st.sampled_from(["", "", "a counter went back"]), at_once=st.sampled_from([(), (), ("an OOM kill",)]),
)  # fmt: skip


@given(st.lists(windows, max_size=6), st.lists(windows, max_size=3))
def test_the_order_of_samples_does_not_matter_and_more_harm_is_never_better(some, base):
    found = judge(some, base, LIMITS).verdict
    assert all(
        judge(order, base, LIMITS).verdict is found for order in itertools.islice(itertools.permutations(some), 12)
    )
    assert judge([*some, window(at_once=("a unit failed",))], base, LIMITS).verdict is Verdict.FAILED
    if found is Verdict.SUCCESS:
        assert sum(not item.void for item in some) >= LIMITS.samples_min


@pytest.mark.parametrize(
    "bad",
    [{"cpu_waiting": 0.105}, {"memory_stalled": 0.095}, {"memory_events": 1.05}, {"neighbours": {"db.slice": 0.105}}],
)
def test_what_the_slack_of_a_sample_leaves_open_is_neither_a_success_nor_a_failure(bad):
    exact = judge((QUIET, QUIET, window(**bad)), BASE, LIMITS).verdict
    assert exact is (Verdict.SUCCESS if "memory_stalled" in bad else Verdict.FAILED)
    found = judge((QUIET, QUIET, window(**bad, slack=1.0)), BASE, LIMITS)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "1s of 10s are in doubt" in found.reasons[0]
    # What is far from the border is decided all the same, and a single bad sample among allowed ones, too.
    assert judge((QUIET, QUIET, window(slack=1.0)), BASE, LIMITS).verdict is Verdict.SUCCESS
    assert judge((QUIET, QUIET, window(cpu_waiting=0.5, slack=1.0)), BASE, LIMITS).verdict is Verdict.FAILED
    assert judge((QUIET, QUIET, window(**bad, slack=1.0)), BASE, Thresholds(failures_max=1)).verdict is Verdict.SUCCESS


def test_the_slack_before_the_first_change_counts_too():
    """A baseline that looks too high must not excuse what came later, nor one that looks too low accuse it."""
    base = (window(cpu_waiting=0.2, slack=2.0),) * 3
    for share, verdict in (
        (0.2, Verdict.SUCCESS),
        (0.38, Verdict.INCONCLUSIVE),
        (0.45, Verdict.INCONCLUSIVE),
        (0.7, Verdict.FAILED),
    ):
        assert judge((window(cpu_waiting=share),) * 3, base, LIMITS).verdict is verdict, share
