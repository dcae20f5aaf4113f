"""Pages as a client sees them: read back with Prometheus' own parsers, in both formats, plain and packed."""

import gzip
import zlib

import pytest
from ci.cgroup_tree import CgroupTree
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.metrics.chunks import Chunk, Run, combined, gzipped
from cgroup_preflight.metrics.exposition import Style, style_for, wants_gzip
from cgroup_preflight.metrics.families import FAMILIES, SOURCES, escaped
from cgroup_preflight.metrics.own import OWN_FAMILIES, REASONS
from cgroup_preflight.metrics.readings import Readings
from cgroup_preflight.metrics.tree import Scope
from tests.unit.metrics.conftest import FakeClock, readings_of

ONE, THREE = "/a.slice/one.service", "/a.slice/a-n.slice/three.service"
AT_ONE = {"slice": "a.slice", "unit": "one.service"}


def _text(readings: Readings, style: Style = Style.TEXT) -> str:
    plain = b"".join(readings.render(style, packed=False))
    assert gzip.decompress(b"".join(readings.render(style, packed=True))) == plain
    return plain.decode()


def _value(text: str, name: str, **labels: str) -> float | None:
    parser = pytest.importorskip("prometheus_client.parser")
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    return None


@pytest.mark.parametrize("style", Style)
def test_prometheus_reads_every_family(readings: Readings, style: Style) -> None:
    module = {Style.TEXT: "prometheus_client.parser", Style.OPENMETRICS: "prometheus_client.openmetrics.parser"}[style]
    parser = pytest.importorskip(module)
    readings.refresh()
    found = {family.name: family for family in parser.text_string_to_metric_families(_text(readings, style))}
    for family in (*FAMILIES, *OWN_FAMILIES):
        name = family.name.removesuffix("_total")
        if style is Style.TEXT and family.kind == "info":
            name += "_info"
        assert found[name].documentation == family.help
        assert found[name].type == ("gauge" if style is Style.TEXT and family.kind == "info" else family.kind)
        assert found[name].samples, name
        if family in FAMILIES:
            assert all({"slice", "unit"} <= sample.labels.keys() for sample in found[name].samples)
    names = [(sample.name, tuple(sample.labels.items())) for family in found.values() for sample in family.samples]
    assert len(names) == len(set(names))


def test_values_and_units(readings: Readings, cgroups: CgroupTree) -> None:
    cgroups.write(ONE, "cpu.stat", "usage_usec 3\nuser_usec 9007199254740993\nsystem_usec 2\nnr_periods 9\nnr_throttled 4\nthrottled_usec 1500000\n")  # fmt: skip
    cgroups.write(ONE, "cpu.stat.local", "throttled_usec 2500000\n")
    cgroups.write(ONE, "cpu.max", "12500 100000\n")
    cgroups.write(ONE, "memory.events", "low 0\nhigh 1\nnew_event 7\noom_kill 2\n")
    cgroups.write(ONE, "memory.max", "1048576\n")
    cgroups.write(ONE, "io.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=12345678\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n")  # fmt: skip
    readings.refresh()
    text = _text(readings)
    at = 'slice="a.slice",unit="one.service"'
    for line in (
        f'slice_cpu_usage_seconds_total{{{at},mode="user"}} 9007199254.740993',
        f'slice_cpu_usage_seconds_total{{{at},mode="system"}} 0.000002',
        f"slice_cpu_periods_total{{{at}}} 9",
        f"slice_cpu_throttled_periods_total{{{at}}} 4",
        f'slice_cpu_throttled_seconds_total{{{at},scope="own"}} 1.500000',
        f'slice_cpu_throttled_seconds_total{{{at},scope="local"}} 2.500000',
        f"slice_cpu_quota_cpus{{{at}}} 0.125",
        f'slice_memory_events_total{{{at},event="new_event"}} 7',
        f'slice_memory_limit_bytes{{{at},kind="max"}} 1048576',
        f'slice_memory_limit_bytes{{{at},kind="high"}} +Inf',
        f"slice_pids_limit{{{at}}} +Inf",
        f'slice_pressure_waiting_seconds_total{{{at},resource="io"}} 12.345678',
        f'slice_pressure_stalled_seconds_total{{{at},resource="io"}} 0.000001',
        f'slice_io_operations_total{{{at},device="8:0",op="write"}} 2',
        f"slice_oom_kills_total{{{at}}} 0",
        'slice_cpu_quota_cpus{slice="a.slice",unit=""} +Inf',
    ):
        assert f"\n{line}\n" in text, line


