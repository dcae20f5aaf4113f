"""The one table of properties."""

import pytest

from cgroup_preflight.config.model import CONTROLLERS
from cgroup_preflight.config.properties import BOTH, BY_NAME, FOLDERS, PROPERTIES, SERVICE, SLICE, Role
from cgroup_preflight.core.quantities import INFINITY, QuantityError, Size

FROM_THE_ISSUE = [
    "MemoryMin",
    "MemoryLow",
    "MemoryHigh",
    "MemoryMax",
    "MemorySwapMax",
    "MemoryZSwapMax",
    "CPUWeight",
    "CPUQuota",
    "CPUQuotaPeriodSec",
    "AllowedCPUs",
    "IOWeight",
    "TasksMax",
    "ManagedOOMMemoryPressure",
    "ManagedOOMMemoryPressureLimit",
    "ManagedOOMSwap",
    "MemoryZSwapWriteback",
    "AllowedMemoryNodes",
    "IOReadBandwidthMax",
    "IOWriteBandwidthMax",
    "IOReadIOPSMax",
    "IOWriteIOPSMax",
    "OOMPolicy",
    "StartupCPUWeight",
    "StartupIOWeight",
    "StartupAllowedCPUs",
    "StartupAllowedMemoryNodes",
    "StartupMemoryLow",
    "StartupMemoryHigh",
    "StartupMemoryMax",
    "StartupMemorySwapMax",
    "StartupMemoryZSwapMax",
    "ConcurrencyHardMax",
    "ConcurrencySoftMax",
    "Type",
    "User",
    "Group",
    "WorkingDirectory",
    "EnvironmentFile",
    *FOLDERS,
    "AmbientCapabilities",
    "LimitNOFILE",
    "SuccessExitStatus",
]


def test_every_property_of_the_issue_is_there_once():
    assert sorted(item.name for item in PROPERTIES) == sorted(FROM_THE_ISSUE)
    assert set(BY_NAME) == set(FROM_THE_ISSUE)


@pytest.mark.parametrize("item", PROPERTIES, ids=lambda item: item.name)
def test_each_row_is_complete(item):
    item.parse(item.example)
    assert item.doc.endswith(".")
    assert item.controller in (*CONTROLLERS, "")
    assert 200 < item.since < 300
    assert item.kind in ("quantity", "switch", "lines")
    assert all(since > item.since and item.parse(word) == word for word, since in item.later)
    if item.attribute:
        assert item.attribute.startswith(
            {"memory": "memory.", "cpu": "cpu.", "cpuset": "cpuset.", "io": "io.", "pids": "pids."}[item.controller]
        )
    else:
        assert item.role in (Role.PARAMETER, Role.POLICY, Role.START)
    # What has no controller is of the program, or of systemd alone.
    assert bool(item.controller) is (item.sections == BOTH or item.name == "OOMPolicy")


def test_sections_that_systemd_has_a_property_in():
    assert {item.name for item in PROPERTIES if item.sections == SLICE} == {"ConcurrencyHardMax", "ConcurrencySoftMax"}
    assert {item.name for item in PROPERTIES if item.sections == SERVICE} == {
        *(item.name for item in PROPERTIES if item.role is Role.START), "OOMPolicy",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "since"),
    [
        ("MemoryMin", 240),
        ("MemoryMax", 231),
        ("MemorySwapMax", 232),
        ("MemoryZSwapMax", 253),
        ("CPUWeight", 232),
        ("CPUQuota", 213),
        ("CPUQuotaPeriodSec", 242),
        ("AllowedCPUs", 244),
        ("IOWeight", 230),
        ("TasksMax", 227),
        ("ManagedOOMMemoryPressure", 247),
        ("ManagedOOMMemoryPressureLimit", 248),
        ("MemoryZSwapWriteback", 256),
        ("OOMPolicy", 243),
        ("AllowedMemoryNodes", 244),
        ("StartupAllowedCPUs", 250),
        ("ConcurrencyHardMax", 258),
        ("StateDirectory", 235),
        ("IOReadBandwidthMax", 230),
    ],
)
def test_first_systemd_with_each(name, since):
    assert BY_NAME[name].since == since


@pytest.mark.parametrize(
    ("name", "zero"),
    [
        ("MemoryMin", True),
        ("MemoryLow", True),
        ("MemoryHigh", False),
        ("MemoryMax", False),
        ("MemorySwapMax", True),
        ("MemoryZSwapMax", True),
    ],
)
def test_zero_is_a_value_only_where_systemd_takes_it(name, zero):
    if zero:
        assert BY_NAME[name].parse("0") == Size(0)
    else:
        with pytest.raises(QuantityError, match="zero"):
            BY_NAME[name].parse("0")


@pytest.mark.parametrize(
    "name",
    [
        item.name
        for item in PROPERTIES
        if item.shape.get("pattern") in (BY_NAME["MemoryMax"].shape["pattern"], BY_NAME["TasksMax"].shape["pattern"])
    ],
)
def test_infinity_is_a_value_of_every_amount(name):
    assert BY_NAME[name].parse("infinity") is INFINITY


def test_words():
    assert BY_NAME["CPUWeight"].parse("idle") == "idle"
    assert BY_NAME["ManagedOOMMemoryPressure"].parse("kill") == "kill"
    for name, text in (("IOWeight", "idle"), ("ManagedOOMMemoryPressure", "Kill"), ("CPUQuota", "infinity")):
        with pytest.raises(QuantityError):
            BY_NAME[name].parse(text)
