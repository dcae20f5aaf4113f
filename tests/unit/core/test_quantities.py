"""Sizes, percentages, weights, spans and CPU sets against systemd's documented grammar.

from itertools import pairwise
What systemd 252 accepts and ignores was tried with `systemd-analyze verify`.
"""

import re
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cgroup_preflight.core import quantities as q

FACTORS = {"E": 1 << 60, "P": 1 << 50, "T": 1 << 40, "G": 1 << 30, "M": 1 << 20, "K": 1 << 10, "B": 1}
UNITS = {
    "us": 1,
    "usec": 1,
    "µs": 1,
    "ms": 1000,
    "msec": 1000,
    "s": 10**6,
    "sec": 10**6,
    "second": 10**6,
    "seconds": 10**6,
    "m": 6 * 10**7,
    "min": 6 * 10**7,
    "minute": 6 * 10**7,
    "minutes": 6 * 10**7,
    "h": 36 * 10**8,
    "hr": 36 * 10**8,
    "hour": 36 * 10**8,
    "hours": 36 * 10**8,
    "d": 864 * 10**8,
    "day": 864 * 10**8,
    "days": 864 * 10**8,
}
PARSERS = {
    "size": q.parse_size,
    "permyriad": q.parse_permyriad,
    "quota": q.parse_quota,
    "amount": lambda text: q.parse_amount(text, zero=False),
    "amount or zero": lambda text: q.parse_amount(text, zero=True),
    "weight": q.parse_weight,
    "cpu weight": lambda text: q.parse_weight(text, idle=True),
    "tasks": q.parse_tasks,
    "span": q.parse_span,
    "cpus": q.parse_cpus,
}
# Plausible text: digits of other scripts and blanks of other alphabets are what a parser forgets.
PLAUSIBLE = st.text(alphabet="0123456789.%KMGTPEBkmgib smhud-,+infinytax\t٣²\u00a0\u2003µ", max_size=12)
BLANK = st.sampled_from(["", "", " ", "\t", "  "])
DIGITS = st.text(alphabet="0123456789", min_size=0, max_size=6)


def decimal(whole: int, digits: str, factor: int) -> int:
    return whole * factor + int(Fraction(int(digits or 0) * factor, 10 ** len(digits)))


@st.composite
def sizes(draw):
    """A size in systemd's grammar, and its bytes."""
    suffixes = sorted(draw(st.sets(st.sampled_from("PTGMKB"), max_size=4)), key="PTGMKB".index)
    bare = not suffixes or draw(st.booleans())
    text, total = "", 0
    for suffix in [*suffixes, *([""] if bare else [])]:
        whole, digits = draw(st.integers(0, 4000)), draw(DIGITS)
        dot = "." if digits else draw(st.sampled_from(["", "."]))
        if not suffix and not suffixes:
            whole = draw(st.integers(0, 1 << 62))
        text += f"{draw(BLANK)}{whole}{dot}{digits}{draw(BLANK) if suffix else ''}{suffix}"
        total += decimal(whole, digits, FACTORS.get(suffix, 1))
    return text, total


@given(sizes())
def test_sizes_round_trip(case):
    """A fraction is a double for systemd, so it may differ from the exact one in its last digits."""
    text, total = case
    slack = max(total >> 50, 1) * text.count(".")
    assert abs(q.parse_size(text).bytes - total) <= slack


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("512M", 512 << 20),
        ("1.5G", 3 << 29),
        ("1G 512M", 3 << 29),
        ("0", 0),
        ("4096", 4096),
        ("1K", 1024),
        ("1B", 1),
        ("1.M", 1 << 20),
        (" 1G", 1 << 30),
        ("7E", 7 << 60),
        ("09M", 9 << 20),
        ("0.5K", 512),
    ],
)
def test_size_examples(text, expected):
    assert q.parse_size(text) == q.Size(expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "M",
        "512MB",
        "512MiB",
        "512m",
        "512k",
        "1M 1G",
        "1M1M",
        "5 5",
        "0x10",
        "1e3",
        "-1",
        "max",
        "1,5G",
        "1..5G",
        ".5G",
        "1G ",
        "1G,",
        "infinity",
        "٣M",
        "²",
        "1\u00a0G",
        "16E",
        "9223372036854775808",
    ],
)
def test_sizes_refused(text):
    with pytest.raises(q.QuantityError):
        q.parse_size(text)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("512MB", "512M"),
        ("512MiB", "512M"),
        ("512m", "512M"),
        ("512mb", "512M"),
        ("512 MB", "512M"),
        ("1gb", "1G"),
        ("1.5GiB", "1.5G"),
        ("64k", "64K"),
        ("2TB", "2T"),
        ("max", "infinity"),
        ("-1", "infinity"),
        ("unlimited", "infinity"),
        ("none", "infinity"),
        ("1,000M", "1000M"),
        ("1_000_000", "1000000"),
        ("1,234,567", "1234567"),
        ("1,5G", "1.5G"),
        ("0064MB", "64M"),
    ],
)
def test_sizes_systemd_ignores_get_the_right_spelling(text, right):
    with pytest.raises(q.QuantityError) as caught:
        q.parse_amount(text, zero=False)
    assert caught.value.hint == right
    q.parse_amount(right, zero=False)


