"""Limits of unit texts as settings of the config."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.cli.init.old_names import Settings, settings_of
from cgroup_preflight.config.properties import BY_NAME
from cgroup_preflight.core.unit_text import parse_unit


def settings(*lines: str, section: str = "Service") -> Settings:
    return settings_of(parse_unit("\n".join((f"[{section}]", *lines, ""))), section)


def taken(*lines: str) -> dict[str, str]:
    return {item.name: item.value for item in settings(*lines).taken}


@pytest.mark.parametrize(("line", "name", "value"), [
    ("MemoryMax=512M", "MemoryMax", "512M"), ("MemoryHigh=50%", "MemoryHigh", "50%"),
    ("MemoryMax=infinity", "MemoryMax", "infinity"), ("CPUQuota=150%", "CPUQuota", "150%"),
    ("MemoryLimit=2G", "MemoryMax", "2G"), ("MemoryMin=64M", "MemoryMin", "64M"),
    ("CPUShares=1024", "CPUWeight", "100"), ("CPUShares=512", "CPUWeight", "50"), ("CPUShares=2", "CPUWeight", "1"),
    ("CPUShares=262144", "CPUWeight", "10000"), ("BlockIOWeight=500", "IOWeight", "100"),
    ("BlockIOWeight=10", "IOWeight", "2"), ("BlockIOWeight=1000", "IOWeight", "200"),
])  # fmt: skip
def test_what_is_taken_over(line: str, name: str, value: str) -> None:
    assert taken(line) == {name: value}


@pytest.mark.parametrize(
    "line",
    ["CPUShares=1", "CPUShares=262145", "CPUShares=many", "CPUShares=-5", "BlockIOWeight=9", "BlockIOWeight=1001"],
)
def test_an_old_weight_out_of_its_range_is_named(line: str) -> None:
    found = settings(line)
    assert found.taken == ()
    assert "systemd ignores the line" in found.notes[0]


@pytest.mark.parametrize("line", ["CPUQuota=200.000%", "MemoryMax=512MB", "TasksMax=-1", "MemoryLimit=lots"])
def test_a_value_that_nobody_reads_is_named(line: str) -> None:
    found = settings(line)
    assert found.taken == ()
    assert "systemd-analyze verify" in found.notes[0]


def test_an_old_name_never_becomes_a_protection() -> None:
    found = settings("MemoryLimit=1G")
    assert [item.name for item in found.taken] == ["MemoryMax"]
    assert "old name of MemoryMax" in found.taken[0].comment


def test_where_old_and_new_are_set_the_new_one_counts() -> None:
    found = settings("MemoryLimit=1G", "MemoryMax=2G", "CPUShares=10", "CPUWeight=7")
    assert {item.name: item.value for item in found.taken} == {"MemoryMax": "2G", "CPUWeight": "7"}
    assert len(found.notes) == 2


def test_accounting_is_not_needed() -> None:
    found = settings("CPUAccounting=yes", "MemoryAccounting=true", "TasksMax=5")
    assert [item.name for item in found.taken] == ["TasksMax"]
    assert found.notes == ("CPUAccounting, MemoryAccounting: not needed, because a limit turns the accounting on",)


def test_the_last_assignment_counts_an_empty_one_resets_and_lists_add_up() -> None:
    assert taken("MemoryMax=1G", "MemoryMax=2G", "TasksMax=5", "TasksMax=", "AllowedCPUs=0", "AllowedCPUs=2-3") == {
        "MemoryMax": "2G", "AllowedCPUs": "0 2-3",
    }  # fmt: skip


def test_other_settings_are_lost_for_a_slice_and_stay_in_the_unit_of_a_service() -> None:
    assert settings("Delegate=yes", section="Slice").notes[0].startswith("Delegate=yes: no key of this file")
    assert settings("Delegate=yes", "User=shop", "MemoryMax=1G").notes == ()


def test_other_sections_are_passed_over() -> None:
    text = parse_unit("[Unit]\nMemoryMax=1G\n[Slice]\nMemoryMax=2G\n")
    assert settings_of(text, "Service").taken == ()


@given(st.lists(st.sampled_from([*BY_NAME, "CPUShares", "BlockIOWeight", "MemoryLimit", "TasksAccounting"])
                .flatmap(lambda key: st.text(max_size=12).map(lambda value: f"{key}={value}"))))  # fmt: skip
def test_whatever_is_taken_parses(lines: list[str]) -> None:
    for item in settings(*lines).taken:
        BY_NAME[item.name].parse(item.value)
