"""Build info as data: read from Go's module text, printed exactly as `go version -m` prints it.

The text has tab-separated lines `path`, `mod`, `dep`, `=>` and `build`, some values in Go's quotes. Sources:
runtime/debug/mod.go (`ParseBuildInfo`, `BuildInfo.String`), cmd/go/internal/version and strconv (`Quote`, `Unquote`)
of Go 1.27. This module refuses what Go refuses.

All strings come from the file and are decoded as UTF-8 with `surrogateescape`, so that any bytes survive. They may
have control characters: escape them before they reach a terminal.
"""

import re
from collections.abc import Iterator

from cgroup_preflight.core.records import dataclass, replace
from cgroup_preflight.golang.binary_file import BinaryError
from cgroup_preflight.golang.blob import Blob

_SIMPLE = {
    b"a": b"\a",
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
    b"\\": b"\\",
    b'"': b'"',
}
_ESCAPES = {code.decode(): "\\" + name.decode() for name, code in _SIMPLE.items()}
_PIECE = rb"\\(?:([abfnrtv\\\"])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3}))|([^\\\"\n]+)"
_SPECIAL = r"[^ !#-\[\]-~]"  # everything but plain ASCII, the quote and the backslash
_QUOTED = rb'"(?:[^\\"\n]++|\\.)*+"|`[^`]*`'  # possessive: never slow, whatever the text


class QuoteError(ValueError):
    """Not a quoted Go string."""


def quoted_prefix(text: bytes) -> bytes:
    """The quoted string at the start of `text`, quotes included.

    Raises:
        QuoteError: there is none.

    """
    match = re.match(_QUOTED, text, re.DOTALL)
    if match is None:
        raise QuoteError
    unquote(match.group())
    return match.group()


def unquote(text: bytes) -> bytes:
    """What a Go string literal in double or back quotes stands for.

    Raises:
        QuoteError: it is not one, or goes on after the closing quote.

    """
    if re.fullmatch(_QUOTED, text, re.DOTALL) is None:
        raise QuoteError
    inner = text[1:-1]
    if text.startswith(b"`"):
        return inner.replace(b"\r", b"")
    piece, result, position = re.compile(_PIECE), bytearray(), 0
    while position < len(inner):
        match = piece.match(inner, position)
        if match is None:
            raise QuoteError
        result += _piece(match)
        position = match.end()
    return bytes(result)


def _piece(match: re.Match[bytes]) -> bytes:
    simple, code, short, long, octal, plain = match.groups()
    if plain is not None:  # Go puts U+FFFD for each byte that is not UTF-8
        text = plain.decode("utf-8", "surrogateescape")
        return re.sub("[\udc80-\udcff]", "\ufffd", text).encode()
    if simple is not None:
        return _SIMPLE[simple]
    if code is not None:
        return bytes([int(code, 16)])
    if octal is not None:
        value = int(octal, 8)
        if value > 0xFF:
            raise QuoteError
        return bytes([value])
    value = int(short or long, 16)
    if value > 0x10FFFF or 0xD800 <= value < 0xE000:
        raise QuoteError
    return chr(value).encode()


def quote(text: str) -> str:
    """A Go string literal in double quotes; surrogate escapes in `text` become the bytes they stand for."""
    return '"' + re.sub(_SPECIAL, lambda match: _quoted_char(match.group()), text) + '"'


