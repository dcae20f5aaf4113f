"""Lines are broken between words only, and nothing is lost."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.report.columns import aligned
from cgroup_preflight.report.wrap import wrap


def test_no_width_leaves_the_text_as_it_is():
    text = "warn       CGP512 guest: " + "word " * 100
    assert wrap(text, None) == text


@pytest.mark.parametrize(
    ("line", "broken"),
    [
        ("fail       CGP504 api: the kernel killed it twice", "fail       CGP504 api: the kernel killed\n           it twice"),
        ("unverified CGP504 api: the kernel killed it twice", "unverified CGP504 api: the kernel killed\n           it twice"),
        ("    do:   raise MemoryMax to 128M or lower it", "    do:   raise MemoryMax to 128M or\n          lower it"),
        ("    | panic: out of memory in the main goroutine", "    | panic: out of memory in the main\n    | goroutine"),
        ("      use a slice of your own, or remove the line", "      use a slice of your own, or remove\n      the line"),
        ("    read: /a/very/long/path/that/has/no/blank/to/break/at", "    read: /a/very/long/path/that/has/no/blank/to/break/at"),
        ("          sudo systemctl set-property api.slice MemoryMax=1G", None),
        ("            | a line of a file that somebody is going to copy", None),
        ("service       MemoryMax  peak  headroom  CPU used  throttled", None),
    ],
)  # fmt: skip
def test_the_next_lines_are_below_the_text_and_what_is_copied_stays_whole(line, broken):
    assert wrap(line, 41) == (broken or line)


def test_a_finding_with_blanks_in_its_message_is_no_row_of_a_table():
    text = "warn       CGP506 a: one  two  three four five six seven eight nine"
    assert all(len(line) <= 40 for line in wrap(text, 40).splitlines())
    row = "service       MemoryMax  peak  headroom  CPU used"
    assert wrap(row, 40) == row


def test_wide_characters_take_two_columns_and_marks_none():
    wide = "warn       CGP506 a: " + "日本語 " * 9 + "end"
    assert wrap(wide, 40).splitlines()[0] == "warn       CGP506 a: 日本語 日本語"
    marked = "warn       CGP506 a: " + "e\N{COMBINING ACUTE ACCENT}" * 19
    assert wrap(marked, 40) == marked


@pytest.mark.parametrize("blanks", [" ", "  ", "   "])
@pytest.mark.parametrize("width", range(40, 90))
def test_no_line_becomes_a_command_of_a_runner(width, blanks):
    """A container of a CI job can have a terminal."""
    text = "fail       CGP505 api: the answer was one two three four five six" + f"{blanks}::error::seven eight" * 3
    assert not any(line.lstrip().startswith("::") for line in wrap(text, width).splitlines())


def test_colour_takes_no_room():
    plain = wrap("warn       CGP512 guest: tested in a VM, not on this machine", 40)
    coloured = wrap("\x1b[33mwarn      \x1b[0m CGP512 guest: tested in a VM, not on this machine", 40)
    assert coloured.replace("\x1b[33m", "").replace("\x1b[0m", "") == plain
    assert plain.count("\n") == 1


_LINES = st.text(alphabet="ab :|/", max_size=200)


@given(st.sampled_from(["", "fail       CGP1 ", "    do:   ", "    | ", "  "]), _LINES, st.integers(40, 120))
def test_nothing_is_lost_and_only_words_without_a_blank_are_longer(head, rest, width):
    made = wrap(head + rest, width)
    bare = re.sub(r"[ |]", "", made.replace("\n", ""))
    assert bare == re.sub(r"[ |]", "", head + rest)
    for line in made.split("\n"):
        if len(line) > width and made != head + rest:
            assert len(line.split()[-1]) + len(line) - len(line.lstrip()) >= width // 2


_CELLS = st.text(alphabet="abc", min_size=1, max_size=12)


@given(st.integers(2, 9).flatmap(lambda count: st.lists(st.lists(_CELLS, min_size=count, max_size=count), min_size=1)))
def test_a_table_that_is_too_wide_becomes_several_with_the_first_column_in_each(rows):
    (whole,) = ["\n".join(aligned(rows))]
    parts = "\n".join(aligned(rows, 40)).split("\n\n")
    assert all(len(line) <= 40 for part in parts for line in part.split("\n"))
    assert all(part.split("\n")[0].startswith(rows[0][0]) for part in parts)
    assert sum(len(part.split("\n")[0].split()) - 1 for part in parts) == len(rows[0]) - 1
    if max(map(len, whole.split("\n"))) <= 40:
        assert parts == [whole]