@given(
    st.integers(1, 9999),
    st.sampled_from(["k", "m", "g", "t", "K", "M", "G", "T"]),
    st.sampled_from(["", "b", "B", "ib", "iB"]),
)
def test_hints_of_loose_sizes_work(number, suffix, tail):
    text = f"{number}{suffix}{tail}"
    try:
        q.parse_size(text)
    except q.QuantityError as error:
        assert q.parse_size(error.hint).bytes == number * FACTORS[suffix.upper()]
    else:
        assert not tail


@given(st.integers(0, 10000))
def test_percentages_round_trip(value):
    whole, rest = divmod(value, 100)
    assert q.parse_permyriad(f"{whole}.{rest:02d}%") == q.Permyriad(value)
    assert q.parse_amount(f"{whole}.{rest:02d}%", zero=True) == q.Permyriad(value)
    if rest % 10 == 0:
        assert q.parse_permyriad(f"{whole}.{rest // 10}%") == q.Permyriad(value)
    if rest == 0:
        assert q.parse_permyriad(f"{whole}%") == q.Permyriad(value)


@pytest.mark.parametrize(
    "text", ["", "%", "50", "50 %", "-1%", "1.%", "0.001%", "٣%", "1e2%", "50%%", "%50", " 50%", "+5%"]
)
def test_percentages_refused(text):
    with pytest.raises(q.QuantityError):
        q.parse_permyriad(text)


def test_percentage_bounds():
    assert q.parse_permyriad("100%").value == 10000
    with pytest.raises(q.QuantityError, match="above 100%"):
        q.parse_permyriad("100.01%")
    assert q.parse_permyriad("100.01%", bounded=False).value == 10001
    assert q.parse_quota("21474836%").value == 2147483600
    with pytest.raises(q.QuantityError):
        q.parse_quota("21474837%")


@pytest.mark.parametrize(("text", "value"), [("150%", 15000), ("0.01%", 1), ("50%", 5000), ("12800%", 1280000)])
def test_quota_examples(text, value):
    assert q.parse_quota(text) == q.Permyriad(value)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("50", "50%"),
        ("150", "150%"),
        ("0.5", "50% for 0.5 CPUs, or 0.5% of one CPU"),
        ("1.5", "150% for 1.5 CPUs, or 1.5% of one CPU"),
        ("1,5", "150% for 1.5 CPUs, or 1.5% of one CPU"),
        ("2", "200% for 2 CPUs, or 2% of one CPU"),
        ("12.25", "1225% for 12.25 CPUs, or 12.25% of one CPU"),
        ("0", "above 0%"),
        ("0.0", "above 0%"),
        ("200.000%", "at most two decimals, such as 200%"),
        ("12.345%", "at most two decimals, such as 12.34%"),
        ("1,5%", "1.5%"),
        ("0%", "above 0%"),
        ("0.00%", "above 0%"),
        ("infinity", "no CPUQuota line"),
        ("max", "no CPUQuota line"),
        ("-1", "no CPUQuota line"),
    ],
)
def test_quotas_systemd_ignores_get_the_right_spelling(text, right):
    with pytest.raises(q.QuantityError) as caught:
        q.parse_quota(text)
    assert right in caught.value.hint


@pytest.mark.parametrize("text", ["0.5", "1.5", "2", "12.25", "150", "200.000%", "0.999%", "1,5%"])
def test_each_percentage_in_a_hint_works(text):
    with pytest.raises(q.QuantityError) as caught:
        q.parse_quota(text)
    found = re.findall(r"[\d.]+%", caught.value.hint)
    assert found
    for word in found:
        q.parse_quota(word)


