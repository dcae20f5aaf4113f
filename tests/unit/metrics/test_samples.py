"""Records of one reading, and the difference of two."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.core.reading import Known, Missing, Why, value_or
from cgroup_preflight.core.records import replace
from cgroup_preflight.metrics.samples import (
    Sample,
    Snapshot,
    differences,
    parse_io_stat,
    parse_totals,
)

_FILES = {
    "cpu.stat": b"usage_usec 10\nuser_usec 7\nsystem_usec 3\nnew_key 1\n",
    "cpu.max": b"50000 100000\n",
    "cpu.weight": b"100\n",
    "cpu.pressure": b"some avg10=1.50 avg60=0.00 avg300=0.00 total=9007199254740993\n",
    "memory.current": b"4096\n",
    "memory.max": b"max\n",
    "memory.events": b"low 0\noom_kill 2\n",
    "io.stat": b"8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0 cost.vrate=100.00\n",
    "cpuset.cpus.effective": b"0-1,3\n",
    "pids.max": b"10\n",
}


def _sample(**changes: object) -> Sample:
    values: dict[str, object] = {"cgroup": "/a.slice", "cgroup_id": 7, "stamp_ns": 10**9, "files": _FILES}
    return Sample(**{**values, **changes})  # type: ignore[arg-type]


def _snapshot(*samples: Sample, seconds: float = 1.0) -> Snapshot:
    stamp = int(seconds * 1e9)
    found = {sample.cgroup: sample for sample in samples}
    return Snapshot(started_ns=stamp, stamp_ns=stamp, wall=0.0, samples=found, errors={})


def test_values_of_a_sample() -> None:
    sample = _sample()
    assert value_or(sample.cpu_stat, {})["new_key"] == 1
    assert isinstance(sample.cpu_max, Known)
    assert sample.cpu_max.value.cpus == 0.5
    assert value_or(sample.cpu_weight, -1) == 100
    assert value_or(_sample(files={**_FILES, "cpu.idle": b"1\n"}).cpu_weight, -1) == 0
    assert value_or(sample.memory_limit("max"), 0) is None
    assert value_or(sample.cpus, frozenset()) == {0, 1, 3}
    assert value_or(sample.pids_max, None) == 10
    assert value_or(sample.io_stat, {})["8:0"]["wios"] == 4
    assert value_or(sample.pressure("cpu"), {})["some_avg10"] == 1.5


def test_what_is_missing_says_why() -> None:
    sample = _sample(errors={"io.pressure": errno.EOPNOTSUPP}, files={"cpu.max": b"100\n"})
    assert isinstance(sample.cpu_stat, Missing)
    assert sample.cpu_stat.why is Why.ABSENT
    pressure = sample.pressure("io")
    assert isinstance(pressure, Missing)
    assert pressure.why is Why.UNSUPPORTED
    assert isinstance(sample.cpu_max, Missing)
    assert sample.cpu_max.why is Why.MALFORMED
    assert isinstance(_sample(files={"memory.current": b"\xff"}).memory_current, Missing)


def test_counters_are_whole_numbers_in_full() -> None:
    counters = _sample().counters()
    assert counters["cpu.pressure some"] == 9007199254740993, "no float can be this number"
    assert counters["io.stat 8:0 rbytes"] == 1
    assert counters["memory.events oom_kill"] == 2
    assert not any("cost" in key or "avg" in key or "max" in key for key in counters)


def _grown(sample: Sample, seconds: float, **files: bytes) -> Sample:
    changed = {name.replace("_", "."): data for name, data in files.items()}
    return replace(sample, stamp_ns=int(seconds * 1e9), files={**sample.files, **changed})


def test_difference() -> None:
    first = _sample()
    second = _grown(first, 3.0, cpu_stat=b"usage_usec 30\nuser_usec 7\nsystem_usec 23\n")
    found = differences(_snapshot(first), _snapshot(second, seconds=4.0))["/a.slice"]
    assert (found.void, found.seconds) == ("", 2.0)
    assert found.counters["cpu.stat usage_usec"] == 20
    assert "cpu.stat new_key" not in found.counters, "a key that one of them does not have says nothing"


def test_what_was_not_read_again_has_not_changed() -> None:
    first = _sample()
    found = differences(_snapshot(first, seconds=1.0), _snapshot(first, seconds=6.0))["/a.slice"]
    assert (found.seconds, found.void) == (5.0, "")
    assert set(found.counters.values()) == {0}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"cgroup_id": 8}, "created again"),
        ({"files": {"cpu.stat": b"usage_usec 9\n"}}, "cpu.stat usage_usec went back"),
        ({"stamp_ns": 1}, "the clock went back"),
    ],
)
def test_void_differences(changes: dict[str, object], why: str) -> None:
    first = _sample()
    second = replace(first, **{"stamp_ns": 2 * 10**9, **changes})  # type: ignore[arg-type]
    found = differences(_snapshot(first), _snapshot(second))["/a.slice"]
    assert why in found.void
    assert found.counters == {}


def test_only_what_both_have_is_compared() -> None:
    assert differences(_snapshot(), _snapshot(_sample())) == {}
    assert differences(_snapshot(_sample()), _snapshot()) == {}


_COUNTS = st.dictionaries(
    st.sampled_from(["rbytes", "wbytes", "rios", "wios", "dbytes", "dios"]), st.integers(0, 1 << 64)
)


@given(st.dictionaries(st.from_regex(r"[0-9]{1,3}:[0-9]{1,5}", fullmatch=True), _COUNTS), st.booleans())
def test_io_stat_of_all_kernels(devices: dict[str, dict[str, int]], with_ends: bool) -> None:
    """Old kernels print a device without counters, and no end of line after it."""
    text = ""
    for device, values in devices.items():
        pairs = "".join(f" {key}={value}" for key, value in values.items())
        text += f"{device}{pairs}" + ("\n" if with_ends or pairs else " ")
    assert parse_io_stat(text) == devices


@pytest.mark.parametrize("text", ["rbytes=1", "sda rbytes=1", "8: rbytes=1", "8:x"])
def test_what_is_not_an_io_stat(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        parse_io_stat(text)


@given(st.integers(0, 1 << 64), st.integers(0, 1 << 64))
def test_totals(some: int, full: int) -> None:
    averages = "avg10=0.00 avg60=12.34 avg300=100.00"
    text = f"some {averages} total={some}\nfull {averages} total={full}\n"
    assert parse_totals(text) == {"some": some, "full": full}


@given(st.text())
def test_parsers_refuse_with_value_error_only(text: str) -> None:
    for parse in (parse_io_stat, parse_totals):
        try:
            parse(text)
        except ValueError:
            pass
