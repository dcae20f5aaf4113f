"""What each cgroup file must hold: examples from systemd's source and the kernel's documentation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.config.model import Setting
from cgroup_preflight.core.quantities import Permyriad, Size
from cgroup_preflight.core.records import replace
from cgroup_preflight.core.report import Location
from cgroup_preflight.plan.expect import HostNumbers, agrees, expectations, memory_bytes, quota_usec
from tests.unit.core.making import config_of, settings_of

HOST = HostNumbers(page_size=4096, memory_bytes=503_644_160, tasks_max=32768)
BIG_PAGES = HostNumbers(page_size=65536, memory_bytes=8 << 30, tasks_max=4194304)


def expected(host=HOST, **texts):
    """Attribute to text, for settings as the config spells them."""
    return {item.attribute: item.text for item in expectations(settings_of(**texts), host)}


@pytest.mark.parametrize(
    ("quota", "period", "text"),
    [
        ("50%", None, "50000 100000"),
        ("150%", None, "150000 100000"),
        ("100%", None, "100000 100000"),
        ("1%", None, "1000 100000"),
        # Below 1 ms of quota the period grows instead, up to one second (cgroup_cpu_adjust_period).
        ("0.5%", None, "1000 200000"),
        ("0.25%", None, "1000 400000"),
        ("0.1%", None, "1000 1000000"),
        ("0.01%", None, "1000 1000000"),
        ("0.05%", None, "1000 1000000"),
        ("50%", 10_000, "5000 10000"),
        ("200%", 1_000_000, "2000000 1000000"),
        ("10%", 1_000, "1000 10000"),
        ("100%", 1_000, "1000 1000"),
        ("33.33%", None, "33330 100000"),
        ("12800%", None, "12800000 100000"),
        ("0.3%", None, "1000 333333"),
    ],
)
def test_cpu_max(quota, period, text):
    settings = {"CPUQuota": quota} | ({"CPUQuotaPeriodSec": f"{period}us"} if period else {})
    (item,) = expectations(settings_of(**settings), HOST)
    assert (item.attribute, item.text) == ("cpu.max", text)
    granted, length = map(int, text.split())
    assert (item.number, item.period_usec) == (granted / length, length)


def _setting(name, value):
    return Setting(property=name, text="", value=value, location=Location(file="c.toml", line=1))


@given(st.integers(1, 1_000_000), st.one_of(st.none(), st.integers(1000, 1_000_000)))
def test_cpu_max_keeps_the_share(value, period):
    settings = [_setting("CPUQuota", Permyriad(value))] + ([_setting("CPUQuotaPeriodSec", period)] if period else [])
    quota, used = quota_usec({item.property: item for item in settings})
    assert 1000 <= used <= 1_000_000
    assert quota >= 1000
    assert used >= (period or 100_000)
    if value >= 10:
        assert abs(quota - value * used / 10000) <= 1
    else:
        assert (quota, used) == (1000, 1_000_000), "0.1 % is the floor"


def test_the_period_is_part_of_the_quota_and_has_no_file():
    assert expected(CPUQuota="50%", CPUQuotaPeriodSec="10ms") == {"cpu.max": "5000 10000"}
    assert expected(CPUQuotaPeriodSec="10ms") == {}
    assert expected(ManagedOOMMemoryPressure="kill") == {}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("512M", "536870912"),
        ("infinity", "max"),
        ("16777217", "16777216"),
        ("16781311", "16777216"),
        ("16781312", "16781312"),
        ("7E", "8070450532247928832"),
    ],
)
def test_memory_is_rounded_down_to_whole_pages(text, value):
    assert expected(MemoryMax=text) == {"memory.max": value}


def test_memory_on_large_pages():
    assert expected(BIG_PAGES, MemoryMax="16842751") == {"memory.max": "16777216"}
    assert expected(BIG_PAGES, MemoryHigh="50%") == {"memory.high": str(4 << 30)}


@pytest.mark.parametrize(
    ("text", "value"),
    [("100%", 503644160), ("50%", 251822080), ("10%", 50364416), ("33.33%", 167862272), ("0.01%", 49152)],
)
def test_percent_is_of_physical_memory_in_whole_pages(text, value):
    """122960 pages here; systemd `physical_memory_scale`."""
    assert expected(MemoryLow=text) == {"memory.low": str(value)}
    assert value % 4096 == 0


@given(st.integers(0, (1 << 63) - 1))
def test_memory_is_what_the_kernel_prints(count):
    number = memory_bytes(Size(count), HOST)
    if number is None:
        assert count >= ((1 << 63) - 1) // 4096 * 4096
    else:
        assert number % 4096 == 0
        assert 0 <= count - number < 4096
    assert memory_bytes(Size(count), None) == count


def test_zero_stays_zero():
    assert expected(MemorySwapMax="0", MemoryZSwapMax="0", MemoryMin="0") == {
        "memory.swap.max": "0",
        "memory.zswap.max": "0",
        "memory.min": "0",
    }


@pytest.mark.parametrize(
    ("text", "value"), [("64", "64"), ("infinity", "max"), ("10%", "3276"), ("100%", "32768"), ("0.03%", "9")]
)
def test_tasks(text, value):
    assert expected(TasksMax=text) == {"pids.max": value}


def test_shares_and_places():
    assert expected(CPUWeight="80", IOWeight="60") == {"cpu.weight": "80", "io.weight": "60"}
    assert expected(CPUWeight="idle") == {"cpu.idle": "1"}
    assert expected(AllowedCPUs="3, 0-1 2") == {"cpuset.cpus": "0-3", "cpuset.cpus.effective": "0-3"}


def test_an_expectation_knows_its_property_and_line():
    (item,) = expectations(settings_of(MemoryMax="1G"), HOST)
    assert item.property.name == "MemoryMax"
    assert item.location.file == "c.toml"
    assert item.location.line > 1


def _agrees(name, text, actual):
    item, *_ = expectations(settings_of(**{name: text}), HOST)
    return agrees(item, actual)


@pytest.mark.parametrize(
    ("name", "text", "actual", "same"),
    [
        ("MemoryMax", "512M", "536870912\n", True),
        ("MemoryMax", "512M", "536870911\n", False),
        ("MemoryMax", "512M", "max\n", False),
        ("MemoryMax", "512M", "", False),
        ("MemoryMax", "infinity", "max\n", True),
        ("MemoryMax", "infinity", "-1\n", False),
        ("MemoryMax", "512M", "512M", False),
        ("CPUQuota", "50%", "50000 100000\n", True),
        ("CPUQuota", "50%", "max 100000\n", False),
        ("CPUQuota", "50%", "5000 10000\n", False),
        ("TasksMax", "64", "64\n", True),
        ("CPUWeight", "80", "80\n", True),
        ("CPUWeight", "idle", "1\n", True),
        ("CPUWeight", "idle", "0\n", False),
        # io.weight: the first line is the default, the others are devices (cgroup-v2.rst).
        ("IOWeight", "60", "default 60\n", True),
        ("IOWeight", "60", "default 60\n8:16 200\n", True),
        ("IOWeight", "60", "default 100\n8:16 60\n", False),
        ("IOWeight", "60", "60\n", False),
        ("IOWeight", "60", "", False),
        ("IOWeight", "60", "default 600\n", False),
        # cpuset.cpus: the same set, however it is spelled.
        ("AllowedCPUs", "0-3", "0-3\n", True),
        ("AllowedCPUs", "0-3", "0,1,2,3\n", True),
        ("AllowedCPUs", "0,2", "0-2\n", False),
        ("AllowedCPUs", "0", "\n", False),
        ("AllowedCPUs", "0", "junk\n", False),
    ],
)
def test_agrees(name, text, actual, same):
    assert _agrees(name, text, actual) is same


@given(st.sampled_from(["MemoryMax", "CPUQuota", "IOWeight", "AllowedCPUs", "TasksMax"]), st.text(max_size=30))
def test_any_text_of_a_kernel_is_compared_without_error(name, actual):
    example = {"MemoryMax": "512M", "CPUQuota": "50%", "IOWeight": "60", "AllowedCPUs": "0-3", "TasksMax": "64"}[name]
    assert _agrees(name, example, actual) in (True, False)


@pytest.mark.parametrize(
    ("asked", "granted", "ok"),
    [
        ("0-3", "0-3", True),
        ("0-3", "0-1", True),  # a machine with two CPUs cannot grant more
        ("2-3", "0-1", False),  # the slice above has none of them, so the kernel takes the slice's
        ("2-3", "0-3", False),
        ("2-3", "", False),
    ],
)
def test_cpus_that_are_asked_for_are_not_yet_granted(asked, granted, ok):
    (request, in_force) = expectations(settings_of(AllowedCPUs=asked), HOST)
    assert agrees(request, asked + "\n")
    assert not agrees(request, "")
    assert agrees(in_force, granted + "\n") is ok


_DEVICES = replace(HOST, devices={"/dev/sda": "8:0", "/var": "259:1"})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("IOReadBandwidthMax = '/dev/sda 5M'", [("io.max", "8:0 rbps=5000000")]),
        ("IOWriteBandwidthMax = '/var 1.5K'", [("io.max", "259:1 wbps=1500")]),
        ("IOReadIOPSMax = ['/dev/sda 1K', '/var 7']", [("io.max", "8:0 riops=1000"), ("io.max", "259:1 riops=7")]),
        ("IOWriteIOPSMax = '/dev/sda infinity'", [("io.max", "8:0 wiops=max")]),
        ("IOWriteIOPSMax = '/dev/absent 9'", [("io.max", "/dev/absent wiops=9")]),
        ("AllowedMemoryNodes = '0,1'", [("cpuset.mems", "0-1"), ("cpuset.mems.effective", "0-1")]),
        ("MemoryZSwapWriteback = false", [("memory.zswap.writeback", "0")]),
        ("MemoryZSwapWriteback = 'on'", [("memory.zswap.writeback", "1")]),
        ("OOMPolicy = 'kill'", [("memory.oom.group", "1")]),
        ("OOMPolicy = 'stop'", [("memory.oom.group", "0")]),
        ("OOMPolicy = 'continue'", [("memory.oom.group", "0")]),
        ("StartupMemoryMax = '64M'\nStartupCPUWeight = 'idle'\nStartupAllowedCPUs = 0", []),
        ("User = 'shop'\nType = 'idle'\nEnvironmentFile = '/etc/x'\nLimitNOFILE = 9", []),
    ],
)
def test_files_of_the_other_properties(line, expected):
    (service,) = config_of(f"[services.a]\nbinary = 'x'\n{line}\n").services
    found = expectations(service.settings, _DEVICES)
    assert [(item.attribute, item.text) for item in found] == expected


def test_memory_nodes_that_the_machine_lacks_are_left_out_of_what_is_in_force():
    request, in_force = expectations(settings_of(AllowedMemoryNodes="0-1"), HOST)
    assert not agrees(request, "0")
    assert agrees(in_force, "0")
    assert not agrees(in_force, "0-2")
