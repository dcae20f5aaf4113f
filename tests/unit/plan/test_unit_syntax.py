"""What this tool writes in a unit file is what systemd reads: a reader by systemd.syntax(7) reads it back."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cgroup_preflight.core.printable import printable
from cgroup_preflight.plan.unit_syntax import command_line, comment_lines, fits_unquoted, specifiers
from tests.unit.core.making import config_of
from tests.unit.plan.making import wanted_service

ODD = ("a b", "", "50%n", "$HOME", "${HOME}", "$$", 'say "x"', "it's", "back\\slash", "tab\there", "two\nlines", "é ☃",
       ";", "-", "\\x41", "#c", "end\\", "[Service]", "\u2028", "\x1b[31m", "%%", "*", "@x", "+x", "!x", "|x")  # fmt: skip
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


def read_words(line: str) -> list[str]:
    """The words of ExecStart=: quotes and escapes first, then specifiers, then variables, of arguments only."""
    assert "\n" not in line
    assert line.isprintable()
    assert not line.endswith("\\")
    words, rest = [], line
    while rest:
        match = re.match(r'"((?:[^"\\]|\\.)*)"(?: |$)|([^"\'\\ ]+)(?: |$)', rest)
        assert match, rest
        assert match[0] not in (";", "; "), "a word `;` would end the command"
        rest = rest[match.end() :]
        words.append(_specified(_unescaped(match[1]) if match[1] is not None else match[2]))
    program, *arguments = words
    return [program, *(_expanded(word) for word in arguments)]


def _unescaped(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        if match[0].startswith("\\x"):
            return bytes.fromhex(match[0].replace("\\x", "")).decode()
        assert match[1] in '\\"', match[0]
        return match[1]

    return re.sub(r"(?:\\x[0-9a-f]{2})+|\\(.)", one, text)


def _specified(text: str) -> str:
    assert "%" not in text.replace("%%", ""), "a specifier"
    return text.replace("%%", "%")


def _expanded(text: str) -> str:
    assert "$" not in text.replace("$$", ""), "a variable"
    return text.replace("$$", "$")


@given(st.lists(TEXT | st.sampled_from(ODD), max_size=5))
@example(list(ODD))
def test_words_arrive_as_they_are(words: list[str]) -> None:
    command = ["/opt/my $program/50%", *words]
    assert read_words(command_line(command)) == command


@pytest.mark.parametrize("word", ["--port=80", "a/b", "x@y", "1,2", "a_b.c-d+e:f"])
def test_plain_words_need_no_quotes(word: str) -> None:
    assert command_line(["/bin/x", word]) == f"/bin/x {word}"


def test_a_path_that_is_not_text_keeps_its_bytes() -> None:
    path = b"/srv/\xe9".decode(errors="surrogateescape")
    assert command_line([path]) == '"/srv/\\xe9"'
    assert not fits_unquoted(path)


@pytest.mark.parametrize(
    ("text", "fits"),
    [("/a", True), ("/a b", True), ("/a ", False), (" /a", False), ("/a\\", False), ("/a\\b", True), ("/a\nb", False)],
)
def test_which_paths_need_no_quotes(text: str, fits: bool) -> None:
    assert fits_unquoted(text) is fits


@given(TEXT)
def test_a_percent_sign_is_no_specifier(text: str) -> None:
    assert _specified(specifiers(text)) == text


@given(TEXT)
@example("a\n[Service]\nExecStart=/bin/sh")
@example("word " * 60)
def test_a_comment_stays_one(text: str) -> None:
    assert all(line.startswith("#") and line.isprintable() for line in comment_lines(text))
    assert printable(text).isprintable()


@given(st.lists(TEXT | st.sampled_from(ODD), max_size=4))
@example(list(ODD))
def test_a_whole_service_starts_its_program_with_the_arguments_of_the_smoke_run(words: list[str]) -> None:
    text = wanted_service(config_of("[services.a]\nbinary = 'x'\n"), words)
    (line,) = [line for line in text.split("\n") if line.startswith("ExecStart=")]
    assert read_words(line.removeprefix("ExecStart=")) == ["/usr/bin/x", *words]
    assert all(re.fullmatch(r"|#.*|\[(Unit|Service|Install)\]|\w+=.*", line) for line in text.split("\n"))