def _quoted_char(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    value = ord(char)
    if 0xDC80 <= value <= 0xDCFF:
        return f"\\x{value - 0xDC00:02x}"
    if value < 0x20 or value == 0x7F:
        return f"\\x{value:02x}"
    return f"\\u{value:04x}" if value < 0x10000 else f"\\U{value:08x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One module of a build; `sum` is its go.sum checksum, `replace` what a replace directive put there."""

    path: str
    version: str
    sum: str = ""
    replace: "Module | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildInfo:
    """What Go recorded in a program. `path` is the main package, empty if built without modules.

    `main` is None where no module was named. `settings` are (key, value) in the order of the file; a key can
    come twice.
    """

    go_version: str
    path: str = ""
    main: Module | None = None
    deps: tuple[Module, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()

    def setting(self, key: str) -> str | None:
        """The value of the last setting with this key, e.g. "GOARCH"; None if there is none."""
        return dict(self.settings).get(key)

    def render(self, file: str) -> str:
        """The text of `go version -m FILE`, with the final newline.

        To get the very same bytes, encode it as UTF-8 with `surrogateescape`.
        """
        body = "".join(self._lines())
        head = f"{file}: {self.go_version}\n"
        return head + "\t" + body[:-1].replace("\n", "\n\t") + "\n" if body else head

    def _lines(self) -> Iterator[str]:
        if self.path:
            yield f"path\t{self.path}\n"
        if self.main is not None:
            yield _module_text("mod", self.main)
        for dep in self.deps:
            yield _module_text("dep", dep)
        for key, value in self.settings:
            shown_key = quote(key) if not key or _needs_quotes(key) or "=" in key else key
            yield f"build\t{shown_key}={quote(value) if _needs_quotes(value) else value}\n"


def _module_text(word: str, module: Module) -> str:
    head = f"{word}\t{module.path}\t{module.version}"
    if module.replace is None:
        return f"{head}\t{module.sum}\n"
    return f"{head}\n{_module_text('=>', module.replace)}\n"  # Go, too, leaves an empty line here


def _needs_quotes(text: str) -> bool:
    return any(char in text for char in ' \t\r\n"`')


#: No build has more lines, or more backslashes and bytes that are not UTF-8: they bound the time for a hostile text.
MAX_LINES, MAX_ESCAPES = 8192, 8192

_NEEDS_QUOTES = re.compile(rb'[ \t\r\n"`]')


def parse(blob: Blob) -> BuildInfo:
    """The build info that a blob's strings say.

    Raises:
        BinaryError: Go would refuse the text too, or it has more lines or escapes than any build.

    """
    lines = blob.modules.split(b"\n", MAX_LINES)
    if len(lines) > MAX_LINES:
        raise BinaryError("is damaged: its Go build info has too many lines")
    if blob.modules.count(b"\\") + _not_utf8(blob.modules) > MAX_ESCAPES:
        raise BinaryError("is damaged: its Go build info has too many escapes")
    parser = _Parser()
    for number, line in enumerate(lines[:-1], start=1):  # what has no newline is no line for Go
        try:
            parser.take(line)
        except ValueError as error:
            raise BinaryError(f"is damaged: line {number} of its Go build info is malformed") from error
    return BuildInfo(
        go_version=_text(blob.version),
        path=parser.path,
        main=None if parser.main == Module(path="", version="") else parser.main,
        deps=tuple(parser.deps),
        settings=tuple(parser.settings),
    )


def _not_utf8(data: bytes) -> int:
    """How many bytes are no UTF-8."""
    text = _text(data)
    return len(text) - len(text.encode("utf-8", "ignore").decode())


class _Parser:
    """What the lines so far said; `last` is the list that a `=>` line would change, if one may come."""

    def __init__(self) -> None:
        self.path = ""
        self.mains: list[Module] = []
        self.deps: list[Module] = []
        self.settings: list[tuple[str, str]] = []
        self.last: list[Module] | None = None

    @property
    def main(self) -> Module | None:
        return self.mains[-1] if self.mains else None

    def take(self, line: bytes) -> None:
        """Take one line in; other words than the five are left for newer versions of Go.

        Raises:
            ValueError: it is malformed.

        """
        word, tab, rest = line.partition(b"\t")
        if not tab:
            return
        if word == b"path":
            self.path = _text(rest)
        elif word in (b"mod", b"dep"):
            self.last = self.mains if word == b"mod" else self.deps
            self.last.append(_module(rest, columns=(2, 3)))
        elif word == b"=>":
            if self.last is None:
                raise ValueError("a replacement without a module")
            self.last[-1] = replace(self.last[-1], replace=_module(rest, columns=(3,)))
            self.last = None
        elif word == b"build":
            self.settings.append(_setting(rest))


def _module(rest: bytes, *, columns: tuple[int, ...]) -> Module:
    cells = [_text(cell) for cell in rest.split(b"\t", 3)]
    if len(cells) not in columns:
        raise ValueError("wrong number of columns")
    return Module(path=cells[0], version=cells[1], sum=cells[2] if len(cells) == 3 else "")


def _setting(rest: bytes) -> tuple[str, str]:
    if rest[:1] in (b'"', b"`"):
        raw_key = quoted_prefix(rest)
        key = unquote(raw_key)
        equals, raw_value = rest[len(raw_key) : len(raw_key) + 1], rest[len(raw_key) + 1 :]
    else:
        key, equals, raw_value = rest.partition(b"=")
        if not key or _NEEDS_QUOTES.search(key):
            raise ValueError("a key that must be quoted")
    if equals != b"=":
        raise ValueError("no equals sign after the key")
    if raw_value[:1] in (b'"', b"`"):
        return _text(key), _text(unquote(raw_value))
    if _NEEDS_QUOTES.search(raw_value):
        raise ValueError("a value that must be quoted")
    return _text(key), _text(raw_value)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
