"""What the plan alone shows, each both ways: the plan that works, and the one that does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.checks.plan import plan_findings
from cgroup_preflight.config.model import Setting
from cgroup_preflight.config.properties import BY_NAME
from cgroup_preflight.config.rules import UNCOUNTED
from cgroup_preflight.core.quantities import PIDS_MAX
from cgroup_preflight.core.records import replace
from cgroup_preflight.core.report import Status
from cgroup_preflight.core.verdict import verdict_of
from cgroup_preflight.plan.build import build_plan
from cgroup_preflight.plan.expect import HostNumbers
from tests.unit.core.making import config_of

SMALL = HostNumbers(page_size=4096, memory_bytes=512 << 20, tasks_max=900)
LARGE = HostNumbers(page_size=4096, memory_bytes=64 << 30, tasks_max=PIDS_MAX)
TINY = "[smoke]\nallow_tiny_limits = true\n"


def found(text, host=None, *, tiny=False):
    """(code, status, line) of each finding that is no pass."""
    return [
        (item.code, item.status, item.location.line)
        for item in plan_findings(build_plan(config_of(text)), host, tiny=tiny)
        if item.status is not Status.PASS
    ]


def messages(text, host=None):
    findings = plan_findings(build_plan(config_of(text)), host)
    return [item.message for item in findings if item.status is not Status.PASS]


def nested(above, below):
    """A service with `below` in a slice with `above`."""
    return f"[slices.a]\n{above}\n[services.x]\nbinary = 'x'\nslice = 'a'\n{below}\n"


WARNED = [("CGP212", Status.WARN, 6)]


@pytest.mark.parametrize(
    ("above", "fits", "exceeds"),
    [
        ("MemoryMax = '1G'", "MemoryMax = '1G'", "MemoryMax = '1025M'"),
        ("MemoryMax = '1G'", "MemoryHigh = '900M'", "MemoryHigh = '2G'"),
        ("MemoryHigh = '1G'", "MemoryHigh = '1G'", "MemoryHigh = '1025M'"),
        ("MemorySwapMax = 0", "MemorySwapMax = 0", "MemorySwapMax = '1M'"),
        ("MemoryZSwapMax = '1M'", "MemoryZSwapMax = '1M'", "MemoryZSwapMax = '2M'"),
        ("TasksMax = 64", "TasksMax = 64", "TasksMax = 65"),
        ("CPUQuota = '50%'", "CPUQuota = '50%'", "CPUQuota = '50.01%'"),
        ("AllowedCPUs = '0-2'", "AllowedCPUs = '1 2'", "AllowedCPUs = '2-3'"),
        ("MemoryMax = '10%'", "MemoryMax = '10%'", "MemoryMax = '11%'"),
        ("TasksMax = '10%'", "TasksMax = '10%'", "TasksMax = '11%'"),
        ("MemoryMin = '64M'", "MemoryMin = '64M'", "MemoryMin = '65M'"),
        ("MemoryMax = '1G'", "MemoryLow = 0", "MemoryLow = '2G'"),
        ("MemoryMax = '1G'", "MemoryMax = 'infinity'", "MemoryMax = '2G'"),
        ("TasksMax = 64", "TasksMax = 'infinity'", "TasksMax = 100"),
        ("MemoryMax = 'infinity'", "MemoryMax = '2G'", None),
    ],
)
def test_a_limit_above_that_of_its_slice(above, fits, exceeds):
    assert found(nested(above, fits)) == []
    if exceeds:
        assert found(nested(above, exceeds)) == WARNED
        assert found(nested("", exceeds).replace("[slices.a]", "[slices.a]\n[slices.b]"))[:1] in (
            [],
            [("CGP212", Status.WARN, 7)],
        )


def test_every_slice_above_counts_and_slices_are_judged_too():
    text = "[slices.a]\nMemoryMax = '1G'\n[slices.a-b]\nMemoryMax = '2G'\n[slices.a-b-c]\nTasksMax = 5\n"
    text += "[services.x]\nbinary = 'x'\nslice = 'a-b-c'\nMemoryMax = '1500M'\n"
    assert found(text) == [("CGP212", Status.WARN, 4), ("CGP212", Status.WARN, 10)]
    assert any("MemoryMax = 1G of a.slice" in message for message in messages(text)[1:])


@pytest.mark.parametrize("name", ["MemoryMin", "MemoryLow"])
def test_a_protection_needs_one_at_every_level(name):
    """cgroup-v2.rst: it is at most what the ancestors protect, and the default of each is 0."""
    assert found(nested(f"{name} = '64M'", f"{name} = '32M'")) == []
    assert found(nested("TasksMax = 9", f"{name} = '32M'")) == WARNED
    assert found(f"[slices.a]\n{name} = '64M'\n") == []
    assert found(f"[services.x]\nbinary = 'x'\n{name} = '32M'\n") == [("CGP212", Status.WARN, 3)]
    assert "system.slice" in messages(f"[services.x]\nbinary = 'x'\n{name} = '32M'\n")[0]
    assert found(f"[services.x]\nbinary = 'x'\n{name} = 0\n") == []


@pytest.mark.parametrize("name", ["CPUWeight", "IOWeight"])
def test_a_weight_without_siblings(name):
    alone = nested("TasksMax = 9", f"{name} = 50")
    assert found(alone) == [("CGP213", Status.WARN, 6)]
    assert found(f"{alone}[services.y]\nbinary = 'y'\nslice = 'a'\n") == []
    assert found(f"{alone}[slices.a-b]\nTasksMax = 3\n") == []
    assert found(f"{alone}[services.y]\nbinary = 'y'\n") == [("CGP213", Status.WARN, 6)]
    # Slices at the top and services without a slice have those of the system next to them.
    assert found(f"[slices.a]\n{name} = 50\n[services.x]\nbinary = 'x'\n{name} = 20\n") == []
    assert found(f"[slices.a-b]\n{name} = 50\n") == [("CGP213", Status.WARN, 2)]


def of_unit(name, text):
    """As `found`, for a service whose unit file, and not the config, has the setting. The loader judges the config's."""
    plan = build_plan(config_of("[services.x]\nbinary = 'x'\nCPUQuota = '50%'\n"))
    at = plan.services[0].location
    setting = Setting(property=name, text=text, value=BY_NAME[name].parse(text), location=at)
    service = replace(plan.services[0], unit_settings=(setting,))
    findings = plan_findings(replace(plan, services=(service,)))
    return [(item.code, item.status) for item in findings if item.status is not Status.PASS]


