"""As much of HPACK (RFC 7541) as one gRPC call needs: headers to send, and one header to find in an answer. Pure.

Nothing here keeps a table of earlier headers, because a header that is sent once on a connection refers to none.
"""

from collections.abc import Iterable, Iterator

_INDEXED, _WITH_INDEX, _SIZE_UPDATE = 0x80, 0x40, 0x20
_HUFFMAN = 0x80
#: The most bytes of an integer: a larger one is longer than any block (5.1).
_INTEGER_BYTES = 4
#: Of the code of appendix B, the characters that are looked for.
_CODES = {
    "-": "010110", "0": "00000", "1": "00001", "2": "00010", "3": "011001", "4": "011010", "5": "011011", "6": "011100",
    "7": "011101", "8": "011110", "9": "011111", "a": "00011", "c": "00100", "g": "100110", "p": "101011", "r": "101100",
    "s": "01000", "t": "01001", "u": "101101",
}  # fmt: skip


class HeaderError(ValueError):
    """A header block that is none."""


def literal(name: str, value: str) -> bytes:
    """A header that no table keeps; name and value have at most 126 bytes each (6.2.2)."""
    return b"".join((b"\0", *(bytes((len(text),)) + text for text in (name.encode(), value.encode()))))


def coded(text: str) -> bytes:
    """A text of the characters above in the code of appendix B; ones fill the last byte."""
    bits = "".join(_CODES[char] for char in text)
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def find(block: bytes, name: str, values: Iterable[str]) -> str:
    """Which of `values` the header `name` of a block has; empty without that header.

    The name is in no static table. Raises HeaderError, also for another value.
    """
    spelled = {spelling: text for text in values for spelling in ((False, text.encode()), (True, coded(text)))}
    for found, value in _headers(block):
        if found in ((False, name.encode()), (True, coded(name))):
            if value not in spelled:
                raise HeaderError(f"{name} is {value[1][:20]!r}")
            return spelled[value]
    return ""


#: Whether it is in the code of appendix B, and its bytes.
_String = tuple[bool, bytes]


def _headers(block: bytes) -> Iterator[tuple[_String | None, _String]]:
    """The headers with a value of their own; the name is None where it is one of a table (6.1 to 6.3)."""
    at = 0
    while at < len(block):
        first = block[at]
        if first & _INDEXED:
            _, at = _integer(block, at, 7)
        elif not first & _WITH_INDEX and first & _SIZE_UPDATE:
            _, at = _integer(block, at, 5)
        else:
            name: _String | None = None
            index, at = _integer(block, at, 6 if first & _WITH_INDEX else 4)
            if index == 0:
                name, at = _string(block, at)
            value, at = _string(block, at)
            yield name, value


def _string(block: bytes, at: int) -> tuple[_String, int]:
    if at >= len(block):
        raise HeaderError("a header without its end")
    is_coded = bool(block[at] & _HUFFMAN)
    length, at = _integer(block, at, 7)
    if at + length > len(block):
        raise HeaderError("a header without its end")
    return (is_coded, block[at : at + length]), at + length


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """An integer that begins in the last `bits` of a byte, and where the next thing begins (5.1)."""
    most = (1 << bits) - 1
    value, at = block[at] & most, at + 1
    if value < most:
        return value, at
    for turn, byte in enumerate(block[at : at + _INTEGER_BYTES]):
        value += (byte & 0x7F) << (7 * turn)
        if not byte & 0x80:
            return value, at + turn + 1
    raise HeaderError("an integer without its end")
