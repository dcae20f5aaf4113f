"""Parsing Go's module text: tab-separated lines `path`, `mod`, `dep`, `=>` and `build`.

Source: runtime/debug/mod.go (`ParseBuildInfo`) of Go 1.27; what Go refuses is refused here.
"""

import re
from dataclasses import dataclass, field

from cgroup_preflight.core.records import replace
from cgroup_preflight.golang.blob import Blob
from cgroup_preflight.golang.goquote import quoted_prefix, unquote
from cgroup_preflight.golang.image import BinaryError
from cgroup_preflight.golang.modinfo import BuildInfo, Module

#: More lines, and more backslashes or bytes that are no UTF-8, than any build has: they keep a hostile text cheap.
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


@dataclass(slots=True, kw_only=True)
class _Parser:
    """What the lines so far said; `last` is the list that a `=>` line would change, if one may come."""

    path: str = ""
    mains: list[Module] = field(default_factory=list)
    deps: list[Module] = field(default_factory=list)
    settings: list[tuple[str, str]] = field(default_factory=list)
    last: list[Module] | None = None

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
