"""Rules M1 to M3 and I1: each names its cause, and its honest twin is not accused."""

from typing import Any

import pytest

from cgroup_preflight.core.records import replace
from cgroup_preflight.metrics.contention import judge
from cgroup_preflight.metrics.diagnosis import Diagnosis
from cgroup_preflight.metrics.window import Group, Io, Memory, Traffic
from tests.unit.metrics.windows import group, pressure, series

_MIB = 1 << 20


def _rules(found: tuple[Diagnosis, ...]) -> list[tuple[str, str, str, str]]:
    return [(item.rule, item.victim, item.cause, item.confidence.value) for item in found]


def _memory(path: str, waiting: float = 0.0, **values: Any) -> Group:
    return group(path, memory=Memory(**{"current": 64 * _MIB, "pressure": pressure(waiting), **values}))


def test_reclaim_at_its_own_high_limit_is_named_with_a_value() -> None:
    item = _memory("/a.service", 0.8, high=64 * _MIB, events={"high": 900}, local={"high": 900}, refaults=8192)
    found = judge(series(item)).diagnoses
    assert _rules(found) == [("M1", "/a.service", "/a.service", "high")]
    # What it had, and 32 MiB that it read again; a margin of a tenth, in steps of 16 MiB.
    assert found[0].remedies[0].title == "set MemoryHigh=112M for a.service"


def test_a_kill_is_named_without_pressure_files_too() -> None:
    events = {"max": 40, "oom": 1, "oom_kill": 1}
    item = group(
        "/a.service", waiting=None, memory=Memory(current=60 * _MIB, max=64 * _MIB, events=events, local=events)
    )
    found = judge(series(item, pressure=False)).diagnoses
    assert _rules(found) == [("M1", "/a.service", "/a.service", "high")]
    assert found[0].remedies[0].title == "set MemoryMax=144M for a.service"
    assert "its own MemoryMax=64M" in found[0].message


def test_a_limit_above_is_named_as_the_level() -> None:
    level = _memory("/a.slice", 0.8, max=128 * _MIB, events={"max": 500}, local={"max": 500})
    found = judge(series(level, _memory("/a.slice/v.service", 0.8, events={}, local={}))).diagnoses
    assert [(item.rule, item.victim, item.cause) for item in found] == [("M1", "/a.slice/v.service", "/a.slice")]
    assert "MemoryMax=128M of a.slice above it" in found[0].message


def test_without_local_events_what_the_children_do_not_account_for_is_the_levels_own() -> None:
    level = _memory("/a.slice", 0.8, max=128 * _MIB, events={"max": 500})
    child = _memory("/a.slice/v.service", 0.8, max=64 * _MIB, events={"max": 500})
    assert judge(series(level, child)).diagnoses[0].cause == "/a.slice/v.service"
    child = _memory("/a.slice/v.service", 0.8, max=64 * _MIB, events={"max": 0})
    assert judge(series(level, child)).diagnoses[0].cause == "/a.slice"


_HOST_KILL = {"max": 40, "oom": 0, "oom_kill": 1}


def test_a_kill_of_the_host_is_not_blamed_on_a_limit_that_was_only_reached() -> None:
    """The kernel counts `oom` at the level whose limit ran out before it kills (mm/memcontrol.c, mem_cgroup_oom)."""
    victim = _memory("/a.service", max=64 * _MIB, events=_HOST_KILL, local=_HOST_KILL)
    other = _memory("/b.service", current=3 << 30, grown=2 << 30)
    found = judge(series(victim, other)).diagnoses
    assert _rules(found) == [("M2", "/a.service", "/b.service", "medium")]
    assert "and not at a limit on its path: the host has too little memory" in found[0].message
    own = {**_HOST_KILL, "oom": 1}
    found = judge(series(_memory("/a.service", max=64 * _MIB, events=own, local=own), other)).diagnoses
    assert _rules(found) == [("M1", "/a.service", "/a.service", "high")]


def test_a_kill_of_the_host_in_a_service_that_is_gone_is_not_blamed_on_a_limit() -> None:
    local = dict.fromkeys(_HOST_KILL, 0)
    level = _memory("/a.slice", events=_HOST_KILL, local=local)
    other = _memory("/b.service", current=3 << 30, grown=2 << 30)
    found = judge(series(level, _memory("/a.slice/v.service", events={}, local={}), other)).diagnoses
    assert [(item.rule, item.victim, item.cause) for item in found] == [("M2", "/a.slice", "/b.service")]


