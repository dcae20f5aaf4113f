"""The chain of limits of a plan: numbers, where each comes from, which is the tightest, and what a host adds."""

import pytest

from cgroup_preflight.core.limits import Chain, Level
from cgroup_preflight.plan.build import build_plan, scoped
from cgroup_preflight.plan.demand import Demand, demand
from cgroup_preflight.plan.expect import HostNumbers, expectations
from cgroup_preflight.plan.limits import chain_above, level_of, service_chain
from cgroup_preflight.plan.model import Plan
from tests.unit.core.making import config_of, settings_of

HOST = HostNumbers(page_size=4096, memory_bytes=1 << 30, tasks_max=32768)
TEXT = """\
[slices.api]
MemoryMax = "50%"
TasksMax = "10%"
[slices.api-batch]
CPUQuota = "50%"
CPUQuotaPeriodSec = "10ms"
MemorySwapMax = "64M"
[slices.other]
[services.a]
binary = "a"
slice = "api-batch"
CPUQuota = "150%"
MemoryMax = "256M"
MemoryHigh = "128M"
[services.b]
binary = "b"
slice = "api"
[services.free]
binary = "c"
AllowedCPUs = "0-1"
"""


def plan_of(text: str = TEXT) -> Plan:
    return build_plan(config_of(text))


def by_label(plan: Plan, label: str) -> Chain:
    (service,) = [item for item in plan.services if item.label == label]
    return service_chain(plan, service, HOST)


def test_the_service_comes_first_and_the_outermost_slice_last() -> None:
    for plan, more in ((plan_of(), ()), (scoped(plan_of(), "cgpf1"), ("run.slice",))):
        names = {item.label: [level.name for level in by_label(plan, item.label).levels] for item in plan.services}
        assert names == {
            "a": ["a.service", "api-batch.slice", "api.slice", *more],
            "b": ["b.service", "api.slice", *more],
            "free": ["free.service", *more],
        }
        assert [level.services for level in by_label(plan, "a").levels] == [1, 1, 2, *(3 for _ in more)]


def test_the_tightest_limit_and_its_level() -> None:
    chain = by_label(plan_of(), "a")
    for (value, level), wanted, name in (
        (chain.cpus(), 0.5, "api-batch.slice"),
        (chain.memory_max(), 256 << 20, "a.service"),
        (chain.memory_high(), 128 << 20, "a.service"),
        (chain.swap_max(), 64 << 20, "api-batch.slice"),
        (chain.tasks(), 3276, "api.slice"),
    ):
        assert (value, level and level.name) == (wanted, name)
    assert chain.memory() == (128 << 20, chain.leaf, "MemoryHigh")
    assert chain.levels[1].period_usec == 10_000
    assert chain.leaf.period_usec == 100_000
    assert chain.leaf.at["CPUQuota"].line == 12
    assert by_label(plan_of(), "free").leaf.allowed_cpus == {0, 1}


def test_a_percentage_is_a_limit_only_with_a_host() -> None:
    plan = plan_of()
    service = plan.services[1]
    with_host, without = service_chain(plan, service, HOST), service_chain(plan, service)
    assert (with_host.memory_max()[0], with_host.tasks()[0]) == (512 << 20, 3276)
    assert (without.memory_max(), without.tasks()) == ((None, None), (None, None))
    # What is set is known all the same, with its line.
    assert without.levels[1].at["MemoryMax"].line == 2


@pytest.mark.parametrize("host", [HOST, None])
def test_no_limit_is_none(host: HostNumbers | None) -> None:
    text = {"MemoryMax": "infinity", "TasksMax": "infinity"}
    level = level_of("x", settings_of(**text), host)
    assert (level.memory_max, level.tasks_max, level.cpus, level.has_cpu_max) == (None, None, None, False)
    assert level_of("x", (), host) == Level(name="x")
    assert level_of("x", settings_of(CPUWeight="idle"), host).has_cpu_max


def test_a_level_has_the_numbers_that_the_kernel_is_expected_to_have() -> None:
    settings = settings_of(MemoryMax="33%", MemoryHigh="16777217", MemorySwapMax="10%", TasksMax="33%", CPUQuota="0.3%")
    level = level_of("x", settings, HOST)
    numbers = {item.attribute: item.number for item in expectations(settings, HOST)}
    assert numbers == {
        "memory.max": level.memory_max, "memory.high": level.memory_high, "memory.swap.max": level.swap_max,
        "pids.max": level.tasks_max, "cpu.max": level.cpus,
    }  # fmt: skip


def test_the_slices_above_a_slice() -> None:
    plan = scoped(plan_of("[slices.a]\n[slices.a-b-c]\n[slices.ab]\n"), "cgpf1")
    above = {item.name: [level.name for level in chain_above(plan, item).levels] for item in plan.slices}
    assert above == {
        "run.slice": [],
        "a.slice": ["run.slice"],
        "a-b.slice": ["a.slice", "run.slice"],
        "a-b-c.slice": ["a-b.slice", "a.slice", "run.slice"],
        "ab.slice": ["run.slice"],
    }


def test_the_demand_of_a_plan() -> None:
    text = """\
[slices.s]
MemoryMin = "100M"
TasksMax = 9999
[slices.s-t]
MemoryMin = "90M"
[slices.u]
MemoryMin = "30M"
[services.a]
binary = "a"
CPUQuota = "150%"
MemoryMax = "256M"
TasksMax = 64
MemoryLow = "10M"
[services.b]
binary = "b"
CPUQuota = "50%"
MemoryMax = "50%"
TasksMax = 100
MemoryLow = "20M"
MemoryMin = "5M"
"""
    # A slice in a slice guarantees a part of what the outer one does; percentages are no single limits; slices are apart.
    assert demand(plan_of(text)) == Demand(
        memory_bytes=256 << 20, cpus=1.5, tasks=100, guaranteed_bytes=130 << 20, slice_tasks=9999
    )  # fmt: skip
    services = text[text.index("[services.a]") :]
    assert demand(plan_of(services)).guaranteed_bytes == 30 << 20
    assert demand(plan_of("[services.a]\nbinary = 'a'\n")) == demand(None)
    assert demand(None) == Demand(memory_bytes=0, cpus=0.0, tasks=0, guaranteed_bytes=0)


def test_a_generated_quota_is_no_demand_of_its_own() -> None:
    """A Go service that gets the quota of its slice again does not need so many CPUs itself."""
    from tests.unit.plan.test_go_settings import program

    config = config_of('[slices.s]\nCPUQuota = "300%"\n[services.app]\nbinary = "bin"\nslice = "s"\n')
    plan = build_plan(config, programs={"app": program()})
    assert [item.property for item in plan.services[0].settings] == ["CPUQuota"]
    assert demand(plan).cpus == 0.0
    assert [item.location.line for item in plan.settings] == [2]
