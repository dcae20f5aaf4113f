r"""The file .env of a project: variables for all services. Strict, because a line that is skipped is a bug hard to find.

The form is the one that its readers have in common: `NAME=value`, perhaps `export` before it; single quotes keep all
as it is, double quotes know \n, \t, \" and \\; without quotes a value ends at a blank followed by #.
"""

import re
from collections.abc import Mapping

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.report import Remedy

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)", re.ASCII)
_SINGLE = re.compile(r"'([^']*)'\s*(?:#.*)?")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?')
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_ESCAPED = str.maketrans({"\n": "\\n", "\r": "\\r", '"': '\\"', "\\": "\\\\"})


def variables(text: str, file: str) -> dict[str, str]:
    """The variables of a .env file named `file`. Raises UsageError with the line of the first mistake."""
    found = {}
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        value = _value(match[2]) if match else None
        if match is None or value is None or "\0" in value:
            raise UsageError(
                f"not a variable: {printable(line[:60])}", where=f"{file}:{number}",
                remedy=Remedy(title="write NAME=value, with quotes around a value that has blanks or a #"),
            )  # fmt: skip
        found[match[1]] = value
    return found


def dotenv(variables: Mapping[str, str]) -> str:
    """The text of a .env file with these variables."""
    return "".join(f'{name}="{value.translate(_ESCAPED)}"\n' for name, value in variables.items())


def _value(text: str) -> str | None:
    """The value that a text stands for; None for one with a quote that does not end."""
    if text.startswith("'"):
        match = _SINGLE.fullmatch(text)
        return match[1] if match else None
    if text.startswith('"'):
        match = _DOUBLE.fullmatch(text)
        return re.sub(r"\\(.)", lambda one: _ESCAPES.get(one[1], one[1]), match[1]) if match else None
    return re.split(r"\s#", text, maxsplit=1)[0].strip()
