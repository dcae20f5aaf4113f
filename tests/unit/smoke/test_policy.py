"""Settings that only systemd holds: read back from systemd, and no pass where nobody acts on them."""

import pytest

from cgroup_preflight.core.report import Status
from cgroup_preflight.smoke.policy import OOMD, judge, policies, unheard
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


def test_without_a_service_manager_nobody_reads_a_policy():
    found = unheard(WANTED)
    assert [(item.subject, item.status, item.location.line) for item in found] == [
        ("web", "unverified", 7),
        ("api.slice", "unverified", 2),
    ]
    assert all("journal" not in remedy.title and not remedy.commands for item in found for remedy in item.remedies)


def test_who_does_not_run_is_named():
    assert OOMD in judge(WANTED, shown("kill"), NUMBERS, oomd=False)[0].message


_FULL = (1 << 32) - 1


@pytest.mark.parametrize(
    ("line", "shown", "other"),
    [
        ("OOMPolicy = 'kill'", "kill", "stop"),
        ("ManagedOOMSwap = 'auto'", "auto", "kill"),
        ("ManagedOOMMemoryPressureLimit = '60%'", str((6000 * _FULL + 5000) // 10000), "60%"),
        ("ManagedOOMMemoryPressureLimit = '100%'", str(_FULL), "0"),
        ("StartupCPUWeight = 200", "200", "[not set]"),
        ("StartupCPUWeight = 'idle'", "idle", "100"),
        ("StartupIOWeight = 200", "200", "20"),
        ("StartupAllowedCPUs = '0,1'", "0-1", "0-2"),
        ("StartupAllowedCPUs = '0-1'", "0 1", ""),
        ("StartupAllowedMemoryNodes = 0", "0", "x"),
        ("StartupMemoryHigh = '64M'", str(64 << 20), "64M"),
        ("StartupMemoryMax = 'infinity'", "infinity", "0"),
        ("StartupMemorySwapMax = 'infinity'", str((1 << 64) - 1), "0"),
        ("StartupMemoryLow = '50%'", str(NUMBERS.memory_bytes // 2), "50%"),
    ],
)
def test_what_systemd_shows_of_a_value(line, shown, other):
    wanted = policies(plan(f"[services.web]\nbinary = 'web'\n{line}\n"))
    name = line.split()[0]
    for text, status in ((shown, "pass"), (other, "fail")):
        (found,) = judge(wanted, {SERVICE: {name: text}}, NUMBERS, oomd=True)
        assert found.status == status
    (found,) = judge(wanted, {SERVICE: {name: shown}}, NUMBERS, oomd=False)
    assert found.status == ("warn" if name == "ManagedOOMMemoryPressureLimit" else "pass")


@pytest.mark.parametrize(("value", "shown"), [("3", "3"), ("'infinity'", str(_FULL)), ("'infinity'", "infinity")])
def test_how_many_units_of_a_slice_may_run(value, shown):
    wanted = policies(plan(f"[slices.api]\nConcurrencyHardMax = {value}\n"))
    for text, status in ((shown, "pass"), ("2", "fail")):
        (found,) = judge(wanted, {SLICE: {"ConcurrencyHardMax": text}}, NUMBERS, oomd=False)
        assert found.status == status
