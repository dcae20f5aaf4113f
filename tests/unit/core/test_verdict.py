"""Findings to verdict to exit status, each combination."""

import itertools

import pytest

from cgroup_preflight.core.errors import ExitStatus
from cgroup_preflight.core.report import Finding, Status, Verdict
from cgroup_preflight.core.verdict import exit_status_of, verdict_of


def _findings(statuses):
    return [Finding(code="CGP999", name="made", status=status, subject="x", message="y") for status in statuses]


def _every_combination():
    return [some for size in range(len(Status) + 1) for some in itertools.combinations(Status, size)]


@pytest.mark.parametrize("statuses", _every_combination(), ids=lambda some: "+".join(some) or "nothing")
def test_verdict_of_every_combination(statuses):
    verdict = verdict_of(_findings(statuses))
    if Status.FAIL in statuses:
        assert verdict is Verdict.FAIL
    elif Status.UNVERIFIED in statuses:
        assert verdict is Verdict.UNVERIFIED
    elif Status.PASS in statuses or Status.WARN in statuses:
        assert verdict is Verdict.PASS
    else:
        assert verdict is Verdict.UNVERIFIED, "silence and skipping are no success"


def test_order_and_number_do_not_matter():
    for order in itertools.permutations((Status.PASS, Status.FAIL, Status.UNVERIFIED)):
        assert verdict_of(_findings(order)) is Verdict.FAIL
    assert verdict_of(iter(_findings([Status.PASS] * 50))) is Verdict.PASS


@pytest.mark.parametrize(
    ("verdict", "plain", "allowed", "zero"),
    [(Verdict.PASS, 0, 0, 0), (Verdict.FAIL, 1, 1, 0), (Verdict.UNVERIFIED, 3, 0, 0)],
)
def test_exit_status_table(verdict, plain, allowed, zero):
    assert exit_status_of(verdict) == plain
    assert exit_status_of(verdict, allow_unverified=True) == allowed
    assert exit_status_of(verdict, exit_zero=True) == zero
    assert exit_status_of(verdict, exit_zero=True, allow_unverified=True) == zero


def test_exit_statuses_of_the_contract():
    assert {item.name: int(item) for item in ExitStatus} == {
        "PASS": 0,
        "FAIL": 1,
        "USAGE": 2,
        "UNVERIFIED": 3,
        "DEFECT": 4,
        "NOT_DELIVERED": 5,
        "INTERRUPTED": 130,
        "TERMINATED": 143,
    }
