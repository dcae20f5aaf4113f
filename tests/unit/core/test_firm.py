"""Which fails a policy may lower: every code is decided, and a code that nobody decided about is firm."""

import pytest

from cgroup_preflight.checks.reference import entries
from cgroup_preflight.config.policy_keys import parse_lowered_code
from cgroup_preflight.core.codes import Severity
from cgroup_preflight.core.firm import FIRM, LOWERED, NEVER, is_firm
from cgroup_preflight.core.policy import FAMILIES, Rules, apply
from cgroup_preflight.core.quantities import QuantityError
from cgroup_preflight.core.report import Finding, Status

CODES = {item.code.code: item.code.worst for item in entries() if item.code.code.startswith(FAMILIES)}


def test_every_code_is_in_one_place():
    assert sorted((*FIRM, *LOWERED, *NEVER)) == sorted(CODES)


@pytest.mark.parametrize("code", CODES)
def test_what_is_decided_about_a_code_is_what_the_policy_does(code):
    can_fail = CODES[code] is Severity.ERROR
    assert can_fail is (code not in NEVER)
    assert is_firm(code) is (code in FIRM)
    failed = Finding(code=code, name="made", status=Status.FAIL, subject="a", message="b")
    for rules in (Rules(warn_on=frozenset({code})), Rules(baseline=(failed,))):
        (done,) = apply([failed], rules)
        assert (done.status is Status.FAIL) is (code in FIRM)
    if code in FIRM:
        with pytest.raises(QuantityError, match="not proved"):
            parse_lowered_code(code)
    else:
        assert parse_lowered_code(code) == code


@pytest.mark.parametrize("code", ["CGP501", "CGP504", "CGP511", "CGP513", "CGP517", "CGP522", "CGP128"])
def test_a_limit_that_is_not_in_force_not_enforced_or_not_proved_is_firm(code):
    assert is_firm(code)


def test_a_code_that_nobody_decided_about_is_firm():
    assert is_firm("CGP599")
