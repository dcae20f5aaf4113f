"""How several reports become one, and the comment made of it: order, counts, places."""

from dataclasses import replace

import pytest

from cgroup_preflight.core.report import Location, Report, Status, Verdict
from cgroup_preflight.publish.options import view
from cgroup_preflight.report import comment as comment_body
from cgroup_preflight.report.merge import Leg, rebase
from tests.unit.report.samples import GOOD, PROVED, SERVICE, finding, report


def _legs(**named: Report) -> tuple[Leg, ...]:
    return tuple(Leg(name=name, report=made) for name, made in named.items())


def _fails(*codes: str, **more: object) -> Report:
    return report(*(finding(Status.FAIL, code=code, **more) for code in codes))


def test_of_equal_status_findings_of_only_some_runners_come_first() -> None:
    merged = view(_legs(one=_fails("CGP501"), two=_fails("CGP501", "CGP502"))).report
    assert [(item.code, item.message) for item in merged.findings] == [
        ("CGP502", "memory.max is not in force (on 1 of 2 runners: two)"),
        ("CGP501", "memory.max is not in force (on all 2 runners)"),
    ]


def test_findings_are_sorted_by_status_code_and_subject() -> None:
    some = report(
        finding(Status.PASS, code="CGP101"), finding(Status.SKIP, code="CGP101"), finding(Status.WARN, code="CGP102"),
        finding(Status.WARN, code="CGP101", subject="b"), finding(Status.WARN, code="CGP101", subject="a"),
        finding(Status.UNVERIFIED, code="CGP103"), finding(Status.FAIL, code="CGP104"),
    )  # fmt: skip
    merged = view(_legs(one=some, two=some)).report
    assert [(item.status.value, item.code, item.subject) for item in merged.findings] == [
        ("fail", "CGP104", "user-api"), ("unverified", "CGP103", "user-api"), ("warn", "CGP101", "a"),
        ("warn", "CGP101", "b"), ("warn", "CGP102", "user-api"), ("skip", "CGP101", "user-api"),
        ("pass", "CGP101", "user-api"),
    ]  # fmt: skip


def test_findings_of_other_subjects_files_and_statuses_stay_apart() -> None:
    here = Location(file="a.toml", line=1)
    one = report(finding(Status.FAIL), finding(Status.FAIL, location=here), finding(Status.FAIL, location=None))
    two = report(finding(Status.FAIL, message="otherwise"), finding(Status.WARN), finding(Status.FAIL, subject="x"))
    merged = view(_legs(one=one, two=two)).report
    assert len(merged.findings) == 5
    assert [item.message for item in merged.findings if "differ" in item.message] == [
        "memory.max is not in force (on all 2 runners; messages differ)"
    ]


def test_a_runner_counts_once_however_often_it_found_the_same() -> None:
    merged = view(_legs(one=_fails("CGP501", "CGP501"), two=report(finding(Status.PASS)))).report
    assert merged.findings[0].message == "memory.max is not in force (on 1 of 2 runners: one)"


def test_the_services_times_and_host_of_several() -> None:
    early = replace(_fails("CGP501"), started_at="2026-01-01T00:00:00Z", duration_seconds=1.0)
    late = replace(report(*PROVED, services=(GOOD,)), started_at="2026-01-02T00:00:00Z", duration_seconds=9.0)
    merged = view(_legs(late=late, early=early)).report
    assert (merged.started_at, merged.duration_seconds, merged.host) == ("2026-01-01T00:00:00Z", 9.0, None)
    assert merged.services == (replace(SERVICE, name="early: user-api"),)


def test_rows_the_worst_first_then_the_larger_ones_then_by_name() -> None:
    ok, bad = report(finding(Status.PASS, code="CGP101")), _fails("CGP101")
    warned = report(finding(Status.WARN, code="CGP101"))
    rows = view(_legs(z=warned, b=ok, a=ok, y=bad, x=report(finding(Status.UNVERIFIED, code="CGP101")))).rows
    assert [(row.names, row.verdict, row.cells) for row in rows] == [
        (("y",), Verdict.FAIL, (Status.FAIL,)),
        (("x",), Verdict.UNVERIFIED, (Status.UNVERIFIED,)),
        (("a", "b"), Verdict.PASS, (Status.PASS,)),
        (("z",), Verdict.PASS, (Status.WARN,)),
    ]
    same = view(_legs(d=ok, c=warned)).rows
    assert [row.names for row in same] == [("c",), ("d",)]


