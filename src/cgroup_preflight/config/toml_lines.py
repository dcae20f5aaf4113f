"""The line of each key of a TOML text, because `tomllib` keeps no positions.

The text must be one that `tomllib` has accepted: this looks for statements, not for mistakes. A key of an inline table
has the line on which its statement begins.
"""

import re
import tomllib
from collections.abc import Iterator

from cgroup_preflight.core.records import dataclass

Path = tuple[str, ...]

#: No key of the config is nested as deeply; a hostile one could be, and would cost the square of its depth.
_DEPTH_MAX = 8

_TOKEN = re.compile(
    r'(?P<long>"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5})'
    r'|(?P<string>"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\')'
    r"|(?P<comment>#[^\n]*)|(?P<open>[\[{])|(?P<close>[\]}])|(?P<newline>\n)|(?P<other>[^\"'#\[\]{}\n]+|.)",
    re.DOTALL,
)
#: Keys of letters, digits, `_` and `-`, with dots between them (TOML 1.0, "Keys").
_BARE = re.compile(r"[ \t]*[A-Za-z0-9_-]+[ \t]*(?:\.[ \t]*[A-Za-z0-9_-]+[ \t]*)*")
_HEADER = re.compile(r"\[\[?(.*?)\]\]?\s*", re.DOTALL)


def locate(text: str) -> dict[Path, int]:
    """The line (from 1) of every table header and key of `text`, by path; the first one counts."""
    lines: dict[Path, int] = {}
    prefix: Path = ()
    for line, statement in _statements(text):
        if statement.startswith("["):
            header = _HEADER.fullmatch(statement)
            prefix = _key_path(header[1]) if header else prefix
            path = prefix
        else:
            path = prefix + _key_path(_key_text(statement))
        for end in range(1, min(len(path), _DEPTH_MAX) + 1):
            lines.setdefault(path[:end], line)
    return lines


def locate_each(text: str, path: Path) -> dict[Path, int]:
    """The line of every `[[path]]` of `text` and of the keys below it; table number N (from 1) is (*path, N)."""
    lines: dict[Path, int] = {}
    count, current = 0, tuple[str, ...]()
    for line, statement in _statements(text):
        if statement.startswith("["):
            header = _HEADER.fullmatch(statement)
            is_one = statement.startswith("[[") and header is not None and _key_path(header[1]) == path
            count += is_one
            current = (*path, str(count)) if is_one else ()
        if current:
            key = () if statement.startswith("[") else _key_path(_key_text(statement))
            lines.setdefault((*current, *key)[: len(path) + 2], line)
    return lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Comment:
    """A comment with its `#`: its line, and the line that it is `about` (from 1).

    That is where the statement begins that has it, or that it follows. A comment that stands alone is about the next line
    that is no comment.
    """

    text: str
    line: int
    about: int


def comments(text: str) -> list[Comment]:
    """Every comment of `text`, in order."""
    found: list[tuple[str, int, int]] = []
    line, start, depth, is_empty = 1, 1, 0, True
    waiting = 0  # comments at the end of `found` that stand alone, each on its line, so far
    for match in _TOKEN.finditer(text):
        kind, token = match.lastgroup, match.group()
        depth += (kind == "open") - (kind == "close")
        if kind == "comment":
            found.append((token, line, start))
            waiting += is_empty
        elif kind == "newline" and depth <= 0:
            if is_empty and found and found[-1][1] != line:
                waiting = 0  # an empty line
            start, depth, is_empty = line + 1, 0, True
        elif kind == "newline" or token.strip():
            is_empty = is_empty and kind == "newline"
            if not is_empty:
                found[len(found) - waiting :] = [(*item[:2], start) for item in found[len(found) - waiting :]]
                waiting = 0
        line += token.count("\n")
    return [Comment(text=item, line=at, about=about) for item, at, about in found]


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each statement without its comments, and the line on which it begins."""
    line, start, depth, parts = 1, 1, 0, list[str]()
    for match in _TOKEN.finditer(text):
        kind, token = match.lastgroup, match.group()
        if kind == "open":
            depth += 1
        elif kind == "close":
            depth -= 1
        if kind == "newline" and depth <= 0:
            if "".join(parts).strip():
                yield start, "".join(parts).strip()
            parts, start, depth = [], line + 1, 0
        elif kind != "comment":
            parts.append(token)
        line += token.count("\n")
    if "".join(parts).strip():
        yield start, "".join(parts).strip()


def _key_text(statement: str) -> str:
    """The text before the `=` that ends the key; an `=` inside quotes does not."""
    head, mark, _ = statement.partition("=")
    if mark and '"' not in head and "'" not in head:
        return head
    position = 0
    for match in _TOKEN.finditer(statement):
        if match.lastgroup == "other" and "=" in match.group():
            return statement[: match.start() + match.group().index("=")]
        position = match.end()
    return statement[:position]


def _key_path(key: str) -> Path:
    """`a."b.c"` as ("a", "b.c"), split by the TOML reader itself unless all parts are bare."""
    if _BARE.fullmatch(key):
        return tuple(part.strip() for part in key.split("."))
    try:
        node: object = tomllib.loads(f"{key.strip()} = 0")
    except tomllib.TOMLDecodeError:
        return ()
    path: list[str] = []
    while isinstance(node, dict) and node:
        name = next(iter(node))
        path.append(name)
        node = node[name]
    return tuple(path)
