"""Go's quoted strings, as `strconv.Quote` writes and `strconv.Unquote` reads them.

Texts are bytes decoded as UTF-8 with `surrogateescape`, so that any bytes survive the way in and out.
"""

import re

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
_PIECE = re.compile(
    rb"\\(?:([abfnrtv\\\"])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3}))|([^\\\"\n]+)"
)
_SPECIAL = re.compile(r"[^ !#-\[\]-~]")  # everything but plain ASCII, the quote and the backslash
_QUOTED = re.compile(rb'"(?:[^\\"\n]++|\\.)*+"|`[^`]*`', re.DOTALL)  # possessive: never slow, whatever the text


class QuoteError(ValueError):
    """Not a quoted Go string."""


def quoted_prefix(text: bytes) -> bytes:
    """The quoted string at the start of `text`, quotes included.

    Raises:
        QuoteError: there is none.

    """
    match = _QUOTED.match(text)
    if match is None:
        raise QuoteError
    unquote(match.group())
    return match.group()


def unquote(text: bytes) -> bytes:
    """What a Go string literal in double or back quotes stands for.

    Raises:
        QuoteError: it is not one, or goes on after the closing quote.

    """
    if _QUOTED.fullmatch(text) is None:
        raise QuoteError
    inner = text[1:-1]
    if text.startswith(b"`"):
        return inner.replace(b"\r", b"")
    result, position = bytearray(), 0
    while position < len(inner):
        match = _PIECE.match(inner, position)
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
    return '"' + _SPECIAL.sub(lambda match: _quoted_char(match.group()), text) + '"'


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