def test_a_cell_is_the_worst_of_its_check_and_empty_where_the_check_is_missing() -> None:
    both = report(
        finding(Status.PASS, code="CGP101"), finding(Status.FAIL, code="CGP101"), finding(Status.WARN, code="CGP101")
    )
    merged = view(_legs(one=both, two=report(finding(Status.PASS, code="CGP102"))))
    assert merged.codes == ("CGP101", "CGP102")
    assert [row.cells for row in merged.rows] == [(Status.FAIL, None), (None, Status.PASS)]


def test_checks_that_passed_or_were_skipped_everywhere_are_no_columns() -> None:
    fine = report(
        finding(Status.PASS, code="CGP101"), finding(Status.SKIP, code="CGP102"), finding(Status.WARN, code="CGP103")
    )
    assert view(_legs(one=fine, two=fine)).codes == ("CGP103",)


@pytest.mark.parametrize(
    ("file", "root", "prefix", "expected"),
    [
        ("/repo/a/c.toml", "/repo", "", "a/c.toml"),
        ("/repo/a/c.toml", "/repo/", "sub", "a/c.toml"),
        ("/repository/c.toml", "/repo", "", "/repository/c.toml"),
        ("/repo/c.toml", "", "", "/repo/c.toml"),
        ("./c.toml", "/repo", "shop", "shop/c.toml"),
        ("../c.toml", "", "shop/x", "shop/c.toml"),
        ("./c.toml", "/repo", "", "./c.toml"),
    ],
)
def test_places_become_those_of_the_repository(file: str, root: str, prefix: str, expected: str) -> None:
    made = rebase(report(finding(Status.FAIL, location=Location(file=file, line=3))), root=root, prefix=prefix)
    assert made.findings[0].location == Location(file=expected, line=3)


def test_no_place_is_invented_without_a_folder_or_a_finding() -> None:
    bare = report(finding(Status.PASS, location=None))
    assert rebase(bare, prefix=".") == bare
    assert rebase(bare, prefix="") == bare
    assert rebase(report(), prefix="shop") == report()


def test_the_table_of_runners() -> None:
    codes = [f"CGP{number}" for number in range(101, 108)]
    one = report(*(finding(Status.FAIL, code=code) for code in codes))
    two = report(*(finding(status, code=code) for code, status in zip(codes, [*Status, Status.PASS], strict=False)))
    body = comment_body.render(view(_legs(one=one, two=two)))
    assert (
        "\n**2 runners:** ❌ 2 fail. Checks with different results come first. The table has the first 5 of 7 checks.\n"
        in body
    )
    lines = [line for line in body.splitlines() if line.startswith(("| ❌ <code>one", "| ❌ <code>two"))]
    assert len(lines) == 2
    assert all(line.count("|") == 7 for line in lines)
    assert lines[0] == "| ❌ <code>one</code> | ❌ | ❌ | ❌ | ❌ | ❌ |"


def test_a_comment_of_equal_runners() -> None:
    ok = report(finding(Status.PASS, code="CGP101"))
    body = comment_body.render(view(_legs(a=ok, b=ok, c=ok)), note="see @you")
    assert "\n**3 runners:** ✅ 3 pass. All have the same results.\n" in body
    assert "| ✅ <code>a</code>, <code>b</code>, <code>c</code> (3) |\n" in body
    assert body.endswith("\n<sub>see <code>&#64;<wbr>you</code></sub>\n")
    assert "<code>b</code> (2) |\n" in comment_body.render(view(_legs(a=ok, b=ok)))
    many = report(*(finding(Status.FAIL, subject=f"s{number}") for number in range(99)))
    assert len(comment_body.render(view(_legs(a=many)), limit=15_000, note="@" * 99).encode()) <= 15_000
    assert comment_body.render(view(_legs(a=ok)), note="end").endswith("\n<sub>end</sub>\n")
    assert "<sub>" not in comment_body.render(view(_legs(a=ok)))


def test_a_comment_of_several_leaves_services_to_the_runners() -> None:
    body = comment_body.render(view(_legs(one=_fails("CGP501"), two=_fails("CGP501"))))
    assert "| Service |" not in body
    lines = body.splitlines()
    assert lines[1].startswith("**To do:** raise MemoryMax")
    assert lines.index("| Check | Found |") > next(n for n, line in enumerate(lines) if "**2 runners:**" in line)
