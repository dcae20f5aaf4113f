"""What one Go source file tells without a Go toolchain: package, imports, addresses. Pure; the text is hostile.

Source of the rules: the Go language specification (comments, string literals, package clause) and
`go help buildconstraint`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

#: Comments go, literals stay. An unfinished literal is one, too: looking for its end again from every quote
#: inside would take hours on a file made for that.
_TOKEN = re.compile(
    r"//[^\n]*|/\*.*?(?:\*/|\Z)|(?P<string>\"(?:\\[^\n]|[^\"\\\n])*+(?:\"|\\?(?=\n|\Z))|`[^`]*(?:`|\Z))"
    r"|'(?:\\[^\n]|[^'\\\n])*+(?:'|\\?(?=\n|\Z))",
    re.DOTALL,
)
_PACKAGE = re.compile(r"\s*package\s+(\w{1,200})", re.ASCII)
_MAIN = re.compile(r"^func\s+main\s*\(\s*\)", re.MULTILINE)
_BUILD = re.compile(r"^//go:build[ \t]+([^\n]{1,500})|^//[ \t]*\+build[ \t]+([^\n]{1,500})", re.MULTILINE)
_ADDRESS = re.compile(r"(?:127\.0\.0\.1|localhost|0\.0\.0\.0|\[::1?\])?:(\d{2,5})", re.ASCII)
_PORT_FLAG = re.compile(r'\bInt\(\s*"[\w.-]{0,40}port"\s*,\s*(\d{2,5})\b', re.ASCII | re.IGNORECASE)
_IMPORT = re.compile(r"[A-Za-z0-9][\w.~-]{0,100}(?:/[\w.~-]{1,100}){1,20}", re.ASCII)
_HEALTH = "healthz?|healthy|health[-_]?check|readyz?|readiness|livez?|liveness|alive|ping"
_ROUTE = re.compile(rf"(?:GET )?(/(?:[\w.-]{{1,40}}/){{0,4}}_?(?:{_HEALTH}))", re.ASCII)
#: Systems and compilers that these services are built for; every other word in a constraint counts as unset.
_TAGS = frozenset({"linux", "unix", "gc", "cgo", "amd64", "arm64"})
_OTHER_SYSTEMS = re.compile(
    r"_(?:aix|android|darwin|dragonfly|freebsd|illumos|ios|js|netbsd|openbsd|plan9|solaris|wasip1|windows)"
    r"(?:_[a-z0-9]+)?\.go$"
)
_WORD = re.compile(r"\s*(\|\||&&|[!()]|[\w.]+)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class GoFile:
    """Facts of one file; `ports` are in literals such as ":8080", `routes` look like health checks.

    `imports` holds every literal that has the form of an import path with a slash.
    """

    package: str
    has_main: bool
    imports: frozenset[str]
    ports: tuple[int, ...]
    routes: tuple[str, ...]


def read_file(name: str, text: str) -> GoFile | None:
    """The facts of the file `name`; None for a test, a file for another system, and what is not Go."""
    if name.endswith("_test.go") or _OTHER_SYSTEMS.search(name):
        return None
    code = _TOKEN.sub(lambda found: found["string"] or " ", text)
    package = _PACKAGE.match(code.removeprefix("\ufeff"))
    if package is None or not _is_built(text):
        return None
    strings = [found[1:-1] for found in _strings(text)]
    ports = [match[1] for item in strings if (match := _ADDRESS.fullmatch(item))] + _PORT_FLAG.findall(code)
    return GoFile(
        package=package[1],
        has_main=package[1] == "main" and _MAIN.search(code) is not None,
        imports=frozenset(item for item in strings if _IMPORT.fullmatch(item)),
        ports=tuple(dict.fromkeys(port for text in ports if 1 <= (port := int(text)) <= 65535)),
        routes=tuple(dict.fromkeys(match[1] for item in strings if (match := _ROUTE.fullmatch(item)))),
    )


def _strings(text: str) -> Iterator[str]:
    for match in _TOKEN.finditer(text):
        if match["string"]:
            yield match["string"]


def _is_built(text: str) -> bool:
    """Whether the constraints above the package clause let a Linux build have the file."""
    head = re.split(r"^package\s", text, maxsplit=1, flags=re.MULTILINE)[0]
    for match in _BUILD.finditer(head):
        if match[1] is not None and not _holds(match[1]):
            return False
        # The old form: blanks are "or"; of several lines each must hold.
        if match[2] is not None and not any(_old_holds(option) for option in match[2].split()):
            return False
    return True


def _old_holds(option: str) -> bool:
    return all(_is_set(term.removeprefix("!")) != term.startswith("!") for term in option.split(","))


def _is_set(tag: str) -> bool:
    return tag in _TAGS or re.fullmatch(r"go1(\.\d+)?", tag) is not None


def _holds(expression: str) -> bool:
    """A `//go:build` expression; True for one that cannot be read, as nothing is known then."""
    words = [match[1] for match in _WORD.finditer(expression)]
    try:
        value, rest = _either(words, 0)
    except (IndexError, RecursionError):
        return True
    return value or rest != len(words)


def _either(words: list[str], at: int) -> tuple[bool, int]:
    value, at = _both(words, at)
    while at < len(words) and words[at] == "||":
        other, at = _both(words, at + 1)
        value = value or other
    return value, at


def _both(words: list[str], at: int) -> tuple[bool, int]:
    value, at = _term(words, at)
    while at < len(words) and words[at] == "&&":
        other, at = _term(words, at + 1)
        value = value and other
    return value, at


def _term(words: list[str], at: int) -> tuple[bool, int]:
    if words[at] == "!":
        value, at = _term(words, at + 1)
        return not value, at
    if words[at] == "(":
        value, at = _either(words, at + 1)
        return value, at + 1
    return _is_set(words[at]), at + 1