def test_limits_of_the_slices_above_hold(readings: Readings, cgroups: CgroupTree) -> None:
    cgroups.write("/a.slice", "cpu.max", "150000 100000\n")
    cgroups.write("/a.slice/a-n.slice", "memory.max", "4096\n")
    cgroups.write(THREE, "memory.max", "8192\n")
    cgroups.write(THREE, "cpuset.cpus.effective", "2\n")
    readings.refresh()
    text, at = _text(readings), {"slice": "a-n.slice", "unit": "three.service"}
    assert _value(text, "slice_cpu_effective_quota_cpus", **at) == 1.0
    assert _value(text, "slice_cpu_effective_quota_cpus", **AT_ONE) == 1.5
    assert _value(text, "slice_cpu_effective_quota_cpus", slice="b.slice", unit="") == float("inf")
    assert _value(text, "slice_memory_effective_limit_bytes", **at) == 4096
    assert _value(text, "slice_memory_effective_limit_bytes", **AT_ONE) == float("inf")


def test_entitlement_is_shared_with_siblings_that_have_tasks(readings: Readings, cgroups: CgroupTree) -> None:
    for path in ("/b.slice", "/user.slice", "/init.scope"):
        cgroups.write(path, "pids.current", "0\n")
    cgroups.write(ONE, "cpu.weight", "200\n")
    cgroups.write("/a.slice/two.service", "cpu.idle", "1\n")
    readings.refresh()
    text = _text(readings)
    assert _value(text, "slice_cpu_entitlement_cpus", slice="a.slice", unit="") == 4.0
    assert _value(text, "slice_cpu_entitlement_cpus", slice="b.slice", unit="") == 2.0
    assert _value(text, "slice_cpu_entitlement_cpus", **AT_ONE) == pytest.approx(4 * 200 / 300, abs=1e-6)
    assert _value(text, "slice_cpu_entitlement_cpus", slice="a.slice", unit="two.service") == 0.0
    assert _value(text, "slice_cpu_weight", slice="a.slice", unit="two.service") == 0.0


def test_only_what_changed_is_another_line(readings: Readings, cgroups: CgroupTree) -> None:
    readings.refresh()
    before = _text(readings).splitlines()
    cgroups.use_cpu(ONE, 5)
    readings.refresh()
    after = _text(readings).splitlines()
    changed = [
        new for old, new in zip(before, after, strict=True) if old != new and not new.startswith("slice_exporter")
    ]
    assert len(changed) == 3, "the unit, its slice, and the root"
    assert all(line.startswith("slice_cpu_usage_seconds_total") for line in changed)


def test_a_unit_that_is_gone_has_no_series_but_its_kills(
    readings: Readings, cgroups: CgroupTree, clock: FakeClock
) -> None:
    readings.refresh()
    cgroups.kill(ONE)
    clock.forward(5)
    readings.refresh()
    assert _value(_text(readings), "slice_oom_kills_total", **AT_ONE) == 1
    cgroups.remove(ONE)
    readings.refresh()
    text = _text(readings)
    assert [line for line in text.splitlines() if "one.service" in line] == [
        'slice_oom_kills_total{slice="a.slice",unit="one.service"} 1'
    ]
    cgroups.add(ONE)
    readings.refresh()
    text = _text(readings)
    assert text.count('slice_oom_kills_total{slice="a.slice",unit="one.service"}') == 1
    assert _value(text, "slice_oom_kills_total", **AT_ONE) == 1
    assert _value(text, "slice_memory_events_total", **AT_ONE, event="oom_kill") == 0
    assert _value(text, "slice_memory_events_total", slice="a.slice", unit="", event="oom_kill") == 1


