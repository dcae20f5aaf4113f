"""Places and fingerprints."""

import pytest
from hypothesis import given

from cgroup_preflight.config import FILE_NAME
from cgroup_preflight.core.report import Location, Report, Status
from cgroup_preflight.report.place import CONFIG_NAME, place, relative
from tests.unit.report.samples import few, finding, report, reports


def test_the_config_has_one_name() -> None:
    assert CONFIG_NAME == FILE_NAME


@pytest.mark.parametrize(
    ("path", "expected"),
    [("./a/b.toml", "a/b.toml"), ("a//b/../c.toml", "a/c.toml"), ("../../x.toml", "x.toml"), ("/etc/x.toml", "x.toml"),
     ("", FILE_NAME), (".", FILE_NAME), ("..", FILE_NAME), ("//", FILE_NAME)],
)  # fmt: skip
def test_paths_are_relative_and_stay_inside(path: str, expected: str) -> None:
    assert relative(path) == expected


def test_neither_line_nor_message_changes_a_fingerprint() -> None:
    before = report(finding(Status.FAIL), finding(Status.FAIL))
    after = report(
        finding(Status.FAIL, message="now 7", location=Location(file="deploy/cgroup-preflight.toml", line=99)),
        finding(Status.FAIL, message="now 8"),
    )
    assert [item.fingerprint for item in place(before, Status)] == [item.fingerprint for item in place(after, Status)]


def test_a_finding_without_a_place_is_at_the_first_line_of_the_config() -> None:
    items = list(place(report(finding(Status.FAIL, location=None), finding(Status.FAIL)), Status))
    assert [(item.path, item.line) for item in items] == [
        ("deploy/cgroup-preflight.toml", 1),
        ("deploy/cgroup-preflight.toml", 12),
    ]


@few
@given(reports())
def test_fingerprints_are_unique(some: Report) -> None:
    items = list(place(some, Status))
    assert len({item.fingerprint for item in items}) == len(items) == len(some.findings)
    assert all(item.line >= 1 and item.path and not item.path.startswith(("/", "./", "../")) for item in items)
