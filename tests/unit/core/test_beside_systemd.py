"""Each value that this tool accepts is the number that systemd reads; what it refuses beyond that is named here."""

import re
from functools import partial

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cgroup_preflight.core import quantities as q
from tests.unit.core import systemd_model as systemd

SPAN_WORDS = st.sampled_from(
    ["us", "µs", "ms", "msec", "s", "sec", "m", "min", "minutes", "h", "hr", "hours", "d", "days", ""]
)
SIZE_WORDS = st.sampled_from([*"EPTGMKB", ""])
#: Digits up to what no machine word has, many of them 9 or 0: there truncation and rounding differ.
DIGITS = st.one_of(
    st.text("0123456789", min_size=1, max_size=25), st.text("09", min_size=1, max_size=25), st.just("99999999999999999")
)
BLANK = st.sampled_from(["", "", " ", "\t"])


@st.composite
def numbers(draw, words):
    parts = []
    for word in draw(st.lists(words, min_size=1, max_size=3)):
        whole = draw(st.one_of(st.integers(0, 200).map(str), DIGITS))
        fraction = draw(st.one_of(st.just(""), DIGITS.map(".{}".format)))
        parts.append(f"{whole}{fraction}{draw(BLANK)}{word}{draw(BLANK)}")
    return "".join(parts)


PLAUSIBLE_SIZES = st.one_of(numbers(SIZE_WORDS), st.text("0123456789.+- EGMKBm\t", max_size=10))
PLAUSIBLE_SPANS = st.one_of(numbers(SPAN_WORDS), st.text("0123456789.+- smhdu\t", max_size=10))


def ours(parse, text):
    try:
        return parse(text)
    except q.QuantityError:
        return None


@given(PLAUSIBLE_SIZES)
@example("0.1E")
@example("1.9999999999999999G")
@example("63.9999999999999999M")
@example("64.00000000000000000000001M")
@example("1.99999999999999999999G")
@example("0.3333333333333333T")
@example("18446744073709551616")
@example("9223372036854775808")
@example("9223372036854775807")
def test_sizes_are_those_of_systemd(text):
    found, real = ours(q.parse_size, text), systemd.size(text)
    if found is not None:
        assert found.bytes == real
    elif real is not None:
        # A sign; a last blank, which the reader of the config has taken away; 8E and more, which no kernel counts.
        assert re.search(r"\+|^-|[ \t]$", text) or real >= 8 << 60, text


@given(PLAUSIBLE_SPANS)
@example("0.00166666min")
@example("0.0016666666min")
@example("0.00027777h")
@example("0.99999999999999999999s")
@example("0.100000000000000000001s")
@example("0.123456789012345678901234567890ms")
@example("99999999999999999999s")
@example("100ms 50")
@example("1.1.1")
def test_spans_are_those_of_systemd(text):
    found, real = ours(q.parse_span, text), systemd.span(text)
    if found is not None:
        assert found == real
    elif real is not None:
        # A sign, a point without a digit before it, months (M, a size's letter), more than 292,000 years.
        assert re.search(r"\+|(^|[^\d])\.", text) or real > (1 << 63) - 1, text


@given(
    st.integers(0, 30_000),
    st.integers(0, 99),
    st.sampled_from(["{}%", "{}.{:01d}%", "{}.{:02d}%", "{}.{:03d}%", "0{}%", "+{}%"]),
)
def test_percentages_are_those_of_systemd(whole, rest, shape):
    text = shape.format(whole, rest)
    signed = text.startswith("+")
    bounded, unbounded = ours(q.parse_permyriad, text), ours(partial(q.parse_permyriad, bounded=False), text)
    assert (bounded and bounded.value) == (None if signed else systemd.permyriad(text))
    assert (unbounded and unbounded.value) == (None if signed else systemd.permyriad(text, bounded=False))


@pytest.mark.parametrize(
    ("text", "usec"),
    [
        ("0.00166666min", 99_996),
        ("0.00166666minutes", 99_996),
        ("0.0000277777h", 99_993),
        ("0.0000011574d", 99_994),
        ("0.1234567s", 123_456),
        ("0.123456789012345678901234567890s", 123_456),
        ("0.99999999999999999999s", 999_999),
        ("1.000000000000000000001h", 3_600_000_000),
    ],
)
def test_each_digit_of_a_fraction_is_cut_by_itself(text, usec):
    assert q.parse_span(text) == usec == systemd.span(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1.9999999999999999G", 2 << 30),
        ("63.9999999999999999M", 64 << 20),
        ("63.999999999999M", (64 << 20) - 1),
        ("0.1E", 115292150460684704),
        ("64.00000000000000000000001M", 64 << 20),
    ],
)
def test_a_fraction_of_a_size_is_a_double(text, count):
    assert q.parse_size(text).bytes == count == systemd.size(text)


@pytest.mark.parametrize("text", ["1.99999999999999999999G", "63.18446744073709551616M"])
def test_more_digits_than_a_machine_word_are_refused_with_the_reason(text):
    assert systemd.size(text) is None
    with pytest.raises(q.QuantityError, match="too many digits") as caught:
        q.parse_size(text)
    assert "19 digits" in caught.value.hint


#: The values of the differential run whose hints misled, and the spelling that is meant.
MISLED = [
    (q.parse_weight, "1,000", ["1000"]),
    (q.parse_tasks, "1,000", ["1000"]),
    (q.parse_weight, "0064", ["64"]),
    (q.parse_tasks, "0064", ["64"]),
    (q.parse_tasks, "064", ["64"]),
    (q.parse_cpus, "00", ["0"]),
    (q.parse_cpus, "0-03", ["0-3"]),
    (q.parse_quota, "1.5", ["150%", "1.5%"]),
    (q.parse_quota, "0.5", ["50%", "0.5%"]),
    (q.parse_quota, "1,5", ["150%", "1.5%"]),
    (q.parse_quota, "050%", ["50%"]),
    (q.parse_quota, "150", ["150%"]),
    (q.parse_size, "64,5M", ["64.5M"]),
    (q.parse_size, "1,000M", ["1000M"]),
    (q.parse_size, "64MiB", ["64M"]),
]


@pytest.mark.parametrize(("parse", "text", "right"), MISLED)
def test_a_hint_is_what_was_meant_and_is_accepted_itself(parse, text, right):
    with pytest.raises(q.QuantityError) as caught:
        parse(text)
    named = re.findall(r"[\d.]+(?:-\d+)?[%A-Z]?", caught.value.hint.replace("CPUs", "").replace("CPU", ""))
    for word in right:
        assert word in named, caught.value.hint
        parse(word)