def test_openmetrics_has_the_unit_of_each_name_that_ends_in_one(readings: Readings) -> None:
    readings.refresh()
    units = {
        line.split()[2]: line.split()[3]
        for line in _text(readings, Style.OPENMETRICS).splitlines()
        if line.startswith("# UNIT")
    }
    assert units["slice_cpu_usage_seconds"] == "seconds"
    assert units["slice_io_read_bytes"] == "bytes"
    assert all(name.endswith(f"_{unit}") for name, unit in units.items())
    assert "slice_pids_current" not in units
    assert "# UNIT" not in _text(readings)


def test_removed_cgroups_that_the_kernel_keeps_are_counted(readings: Readings, cgroups: CgroupTree) -> None:
    cgroups.write("/a.slice", "cgroup.stat", "nr_descendants 4\nnr_dying_descendants 37\n")
    readings.refresh()
    assert '\nslice_dying_cgroups{slice="a.slice",unit=""} 37\n' in _text(readings)


def test_cgroups_with_the_same_labels_do_not_break_the_page(readings: Readings, cgroups: CgroupTree) -> None:
    cgroups.add("/a.slice/_one.service")
    readings.refresh()
    text = _text(readings)
    assert text.count('slice_memory_current_bytes{slice="a.slice",unit="one.service"}') == 1
    assert _value(text, "slice_exporter_read_errors_total", reason="duplicate") == 1


def test_malformed_files_cost_only_their_own_series(readings: Readings, cgroups: CgroupTree) -> None:
    cgroups.write(ONE, "memory.events", "low zero\n")
    cgroups.write(ONE, "cpu.max", "-1 100000\n")
    readings.refresh()
    text = _text(readings)
    assert _value(text, "slice_memory_events_total", **AT_ONE, event="low") is None
    assert _value(text, "slice_cpu_quota_cpus", **AT_ONE) is None
    assert _value(text, "slice_memory_current_bytes", **AT_ONE) == 1048576
    assert _value(text, "slice_exporter_read_errors_total", reason="malformed") == 2


def test_names_that_are_hostile(readings: Readings, cgroups: CgroupTree) -> None:
    names = ['a"b\\c.service', "new\nline.service", "\udcff.service", "\u202e\x1b[31m.service"]
    for name in names:
        cgroups.add(f"/b.slice/{name}")
    readings.refresh()
    text = _text(readings)
    assert _value(text, "slice_pids_current", slice="b.slice", unit='a"b\\c.service') == 1
    assert _value(text, "slice_pids_current", slice="b.slice", unit="new\nline.service") == 1
    assert _value(text, "slice_pids_current", slice="b.slice", unit="\\u202e\\x1b[31m.service") == 1
    assert _value(text, "slice_pids_current", slice="b.slice", unit="\\xff.service") == 1
    assert "\x1b" not in text


def test_chosen_slices_only(cgroups: CgroupTree, clock: FakeClock) -> None:
    readings = readings_of(cgroups, clock, Scope(slices=("/a.slice/a-n.slice",)))
    cgroups.write("/a.slice", "memory.max", "4096\n")
    readings.refresh()
    text = _text(readings)
    assert _value(text, "slice_memory_effective_limit_bytes", slice="a-n.slice", unit="three.service") == 4096
    assert 'slice="a.slice"' not in text
    assert 'slice="-.slice"' not in text


def test_what_the_exporter_says_of_itself(readings: Readings, clock: FakeClock) -> None:
    readings.refresh()
    clock.forward(3)
    readings.refresh()
    text = _text(readings)
    assert _value(text, "slice_exporter_cgroups") == 11
    assert _value(text, "slice_exporter_snapshot_duration_seconds_count") == 2
    assert all(_value(text, "slice_exporter_read_errors_total", reason=reason) == 0 for reason in REASONS)
    assert _value(text, "slice_exporter_event_latency_seconds_bucket", by="report", le="+Inf") == 0
    assert readings.age_seconds < 1


@given(st.text())
def test_labels_are_escaped(text: str) -> None:
    found = escaped(text)
    assert "\n" not in found
    plain = found.replace("\\\\", "").replace('\\"', "").replace("\\n", "")
    assert '"' not in plain
    assert "\\" not in plain
    found.encode()


