"""Reading the reports of the command line: names, order, limits, and tokens in them."""

import os
from dataclasses import replace

import pytest

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Origin, Status
from cgroup_preflight.host.json_files import leg_names
from cgroup_preflight.publish.receipt import Delivery, Outcome, with_receipt
from cgroup_preflight.publish.reports import read_legs
from cgroup_preflight.publish.secret import Secret
from cgroup_preflight.report import codec
from tests.unit.publish.jobs import FAIL, PASS, write_report
from tests.unit.report.samples import SERVICE, finding, report

MIB = 1 << 20


def _padded(path, size):
    text = codec.render(PASS).encode()
    path.write_bytes(text + b" " * (size - len(text)))
    return str(path)


def test_a_report_has_the_name_of_its_origin_or_of_its_file(tmp_path):
    one, two = write_report(tmp_path / "one.json"), write_report(tmp_path / "two.json", PASS)
    told = write_report(tmp_path / "3.json", replace(PASS, origin=Origin(id="i", group="g", name="arm", job="leg")))
    assert [leg.name for leg in read_legs([one])] == ["one"]
    assert [leg.name for leg in read_legs([one, told, two])] == ["one", "arm", "two"]
    absent = str(tmp_path / "absent")
    assert [leg.name for leg in read_legs([absent, one], may_lack=True)] == ["one"]
    assert read_legs([absent], may_lack=True) == ()
    with pytest.raises(UsageError, match="cannot read the report"):
        read_legs([absent])
    assert [leg.report.verdict.value for leg in read_legs([two, one])] == ["pass", "fail"]


def test_a_folder_means_its_json_files_and_nothing_twice(tmp_path):
    first = write_report(tmp_path / "in" / "b" / "r.json")
    write_report(tmp_path / "in" / "a" / "r.json")
    (tmp_path / "in" / "notes.txt").write_text("no report")
    assert [leg.name for leg in read_legs([str(tmp_path / "in")])] == ["a", "b"]
    assert [leg.name for leg in read_legs([first, str(tmp_path / "in"), first])] == ["b", "a"]
    os.symlink(tmp_path / "in", tmp_path / "link")
    with pytest.raises(UsageError, match="cannot read the report"):
        read_legs([str(tmp_path / "link")])


def test_a_file_at_the_limit_is_read_and_one_above_is_not(tmp_path):
    path = _padded(tmp_path / "r.json", 32 * MIB)
    assert len(read_legs([path])) == 1
    with open(path, "ab") as file:
        file.write(b" ")
    with pytest.raises(UsageError, match="larger than 32 MiB"):
        read_legs([path])


def test_all_files_together_have_a_limit(tmp_path):
    path = _padded(tmp_path / "r0.json", 32 * MIB)
    paths = [path, *(str(tmp_path / f"r{number}.json") for number in range(1, 9))]
    for other in paths[1:]:
        os.link(path, other)
    assert len(read_legs(paths[:8])) == 8
    with pytest.raises(UsageError, match="all reports together are larger than 256 MiB"):
        read_legs(paths)


def test_two_thousand_reports_and_no_more(tmp_path):
    paths = [str(tmp_path / f"{number}.json") for number in range(2001)]
    with pytest.raises(UsageError, match="2001 reports, but at most 2000"):
        read_legs(paths)
    with pytest.raises(UsageError, match="cannot read the report"):
        read_legs(paths[1:])


@pytest.mark.parametrize(("token", "hidden"), [("abcdef", True), ("abcde", False)])
def test_tokens_of_six_characters_and_more_are_hidden(tmp_path, token, hidden):
    path = write_report(tmp_path / "r.json", report(finding(Status.FAIL, message=f"key={token};")))
    (leg,) = read_legs([path], hide=(Secret(token),))
    assert leg.report.findings[0].message == ("key=***;" if hidden else f"key={token};")


@pytest.mark.parametrize(("kept", "shown"), [(5, "abcde"), (6, "***"), (9, "***")])
def test_a_token_that_the_end_of_a_line_cuts_is_hidden_from_six_characters_on(tmp_path, kept, shown):
    token = "abcdefghij"
    line = "x" * (300 - kept) + token[:kept]
    path = write_report(
        tmp_path / "r.json", report(finding(Status.FAIL), services=(replace(SERVICE, log_tail=(line,)),))
    )
    (leg,) = read_legs([path], hide=(Secret("unrelated"), Secret(token)))
    assert leg.report.services[0].log_tail == ("x" * (300 - kept) + shown,)
    (leg,) = read_legs([path])
    assert leg.report.services[0].log_tail == (line,)


def test_the_receipt_of_an_earlier_delivery_is_dropped(tmp_path):
    told = with_receipt(FAIL, [Outcome(channel="comment", delivery=Delivery.FAILED, detail="d")])
    (leg,) = read_legs([write_report(tmp_path / "r.json", told)])
    assert [item.code for item in leg.report.findings] == [item.code for item in FAIL.findings]


@pytest.mark.parametrize(("files", "names"), [
    (["a/x/r.json", "a/y/r.json"], ["x", "y"]), (["a/x/r.json", "b/x/r.json"], ["a", "b"]), (["a/b.json"], ["b"]),
    (["x/1.json", "x/2.json", "y/1.json"], ["x/1", "x/2", "y/1"]), (["./a.json", "b/../c.json"], ["a", "c"]),
    (["a.json", "a.JSON", "a"], ["a", "a (2)", "a (3)"]), (["r.json", "x/r.json"], ["r", "x/r"]),
])  # fmt: skip
def test_names_are_short_and_unique(files, names):
    assert leg_names(files) == names
