"""Breaks lines between words for a terminal's width. Pure.

A command and the content of a file stay on one line, because people copy them; so does a row of a table, which
`report.columns` fits to the width.
"""

import re

_ANSI = re.compile(r"\x1b\[\d+m")
#: What the next lines are indented to: a status before a code, a word and its column, a bar before a line of a log, or a
#: label.
_HEAD = re.compile(r" *(?:[a-z]+ +(?=CGP\d)|\S+ {2,}|\| |[\w-]+: +)?")
#: Blanks before a command or a line of a file in a remedy.
_COPIED = " " * 8
#: Two cells of a row of a table; a finding is none, whatever blanks are in its message.
_ROW = re.compile(r"(?![a-z]+ +CGP\d).*\S {2,}\S.* {2,}\S")


def wrap(text: str, width: int | None) -> str:
    """The text with no line longer than `width` that has a blank to break at; as it is for None."""
    if width is None:
        return text
    return "\n".join(part for line in text.split("\n") for part in _parts(line, width))


def _parts(line: str, width: int) -> list[str]:
    shown = _ANSI.sub("", line)
    if _width(shown) <= width or shown.startswith(_COPIED) or _is_row(shown):
        return [line]
    found = _HEAD.match(shown)
    head = found[0] if found and _width(found[0]) <= width // 2 else ""
    body = shown[len(head) :]
    if not line.endswith(body):  # colour behind the head
        return [line]
    first, *others = _folded(body, width - _width(head))
    indent = head if head.endswith("| ") else " " * _width(head)
    return [line.removesuffix(body) + first, *(indent + part for part in others)]


def _is_row(shown: str) -> bool:
    return not shown.startswith(" ") and _ROW.match(shown) is not None


def _folded(text: str, room: int) -> list[str]:
    lines: list[str] = []
    line = ""
    for number, word in enumerate(text.split(" ")):
        if number == 0:
            line = word
        # A runner of CI reads a line that begins with `::`, or with blanks and `::`, as a command.
        elif _width(line) + 1 + _width(word) > room and word and not word.startswith("::"):
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}"
    return [*lines, line]


def _width(text: str) -> int:
    """Its columns on a terminal: a wide character has two, a mark on another one none (Unicode, UAX 11)."""
    if text.isascii():
        return len(text)
    import unicodedata  # few texts need it

    marks = ("Mn", "Me")
    return sum(
        0 if unicodedata.category(char) in marks else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )
