"""Numbers of properties, and their text for systemd and the kernel."""

import pytest

from cgroup_preflight.config.properties import BY_NAME
from cgroup_preflight.rollout.limits import (
    LIMITS,
    assignment,
    kernel_says,
    kernel_text,
    of_bus,
    on_bus,
    rises,
    shown,
    target_of,
)
from tests.unit.core.making import settings_of
from tests.unit.engines.machine import NUMBERS


def test_each_is_a_property_with_the_same_file():
    for name, limit in LIMITS.items():
        assert BY_NAME[name].attribute == limit.attribute


@pytest.mark.parametrize("value", [None, 1, 10_000, 1 << 40])
def test_the_bus_has_a_number_for_no_limit(value):
    assert of_bus(str(on_bus(value))) == value
    assert of_bus("infinity") is None


@pytest.mark.parametrize(
    ("name", "value", "word", "kernel"),
    [
        ("CPUQuota", 1_500_000, "CPUQuota=150%", "150000 100000"),
        ("CPUQuota", None, "CPUQuota=", "max 100000"),
        ("CPUQuota", 10_000, "CPUQuota=1%", "1000 100000"),
        ("MemoryMax", 64 << 20, "MemoryMax=67108864", "67108864"),
        ("MemoryMax", 4097, "MemoryMax=4097", "4096"),
        ("MemoryHigh", None, "MemoryHigh=infinity", "max"),
        ("CPUWeight", None, "CPUWeight=", "100"),
        ("IOWeight", 200, "IOWeight=200", "200"),
        ("TasksMax", 33, "TasksMax=33", "33"),
    ],
)
def test_words_for_systemd_and_the_kernel(name, value, word, kernel):
    assert assignment(name, value) == word
    assert kernel_text(name, value, page=4096) == kernel
    assert kernel_says(name, kernel, kernel + "\n")
    assert not kernel_says(name, kernel, "7")


def test_an_io_weight_is_the_default_line():
    assert kernel_says("IOWeight", "200", "default 200\n8:0 300\n")
    assert not kernel_says("IOWeight", "200", "default 100\n")


def test_a_period_changes_the_text():
    assert kernel_text("CPUQuota", 500_000, page=4096, period=10_000) == "5000 10000"


def test_targets_of_the_config():
    (half,) = settings_of(MemoryMax="50%")
    assert target_of(half, NUMBERS) == 2 << 30
    (odd,) = settings_of(CPUQuota="12.5%")
    with pytest.raises(ValueError, match="whole percents"):
        target_of(odd, NUMBERS)
    (cpus,) = settings_of(AllowedCPUs="0-1")
    with pytest.raises(ValueError, match="cannot change AllowedCPUs"):
        target_of(cpus, NUMBERS)
    (idle,) = settings_of(CPUWeight="idle")
    with pytest.raises(ValueError, match="cannot change"):
        target_of(idle, NUMBERS)


def test_rising_and_what_people_read():
    assert rises(1, 2)
    assert rises(1, None)
    assert not rises(None, None)
    assert not rises(None, 5)
    assert shown("CPUQuota", 1_500_000) == "150%"
    assert shown("MemoryMax", None) == "no limit"


def test_an_old_quota_that_is_no_whole_percent_stays_as_it_is():
    for text, value in (("12.5%", 125_000), ("0.01%", 100), ("10%", 100_000), ("10.05%", 100_500), ("150%", 1_500_000)):
        assert assignment("CPUQuota", value) == f"CPUQuota={text}"
        assert shown("CPUQuota", value) == text