def test_kills_of_a_service_that_is_gone_are_named_once_and_with_the_level_above_that_ran_out() -> None:
    none = dict.fromkeys(_HOST_KILL, 0)
    kills = {"max": 9, "oom": 2, "oom_kill": 2}
    top = _memory("/a.slice", max=64 * _MIB, events=kills, local={**kills, "oom_kill": 0})
    inner = _memory("/a.slice/a-b.slice", events={**none, "oom_kill": 2}, local=none)
    found = judge(series(top, inner, _memory("/a.slice/a-b.slice/v.service", events={}, local={}))).diagnoses
    assert [(item.rule, item.victim, item.cause) for item in found] == [("M1", "/a.slice/a-b.slice", "/a.slice")]
    assert "MemoryMax=64M of a.slice above it" in found[0].message


def test_kills_of_a_service_that_is_gone_are_known_from_its_slice() -> None:
    level = _memory("/a.slice", events={"oom_kill": 3, "oom": 3, "max": 9}, local={"oom_kill": 0, "oom": 0, "max": 0})
    found = judge(series(level, _memory("/a.slice/v.service", events={}, local={}))).diagnoses
    assert [(item.rule, item.victim) for item in found] == [("M1", "/a.slice")]
    assert "killed 3 of its processes" in found[0].message


def test_kills_are_those_of_the_only_unit_that_was_started_again() -> None:
    level = _memory("/a.slice", events={"oom_kill": 3, "oom": 3, "max": 9}, local={"oom_kill": 0, "oom": 0, "max": 0})
    one = replace(_memory("/a.slice/v.service", max=40 * _MIB, events={}, local={}), reborn=2)
    calm = _memory("/a.slice/w.service", events={}, local={})
    found = judge(series(level, one, calm)).diagnoses
    assert _rules(found) == [("M1", "/a.slice/v.service", "/a.slice/v.service", "high")]
    assert "killed 3 of its processes for memory at its own MemoryMax=40M" in found[0].message
    # Of two, nobody knows.
    found = judge(series(level, one, replace(calm, reborn=1))).diagnoses
    assert [item.victim for item in found] == ["/a.slice"]


def test_events_without_waiting_are_ordinary_reclaim() -> None:
    item = _memory("/a.service", 0.02, max=64 * _MIB, events={"max": 900}, local={"max": 900})
    assert judge(series(item)).diagnoses == ()


def test_reclaim_of_the_whole_host_names_the_one_that_has_most() -> None:
    victim = _memory("/v.service", 0.6, refaults=9000)
    hog = _memory("/h.service", 0.1, current=3000 * _MIB, grown=800 * _MIB)
    found = judge(series(victim, hog, memory=pressure(0.6))).diagnoses
    assert _rules(found)[0] == ("M2", "/v.service", "/h.service", "high")
    assert [item.title for item in found[0].remedies] == [
        "set MemoryHigh=2744M for h.service", "set MemoryLow=112M for v.service",
    ]  # fmt: skip


