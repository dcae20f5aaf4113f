"""Reads the files of EnvironmentFile= as systemd does (systemd.exec(5), src/basic/env-file.c)."""

import re

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_QUOTED = r"""'[^']*(?:'|\Z)|"(?:\\(?:.|\Z)|[^"\\])*(?:"|\Z)"""
#: Blanks, a comment, or a name and its value: quoted parts, which can have line ends, then the rest of the line, where a
#: backslash joins the next line (systemd, src/basic/env-file.c).
_ITEM = re.compile(
    rf"[ \t\r\n]+|[#;][^\r\n]*|(.[^=\r\n]*)(?:=((?:[ \t]|{_QUOTED})*)((?:\\(?:.|\Z)|[^\\\r\n])*))?", re.DOTALL
)
_PART = re.compile(_QUOTED, re.DOTALL)


def variables_of_file(text: str) -> dict[str, str]:
    """The variables that a file of EnvironmentFile= sets, as systemd reads it; comments begin with # or ;."""
    found = {}
    for match in _ITEM.finditer(text):
        name, quoted, rest = match[1], match[2], match[3]
        if quoted is not None and _NAME.fullmatch(name := name.rstrip(" \t")):
            value = "".join(_unquoted(part[0]) for part in _PART.finditer(quoted))
            found[name] = value + re.sub(r"\\(.?)", _escaped, rest.rstrip(" \t"), flags=re.DOTALL)
    return found


def _escaped(match: re.Match[str]) -> str:
    return match[1].strip("\r\n")


def _unquoted(part: str) -> str:
    inner = part[1:].removesuffix(part[0])
    if part[0] == "'":
        return inner
    # Within double quotes other backslashes stay, as in a shell.
    return re.sub(r'\\(["\\`$\n])', _escaped, inner)
