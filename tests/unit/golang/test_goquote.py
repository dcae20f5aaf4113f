"""Go's quoted strings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.golang.modinfo import QuoteError, quote, quoted_prefix, unquote


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'""', b""),
        (b"``", b""),
        (b'"a b"', b"a b"),
        (b"`a\\n\rb\n`", b"a\\nb\n"),
        (rb'"\a\b\f\n\r\t\v\\\""', b'\a\b\f\n\r\t\v\\"'),
        (rb'"\x41\101\u00e9\U0001F600"', "AAé😀".encode()),
        (b'"\xff"', b"\xef\xbf\xbd"),
        (rb'"\xff"', b"\xff"),
    ],
)
def test_unquote(text: bytes, value: bytes) -> None:
    assert unquote(text) == value
    assert quoted_prefix(text + b"=rest") == text


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b'"', b'"a', b"`a", b"a", b'"a"b', b'"a\nb"', b'"\\', b'"\\"'),
        *(rb'"\'"', rb'"\q"', rb'"\x4"', rb'"\777"', rb'"\ud800"', rb'"\U00110000"'),
    ],
)
def test_what_is_no_literal(text: bytes) -> None:
    with pytest.raises(QuoteError):
        unquote(text)


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ('a b"\\', r'"a b\"\\"'),
        ("\a\b\f\n\r\t\v\0\x7f", r'"\a\b\f\n\r\t\v\x00\x7f"'),
        ("é\xa0\u200b\U000e0001😀", r'"é\u00a0\u200b\U000e0001😀"'),
        ("\udcff", r'"\xff"'),
    ],
)
def test_quote(text: str, literal: str) -> None:
    assert quote(text) == literal


@given(st.binary())
def test_quoting_loses_nothing(data: bytes) -> None:
    literal = quote(data.decode("utf-8", "surrogateescape"))
    assert unquote(literal.encode()) == data


@given(st.binary())
def test_any_bytes_unquote_or_raise(data: bytes) -> None:
    for text in (data, b'"' + data + b'"'):
        try:
            unquote(text)
        except QuoteError:
            continue
