"""How a text is written in a unit file so that systemd reads back exactly that text. The only quoter of this tool.

Sources: systemd.syntax(7) "Quoting", systemd.service(5) "Command lines", systemd.exec(5) Environment=,
systemd.unit(5) "Specifiers". tests/lab/test_slices.py has a real systemd read each kind of word back.
"""

import textwrap
from collections.abc import Iterable

from cgroup_preflight.config.model import Setting
from cgroup_preflight.config.properties import FOLDERS
from cgroup_preflight.core.printable import printable

#: What needs no quotes, besides letters and digits; `%` and `$` are doubled anyway.
_BARE_WORD = "%+,-./:=@_$"
_BARE_VALUE = "_./:,=+-@"


def command_line(words: Iterable[str]) -> str:
    """The value of ExecStart=: the program, then its arguments.

    systemd looks for variables in the arguments only, so a `$` of the program's path is not doubled.
    """
    return " ".join(
        _word(specifiers(word) if not position else specifiers(word).replace("$", "$$"))
        for position, word in enumerate(words)
    )


def _word(text: str) -> str:
    bare = text and all(char.isalnum() or char in _BARE_WORD for char in text)
    return text if bare else _quoted(text)


def variable_line(name: str, value: str) -> str:
    """One Environment= line; `$` has no meaning there."""
    if value and all(char.isascii() and (char.isalnum() or char in _BARE_VALUE) for char in value):
        return f"Environment={name}={value}"
    return f"Environment={_quoted(specifiers(f'{name}={value}'))}"


def specifiers(text: str) -> str:
    """The text with each `%` doubled, because one `%` begins a specifier."""
    return text.replace("%", "%%")


def fits_unquoted(text: str) -> bool:
    """Whether a value that nothing can quote (a path of WorkingDirectory=, StandardOutput=) arrives as it is.

    systemd strips blanks at the end of a line, and takes a backslash there as "goes on in the next line".
    """
    return text.isprintable() and text == text.strip() and not text.endswith("\\")


def setting_pairs(settings: Iterable[Setting]) -> tuple[tuple[str, str], ...]:
    """Settings as (property, text), one pair for each line of the unit file; the config's loader has checked the text."""
    return tuple(
        (item.property, text)
        for item in settings
        for text in (item.value if isinstance(item.value, tuple) else (item.text,))
    )


def setting_lines(settings: Iterable[Setting]) -> list[str]:
    """The `Property=text` lines of settings."""
    return [f"{name}={text}" for name, text in setting_pairs(settings)]


#: Properties with several words, to which each further line adds (systemd.exec(5), systemd.service(5)).
_LISTS = (*FOLDERS, "AmbientCapabilities", "SuccessExitStatus")


def drop_in_lines(settings: Iterable[Setting]) -> list[str]:
    """As `setting_lines`, for a drop-in: a list would add to that of the unit (systemd.resource-control(5)).

    So an empty value comes first, which resets it.
    """
    lines = []
    for item in settings:
        adds = isinstance(item.value, frozenset | tuple) or item.property in _LISTS
        lines += [f"{item.property}="] if adds else []
        lines += setting_lines([item])
    return lines


def comment_lines(text: str) -> list[str]:
    """A comment of any length; a newline in it would end the comment and begin a setting."""
    return textwrap.wrap(printable(text), 110, initial_indent="# ", subsequent_indent="#   ")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{"".join(char if char.isprintable() else _bytes(char) for char in escaped)}"'


def _bytes(char: str) -> str:
    """The bytes of one character in hexadecimal escapes."""
    return "".join(f"\\x{byte:02x}" for byte in char.encode(errors="surrogateescape"))
