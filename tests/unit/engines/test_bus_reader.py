"""Values of any type, written as the D-Bus Specification says, and read again or skipped."""

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from cgroup_preflight.engines.bus_reader import Reader

_CODES = {"y": "B", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d", "b": "I"}
_ALIGNED = {"s": 4, "o": 4, "a": 4, "g": 1, "v": 1, "(": 8, "{": 8} | {
    kind: struct.calcsize(code) for kind, code in _CODES.items()
}
_BASIC = st.sampled_from("ynqiuxtbsog")
_TYPES = st.recursive(
    st.one_of(_BASIC, st.sampled_from("dv")),
    lambda inner: st.one_of(
        inner.map("a{}".format),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({''.join(parts)})"),
        st.tuples(_BASIC, inner).map(lambda pair: f"a{{{pair[0]}{pair[1]}}}"),
    ),
    max_leaves=4,
)


def parts_of(signature: str) -> list[str]:
    """The complete types in a signature."""
    found = []
    while signature:
        end, depth = 0, 0
        while True:
            depth += (signature[end] in "({") - (signature[end] in ")}")
            end += 1
            if not depth and signature[end - 1] != "a":
                break
        found.append(signature[:end])
        signature = signature[end:]
    return found


def written(at: int, signature: str, draw: st.DrawFn) -> bytes:
    """A value whose padding begins at `at`."""
    kind = signature[0]
    data = b"\0" * (-at % _ALIGNED[kind])
    at += len(data)
    if kind in _CODES:
        size = struct.calcsize(_CODES[kind])
        return data + (
            struct.pack("<I", draw(st.booleans())) if kind == "b" else draw(st.binary(min_size=size, max_size=size))
        )
    if kind in "sog":
        word = draw(st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=9)).encode()
        return data + struct.pack("<B" if kind == "g" else "<I", len(word)) + word + b"\0"
    if kind == "v":
        inner = draw(_BASIC)
        head = b"\1" + inner.encode() + b"\0"
        return data + head + written(at + len(head), inner, draw)
    if kind == "a":
        (inner,) = parts_of(signature[1:])
        begin = at + 4 + -(at + 4) % _ALIGNED[inner[0]]
        items = b""
        for _ in range(draw(st.integers(0, 3))):
            items += written(begin + len(items), inner, draw)
        return data + struct.pack("<I", len(items)).ljust(begin - at, b"\0") + items
    body = b""
    for part in parts_of(signature[1:-1]):
        body += written(at + len(body), part, draw)
    return data + body


@st.composite
def properties(draw: st.DrawFn) -> tuple[bytes, list[str]]:
    """An a{sv} and its names."""
    entries, names = b"", draw(st.lists(st.sampled_from([f"Name{n}" * (n + 1) for n in range(9)]), unique=True))
    for name in names:
        at = 8 + len(entries)
        head = b"\0" * (-at % 8) + struct.pack("<I", len(name)) + name.encode() + b"\0"
        signature = draw(_TYPES)
        head += bytes((len(signature),)) + signature.encode() + b"\0"
        entries += head + written(at + len(head), signature, draw)
    return struct.pack("<II", len(entries), 0) + entries, names


@settings(max_examples=300, deadline=None)
@given(properties(), st.data())
def test_what_is_skipped_changes_nothing_of_what_is_read(made: tuple[bytes, list[str]], data: st.DataObject) -> None:
    """All read one after another, and each one alone, with all others skipped."""
    body, names = made
    every = Reader(body, 0).pairs(frozenset(names))
    assert list(every) == names
    some = data.draw(st.sets(st.sampled_from(names))) if names else set()
    assert repr(Reader(body, 0).pairs(frozenset(some))) == repr({name: every[name] for name in names if name in some})