def test_more_tasks_than_the_kernel_takes():
    assert of_unit("TasksMax", str(PIDS_MAX)) == []
    assert of_unit("TasksMax", str(PIDS_MAX + 1)) == [("CGP214", Status.FAIL)]
    assert of_unit("TasksMax", "infinity") == []


@pytest.mark.parametrize("name", ["MemoryMax", "MemoryHigh"])
def test_more_memory_than_the_kernel_counts(name):
    assert of_unit(name, "7E") == []
    assert of_unit(name, str(UNCOUNTED - 1)) == []
    assert of_unit(name, str(UNCOUNTED)) == [("CGP214", Status.FAIL)]


def test_a_quota_that_the_kernel_raises():
    assert found("[slices.a]\nCPUQuota = '0.1%'\n") == []
    assert found("[slices.a]\nCPUQuota = '0.05%'\n") == [("CGP214", Status.WARN, 2)]
    assert "becomes 0.1%" in messages("[slices.a]\nCPUQuota = '0.05%'\n")[0]
    assert found("[slices.a]\nCPUQuota = '50%'\nCPUQuotaPeriodSec = '2ms'\n") == []
    assert found("[slices.a]\nCPUQuota = '50%'\nCPUQuotaPeriodSec = '1ms'\n") == [("CGP214", Status.WARN, 3)]
    assert "becomes 2000 us" in messages("[slices.a]\nCPUQuota = '50%'\nCPUQuotaPeriodSec = '1ms'\n")[0]


@given(st.integers(10, 100_000))
def test_no_quota_from_a_tenth_of_a_percent_on_is_raised(hundredths):
    assert found(f"[slices.a]\nCPUQuota = '{hundredths // 100}.{hundredths % 100:02d}%'\n") == []


@pytest.mark.parametrize("name", ["MemoryMax", "MemoryHigh"])
def test_a_percentage_that_is_too_little_memory(name):
    """Where no host is known, machines from 1G on are looked at."""
    assert found(f"[slices.a]\n{name} = '2%'\n") == []
    assert found(f"[slices.a]\n{name} = '1%'\n") == [("CGP215", Status.WARN, 2)]
    assert found(f"[slices.a]\n{name} = '1%'\n", SMALL) == [("CGP215", Status.FAIL, 2)]
    assert found(f"[slices.a]\n{name} = '1%'\n", LARGE) == []
    assert found(f"[slices.a]\n{name} = '1%'\n", SMALL, tiny=True) == []
    assert found("[slices.a]\nMemoryLow = '1%'\n", SMALL) == []


def test_a_percentage_that_is_no_task():
    text = "[slices.a]\nTasksMax = '{}'\n"
    assert found(text.format("0.1%")) == []
    assert found(text.format("0.05%")) == [("CGP215", Status.WARN, 2)]
    assert found(text.format("0.05%"), LARGE) == []
    assert found(text.format("0.1%"), SMALL) == [("CGP215", Status.FAIL, 2)]
    assert found(text.format("0.2%"), SMALL) == []


