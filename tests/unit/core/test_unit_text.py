"""The reader of unit files; tests/lab/test_own_units.py has a real systemd beside it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.core.unit_text import last, parse_unit, values, with_names


def _pairs(text: str) -> list[tuple[str, str, str]]:
    return [(item.section, item.key, item.value) for item in parse_unit(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[Service]\nA=1\n", [("Service", "A", "1")]),
        ("[Service]\n  A =  b c  \n", [("Service", "A", "b c")]),
        ("[Service]\nA=b \\\n  c\nD=e", [("Service", "A", "b c"), ("Service", "D", "e")]),
        ("[Service]\nA=b \\\n# no\n; no\n  c\n", [("Service", "A", "b c")]),
        ("[Service]\nA=b\\\n\n", [("Service", "A", "b")]),
        ("# A=1\n;B=2\nC=3\n[X]\nD\n=5\n", [("X", "", "5")]),
        ("[Unit]\nA=1\n[Service]\nA=2\n", [("Unit", "A", "1"), ("Service", "A", "2")]),
        ("[Service]\nA=b=c\n", [("Service", "A", "b=c")]),
        ("[Service]\nA=\n", [("Service", "A", "")]),
    ],
)
def test_assignments_of_a_unit_file(text: str, expected: list[tuple[str, str, str]]) -> None:
    assert _pairs(text) == expected


def test_a_list_can_be_reset_and_the_last_value_counts() -> None:
    lines = parse_unit("[Service]\nA=1\nA=2\nA=\nA=3\nA=4\nB=5\nB=\n", "x.service")
    assert [(item.value, item.file, item.line) for item in values(lines, "Service", "A")] == [
        ("3", "x.service", 5), ("4", "x.service", 6),
    ]  # fmt: skip
    assert (last(lines, "Service", "A"), last(lines, "Service", "B", "none"), last(lines, "Unit", "A")) == (
        "4",
        "none",
        "",
    )


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("%n %N %p %i|", "a-b.service", "a-b.service a-b a-b |"),
        (
            "%n %N %p %i %I %P %j %J",
            r"foo-bar@x-y\x2dz.service",
            r"foo-bar@x-y\x2dz.service foo-bar@x-y\x2dz foo-bar x-y\x2dz x/y-z foo/bar bar bar",
        ),
        ("%f", "a@b-c.service", "/b/c"),
        ("100%% %t %h", "a.service", "100%% %t %h"),
        ("%%n", "a.service", "%%n"),
    ],
)
def test_names_of_the_unit_and_no_other_specifier(text: str, unit: str, expected: str) -> None:
    assert with_names(text, unit) == expected


@given(st.text(max_size=300))
def test_any_text_can_be_read(text: str) -> None:
    for item in parse_unit(text):
        assert "\n" not in item.value
        assert item.value == item.value.strip()
        with_names(item.value, "a@b.service")