@pytest.mark.parametrize(
    ("parse", "text", "hint"),
    [
        (q.parse_tasks, "1,000", "1000"),
        (q.parse_tasks, "1,234,567", "1234567"),
        (q.parse_tasks, "1_000", "1000"),
        (q.parse_tasks, " 64", "64"),
        (q.parse_weight, "1,000", "1000"),
        (q.parse_tasks, "0064", "64"),
        (q.parse_weight, "0064", "64"),
        (q.parse_quota, "0050%", "50%"),
        (q.parse_quota, "00.5%", "0.5%"),
        (q.parse_cpus, "00-03", "0-3"),
        (q.parse_cpus, "08\t05", "8 5"),
    ],
)
def test_numbers_with_commas_and_zeros_get_the_right_spelling(parse, text, hint):
    with pytest.raises(q.QuantityError) as caught:
        parse(text)
    assert caught.value.hint == hint
    parse(hint)


@pytest.mark.parametrize(("text", "zero"), [("1,000", False), ("1,00", False), ("10,000,000", False), ("0064", True)])
def test_a_zero_after_a_comma_is_no_leading_zero(text, zero):
    with pytest.raises(q.QuantityError) as caught:
        q.parse_weight(text)
    assert ("leading zero" in str(caught.value)) is zero
    assert caught.value.hint in ("1000", "64") or "1 to 10000" in caught.value.hint


@given(st.integers(1, 10000))
def test_weights_round_trip(weight):
    assert q.parse_weight(str(weight)) == weight
    assert q.parse_weight(str(weight), idle=True) == weight


@pytest.mark.parametrize(
    "text", ["", "0", "10001", "-1", "50%", "1.5", "idle", "Idle", " 5", "5 ", "٣", "1" * 30, "0x10"]
)
def test_weights_refused(text):
    with pytest.raises(q.QuantityError):
        q.parse_weight(text)


def test_idle_is_a_cpu_weight_only():
    assert q.parse_weight("idle", idle=True) is None
    with pytest.raises(q.QuantityError) as caught:
        q.parse_weight("0", idle=True)
    assert "idle" in caught.value.hint


@given(st.integers(1, 10**18 - 1))
def test_tasks_round_trip(count):
    assert q.parse_tasks(str(count)) == count


def test_tasks_examples():
    assert q.parse_tasks("10%") == q.Permyriad(1000)
    assert q.parse_tasks("infinity") is q.INFINITY
    for text in ("0", "0%", "-1", "max", "", "1.5", "101%", "٣"):
        with pytest.raises(q.QuantityError):
            q.parse_tasks(text)
    for text in ("max", "-1"):
        with pytest.raises(q.QuantityError) as caught:
            q.parse_tasks(text)
        assert caught.value.hint == "infinity"


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (q.parse_weight, "080"),
        (q.parse_weight, "010"),
        (q.parse_tasks, "09"),
        (q.parse_tasks, "010"),
        (q.parse_quota, "09%"),
        (q.parse_quota, "050%"),
        (q.parse_quota, "00.5%"),
        (q.parse_permyriad, "09%"),
        (q.parse_tasks, "010%"),
        (q.parse_cpus, "08"),
        (q.parse_cpus, "010"),
        (q.parse_cpus, "0-010"),
    ],
)
def test_leading_zeros_are_refused_since_systemd_reads_them_as_octal(parse, text):
    """`CPUWeight=080` and `AllowedCPUs=08` are ignored with a warning, `CPUQuota=050%` is 40%."""
    with pytest.raises(q.QuantityError):
        parse(text)


@st.composite
def spans(draw):
    """A span in the grammar of systemd.time(7), and its microseconds."""
    text, total = "", 0
    for unit in draw(st.lists(st.sampled_from(sorted(UNITS)), min_size=1, max_size=4)):
        whole, digits = draw(st.integers(0, 5000)), draw(DIGITS)
        text += f"{whole}{'.' if digits else ''}{digits}{draw(BLANK)}{unit}{draw(BLANK)}"
        total += decimal(whole, digits, UNITS[unit])
    return text, total


@given(spans())
def test_spans_round_trip(case):
    text, total = case
    assert q.parse_span(text) == total


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5s", 5_000_000),
        ("100ms", 100_000),
        ("5", 5_000_000),
        ("1min 30s", 90_000_000),
        ("1min30s", 90_000_000),
        ("0.5", 500_000),
        ("0", 0),
        ("1h", 3_600_000_000),
        ("7us", 7),
        ("1.1234567891s", 1_123_456),
        ("0.00000000001s", 0),
    ],
)
def test_span_examples(text, expected):
    assert q.parse_span(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "s",
        "5x",
        "5 S",
        "-5s",
        "5s!",
        "1..5s",
        "infinity",
        "5,5s",
        "٣s",
        "١٠٠ms",
        "5\u00a0s",
        "5\u2003ms",
        "9" * 30,
    ],
)
def test_spans_refused(text):
    """`CPUQuotaPeriodSec=١٠٠ms` is ignored by systemd with a warning."""
    with pytest.raises(q.QuantityError):
        q.parse_span(text)