def _reads_again(read: int) -> Group:
    """A cgroup that waited for a device, where it read 200 MiB of what had been reclaimed."""
    item = _memory("/v.service", 0.05, refaults=200 * _MIB // 4096)
    traffic = Traffic(bytes=read + 900 * _MIB, operations=read >> 16, read=read)
    return replace(item, io=Io(devices={"8:0": traffic}, pressure=pressure(0.6)))


@pytest.mark.parametrize(
    ("read", "host_waits", "expected"),
    [
        (220 * _MIB, 0.2, "high"),
        # Most of what it reads is something else, or the host itself does not wait.
        (900 * _MIB, 0.2, "low"),
        (220 * _MIB, 0.01, "medium"),
    ],
)
def test_waiting_for_pages_that_were_reclaimed_is_waiting_for_memory(
    read: int, host_waits: float, expected: str
) -> None:
    hog = _memory("/h.service", current=3000 * _MIB)
    victim = _reads_again(read)
    found = judge(series(victim, hog, memory=pressure(host_waits), memory_available=200 * _MIB)).diagnoses
    assert _rules(found) == [("M2", "/v.service", "/h.service", expected)]


def test_reading_again_on_a_host_with_memory_available_is_no_lack_of_memory() -> None:
    """Caches count as available: a cgroup that reads more files than fit is not short of memory."""
    hog = _memory("/h.service", current=3000 * _MIB)
    victim = _reads_again(220 * _MIB)
    found = judge(series(victim, hog, memory=pressure(0.2), memory_available=1 << 30)).diagnoses
    assert [item.rule for item in found if item.rule == "M2"] == []


def test_a_host_that_was_short_for_a_part_of_the_time_was_short() -> None:
    """A batch job takes and frees memory: at the end of the time there can be much."""
    victim, hog = _reads_again(220 * _MIB), _memory("/h.service", current=3000 * _MIB)
    found = series(victim, hog, memory=pressure(0.2), memory_available=3 << 30)
    parts = [replace(part, host=replace(part.host, memory_available=100 * _MIB)) if number == 3 else part
             for number, part in enumerate(found.parts)]  # fmt: skip
    assert _rules(judge(replace(found, parts=tuple(parts))).diagnoses) == [("M2", "/v.service", "/h.service", "high")]


@pytest.mark.parametrize("memory", [pressure(0.0), None])
def test_memory_that_waits_on_a_host_with_free_memory_is_no_verdict(memory: object) -> None:
    answer = judge(series(_memory("/v.service", 0.6), _memory("/h.service", current=3000 * _MIB), memory=memory))
    assert answer.diagnoses == ()
    assert [item.status.value for item in answer.findings] == ["unverified"]


def test_no_neighbour_is_named_where_none_stands_out() -> None:
    items = [_memory(f"/{name}.service", 0.5, current=700 * _MIB) for name in "abcd"]
    found = judge(series(*items, memory=pressure(0.5))).diagnoses
    assert {item.cause for item in found} == {""}
    assert {item.confidence.value for item in found} == {"medium"}


def test_the_largest_is_not_told_that_somebody_else_is_to_blame() -> None:
    hog = _memory("/h.service", 0.6, current=3000 * _MIB)
    found = judge(series(hog, _memory("/o.service"), memory=pressure(0.6))).diagnoses
    assert _rules(found) == [("M2", "/h.service", "/h.service", "high")]


def test_a_protection_that_was_not_kept_is_named() -> None:
    item = _memory("/p.service", low=256 * _MIB, events={"low": 7}, local={"low": 7})
    assert _rules(judge(series(item)).diagnoses) == [("M3", "/p.service", "", "high")]
    assert judge(series(_memory("/p.service", low=256 * _MIB, events={"low": 0}, local={"low": 0}))).diagnoses == ()


def _io(
    path: str, waiting: float, count: int, operations: int = 0, device: str = "8:0", memory_waits: float = 0.0
) -> Group:
    traffic = Io(devices={device: Traffic(bytes=count, operations=operations)}, pressure=pressure(waiting))
    return group(path, io=traffic, memory=Memory(current=_MIB, pressure=pressure(memory_waits)))


def test_the_neighbour_with_most_of_a_device_is_named() -> None:
    found = judge(series(_io("/v.service", 0.7, 5 * _MIB), _io("/n.service", 0.9, 900 * _MIB))).diagnoses
    assert _rules(found) == [("I1", "/v.service", "/n.service", "high")]
    assert found[0].remedies[1].title == "set IOReadBandwidthMax=/dev/block/8:0 45M for n.service"


@pytest.mark.parametrize("limited", ["/a.slice", "/a.slice/v.service"])
def test_a_neighbour_is_not_surely_to_blame_where_the_victim_has_a_limit_of_its_own(limited: str) -> None:
    level, victim = _io("/a.slice", 0.7, 5 * _MIB), _io("/a.slice/v.service", 0.7, 5 * _MIB)
    groups = [replace(item, io=replace(item.io, limited=frozenset(("8:0",)))) if item.path == limited and item.io else item
              for item in (level, victim)]  # fmt: skip
    found = judge(series(*groups, _io("/n.service", 0.0, 900 * _MIB))).diagnoses
    assert _rules(found) == [("I1", "/a.slice/v.service", "/n.service", "low")]
    assert f"{limited.rpartition('/')[2]} has a limit of its own for that device" in found[0].message


def test_a_neighbour_with_most_of_the_operations_is_named_although_it_moves_few_bytes() -> None:
    victim, other = _io("/v.service", 0.7, 40 * _MIB, 40), _io("/n.service", 0.9, 4 * _MIB, 4000)
    assert [item.cause for item in judge(series(victim, other)).diagnoses if item.victim == "/v.service"] == [
        "/n.service"
    ]


@pytest.mark.parametrize(
    "other",
    [
        _io("/n.service", 0.7, 50 * _MIB),  # the same as the victim
        _io("/n.service", 0.7, 900 * _MIB, device="8:16"),  # another device
        _io("/n.service", 0.0, 0),
    ],
)
def test_traffic_that_is_not_most_of_it_is_not_blamed(other: Group) -> None:
    answer = judge(series(_io("/v.service", 0.7, 50 * _MIB), other))
    assert not any(item.rule == "I1" for item in answer.diagnoses)


def test_waiting_for_a_disk_that_is_waiting_for_memory_is_not_sure() -> None:
    victim = _io("/v.service", 0.7, 5 * _MIB, memory_waits=0.6)
    found = judge(series(victim, _io("/n.service", 0.9, 900 * _MIB))).diagnoses
    assert [(item.rule, item.confidence.value) for item in found] == [("I1", "low")]
