"""What two findings of different runs have in common."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.core.baseline import forgiven, key_of
from cgroup_preflight.core.report import By, Finding, Ruling, Status


def found(message, status=Status.FAIL, code="CGP506", **more):
    return Finding(code=code, name="made", status=status, subject="worker", message=message, **more)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("headroom 12% is below 20%: peak 58.1M of MemoryMax=64M", "headroom 3% is below 20%: peak 1G of MemoryMax=1G"),
        ("throttled in 31% of 20 periods: CPUQuota=30%", "throttled in 99% of 2,000 periods: CPUQuota=30%"),
        ("peak 58M of 64M, and 3M of it was file cache", "peak 58M of 64M"),
        ("it ran 5.2 s; it did not answer", "it ran 700ms; it needed 3 s"),
        ("run-12345-api.slice is above", "run-777-api.slice is above"),
        ("hash 8c31586fb88c28cd", "hash 00ffee00aa11bb22"),
        ("killed at 12:30:11", "killed at 01:02:03"),
    ],
)
def test_numbers_and_details_do_not_matter(one, other):
    assert key_of(found(one)) == key_of(found(other))
    assert forgiven([found(other)], [found(one)]) == {0}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("MemoryMax is not in force", "CPUQuota is not in force"),
        ("user1 is missing", "user2 is missing"),
        ("listens on x86_64", "listens on i386_64"),
        ("deadbeef is a word", "feedbeef is a word"),
        ("", "a"),
    ],
)
def test_words_and_names_do(one, other):
    assert key_of(found(one)) != key_of(found(other))
    assert not forgiven([found(other)], [found(one)])


@pytest.mark.parametrize(
    ("before", "now", "is_forgiven"),
    [
        (Status.FAIL, Status.FAIL, True),
        (Status.FAIL, Status.WARN, True),
        (Status.WARN, Status.WARN, True),
        (Status.WARN, Status.FAIL, False),
        (Status.UNVERIFIED, Status.FAIL, False),
        (Status.PASS, Status.WARN, False),
        (Status.SKIP, Status.WARN, False),
    ],
)
def test_what_got_worse_is_new(before, now, is_forgiven):
    assert bool(forgiven([found("a", now)], [found("a", before)])) is is_forgiven


def test_one_forgives_one_and_the_worst_first():
    assert forgiven([found("a", Status.WARN), found("a")], [found("a")]) == {1}
    assert forgiven([found("a", Status.WARN), found("a")], [found("a"), found("a", Status.WARN)]) == {0, 1}
    assert forgiven([found("a")] * 3, [found("a")] * 2) == {0, 1}


@pytest.mark.parametrize(("by", "is_forgiven"), [(By.IGNORE, False), (By.BASELINE, True)])
def test_what_was_forgiven_before_is_forgiven_again_and_what_was_ignored_is_not(by, is_forgiven):
    before = found("a", Status.SKIP, policy=Ruling(by=by, was=Status.FAIL, reason="x"))
    assert bool(forgiven([found("a")], [before])) is is_forgiven


@given(st.text(), st.text())
def test_any_text_can_be_compared(one, other):
    assert forgiven([found(one)], [found(one)]) == {0}
    assert bool(forgiven([found(other)], [found(one)])) is (key_of(found(one)) == key_of(found(other)))
