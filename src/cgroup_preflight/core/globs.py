"""Globs: the one definition for the config, the artifacts and the files of a guest, the same on every Python.

A glob has names between slashes. In a name `*` is any text, `?` any character, `[a-z]` one of these characters, `[!a-z]`
any other; a name may begin with a dot like any other. `**` alone between slashes is any number of folders, also none, and
at the end all files below. `~`, `$NAME` and `{a,b}` have no meaning.

`pathlib` and `glob` of Python differ from each other and from version to version (`**` at the end gives only folders before
Python 3.13; hidden names), so neither is used. Matching takes at most the product of both lengths, because globs and names
come from pull requests.
"""

from cgroup_preflight.core.quantities import QuantityError
from cgroup_preflight.core.records import dataclass

_ANY, _ONE = "*", "?"
_FOLDERS = "**"


@dataclass(frozen=True, slots=True)
class CharacterSet:
    """`[abc]`: the characters as pairs of first and last, or all others where `negated`."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool

    def has(self, char: str) -> bool:
        """Whether `char` matches."""
        return any(first <= char <= last for first, last in self.ranges) is not self.negated


@dataclass(frozen=True, slots=True)
class Literal:
    """A character as it is; `*` and `?` are the signs themselves."""

    char: str


#: One piece of a name: `*`, `?`, a set or a character.
Token = str | CharacterSet | Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Glob:
    """A glob in parts: `**`, a tuple of tokens, or a name without a wildcard. `text` is as it was written."""

    text: str
    absolute: bool
    parts: tuple[str | tuple[Token, ...], ...]


def parse(text: str) -> Glob:
    """The glob of a text. Raises QuantityError for what people write and no shell is here to expand."""
    if not text or any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise QuantityError(f"{text!r} is not a path", "a path relative to the folder of the config")
    if text.startswith("~"):
        raise QuantityError(f"{text!r}: ~ has no meaning here", "a path relative to the folder of the config")
    names = [name for name in text.split("/") if name not in ("", ".")]
    for name in names:
        if _FOLDERS in name and name != _FOLDERS:
            raise QuantityError(
                f"{text!r}: ** has to stand alone between slashes", "* within a name, **/ for any folder"
            )
    if not names:
        raise QuantityError(f"{text!r} is no path below a folder", "a path relative to the folder of the config")
    if names[-1] == _FOLDERS:
        names.append(_ANY)  # all files below, and not the folder itself
    parts = tuple(_part(name) for index, name in enumerate(names) if names[index - 1 : index + 1] != [_FOLDERS] * 2)
    return Glob(text=text, absolute=text.startswith("/"), parts=parts)


def _part(name: str) -> str | tuple[Token, ...]:
    if name == _FOLDERS:
        return name
    tokens = tuple(_tokens(name))
    return name if all(isinstance(token, Literal) for token in tokens) else tokens


def _tokens(name: str) -> list[Token]:
    tokens: list[Token] = []
    position = 0
    while position < len(name):
        char = name[position]
        end = _set_end(name, position) if char == "[" else 0
        if end:
            tokens.append(_set(name[position + 1 : end]))
            position = end
        elif char in (_ANY, _ONE):
            tokens.append(char)
        else:
            tokens.append(Literal(char))
        position += 1
    return tokens


def _set_end(name: str, start: int) -> int:
    """Where the `]` of a set is, 0 without one; a `]` right at the beginning is a character (fnmatch(3))."""
    first = start + 1 + (name[start + 1 : start + 2] == "!")
    return max(name.find("]", first + 1), 0)


def _set(inside: str) -> CharacterSet:
    negated = inside.startswith("!")
    chars, ranges = inside[negated:], list[tuple[str, str]]()
    position = 0
    while position < len(chars):
        if chars[position + 1 : position + 2] == "-" and position + 2 < len(chars):
            ranges.append((chars[position], chars[position + 2]))
            position += 3
        else:
            ranges.append((chars[position], chars[position]))
            position += 1
    return CharacterSet(tuple(ranges), negated)


def matches_name(part: str | tuple[Token, ...], name: str) -> bool:
    """Whether one part that is not `**` matches one name."""
    if isinstance(part, str):
        return part == name
    at, position, star, mark = 0, 0, -1, 0
    while position < len(name):
        if at < len(part) and part[at] == _ANY:
            star, mark, at = at, position, at + 1
        elif at < len(part) and _matches_char(part[at], name[position]):
            at, position = at + 1, position + 1
        elif star >= 0:
            mark += 1
            at, position = star + 1, mark
        else:
            return False
    return all(token == _ANY for token in part[at:])


def _matches_char(token: Token, char: str) -> bool:
    if isinstance(token, CharacterSet):
        return token.has(char)
    return token.char == char if isinstance(token, Literal) else token == _ONE


def start(glob: Glob) -> frozenset[int]:
    """The parts that a name in the first folder may match, by their numbers: see `after`."""
    return _with_skipped(glob, {0})


def after(glob: Glob, numbers: frozenset[int], name: str, *, recursive: bool = True) -> frozenset[int]:
    """The parts that a name within the folder `name` may match; `complete` where the path so far matches the glob.

    `numbers` are those of the folder that `name` is in. Without `recursive`, `name` is none of the folders of a `**`.
    """
    found = set()
    for number in numbers - {len(glob.parts)}:
        part = glob.parts[number]
        if part != _FOLDERS:
            found |= {number + 1} if matches_name(part, name) else set()
        elif recursive:
            found.add(number)
    return _with_skipped(glob, found)


def complete(glob: Glob, numbers: frozenset[int]) -> bool:
    """Whether the path that leads to these numbers matches."""
    return len(glob.parts) in numbers


def literals(glob: Glob, numbers: frozenset[int]) -> tuple[str, ...] | None:
    """The only names that can match in a folder, None where a part has a wildcard: then the folder must be listed."""
    parts = [glob.parts[number] for number in numbers - {len(glob.parts)}]
    names = tuple(part for part in parts if isinstance(part, str) and part != _FOLDERS)
    return names if len(names) == len(parts) else None


def matches(glob: Glob, path: str) -> bool:
    """Whether a path matches; blank parts and `.` are left out of it."""
    numbers = start(glob)
    for name in path.split("/"):
        if name not in ("", "."):
            numbers = after(glob, numbers, name)
    return complete(glob, numbers)


def _with_skipped(glob: Glob, numbers: set[int]) -> frozenset[int]:
    """`**` is also no folder at all."""
    skipped = {number + 1 for number in numbers if number < len(glob.parts) and glob.parts[number] == _FOLDERS}
    return frozenset(numbers | skipped)