@pytest.mark.parametrize(
    ("above", "below", "says"),
    [
        ("MemoryMax = '2G'", "MemoryMax = '50%'", "with more than 4G of memory"),
        ("MemoryMax = '50%'", "MemoryMax = '2G'", "with less than 4G of memory"),
        ("TasksMax = 100", "TasksMax = '10%'", "that allows more than 1000 tasks"),
        ("TasksMax = '10%'", "TasksMax = 100", "that allows less than 1000 tasks"),
    ],
)
def test_a_percentage_is_a_share_of_the_machine_not_of_the_slice(above, below, says):
    text = nested(above, below)
    assert found(text) == [("CGP215", Status.WARN, 6)]
    assert says in messages(text)[0]
    hosts = {found(text, host)[0][0] if found(text, host) else "" for host in (SMALL, LARGE)}
    assert hosts == {"", "CGP212"}, "with a host there is one answer"


@pytest.mark.parametrize(
    ("low", "high", "says", "wrong"),
    [
        ("MemoryMin = '90%'", "MemoryMax = '1G'", "with more than 1.1G of memory", LARGE),
        ("MemoryLow = '1G'", "MemoryMax = '10%'", "with less than 10G of memory", SMALL),
        ("MemoryHigh = '50%'", "MemoryMax = '2G'", "with more than 4G of memory", LARGE),
        ("MemoryMin = '64M'", "MemoryHigh = '10%'", "with less than 640M of memory", SMALL),
    ],
)
def test_a_size_and_a_percentage_of_one_unit_in_the_wrong_order(low, high, says, wrong):
    """Two sizes, or two percentages, are a mistake of the config; of these two the machine decides."""
    text = f"[slices.a]\n{low}\n{high}\n"
    assert found(text) == [("CGP215", Status.WARN, 2)]
    assert says in messages(text)[0]
    assert found(text, wrong) == [("CGP215", Status.WARN, 2)]
    assert "on this host" in messages(text, wrong)[0]
    assert found(text, SMALL if wrong is LARGE else LARGE) == []


@pytest.mark.parametrize("low", ["0", "'infinity'"])
def test_nothing_and_everything_are_in_order_with_any_percentage(low):
    for host in (None, SMALL, LARGE):
        assert found(f"[slices.a]\nMemoryMin = {low}\nMemoryMax = '10%'\n", host) == []
        assert found(nested("MemorySwapMax = '10%'", "MemorySwapMax = 0"), host) == []


def test_a_share_just_below_the_least_says_by_how_much():
    (text,) = messages("[slices.a]\nMemoryMax = '3.12%'\n", SMALL)
    assert "is 16356K of this host's 512M, below 16M" in text


def test_passes_say_what_was_judged():
    findings = plan_findings(build_plan(config_of("[slices.a]\nMemoryMax = '1G'\n")))
    assert [(item.code, item.status) for item in findings] == [
        (code, Status.PASS) for code in ("CGP212", "CGP213", "CGP214", "CGP215")
    ]


def test_a_plan_without_a_setting_is_no_pass():
    (item,) = plan_findings(build_plan(config_of("[services.x]\nbinary = 'x'\n")))
    assert item.status is Status.SKIP
    assert verdict_of([item]) == "unverified"


def sharing(lines, services=3, below=""):
    """So many services in a slice with `lines`, or in one below it."""
    name = "a-b" if below else "a"
    slices = f"[slices.a]\n{lines}\n" + ("[slices.a-b]\n" if below else "")
    return slices + "".join(f"[services.x{number}]\nbinary = 'x'\nslice = '{name}'\n" for number in range(services))


@pytest.mark.parametrize("below", ["", "b"])
def test_more_services_than_a_slice_lets_be_active(below):
    hard, soft = ("CGP219", Status.FAIL, 2), ("CGP219", Status.WARN, 2)
    for lines, services, expected in (
        ("ConcurrencyHardMax = 2", 3, [hard]),
        ("ConcurrencyHardMax = 3", 3, []),
        ("ConcurrencyHardMax = 'infinity'", 3, []),
        ("ConcurrencySoftMax = 1", 2, [soft]),
        ("ConcurrencySoftMax = 2", 2, []),
    ):
        assert found(sharing(lines, services, below)) == expected, lines


def test_services_of_other_slices_do_not_count():
    text = sharing("ConcurrencyHardMax = 1", 1) + "[slices.z]\n[services.y]\nbinary = 'x'\nslice = 'z'\n"
    assert found(text) == []