@given(st.frozensets(st.integers(0, 8191), min_size=1, max_size=40))
def test_cpus_round_trip(cpus):
    text = q.format_cpus(cpus)
    assert q.parse_cpus(text) == cpus
    assert q.parse_cpus(text.replace(",", " ")) == cpus
    assert q.parse_cpus(text.replace(",", ", ")) == cpus
    assert q.parse_cpus(",".join(map(str, sorted(cpus, reverse=True)))) == cpus


@given(st.frozensets(st.integers(0, 300), max_size=40))
def test_cpu_ranges_are_the_kernels(cpus):
    """Sorted, maximal ranges, no blanks: what `cpuset.cpus` prints."""
    parts = [part.split("-") for part in q.format_cpus(cpus).split(",") if part]
    bounds = [(int(part[0]), int(part[-1])) for part in parts]
    assert frozenset(cpu for first, last in bounds for cpu in range(first, last + 1)) == cpus
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(bounds))
    assert all(part[0] != part[-1] for part in parts if len(part) == 2)


@pytest.mark.parametrize(
    "text", ["", ",", "a", "3-1", "-1", "1-", "0-8192", "8192", "99999", "1--2", "٣", "0\u20031", "1;2", "0.5", "0,"]
)
def test_cpus_refused(text):
    with pytest.raises(q.QuantityError):
        q.parse_cpus(text)


@pytest.mark.parametrize("name", PARSERS)
@given(text=st.one_of(st.text(), PLAUSIBLE, st.binary(max_size=40).map(lambda data: data.decode("latin-1"))))
@example(text="00\n")
@example(text="1 " * 4000)
@example(text="1," * 4000)
@example(text="\0")
@example(text="\ud800")
def test_only_quantity_errors_with_a_hint(name, text):
    try:
        PARSERS[name](text)
    except q.QuantityError as error:
        assert str(error)
        assert error.hint
        assert "\n" not in error.hint
    else:
        assert text.replace("µ", "u").isascii(), "systemd knows no digits or blanks beyond ASCII"


@pytest.mark.parametrize("name", PARSERS)
def test_numbers_longer_than_python_reads_are_refused_like_others(name):
    """`int()` itself raises a bare ValueError above 4300 digits."""
    other = []
    for shape in ("{}", "{}%", "{}E", "{}s", "1.{}s", "0.{}M", "1.{}%"):
        try:
            PARSERS[name](shape.format("9" * 5000))
        except q.QuantityError as error:
            assert error.hint
        except ValueError:
            other.append(shape)
    assert not other


@given(st.text(alphabet="0123456789", min_size=17, max_size=22), st.sampled_from("EPT"))
def test_hints_for_what_is_out_of_range_work(number, suffix):
    """A size named as the largest one must be one that is accepted."""
    with pytest.raises(q.QuantityError) as caught:
        q.parse_size(f"1{number}{suffix}")
    for word in re.findall(r"\d+[EPTGMK]\b", caught.value.hint):
        q.parse_size(word)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize("piece", ["1", "1.", " ", "1 ", "1s", "1,", "-", "1-", "1M", "%"])
def test_parsers_end_in_time(name, piece):
    """Ten times the longest text that the config lets through."""
    try:
        PARSERS[name](piece * 40960)
    except ValueError:
        pass


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0B"),
        (1023, "1023B"),
        (1024, "1K"),
        (512 << 20, "512M"),
        (3 << 29, "1.5G"),
        (1 << 40, "1T"),
        (3355443, "3.2M"),
        (5 << 50, "5120T"),
    ],
)
def test_bytes_for_people(count, text):
    assert q.format_bytes(count) == text


@given(st.integers(0, 1 << 62))
def test_bytes_for_people_are_near_and_parse(count):
    back = q.parse_size(q.format_bytes(count)).bytes
    assert abs(back - count) * 20 <= count


@pytest.mark.parametrize(
    ("attribute", "expected", "actual", "same"),
    [("io.weight", "60", "default 60\n8:0 100\n", True), ("io.weight", "60", "60\n", False),
     ("io.weight", "60", "default 61\n", False), ("memory.max", "60", "60\n", True), ("memory.max", "60", "default 60\n", False)],
)  # fmt: skip
def test_the_kernel_has_a_way_of_its_own_to_say_an_io_weight(attribute, expected, actual, same):
    assert q.says(attribute, expected, actual) is same
