"""Build constraints of a Go source file: whether a Linux build has it (`go help buildconstraint`). Pure; hostile text."""

import re

#: Systems and compilers that these services are built for; every other word in a constraint counts as unset.
_TAGS = frozenset({"linux", "unix", "gc", "amd64", "arm64"})
_BUILD = re.compile(r"^//go:build[ \t]+([^\n]{1,500})|^//[ \t]*\+build[ \t]+([^\n]{1,500})", re.MULTILINE)
_OTHER_SYSTEMS = re.compile(
    r"_(?:aix|android|darwin|dragonfly|freebsd|illumos|ios|js|netbsd|openbsd|plan9|solaris|wasip1|windows)"
    r"(?:_[a-z0-9]+)?\.go$"
)
_WORD = re.compile(r"\s*(\|\||&&|[!()]|[\w.]+)", re.ASCII)


def is_for_linux(name: str) -> bool:
    """Whether the file's name is not that of a test or of another system."""
    return not name.endswith("_test.go") and _OTHER_SYSTEMS.search(name) is None


def is_built(text: str, *, cgo: bool) -> bool:
    """Whether the constraints above the package clause let a Linux build have the file."""
    tags = _TAGS | {"cgo"} if cgo else _TAGS
    head = re.split(r"^package\s", text, maxsplit=1, flags=re.MULTILINE)[0]
    for match in _BUILD.finditer(head):
        if match[1] is not None and not _holds(match[1], tags):
            return False
        # The old form: blanks are "or"; of several lines each must hold.
        if match[2] is not None and not any(_old_holds(option, tags) for option in match[2].split()):
            return False
    return True


def _old_holds(option: str, tags: frozenset[str]) -> bool:
    return all(_is_set(term.removeprefix("!"), tags) != term.startswith("!") for term in option.split(","))


def _is_set(tag: str, tags: frozenset[str]) -> bool:
    return tag in tags or re.fullmatch(r"go1(\.\d+)?", tag) is not None


def _holds(expression: str, tags: frozenset[str]) -> bool:
    """A `//go:build` expression; True for one that cannot be read, as nothing is known then."""
    words = [match[1] for match in _WORD.finditer(expression)]
    try:
        value, rest = _either(words, 0, tags)
    except (IndexError, RecursionError):
        return True
    return value or rest != len(words)


def _either(words: list[str], at: int, tags: frozenset[str]) -> tuple[bool, int]:
    value, at = _both(words, at, tags)
    while at < len(words) and words[at] == "||":
        other, at = _both(words, at + 1, tags)
        value = value or other
    return value, at


def _both(words: list[str], at: int, tags: frozenset[str]) -> tuple[bool, int]:
    value, at = _term(words, at, tags)
    while at < len(words) and words[at] == "&&":
        other, at = _term(words, at + 1, tags)
        value = value and other
    return value, at


def _term(words: list[str], at: int, tags: frozenset[str]) -> tuple[bool, int]:
    if words[at] == "!":
        value, at = _term(words, at + 1, tags)
        return not value, at
    if words[at] == "(":
        value, at = _either(words, at + 1, tags)
        return value, at + 1
    return _is_set(words[at], tags), at + 1
