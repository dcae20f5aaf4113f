"""A report read back is the report that was written; anything else is refused with its place."""

import copy
import json
import os
from dataclasses import replace

import pytest
from hypothesis import given

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Status
from cgroup_preflight.host.json_files import leg_names
from cgroup_preflight.publish.reports import read_legs
from cgroup_preflight.publish.secret import Secret
from cgroup_preflight.report import codec
from cgroup_preflight.report.read import ReportShapeError, report_of
from tests.unit.publish.jobs import FAIL, write_report
from tests.unit.report.samples import MIXED, SERVICE, few, finding, report, reports


@few
@given(reports())
def test_what_is_written_is_read(made):
    text = codec.render(made)
    try:
        read = report_of(text.encode())
    except ReportShapeError as error:
        # The generator makes places that no run makes; they are refused, not guessed.
        assert ".line" in str(error)
        return
    assert codec.render(read) == text


def _changed(path, value):
    document = json.loads(codec.render(MIXED))
    at = document
    for key in path[:-1]:
        at = at[key]
    if value is KeyError:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["schema_version"], 2, "schema_version is 2, newer than the 1 that this version reads: update cgroup"),
        (["schema_version"], 999_999, "schema_version is 999999, newer"),
        (["schema_version"], 1_000_000, "schema_version is not a version number: run again"),
        (["schema_version"], 0, "schema_version is 0, older than 1: run again with this version"),
        (["schema_version"], KeyError, "schema_version is missing: run again with this version"),
        (["schema_version"], True, "not a version number"),
        (["schema_version"], 1.0, "not a version number"),
        (["schema_version"], "<script>", "not a version number"),
        (["host"], None, "host is not an object"),
        (["host"], [], "host is not an object"),
        (["verdict"], "pass", "better than its findings"),
        (["verdict"], "green", "verdict is not a word that the schema allows"),
        (["findings"], {}, "findings is not a list"),
        (["findings", 1, "message"], KeyError, "findings[1].message is missing"),
        (["findings", 1, "message"], ["x"], "findings[1].message is not a text"),
        (["findings"], [{}] * 20_001, "findings has 20001 entries; at most 20000 are read"),
        (["findings", 1, "status"], ["pass"], "findings[1].status is not a word that the schema allows"),
        (["services", 0, "exit_status"], -(2**64), "services[0].exit_status is not a whole number"),
        (["services", 0, "limits", 0, "ok"], 1, "services[0].limits[0].ok is not true or false"),
        (["findings", 1, "evidence"], {"a": [1]}, "findings[1].evidence is not an object of texts"),
        (["findings", 1, "location", "line"], 0, "findings[1].location.line"),
        (
            ["findings", 1, "remedies", 0, "commands"],
            [["a", 1]],
            "findings[1].remedies[0].commands[0] is not a list of texts",
        ),
        (["services", 0, "memory_peak_bytes"], 2**70, "not a whole number"),
        (["services", 0, "cpu", "usage_usec"], -1, "services[0].cpu.usage_usec is not a whole number of 0 or more"),
        (["tool", "name"], "other", "tool.name"),
        (["duration_seconds"], "1", "not a number"),
        (["duration_seconds"], -5, "duration_seconds is not a number of 0 or more"),
        (["duration_seconds"], 2**63 + 2**20, "duration_seconds is not a number of 0 or more"),
        (
            ["findings", 1, "remedies", 0, "commands"],
            [[]],
            "findings[1].remedies[0].commands[0] is not a list of texts",
        ),
        (["services", 0, "exit_status"], True, "services[0].exit_status is not a whole number"),
        (["services", 0, "exit_status"], 1.0, "services[0].exit_status is not a whole number"),
        (["duration_seconds"], True, "duration_seconds is not a number of 0 or more"),
        (["services", 0, "log_tail"], ["x"] * 21, "services[0].log_tail is not a list of at most 20 texts"),
        (
            ["services", 0, "log_tail"],
            ["x" * 301],
            "services[0].log_tail is not a list of at most 20 texts of at most 300",
        ),
        (["services", 0, "log_tail", 1], 1, "services[0].log_tail is not a list"),
        (["services", 0, "memory_max_bytes"], "64M", "services[0].memory_max_bytes is not a whole number"),
    ],
)
def test_other_shapes_are_refused(path, value, said):
    with pytest.raises(ReportShapeError, match=said.replace("[", r"\[").replace("]", r"\]")) as caught:
        report_of(_changed(path, value))
    assert "script" not in str(caught.value)


def test_a_number_too_large_for_a_float_is_no_evidence():
    data = _changed(["findings", 1, "evidence"], {"a": 12345}).replace(b"12345", b"1e999")
    with pytest.raises(ReportShapeError, match="evidence is not an object of texts"):
        report_of(data)


