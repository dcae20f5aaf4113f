"""A report read back is the report that was written; anything else is refused with its place."""

import copy
import json
import os

import pytest
from hypothesis import given
from tests.unit.render.samples import MIXED, few, reports

from cgroup_preflight.errors import UsageError
from cgroup_preflight.parse_report import ReportShapeError, report_of
from cgroup_preflight.publish.reading import leg_names, read_legs
from cgroup_preflight.render import json_format

from .jobs import FAIL, write_report


@few
@given(reports())
def test_what_is_written_is_read(made):
    text = json_format.render(made)
    try:
        read = report_of(text.encode())
    except ReportShapeError as error:
        # The generator makes places that no run makes; they are refused, not guessed.
        assert ".line" in str(error) or "negative" in str(error) or "whole number" in str(error)
        return
    assert json_format.render(read) == text


def _changed(path, value):
    document = json.loads(json_format.render(MIXED))
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
        (["schema_version"], 2, "schema_version is 2; this version reads 1"),
        (["schema_version"], True, "schema_version"),
        (["schema_version"], "<script>", "none that can be read"),
        (["verdict"], "pass", "better than its findings"),
        (["verdict"], "green", "verdict is none of the words"),
        (["findings"], {}, "findings is not a list"),
        (["findings", 1, "message"], KeyError, "findings[1].message is missing"),
        (["findings", 1, "message"], ["x"], "findings[1].message is not a text"),
        (["findings", 1, "evidence"], {"a": [1]}, "findings[1].evidence holds"),
        (["findings", 1, "location", "line"], 0, "findings[1].location.line"),
        (["findings", 1, "remedies", 0, "commands"], [["a", 1]], "findings[1].remedies[0].commands[0].argv[1]"),
        (["services", 0, "memory_peak_bytes"], 2**70, "not a whole number"),
        (["services", 0, "cpu", "usage_usec"], -1, "negative"),
        (["tool", "name"], "other", "tool.name"),
        (["duration_seconds"], "1", "not a number"),
    ],
)
def test_other_shapes_are_refused(path, value, said):
    with pytest.raises(ReportShapeError, match=said.replace("[", r"\[").replace("]", r"\]")) as caught:
        report_of(_changed(path, value))
    assert "script" not in str(caught.value)


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


def test_a_missing_memory_limit_comes_from_the_files():
    assert report_of(json_format.render(MIXED).encode()).services[0].memory_max_bytes == 67108864


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
    document = json.loads(json_format.render(FAIL))
    document["findings"][0]["location"]["file"] = "/ws/repo/deploy/x.toml"
    made = copy.deepcopy(document)
    (tmp_path / "r.json").write_text(json.dumps(made))
    (leg,) = read_legs([str(tmp_path / "r.json")], root="/ws/repo")
    assert leg.report.findings[0].location.file == "deploy/x.toml"
