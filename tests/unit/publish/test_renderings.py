"""Workflow commands, annotations and GitLab's small files: limits and hostile text."""

import json
import re

from hypothesis import given

from cgroup_preflight.core.report import Location, Status
from cgroup_preflight.publish.options import view
from cgroup_preflight.report import annotations, codequality
from cgroup_preflight.report.escape import plain
from cgroup_preflight.report.merge import Leg
from tests.unit.report.samples import MIXED, few, finding, report, reports, texts

_COMMAND = re.compile(r"::(error|warning|notice) (title|file|line)=[^:,\n]*(,(title|file|line)=[^:,\n]*)*::[^\n]*")


@few
@given(reports())
def test_every_line_is_one_command_of_ours(made):
    for placed in (True, False):
        for line in annotations.render(made, placed=placed).splitlines():
            assert _COMMAND.fullmatch(line), line
            assert "##[" not in line
            assert line == plain(line)
            assert not re.search(r"%(?!25|3A|2C)", line)


@few
@given(texts)
def test_no_text_is_a_command(text):
    shown = annotations.no_command(text)
    assert not shown.lstrip().startswith("::")
    assert "##[" not in shown


def test_ten_of_a_kind_and_the_rest_is_counted():
    text = annotations.render(report(*[finding(Status.FAIL, subject=f"s{number}") for number in range(25)]))
    assert text.count("::error ") == 10
    assert "and 16 more" in text.splitlines()[-1]
    exact = annotations.render(report(*[finding(Status.FAIL, subject=f"s{number}") for number in range(10)]))
    assert exact.count("::error ") == 10
    assert " more" not in exact


def test_place_only_where_it_is_wanted():
    assert "file=deploy/cgroup-preflight.toml,line=12" in annotations.render(MIXED)
    unplaced = annotations.render(MIXED, placed=False)
    assert "file=" not in unplaced
    assert "(deploy/cgroup-preflight.toml:12)" in unplaced


@few
@given(reports())
def test_annotations_are_what_the_api_takes(made):
    for batch in annotations.batches(made):
        assert len(batch) <= 50
        for item in batch:
            assert set(item) <= {
                "path",
                "start_line",
                "end_line",
                "annotation_level",
                "title",
                "message",
                "raw_details",
            }
            assert len(item["title"]) <= 255
            assert len(item["message"].encode()) <= 64 * 1024
            assert 1 <= item["start_line"] == item["end_line"] < 2**31
            assert not item["path"].startswith(("/", "../", "./"))
            json.dumps(item).encode("ascii")


def test_batches_of_fifty_the_worst_first():
    items = [finding(Status.WARN, subject=f"w{number}") for number in range(60)]
    items += [
        finding(Status.FAIL, subject=f"f{number}", location=Location(file="c.toml", line=number + 1))
        for number in range(300)
    ]
    batches = annotations.batches(report(*items))
    assert [len(batch) for batch in batches] == [50] * 5
    assert {item["annotation_level"] for batch in batches for item in batch} == {"failure"}
    assert annotations.batches(report(finding(Status.PASS))) == [[]]


def test_gitlab_files_hold_nothing_foreign():
    merged = view((Leg(name="x\nPATH=/evil", report=MIXED), Leg(name="$(id)", report=MIXED)))
    env = codequality.dotenv(merged)
    assert all(re.fullmatch(r"CGROUP_PREFLIGHT_[A-Z]+=[a-z0-9]+", line) for line in env.splitlines())
    assert len(env) < 5000
    links = json.loads(
        codequality.annotations(merged, {"job": "https://gitlab.example/-/jobs/1", "bad": "javascript:x"})
    )
    assert [item["external_link"]["url"] for item in links["cgroup-preflight"]] == ["https://gitlab.example/-/jobs/1"]
