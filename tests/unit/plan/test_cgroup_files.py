"""The files of a cgroup are those that the proof reads again, with the same text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.core.quantities import QuantityError
from cgroup_preflight.plan.cgroup_files import attributes, pairs_of, unsupported
from cgroup_preflight.plan.expect import HostNumbers, expectations
from cgroup_preflight.plan.unit_syntax import setting_pairs
from tests.unit.core.making import settings_of

HOST = HostNumbers(page_size=4096, memory_bytes=1 << 30, tasks_max=1000, devices={"/dev/sda": "8:0"})


def written(*pairs):
    return [(item.file, item.text) for item in attributes(pairs, HOST)]


@pytest.mark.parametrize(
    ("pairs", "files"),
    [
        ([("MemoryMax", "96M")], [("memory.max", "100663296")]),
        ([("MemoryMax", "5000B")], [("memory.max", "4096")]),
        ([("MemoryHigh", "infinity")], [("memory.high", "max")]),
        ([("CPUQuota", "50%")], [("cpu.max", "50000 100000")]),
        ([("CPUQuota", "50%"), ("CPUQuotaPeriodSec", "10ms")], [("cpu.max", "5000 10000")]),
        ([("TasksMax", "10%")], [("pids.max", "100")]),
        ([("CPUWeight", "idle")], [("cpu.idle", "1")]),
        ([("AllowedCPUs", "0-1 3")], [("cpuset.cpus", "0-1,3")]),
        ([("OOMPolicy", "kill")], [("memory.oom.group", "1")]),
        ([("OOMPolicy", "continue")], []),
        ([("MemoryMax", "1G"), ("MemoryMax", "2M")], [("memory.max", "2097152")]),
        ([("IOReadBandwidthMax", "/dev/sda 5M"), ("IOReadBandwidthMax", "/dev/sdb 1M")],
         [("io.max", "8:0 rbps=5000000"), ("io.max", "/dev/sdb rbps=1000000")]),
        ([("ProtectSystem", "strict"), ("ManagedOOMSwap", "kill")], []),
    ],
)  # fmt: skip
def test_settings_become_writes(pairs, files):
    assert written(*pairs) == files


def test_a_broken_text_is_refused():
    with pytest.raises(QuantityError):
        written(("MemoryMax", "much"))


def test_the_text_of_a_unit_file_has_the_settings():
    text = "# x\n[Unit]\nDescription=MemoryMax=1\n[Slice]\nMemoryMax=1G\nCPUWeight=20\n"
    assert pairs_of(text) == (("MemoryMax", "1G"), ("CPUWeight", "20"))


@pytest.mark.parametrize(
    ("pairs", "found"),
    [
        ([("Type", "exec"), ("LimitNOFILE", "9"), ("WorkingDirectory", "/")], ()),
        ([("Type", "notify")], ("Type=notify",)),
        ([("User", "shop"), ("MemoryMax", "1G")], ("User=shop",)),
        ([("StateDirectory", "x"), ("AmbientCapabilities", "CAP_CHOWN")],
         ("StateDirectory=x", "AmbientCapabilities=CAP_CHOWN")),
    ],
)  # fmt: skip
def test_what_only_a_manager_can_give_is_named(pairs, found):
    assert unsupported(pairs) == found


@given(st.integers(1, 1 << 40), st.integers(1, 5000), st.integers(1, 10000))
def test_every_write_is_what_the_proof_expects(size, quota, weight):
    settings = settings_of(MemoryMax=f"{max(size, 4096)}", CPUQuota=f"{quota}%", CPUWeight=str(weight))
    expected = [(item.attribute, item.text) for item in expectations(settings, HOST)]
    assert written(*setting_pairs(settings)) == expected
