"""Threads and memory in the cgroup of a service that its limits do not apply to."""

from dataclasses import replace

import pytest

from cgroup_preflight.core.report import Status
from cgroup_preflight.core.verdict import verdict_of
from cgroup_preflight.host.procfs import parse_huge_pages, parse_policy
from cgroup_preflight.smoke.evidence import Unlimited
from cgroup_preflight.smoke.findings import service_findings
from cgroup_preflight.smoke.unlimited import unlimited
from tests.unit.engines.machine import Machine
from tests.unit.smoke import fabricate as fake

MIB = 1 << 20


def stat(policy: int) -> str:
    return f"7 (a) b) S {' '.join('0' * 37)} {policy} 0 0\n"


@pytest.mark.parametrize(
    ("policies", "name"),
    [([0, 0], ""), ([0, 1], "SCHED_FIFO"), ([2], "SCHED_RR"), ([6], "SCHED_DEADLINE"), ([3, 5, 7], "")],
)
def test_any_real_time_thread_is_found_and_other_policies_are_none(policies, name):
    machine = Machine()
    pid = machine.spawn("web", "/a").pid
    machine.folders_of[f"/proc/{pid}/task"] = tuple(str(pid + number) for number in range(len(policies)))
    for number, policy in enumerate(policies):
        machine.files[f"/proc/{pid}/task/{pid + number}/stat"] = stat(policy)
    found = unlimited(machine, [pid, pid + 1000])
    assert (name in found.thread, bool(found.thread), found.huge_bytes) == (True, bool(name), 0)


def test_huge_pages_are_those_of_the_process_that_has_most():
    machine = Machine()
    pids = [machine.spawn("postgres", "/a").pid for _ in range(3)]
    for pid, kilobytes in zip(pids, (0, 4096, 2048), strict=True):
        machine.files[f"/proc/{pid}/status"] = f"Name:\tx\nHugetlbPages:\t{kilobytes:>8} kB\n"
    assert unlimited(machine, pids) == Unlimited(huge_bytes=4 * MIB)


@pytest.mark.parametrize("text", ["", "1 (a) S 0", stat(0).replace(" 0 0 0\n", " x 0 0\n")])
def test_a_malformed_stat_has_no_policy(text):
    with pytest.raises(ValueError):
        parse_policy(text)


def test_a_kernel_without_huge_pages_has_none_and_a_malformed_size_is_none():
    assert parse_huge_pages("Name:\tx\n") == 0
    with pytest.raises(ValueError):
        parse_huge_pages("HugetlbPages:\t12 MB\n")


@pytest.mark.parametrize(
    ("found", "text", "status"),
    [
        (Unlimited(), fake.TEXT, Status.PASS),
        (Unlimited(thread="thread 7 of process 7 has SCHED_FIFO"), fake.TEXT, Status.FAIL),
        (Unlimited(thread="thread 7 of process 7 has SCHED_FIFO"), fake.TEXT.replace('CPUQuota = "50%"', ""), Status.PASS),
        (Unlimited(huge_bytes=65 * MIB), fake.TEXT, Status.FAIL),
        (Unlimited(huge_bytes=32 * MIB), fake.TEXT, Status.WARN),
        (Unlimited(huge_bytes=64 * MIB), fake.TEXT, Status.WARN),
        (Unlimited(huge_bytes=20 * MIB), fake.TEXT, Status.PASS),
    ],
)  # fmt: skip
def test_a_limit_that_does_not_apply_is_never_in_force(found, text, status):
    seen = fake.evidence(text, stay=replace(fake.stay(), unlimited=found))
    told = [item for item in service_findings(seen, required=(), swap=False) if item.code == "CGP501"]
    assert told[0].status is status
    assert (str(verdict_of(told)) == "fail") is (status is Status.FAIL)
