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
        ("it ran 5.2 s; it did not answer", "it ran 700ms"),
        ("it ran 5.2 s; it needed 3 s", "it ran 700ms; it needed 12 s"),
        ("/system.slice/run-12345.scope is above", "/system.slice/run-777.scope is above"),
        ("run-u12.service is above", "run-u1234.service is above"),
        ("docker-8c31586fb88c28cd.scope is above", "docker-00ffee00aa11bb22.scope is above"),
        ("2 process(es) still run (12 of 13)", "3 process(es) still run (1 of 4)"),
        ("MemoryMax=1.5G, 1,234 periods", "MemoryMax=2G, 7 periods"),
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
        ("worker-1.service is missing", "worker-2.service is missing"),
        ("no answer at 127.0.0.1:8080", "no answer at 127.0.0.1:9090"),
        ("no answer at 127.0.0.1", "no answer at 127.0.0.2"),
        ("no answer at [::1]:80", "no answer at [::2]:80"),
        ("/srv/1/data stays", "/srv/2/data stays"),
        ("getty@1 stays", "getty@2 stays"),
        ("CPUs 0-3 are offline", "CPUs 4-7 are offline"),
        ("CPUs 0,3 are offline", "CPUs 0,4 are offline"),
        ("CPUs 0-1,3 are offline", "CPUs 0-1,12 are offline"),
        ("kernel 6.1.0 is too old", "kernel 5.4.9 is too old"),
        ("it stays", "it stays; it does not answer"),
        ("there are still processes a", "there are still processes a; units b.service"),
        ("it stays; units a-1.service", "it stays; units a-2.service"),
    ],
)
def test_words_and_names_do(one, other):
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
    if forgiven([found(other)], [found(one)]):
        assert key_of(found(one)) == key_of(found(other))


@pytest.mark.parametrize(
    ("code", "used", "whole"), [("CGP514", "memory_peak_bytes", "memory_max_bytes"), ("CGP515", "nr_throttled", "nr_periods")]
)  # fmt: skip
@pytest.mark.parametrize(
    ("before", "now", "is_forgiven"),
    [
        ((82, 100), (82, 100), True),
        ((82, 100), (30, 100), True),
        ((82, 100), (91, 100), True),
        ((82, 100), (93, 100), False),
        ((41, 50), (82, 100), True),
        ((82, 100), (82, 82), False),
        ((None, 100), (82, 100), False),
    ],
)
def test_much_less_room_than_before_is_new(code, used, whole, before, now, is_forgiven):
    one, other = (
        found(f"{share[0]} of {share[1]}", Status.WARN, code, evidence={used: share[0], whole: share[1]})
        for share in (before, now)
    )
    assert bool(forgiven([other], [one])) is is_forgiven


def test_of_several_that_are_alike_the_one_that_was_as_bad_forgives():
    """A second finding of the same text is new, and so is one that has less room than all before it."""

    def at(peak):
        return found(
            "headroom is low", Status.WARN, "CGP514", evidence={"memory_peak_bytes": peak, "memory_max_bytes": 100}
        )

    assert forgiven([at(99), at(82)], [at(82), at(98)]) == {0, 1}
    assert forgiven([at(99), at(82)], [at(82), at(82)]) == {1}
