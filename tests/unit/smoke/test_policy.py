"""Settings that only systemd holds: read back from systemd, and no pass where nobody acts on them."""

import pytest

from cgroup_preflight.core.report import Status
from cgroup_preflight.smoke.policy import OOMD, judge, policies
from tests.unit.engines.machine import NUMBERS
from tests.unit.smoke.fabricate import SCOPE, plan

TEXT = """\
[slices.api]
ManagedOOMMemoryPressure = "auto"
MemoryMax = "256M"
[services.web]
binary = "dist/web"
slice = "api"
ManagedOOMMemoryPressure = "kill"
"""
SLICE, SERVICE = f"{SCOPE}-api.slice", f"{SCOPE}-web.service"
WANTED = policies(plan(TEXT))


def shown(service: str, slice_: str = "auto") -> dict[str, dict[str, str]]:
    return {SERVICE: {"ManagedOOMMemoryPressure": service}, SLICE: {"ManagedOOMMemoryPressure": slice_}}


def test_policies_of_services_and_slices_and_nothing_else():
    assert [(label, unit) for label, unit, _ in WANTED] == [("web", SERVICE), ("api.slice", SLICE)]


@pytest.mark.parametrize(
    ("what", "oomd", "statuses"),
    [
        (shown("kill"), True, ["pass", "pass"]),
        (shown("kill"), False, ["warn", "pass"]),
        (shown("auto"), True, ["fail", "pass"]),
        (shown("kill", "kill"), True, ["pass", "fail"]),
        ({SERVICE: {}, SLICE: {}}, True, ["unverified", "unverified"]),
        ({}, True, ["unverified", "unverified"]),
    ],
    ids=["held", "nobody acts", "not taken", "not taken by the slice", "old systemd", "no answer"],
)
def test_a_policy_is_judged_by_what_systemd_holds(what, oomd, statuses):
    found = judge(WANTED, what, NUMBERS, oomd=oomd)
    assert [item.status for item in found] == statuses
    assert {item.code for item in found} == {"CGP513"}
    assert all(item.remedies for item in found if item.status is not Status.PASS)
    assert [item.location.line for item in found] == [7, 2]


def test_who_does_not_run_is_named():
    assert OOMD in judge(WANTED, shown("kill"), NUMBERS, oomd=False)[0].message
