"""Reads values out of D-Bus messages (D-Bus Specification 0.43, "Marshaling", "Type System"), little-endian."""

import struct
from collections.abc import Iterator

#: struct(3) codes of the types of fixed size, by D-Bus's; of fractions and open files only the size matters here.
_FIXED = {"y": "B", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "Q", "h": "I"}
_CODE_SIZES = {code: struct.calcsize(code) for code in _FIXED.values()}
_SIZES = {kind: struct.calcsize(code) for kind, code in _FIXED.items()} | {"b": 4}
#: Sizes by signature, as written in a message, of the types that are that and nothing more.
_SIMPLE = {bytes((1, ord(kind), 0)): size for kind, size in _SIZES.items()}
#: The signatures of text, as written; and the first characters of types that begin at multiples of eight.
_STRINGS = (b"\1s", b"\1o")
_EIGHTS = b"({xtd"
_U32 = struct.Struct("<I").unpack_from


class Reader:
    """Reads values one after another; `at` is where the next one may begin."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at

    def value(self, signature: str) -> object:
        """The first value of `signature`."""
        kind = signature[0]
        if kind in _FIXED:
            return self._fixed(_FIXED[kind])
        if kind == "b":
            return "yes" if self._fixed("I") else "no"
        if kind in "so":
            at = ((self._at + 3) & -4) + 4
            self._at = at + _U32(self._data, at - 4)[0] + 1
            return self._data[at : self._at - 1].decode()
        if kind == "g":
            return self._text("B")
        if kind == "v":
            return self.value(self._text("B"))
        if kind == "a":
            return list(self._array(_first(signature[1:])))
        self._align(8)
        parts, inner = [], signature[1 : len(_first(signature)) - 1]
        while inner:
            one = _first(inner)
            parts.append(self.value(one))
            inner = inner[len(one) :]
        return tuple(parts)

    def pairs(self, wanted: frozenset[str]) -> dict[str, object]:
        """Of an `a{sv}`, the pairs whose names are `wanted`; the other values are skipped.

        A unit has some three hundred properties, nearly all of a simple type: those are skipped without a call.
        """
        data, names, found = self._data, {name.encode() for name in wanted}, dict[str, object]()
        size = self._fixed("I")
        self._align(8)
        at, end = self._at, self._at + size
        while at < end:
            begin = ((at + 7) & -8) + 4
            at = begin + _U32(data, begin - 4)[0] + 1
            name = data[begin : at - 1]
            if name in names:
                self._at = at
                found[name.decode()] = self.value("v")
                at = self._at
                continue
            # Nearly all the time of an answer is here, so this calls nothing for the usual types.
            simple = _SIMPLE.get(data[at : at + 3])
            if simple is not None:
                at = ((at + 2 + simple) & -simple) + simple
            elif data[at : at + 2] in _STRINGS:
                at = (at + 6) & -4
                at += _U32(data, at)[0] + 5
            elif data[at + 1 : at + 2] == b"a":
                inner = data[at + 2]
                at = (at + data[at] + 5) & -4
                size = _U32(data, at)[0]
                at = (((at + 11) & -8) if inner in _EIGHTS else at + 4) + size
            else:
                self._at = at
                self._pass("v")
                at = self._at
        return found

    def _pass(self, signature: str) -> None:
        """Skips one value of `signature`; of an array only the size is read."""
        kind = signature[0]
        if kind in _FIXED or kind == "b":
            size = _SIZES[kind]
            self._at += -self._at % size + size
        elif kind in "sog":
            size = self._fixed("B" if kind == "g" else "I")
            self._at += size + 1
        elif kind == "v":
            self._pass(self._text("B"))
        elif kind == "a":
            size = self._array_size(signature[1:])
            self._at += size
        else:
            self._align(8)
            inner = signature[1 : len(_first(signature)) - 1]
            while inner:
                one = _first(inner)
                self._pass(one)
                inner = inner[len(one) :]

    def fields(self) -> dict[object, object]:
        """The array of codes and variants in the header of each message."""
        size = self._fixed("I")
        self._align(8)
        end, found = self._at + size, dict[object, object]()
        while self._at < end:
            self._align(8)
            code = self._fixed("B")
            found[code] = self.value("v")
        return found

    def _text(self, code: str) -> str:
        size = self._fixed(code)
        data = self._data[self._at : self._at + size]
        self._at += size + 1
        return data.decode()

    def _array(self, inner: str) -> Iterator[object]:
        size = self._array_size(inner)
        end = self._at + size
        while (at := self._at) < end:
            yield self.value(inner)
            if self._at == at:
                raise ValueError("elements of no size")

    def _array_size(self, inner: str) -> int:
        """The size of an array whose first element comes next, bytes."""
        size = self._fixed("I")
        self._align(8 if inner[0] in "({xtd" else 1 if inner[0] in "ygv" else 2 if inner[0] in "nq" else 4)
        return size

    def _fixed(self, code: str) -> int:
        size = _CODE_SIZES[code]
        self._align(size)
        (number,) = struct.unpack_from(f"<{code}", self._data, self._at)
        self._at += size
        return int(number)

    def _align(self, size: int) -> None:
        self._at += -self._at % size


def _first(signature: str) -> str:
    """The first complete type."""
    if signature[0] == "a":
        return "a" + _first(signature[1:])
    if signature[0] not in "({":
        return signature[0]
    depth = 0
    for at, char in enumerate(signature):
        depth += (char in "({") - (char in ")}")
        if depth == 0:
            return signature[: at + 1]
    raise ValueError(f"not a signature: {signature!r}")
