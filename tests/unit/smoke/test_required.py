"""A service without a limit is a fail, whatever else it has; and [require] limits can name more. Both ways."""

import pytest

from cgroup_preflight.config.load import load
from cgroup_preflight.config.model import Require
from cgroup_preflight.core.report import Status
from cgroup_preflight.plan.build import build_plan
from cgroup_preflight.smoke.required import required_findings
from tests.unit.smoke.fabricate import plan


def judged(own: str, above: str = "", require: tuple[str, ...] = (), cpus: int = 0):
    text = f'[slices.a]\n{above}\n[services.web]\nbinary = "x"\nslice = "a"\n{own}\n'
    return required_findings(plan(text), Require(limits=require), frozenset(range(cpus)))


@pytest.mark.parametrize(
    "own",
    [
        "", "CPUWeight = 50", 'MemoryMax = "infinity"', 'TasksMax = "infinity"', "MemorySwapMax = 0", 'MemoryLow = "32M"',
        'ManagedOOMMemoryPressure = "kill"', 'CPUQuotaPeriodSec = "10ms"',
    ],
)  # fmt: skip
def test_a_service_without_any_limit_is_a_fail(own):
    """Deleting all limits must not make a pull request greener."""
    (found,) = judged(own)
    assert (found.code, found.status, found.subject) == ("CGP501", Status.FAIL, "web")
    assert found.location.line == 3
    assert "slice above" in found.message
    assert "[services.web]" in found.remedies[0].title


@pytest.mark.parametrize("where", ["own", "above"])
@pytest.mark.parametrize("limit", ['MemoryHigh = "32M"', 'CPUQuota = "50%"', "TasksMax = 9", 'AllowedCPUs = "0"'])
def test_another_limit_leaves_a_warning_that_memory_is_not_limited(where, limit):
    (found,) = judged(**{"own": "", where: limit})
    assert found.status is Status.WARN
    assert found.message.startswith("MemoryMax is not set")


@pytest.mark.parametrize("where", ["own", "above"])
def test_a_memory_limit_at_the_service_or_above_is_enough(where):
    assert judged(**{"own": "", where: 'MemoryMax = "64M"'}) == ()


def test_the_limits_of_a_unit_count(tmp_path):
    (tmp_path / "web.service").write_text("[Service]\nExecStart=/usr/bin/web\nMemoryMax=64M\n")
    (tmp_path / "cgroup-preflight.toml").write_text('[project]\nname = "x"\n[services.web]\nunit = "./web.service"\n')
    made = build_plan(load(tmp_path / "cgroup-preflight.toml"))
    assert required_findings(made, Require(limits=("MemoryMax",))) == ()
    (found,) = required_findings(made, Require(limits=("TasksMax",)))
    assert found.status is Status.FAIL


def test_required_limits_that_no_level_sets_are_a_fail_with_service_and_line():
    (found,) = judged('MemoryMax = "64M"', require=("MemoryMax", "CPUQuota", "TasksMax"))
    assert (found.status, found.subject, found.location.line) == (Status.FAIL, "web", 3)
    assert "CPUQuota, TasksMax" in found.message
    assert "MemoryMax" not in found.message


def test_required_limits_may_be_spread_over_the_levels():
    assert judged('MemoryMax = "64M"', 'CPUQuota = "50%"', ("MemoryMax", "CPUQuota")) == ()
    (found,) = judged('MemoryMax = "64M"', 'CPUQuota = "50%"\nTasksMax = "infinity"', ("TasksMax",))
    assert found.status is Status.FAIL


def test_without_any_limit_what_is_required_is_told_too():
    assert [item.status for item in judged("", require=("CPUQuota",))] == [Status.FAIL, Status.FAIL]


def test_a_required_memory_limit_is_not_a_warning_too():
    (found,) = judged("TasksMax = 9", require=("MemoryMax",))
    assert found.status is Status.FAIL


@pytest.mark.parametrize(
    ("own", "above", "cpus", "limits"),
    [
        ("0-1", "", 2, False),
        ("0-3", "", 2, False),
        ("", "0-1", 2, False),
        ("0-1", "0-3", 2, False),
        ("0-1", "", 4, True),
        ("1", "", 2, True),
        ("1-2", "", 2, True),
        ("0-1", "0", 2, True),
        ("0", "0-1", 2, True),
        ("0-1", "", 0, True),
    ],
)
def test_a_list_of_every_cpu_is_no_limit(own, above, cpus, limits):
    """Where the CPUs of the machine are unknown, it counts."""
    lists = [f'AllowedCPUs = "{text}"' if text else "" for text in (own, above)]
    (found,) = judged(*lists, cpus=cpus)
    assert found.status is (Status.WARN if limits else Status.FAIL)
    assert ("leaves out no CPU" in found.message) is not limits
    assert [item.status for item in judged(f'{lists[0]}\nMemoryMax = "64M"', lists[1], cpus=cpus)] == []
    assert [item.status for item in judged(f"{lists[0]}\nTasksMax = 9", lists[1], cpus=cpus)] == [Status.WARN]
