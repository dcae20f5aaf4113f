"""Limits that are too small to be safe: every way in, and the values next to them that are large enough."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.checks.plan import plan_findings
from cgroup_preflight.config.load import load
from cgroup_preflight.config.model import Setting
from cgroup_preflight.config.rules import PAGE, TINY, TINY_LIMITS
from cgroup_preflight.core.errors import ConfigError
from cgroup_preflight.core.quantities import QuantityError, parse_amount
from cgroup_preflight.core.report import Location, Status
from cgroup_preflight.plan.build import build_plan
from cgroup_preflight.plan.expect import HostNumbers, memory_bytes
from cgroup_preflight.plan.safe_sizes import refuse_tiny, why_tiny
from tests.unit.core.making import config_of

SMALL = HostNumbers(page_size=4096, memory_bytes=256 << 20, tasks_max=100)
LARGE = HostNumbers(page_size=4096, memory_bytes=64 << 30, tasks_max=1 << 22)


def refused(config, host, *, tiny=False):
    """The lines that are refused."""
    plan = build_plan(config)
    try:
        refuse_tiny(plan.every_limit, host, "c.toml", tiny=tiny or config.allow_tiny_limits)
    except ConfigError as error:
        return [(item.location.line, item.subject) for item in error.findings if item.location]
    return []


def in_slice(line):
    return f"[slices.a]\n{line}\n[services.x]\nbinary = 'x'\nslice = 'a'\n"


def in_service(line):
    return f"[services.x]\n{line}\nbinary = 'x'\n"


@pytest.mark.parametrize("place", [in_slice, in_service])
@pytest.mark.parametrize("name", TINY_LIMITS)
def test_a_percentage_of_a_small_machine_is_refused_and_of_a_large_one_it_is_not(place, name):
    config = config_of(place(f"{name} = '5%'"))
    assert refused(config, SMALL) == [(2, name)]
    assert refused(config, LARGE) == []
    assert refused(config, SMALL, tiny=True) == [], "12.8M is allowed where the config says so"


@pytest.mark.parametrize("place", [in_slice, in_service])
def test_less_than_a_page_is_refused_also_where_tiny_limits_are_allowed(place):
    config = config_of(place("MemoryMax = '0.01%'") + "[smoke]\nallow_tiny_limits = true\n")
    host = HostNumbers(page_size=4096, memory_bytes=32 << 20, tasks_max=100)
    assert refused(config, host) == [(2, "MemoryMax")]
    assert refused(config, SMALL) == []


def test_a_percentage_of_tasks_that_is_none_is_refused():
    config = config_of(in_service("TasksMax = '0.5%'"))
    assert refused(config, SMALL) == [(2, "TasksMax")]
    assert refused(config, LARGE) == []


def own_unit(folder: Path, line: str, more: str = ""):
    (folder / "x.service").write_text(f"[Service]\nExecStart=/bin/true\n{line}\n")
    config = folder / "c.toml"
    config.write_text(f"[project]\nname = 'p'\n[services.x]\nunit = './x.service'\n{more}")
    return load(config)


@pytest.mark.parametrize(
    ("line", "small", "large"),
    [
        ("MemoryMax=8M", True, True),
        ("MemoryHigh=4095", True, True),
        ("MemoryMax=5%", True, False),
        ("StartupMemoryMax=1M", True, True),
        ("TasksMax=0.5%", True, False),
        ("MemoryMax=16M", False, False),
        ("MemoryMax=infinity", False, False),
        ("MemorySwapMax=0", False, False),
        ("MemoryMax=", False, False),
    ],
)
def test_a_unit_of_the_project_is_judged_as_the_config_is(tmp_path, line, small, large):
    config = own_unit(tmp_path, line)
    assert bool(refused(config, SMALL)) == small
    assert bool(refused(config, LARGE)) == large


def test_a_drop_in_and_the_config_decide_about_a_unit(tmp_path):
    """The last value counts: that of the drop-in, and that of the config above all."""
    config = own_unit(tmp_path, "MemoryMax=8M", "MemoryMax = '64M'\n")
    assert refused(config, SMALL) == []
    (tmp_path / "x.service.d").mkdir()
    (tmp_path / "x.service.d/10.conf").write_text("[Service]\nMemoryMax=64M\n")
    assert refused(own_unit(tmp_path, "MemoryMax=8M"), SMALL) == []


def test_what_refuses_a_run_is_told_by_checks_of_the_plan(tmp_path):
    """`validate`, `slices` and `check` (also of a recorded host) name it before anything is started."""
    plan = build_plan(own_unit(tmp_path, "MemoryMax=8M"))
    for host in (None, SMALL, LARGE):
        assert [item.status for item in plan_findings(plan, host) if item.code == "CGP208"] == [Status.FAIL]
    assert not [item for item in plan_findings(plan, LARGE, tiny=True) if item.code == "CGP208"]
    share = build_plan(own_unit(tmp_path, "MemoryMax=5%"))
    assert [bool([item for item in plan_findings(share, host) if item.code == "CGP208"])
            for host in (None, SMALL, LARGE)] == [False, True, False]  # fmt: skip


def test_targets_of_a_rollout_follow_the_same_rules():
    for value, wrong in (("'8M'", True), ("'0.05%'", True), ("'16M'", False)):
        text = f"[rollout.slices.a]\nMemoryMax = {value}\n"
        if wrong:
            with pytest.raises(ConfigError) as raised:
                config_of(text)
            assert [item.code for item in raised.value.findings] == ["CGP208"]
        else:
            assert config_of(text).rollout is not None


@given(
    text=st.one_of(
        st.integers(0, 1 << 40).map(str), st.integers(0, 1 << 20).map(lambda number: f"{number}K"),
        st.floats(0, 100).map(lambda share: f"{share:.2f}%"),
    ),
    memory=st.integers(1 << 24, 1 << 42), tiny=st.booleans(),
)  # fmt: skip
def test_nothing_below_a_page_and_nothing_tiny_without_leave(text, memory, tiny):
    try:
        value = parse_amount(text, zero=False)
    except QuantityError:
        return
    host = HostNumbers(page_size=4096, memory_bytes=memory, tasks_max=100)
    size = memory_bytes(value, host)
    found = why_tiny(
        Setting(property="MemoryMax", text=text, value=value, location=Location(file="", line=1)), host, tiny=tiny
    )
    assert size is not None
    assert (found is None) == (size >= (PAGE if tiny else TINY))