_LINES = st.text(st.characters(codec="utf-8"), max_size=80)


@given(st.sampled_from(sorted(SOURCES)), _LINES)
def test_any_text_of_a_file_gives_whole_lines_or_a_value_error(name: str, text: str) -> None:
    source = SOURCES[name]
    try:
        lines = source.make('slice="a",unit="b"', text)
    except ValueError:
        return
    assert len(lines) == len(source.families)
    for family, part in zip(source.families, lines, strict=True):
        for line in part.splitlines():
            assert line.startswith(f"{family.name}{{")
            assert line.rpartition(" ")[2].replace(".", "").isdecimal() or line.endswith("+Inf")


@given(st.lists(st.lists(st.binary(max_size=5000), max_size=40), max_size=5), st.data())
def test_packed_pages_are_one_gzip_stream(parts: list[list[bytes]], data: st.DataObject) -> None:
    runs = []
    for part in parts:
        run = Run()
        run.replace(map(Chunk, part))
        runs.append(run)
    assert gzip.decompress(b"".join(gzipped(runs))) == b"".join(map(b"".join, parts))
    if parts and parts[0]:
        index = data.draw(st.integers(0, len(parts[0]) - 1))
        parts[0][index] = b"changed"
        runs[0].replace(Chunk(b"changed") if number == index else chunk for number, chunk in enumerate(runs[0].chunks))
    stream = b"".join(gzipped(runs))
    unpacker = zlib.decompressobj(wbits=31)
    assert unpacker.decompress(stream) == b"".join(map(b"".join, parts))
    assert unpacker.eof, "one stream, which clients that stop after the first read whole"
    assert unpacker.unused_data == b""


@given(st.binary(), st.binary())
def test_checksums_of_parts(one: bytes, other: bytes) -> None:
    assert combined(zlib.crc32(one), zlib.crc32(other), len(other)) == zlib.crc32(one + other)


_OPENMETRICS_1 = "application/openmetrics-text;version=1.0.0"


@pytest.mark.parametrize(
    ("accept", "style"),
    [
        ("", Style.TEXT),
        ("*/*", Style.TEXT),
        ("application/json", Style.TEXT),
        (_OPENMETRICS_1, Style.OPENMETRICS),
        ("application/openmetrics-text", Style.OPENMETRICS),
        (f"{_OPENMETRICS_1},application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", Style.OPENMETRICS),
        ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.3", Style.OPENMETRICS),
        (f"{_OPENMETRICS_1};q=0.3, text/plain;q=0.9", Style.TEXT),
        ("application/openmetrics-text;version=2.0.0", Style.TEXT),
        ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited, text/plain;version=0.0.4;q=0.3", Style.TEXT),
        (f"{_OPENMETRICS_1};q=0", Style.TEXT),
        ("text/plain;q=0, */*", Style.OPENMETRICS),
        (f"{_OPENMETRICS_1};q=0, */*", Style.TEXT),
        ("text/plain;q=0", Style.TEXT),
        ("text/*;q=0.2, application/*;q=0.4", Style.OPENMETRICS),
        ("text/plain, */*", Style.TEXT),
        (f"{_OPENMETRICS_1};q=high,text/plain;q=0.1", Style.TEXT),
        ("TEXT/PLAIN;q=0.5 , APPLICATION/OpenMetrics-Text; Version=\"1.0.0\"", Style.OPENMETRICS),
    ],
)  # fmt: skip
def test_choice_of_the_format(accept: str, style: Style) -> None:
    assert style_for(accept) is style


@pytest.mark.parametrize(
    ("accept", "packed"),
    [("", False), ("gzip", True), ("deflate, gzip;q=0.5", True), ("gzip;q=0", False), ("*", True), ("*;q=0", False), ("br", False), ("*, gzip;q=0", False)],
)  # fmt: skip
def test_choice_of_gzip(accept: str, packed: bool) -> None:
    assert wants_gzip(accept) is packed


@given(st.text(max_size=60))
def test_any_header_gives_a_choice(header: str) -> None:
    assert style_for(header) in Style
    assert wants_gzip(header) in (True, False)