def test_the_largest_and_smallest_values_are_read():
    for value in (2**63, -(2**63), None):
        assert report_of(_changed(["services", 0, "exit_status"], value)).services[0].exit_status == value
    evidence = {"huge": 10**400, "flag": True, "none": None, "share": 0.5, "text": "x" * 5000}
    assert report_of(_changed(["findings", 1, "evidence"], evidence)).findings[1].evidence == evidence
    assert report_of(_changed(["services", 0, "log_tail"], ["x" * 300] * 20)).services[0].log_tail == ("x" * 300,) * 20


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"schema_version": 1',
        b"[" * 100_000,
        b'{"a": NaN}',
        b'{"schema_version": ' + b"1" * 5000 + b"}",
    ],
)
def test_no_report_at_all(data):
    with pytest.raises(ReportShapeError):
        report_of(data)


@pytest.mark.parametrize(
    "data", [b'{"schema_version": 1, "schema_version": 1}', b'{"duration_seconds": 1e999, "tool": {"a": 1, "a": 2}}']
)
def test_a_key_twice_could_be_read_in_two_ways(data):
    with pytest.raises(ReportShapeError, match="repeated key"):
        report_of(data)


@pytest.mark.parametrize(
    ("expected", "limit"),
    [("33554432", 33554432), ("max", 67108864), ("infinity", 67108864), ("9" * 30, 67108864), ("\u0663", 67108864)],
)
def test_the_memory_limit_of_an_older_file_comes_from_its_limits(expected, limit):
    document = json.loads(codec.render(MIXED))
    del document["services"][0]["memory_max_bytes"]
    del document["services"][0]["log_tail"]
    document["services"][0]["limits"].append(
        {"file": "a.slice/memory.max", "expected": expected, "actual": expected, "ok": True}
    )
    read = report_of(json.dumps(document).encode()).services[0]
    assert (read.memory_max_bytes, read.log_tail) == (limit, ())


def test_the_memory_limit_in_force_is_the_one_in_the_file():
    tight = replace(SERVICE, memory_max_bytes=32 << 20)
    none = replace(SERVICE, memory_max_bytes=None)
    made = report(finding(Status.FAIL), services=(tight, replace(none, name="other")))
    read = report_of(codec.render(made).encode())
    assert [item.memory_max_bytes for item in read.services] == [32 << 20, None]


def test_a_token_is_hidden_even_where_a_long_line_of_the_log_cuts_it(tmp_path):
    token = "glpat-abcdefghijklmnop"
    lines = (f"key {token}", "x" * 290 + token, "y" * 296 + token, "z" * 283 + token[:10])
    made = report(finding(Status.FAIL), services=(replace(SERVICE, log_tail=lines),))
    path = write_report(tmp_path / "r.json", made)
    (leg,) = read_legs([path], hide=(Secret(token),))
    first, second, third, fourth = leg.report.services[0].log_tail
    assert first == "key ***"
    assert second == "x" * 290 + "***"
    assert third == "y" * 296 + token[:4]  # four characters tell nothing
    assert fourth == "z" * 283 + token[:10]  # a line that was not cut


def test_names_are_what_differs():
    assert leg_names(["r/ubuntu/report.json", "r/fedora/report.json"]) == ["ubuntu", "fedora"]
    assert leg_names(["a.json", "b.json"]) == ["a", "b"]
    assert leg_names(["report.json"]) == ["report"]
    assert leg_names(["x/a.json", "y/a.txt"]) == ["x", "y"]
    assert leg_names(["a.json", "a.txt"]) == ["a", "a (2)"]


def test_files_of_an_untrusted_job(tmp_path):
    write_report(tmp_path / "in" / "one" / "report.json")
    write_report(tmp_path / "in" / "two" / "report.json")
    assert [leg.name for leg in read_legs([str(tmp_path / "in")])] == ["one", "two"]
    os.symlink("/etc/passwd", tmp_path / "in" / "x.json")
    with pytest.raises(UsageError, match="cannot read") as caught:
        read_legs([str(tmp_path / "in")])
    assert "root:" not in str(caught.value)
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(UsageError, match="regular"):
        read_legs([str(tmp_path / "pipe.json")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no report"):
        read_legs([str(tmp_path / "empty")])
    with pytest.raises(UsageError, match="cannot read"):
        read_legs(["a\0b"])


def test_places_become_those_of_the_repository(tmp_path):
    write_report(tmp_path / "r.json")
    (leg,) = read_legs([str(tmp_path / "r.json")], prefix="examples/shop")
    assert leg.report.findings[0].location.file == "examples/shop/deploy/cgroup-preflight.toml"
    document = json.loads(codec.render(FAIL))
    document["findings"][0]["location"]["file"] = "/ws/repo/deploy/x.toml"
    made = copy.deepcopy(document)
    (tmp_path / "r.json").write_text(json.dumps(made))
    (leg,) = read_legs([str(tmp_path / "r.json")], root="/ws/repo")
    assert leg.report.findings[0].location.file == "deploy/x.toml"
