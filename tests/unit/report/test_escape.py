"""Foreign text in each medium."""

import re

import pytest
from hypothesis import given

from cgroup_preflight.report import escape
from tests.unit.report.forge import show, squeeze
from tests.unit.report.samples import HOSTILE, texts

REFERENCE = re.compile(r"[@#!&~%^$][\w(]|\bGH-\d|https?:|www\.|:\w+:|\b[0-9a-f]{7,40}\b")


@given(texts)
def test_inline_markdown_shows_the_text_and_nothing_else(text: str) -> None:
    for function in (escape.code, escape.prose):
        markdown = function(text)
        shown = show(f"x {markdown} x")
        assert "\n" not in markdown
        assert shown.tags <= {"p", "code", "wbr"}
        assert squeeze(shown.text) == squeeze(f"x {escape.plain(escape.clip(text)) or ' '} x")


@given(texts)
def test_prose_leaves_nothing_loose_that_a_forge_acts_on(text: str) -> None:
    assert not REFERENCE.search(show(f"x {escape.prose(text)} x").loose)


@given(texts)
def test_a_block_keeps_lines_and_begins_no_quick_action(text: str) -> None:
    markdown = escape.pre(text)
    shown = show(f"x\n\n{markdown}\n\nx")
    assert shown.tags <= {"p", "pre", "wbr"}
    assert squeeze(shown.text) == squeeze(f"x {escape.plain(escape.clip(text), keep_newlines=True)} x")
    assert not re.search(r"^\s*/", markdown, re.MULTILINE)
    assert "@e" not in markdown


def test_prose_keeps_sentences_readable() -> None:
    assert escape.prose("cgroup v2 is mounted, 2 of 3 limits (all known) hold") == (
        "cgroup v2 is mounted, 2 of 3 limits (all known) hold"
    )
    assert escape.prose("mounted at /sys/fs/cgroup already") == "mounted at <code>/sys/fs/cgroup</code> already"
    assert escape.prose("(PID 1 is process_api): (see a_b).") == (
        "(PID 1 is <code>process&#95;api</code>): (see <code>a&#95;b</code>)."
    )
    assert escape.prose("see a_b c|d now") == "see <code>a&#95;b c&#124;d</code> now"


def test_clip_says_how_much_is_missing() -> None:
    assert escape.clip("x" * 12, 10) == "x" * 10 + "... (2 characters left out)"
    assert escape.clip("x" * 10, 10) == "x" * 10


@pytest.mark.parametrize("text", HOSTILE)
def test_a_sarif_message_has_no_link_and_no_placeholder(text: str) -> None:
    message = escape.sarif(text)
    assert not re.search(r"(?<!\\)(?:\\\\)*[\[\]]", message)
    assert "{" not in message.replace("{{", "")


@given(texts)
def test_a_path_is_a_uri_reference(text: str) -> None:
    assert re.fullmatch(r"(?:[A-Za-z0-9/_.~-]|%[0-9A-F]{2})*", escape.uri_path(text))


def test_brackets_and_braces_of_a_sarif_message_are_no_links_and_no_placeholders():
    assert escape.sarif("{0} [a](b) \\ {") == "{{0}} \\[a\\](b) \\\\ {{"
    assert escape.sarif("}") == "}}"


def test_the_end_of_a_log_is_bounded_harmless_and_stays_so():
    tail = ("lost", *(f"line {number}" for number in range(18)), "\x1b[31m" * 100, "\u202e" * 51)
    shown = escape.log_lines(tail)
    assert shown[0] == "line 0"
    assert len(shown) == 20
    assert shown[-2] == ("\\x1b[31m" * 100)[:300]
    assert shown[-1] == ("\\u202e" * 51)[:300]
    assert escape.log_lines(tuple(shown)) == shown
    assert escape.log_lines(()) == []


@pytest.mark.parametrize("text", ["##[add-mask]a", "a ##[stop-commands]b", "###[x]", "\N{BELL}##[x]", "##\n[x"])
def test_a_text_for_a_terminal_is_no_command_of_an_old_runner(text):
    assert "##[" not in escape.plain(text)
    assert escape.plain(escape.plain(text)) == escape.plain(text)
