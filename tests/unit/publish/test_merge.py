"""Many reports as one view, and the comment made of it."""

import time
from dataclasses import replace

from hypothesis import given

from cgroup_preflight.core.report import Location, Status, Verdict
from cgroup_preflight.publish.options import view
from cgroup_preflight.report import comment as comment_body
from cgroup_preflight.report import merge
from cgroup_preflight.report.annotations import batches
from cgroup_preflight.report.merge import Leg, rebase
from tests.unit.publish.jobs import FAIL, PASS, fleet
from tests.unit.report.forge import show, squeeze
from tests.unit.report.samples import few, finding, report, reports

ABROAD = report(finding(Status.UNVERIFIED, code="CGP511", name="bites"), finding(Status.PASS, code="CGP101"))


def _legs(**named):
    return tuple(Leg(name=name, report=made) for name, made in named.items())


def test_what_differs_comes_first():
    merged = view(_legs(ubuntu=PASS, fedora=FAIL, debian=PASS, alpine=ABROAD))
    assert merged.verdict is Verdict.FAIL
    assert merged.codes[0] == "CGP501"
    assert [row.names for row in merged.rows] == [("fedora",), ("alpine",), ("debian", "ubuntu")]
    first = merged.report.findings[0]
    assert (first.status, first.subject) == (Status.FAIL, "user-api")
    assert "(on 1 of 4 runners: fedora)" in first.message
    assert comment_body.title(merged) == (
        "FAIL on 1 of 4 runners: 1 check failed: CGP501 user-api; 1 check could not run"
    )


def test_equal_runners_are_one_row():
    merged = view(_legs(**{f"runner-{number}": PASS for number in range(9)}))
    assert len(merged.rows) == 1
    assert merged.codes == ()
    assert "9 runners" in comment_body.render(merged)


def test_one_report_is_shown_as_it_is():
    assert view(_legs(only=FAIL)).report is FAIL


@few
@given(reports(), reports())
def test_anything_in_a_report_stays_inert(one, two):
    body = comment_body.render(view((Leg(name="a|b\n@everyone <!-- x", report=one), Leg(name="::error::", report=two))))
    shown = show(body)
    lines = body.splitlines()
    assert lines[0].startswith("## ")
    assert lines[1].startswith(("**To do:**", "**Nothing to do.**", "**Nothing blocks the merge.**"))
    assert "@everyone" not in squeeze(shown.loose)
    assert shown.rows[0] == shown.rows[1]


def test_a_fleet_fits_and_is_quick():
    legs = tuple(Leg(name=f"host-{number:04d}.example", report=made) for number, made in enumerate(fleet(1000, 20)))
    started = time.monotonic()
    merged = view(legs)
    body = comment_body.render(merged, limit=65_000)
    assert time.monotonic() - started < 5
    assert len(body.encode()) <= 65_000
    assert "895 more" in body
    assert "1000 runners" in body
    assert len(merged.report.findings) < 100
    show(body)


def test_every_runner_different_still_fits():
    legs = tuple(
        Leg(
            name=f"h{number}",
            report=report(finding(Status.FAIL, code=f"CGP1{number % 90:02d}", subject=f"s{number}" * 20)),
        )
        for number in range(1000)
    )
    body = comment_body.render(view(legs), limit=65_000)
    assert len(body.encode()) <= 65_000
    assert "Left out to stay below" in body


def test_names_of_many():
    assert merge.some(["a", "b"]) == ["a", "b"]
    assert merge.some([str(number) for number in range(100)]) == ["0", "1", "2", "3", "4", "95 more"]


def test_what_has_no_place_is_at_the_config_of_its_folder():
    bare = report(finding(Status.FAIL, location=None), finding(Status.PASS, location=None))
    (batch,) = batches(rebase(bare, prefix="examples/shop"))
    assert batch[0]["path"] == "examples/shop/cgroup-preflight.toml"
    assert rebase(bare) == bare


def test_rebase_leaves_what_it_cannot_place():
    assert rebase(PASS).findings[0].location.file == "./deploy/cgroup-preflight.toml"


def test_columns_where_runners_differ_come_before_worse_ones_where_they_do_not():
    everywhere = finding(Status.FAIL, code="CGP101")
    some = report(everywhere, finding(Status.WARN, code="CGP120"))
    assert view(_legs(one=some, two=report(everywhere))).codes == ("CGP120", "CGP101")


def test_what_no_runner_could_try_is_a_column():
    untried = report(finding(Status.UNVERIFIED, code="CGP511"), finding(Status.PASS, code="CGP101"))
    assert view(_legs(one=untried, two=untried)).codes == ("CGP511",)


def test_the_version_is_that_of_the_first_runner():
    assert view(_legs(one=FAIL, two=replace(FAIL, tool_version="9"))).report.tool_version == "1.2.3"


def test_the_folder_of_a_report_without_places_is_told_by_one_that_passed():
    made = report(*(finding(status, location=None) for status in (Status.FAIL, Status.PASS, Status.WARN)))
    failed, passed, warned = rebase(made, prefix="shop").findings
    assert (failed.location, warned.location) == (None, None)
    assert passed.location == Location(file="shop/cgroup-preflight.toml", line=1)
    # A report with a place says by it where it was made.
    assert rebase(report(finding(Status.FAIL)), prefix="shop").findings[0].location.line == 12
