"""The file .env: what it says, and the line that it names for a mistake."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.up.dotenv import variables


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("# only a comment\n\n", {}),
        ("A=1\nB=two words # comment\nC=\n", {"A": "1", "B": "two words", "C": ""}),
        ("export A=1", {"A": "1"}),
        ("A = 1", {"A": "1"}),
        ("A='x # $y \\n'", {"A": "x # $y \\n"}),
        ('A="a\\nb\\"c\\\\ #" # yes', {"A": 'a\nb"c\\ #'}),
        ("A=http://h/#x", {"A": "http://h/#x"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("A=1\nA=2", {"A": "2"}),
    ],
)
def test_variables(text, found):
    assert variables(text, ".env") == found


@pytest.mark.parametrize("line", ["no sign", "1A=x", "=x", "A-B=x", "A='x", 'A="x', "A='x' y", "export", "A=\0"])
def test_a_broken_line_is_named(line):
    with pytest.raises(UsageError, match=r"\.env:2: not a variable: "):
        variables(f"OK=1\n{line}\n", ".env")


@given(st.text())
def test_any_text_is_read_or_refused(text):
    try:
        found = variables(text, ".env")
    except UsageError:
        return
    assert all(name.isascii() and name for name in found)


@given(st.text(st.characters(exclude_categories=("C",), exclude_characters="'")))
def test_single_quotes_keep_everything(value):
    assert variables(f"A='{value}'", ".env") == {"A": value}
