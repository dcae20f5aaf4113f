"""Sizes, percentages, weights, spans and CPU sets, exactly as systemd spells them.

Sources: systemd.resource-control(5), systemd.time(7), systemd.syntax(7); the parsers mirror `parse_size`,
`parse_permyriad`, `cg_weight_parse` and `parse_cpu_set` of systemd. systemd ignores a value that it cannot read; here the
same text raises `QuantityError` with the spelling that works.
"""

import enum
import re

from cgroup_preflight.core.records import dataclass

#: The most tasks of a cgroup on 64-bit kernels (include/linux/threads.h, PID_MAX_LIMIT); a larger pids.max is refused.
PIDS_MAX = 1 << 22


class QuantityError(ValueError):
    """A value systemd would ignore or refuse; `hint` is the spelling or range that works."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Infinity(enum.Enum):
    """systemd's `infinity`, the kernel's `max`."""

    INFINITY = "infinity"


INFINITY = Infinity.INFINITY


@dataclass(frozen=True, slots=True)
class Size:
    """An absolute amount in bytes."""

    bytes: int


@dataclass(frozen=True, slots=True)
class Permyriad:
    """A share in hundredths of a percent: 10000 is 100%."""

    value: int


Amount = Size | Permyriad | Infinity

_FACTORS = {"E": 1 << 60, "P": 1 << 50, "T": 1 << 40, "G": 1 << 30, "M": 1 << 20, "K": 1 << 10, "B": 1}
_LEAST_PAGE = 4096
_SIZE_ORDER = "EPTGMKB"
_SIZE_PART = re.compile(r"[ \t\n\r]*(\d{1,4000})(?:\.(\d{0,4000})(?!\d))?[ \t\n\r]*([EPTGMKB]?)", re.ASCII)
_PERCENT = re.compile(r"(\d{1,12})(?:\.(\d{1,2}))?%", re.ASCII)
#: systemd reads these as octal or refuses them (safe_atou, base 0).
_LEADING_ZEROS = re.compile(r"(?<![\d.])0+(?=\d)", re.ASCII)
_PLAIN_NUMBER = r"[\d.]+%?"
#: A longer text is no number, and the expressions below take the square of its length.
_NUMBER_MAX = 40
_THOUSANDS = r"\d{1,3}(?:[,_' ]\d{3})+(?!\d)"
_DECIMAL_COMMA = r"(\d+),(\d{1,2})(?!\d)"
_BLANKS = " \t\r\n"
_LOOSE_SIZE = r"(\d+(?:\.\d*)?)\s*([kmgtpe]?)(?:i?b)?"
#: strtoull(3) and strtoll(3), with which systemd reads the digits of sizes and of spans, refuse what is above.
_ULLONG_MAX, _LLONG_MAX = (1 << 64) - 1, (1 << 63) - 1


def parse_size(text: str, *, base: int = 1024) -> Size:
    """Bytes from `512M`, `1.5G`, `1G 512M`; base 1024 or 1000, capital suffixes only, as systemd's `parse_size`.

    A fraction is a double there, divided by 10 once for each digit: with many digits the last byte depends on it.
    Raises `QuantityError` with the nearest working spelling.
    """
    total, position, smallest = 0, 0, -1
    while position < len(text) or position == 0:
        match = _SIZE_PART.match(text, position)
        order = _SIZE_ORDER.find(match[3]) if match and match[3] else len(_SIZE_ORDER)
        if match is None or order <= smallest or (not match[3] and match.end() != len(text)):
            raise QuantityError(f"{text!r} is not a size", _size_hint(text))
        factor = base ** _SIZE_ORDER[::-1].find(match[3]) if match[3] else 1
        whole, digits = int(match[1]), match[2] or ""
        if int(digits or "0") > _ULLONG_MAX:
            raise QuantityError(f"{text!r} has too many digits behind the point", "at most 19 digits behind the point")
        total += whole * factor + int(_fraction(digits) * factor)
        position, smallest = match.end(), order
        if not match[3]:
            break
    if total > _LLONG_MAX:  # the largest off_t
        raise QuantityError(f"{text!r} is out of range", "at most 7E, or infinity for no limit")
    return Size(total)


def _fraction(digits: str) -> float:
    """What systemd makes of the digits behind the point of a size."""
    share = float(int(digits or "0"))
    for _ in digits:
        share /= 10
    return share


def _size_hint(text: str) -> str:
    word = _without_commas(text.strip())
    if word in ("max", "-1", "unlimited", "none"):
        return "infinity"
    match = re.fullmatch(_LOOSE_SIZE, word, re.IGNORECASE | re.ASCII)
    # Without a suffix a small number is one of other units: as bytes it is less than a page, which the kernel makes 0.
    if match and len(match[1]) <= 15 and (match[2] or float(match[1]) >= _LEAST_PAGE):
        return f"{_LEADING_ZEROS.sub('', match[1])}{match[2].upper()}"
    return "a number of bytes with K, M, G or T (base 1024), a percentage such as 50%, or infinity"


def _without_commas(text: str) -> str:
    """`1,000` as 1000 and `1,5` as 1.5: systemd knows no comma in a number."""
    if len(text) > _NUMBER_MAX:
        return text
    whole = re.sub(_THOUSANDS, lambda match: re.sub("[,_' ]", "", match[0]), text, flags=re.ASCII)
    return re.sub(_DECIMAL_COMMA, r"\1.\2", text, flags=re.ASCII) if whole == text else whole


def parse_permyriad(text: str, *, bounded: bool = True) -> Permyriad:
    """A percentage with at most two decimals (systemd >= 248), `bounded` to 100%.

    Raises `QuantityError`.
    """
    _refuse_leading_zero(text)
    match = _PERCENT.fullmatch(text)
    if match is None:
        raise QuantityError(f"{text!r} is not a percentage", _percent_hint(text))
    value = int(match[1]) * 100 + int((match[2] or "").ljust(2, "0"))
    if bounded and value > 10000:
        raise QuantityError(f"{text!r} is above 100%", "at most 100%, or an absolute value")
    if value > 0x7FFFFFFF:
        raise QuantityError(f"{text!r} is out of range", "at most 21474836%")
    return Permyriad(value)


def _percent_hint(text: str) -> str:
    if re.fullmatch(r"\d+(\.\d{1,2})?", text, re.ASCII):
        return f"{text}%"
    number = _without_commas(re.sub("[ \t]+(?=%$)", "", text.strip())) if len(text) <= _NUMBER_MAX else text
    if number != text and _PERCENT.fullmatch(number):
        return number
    match = re.fullmatch(r"(\d{1,12}\.\d{2})\d+%", text, re.ASCII)
    if match is None:
        return "a percentage such as 50%"
    shorter = match[1].rstrip("0").rstrip(".")
    return f"at most two decimals, such as {shorter if shorter.strip('0') else '0.01'}%"


def parse_amount(text: str, *, zero: bool) -> Amount:
    """A memory amount: size, percentage of physical memory or `infinity`; 0 only where `zero` is true.

    Source: systemd `config_parse_memory_limit`. Raises `QuantityError`.
    """
    if text == "infinity":
        return INFINITY
    amount: Size | Permyriad = parse_permyriad(text) if text.endswith("%") else parse_size(text)
    count = amount.bytes if isinstance(amount, Size) else amount.value
    if count == 0 and not zero:
        raise QuantityError(f"{text!r} is out of range: systemd ignores a limit of zero", "a size above zero")
    return amount


def _refuse_leading_zero(text: str) -> None:
    if _LEADING_ZEROS.search(text) and re.fullmatch(_PLAIN_NUMBER, text, re.ASCII):
        raise _leading_zero(text)


def _leading_zero(text: str) -> QuantityError:
    hint = " ".join(_LEADING_ZEROS.sub("", text).split())
    return QuantityError(f"{text!r} has a leading zero, which systemd reads as octal", hint)


def _count_hint(text: str, allowed: str) -> str:
    """The whole number that was meant, if that can be seen, else what is allowed."""
    number = _without_commas(text.strip())
    return number if re.fullmatch(r"[1-9]\d{0,8}", number, re.ASCII) and number != text else allowed


def parse_weight(text: str, *, idle: bool = False) -> int | None:
    """A weight from 1 to 10000; None for `idle` where that is allowed (systemd >= 252).

    Raises `QuantityError`.
    """
    if idle and text == "idle":
        return None
    _refuse_leading_zero(text)
    hint = "a whole number from 1 to 10000" + (", or idle" if idle else "")
    if not re.fullmatch(r"\d{1,18}", text, re.ASCII) or not 1 <= int(text) <= 10000:
        number = _count_hint(text, hint)
        raise QuantityError(f"{text!r} is not a weight", number if number == hint or int(number) <= 10000 else hint)
    return int(text)


def parse_quota(text: str) -> Permyriad:
    """CPU time as a percentage of one CPU, above zero: 150% is one and a half CPUs.

    Source: systemd `config_parse_cpu_quota`. Raises `QuantityError`.
    """
    if text in ("infinity", "max", "-1"):
        raise QuantityError(f"{text!r} is not a CPU quota", "no CPUQuota line for no limit")
    if re.fullmatch(r"0{1,9}(\.0{0,9})?", text, re.ASCII):
        raise QuantityError(f"{text!r} allows no CPU time", "a percentage above 0%")
    if hint := _quota_hint(text):
        raise QuantityError(f"{text!r} is not a percentage", hint)
    quota = parse_permyriad(text, bounded=False)
    if quota.value == 0:
        raise QuantityError(f"{text!r} allows no CPU time", "a percentage above 0%")
    return quota


def _quota_hint(text: str) -> str:
    """For a number that is probably meant as CPUs, because it has a decimal point or is small; else empty."""
    match = re.fullmatch(r"(0|[1-9]\d{0,5})(?:[.,](\d{1,2}))?", text, re.ASCII)
    if match is None or (not match[2] and len(match[1]) > 1):
        return ""
    percent = int(match[1]) * 100 + int((match[2] or "").ljust(2, "0"))
    number = text.replace(",", ".")
    return f"{percent}% for {number} CPUs, or {number}% of one CPU"


def parse_tasks(text: str) -> int | Permyriad | Infinity:
    """A number of tasks, a percentage of what the system allows, or `infinity`; never 0.

    Source: systemd `config_parse_tasks_max`. Raises `QuantityError`.
    """
    if text == "infinity":
        return INFINITY
    _refuse_leading_zero(text)
    if text.endswith("%"):
        share = parse_permyriad(text)
        if share.value:
            return share
    elif re.fullmatch(r"\d{1,18}", text, re.ASCII) and int(text) > 0:
        return int(text)
    allowed = _count_hint(text, "a whole number above 0, a percentage, or infinity")
    hint = "infinity" if text in ("max", "-1") else allowed
    if hint.isdigit() and int(hint) > PIDS_MAX:
        hint = f"a whole number from 1 to {PIDS_MAX}"
    raise QuantityError(f"{text!r} is not a number of tasks", hint)


_SPAN_UNITS = {
    "us": 1, "usec": 1, "µs": 1, "ms": 10**3, "msec": 10**3, "": 10**6, "s": 10**6, "sec": 10**6,
    "second": 10**6, "seconds": 10**6, "m": 60 * 10**6, "min": 60 * 10**6, "minute": 60 * 10**6,
    "minutes": 60 * 10**6, "h": 3600 * 10**6, "hr": 3600 * 10**6, "hour": 3600 * 10**6, "hours": 3600 * 10**6,
    "d": 86400 * 10**6, "day": 86400 * 10**6, "days": 86400 * 10**6,
}  # fmt: skip
_SPAN_PART = re.compile(r"[ \t\r\n]*(\d{1,4000})(?!\d)(?:\.(\d{1,4000})(?!\d))?[ \t\r\n]*([a-zµ]*)", re.ASCII)


def parse_span(text: str) -> int:
    """Microseconds from `5s`, `100ms`, `1min 30s`; a bare number is seconds (systemd.time(7)).

    As systemd's `parse_time`, this cuts each digit of a fraction to whole microseconds by itself: 0.00166666min is
    99996 us. Raises `QuantityError`.
    """
    total, position = 0, 0
    while position < len(text.rstrip(_BLANKS)) or position == 0:
        match = _SPAN_PART.match(text, position)
        if match is None or match[3] not in _SPAN_UNITS:
            raise QuantityError(f"{text!r} is not a time span", "a span such as 500ms, 5s or 1min 30s")
        unit = _SPAN_UNITS[match[3]]
        total += int(match[1]) * unit
        for digit in match[2] or "":
            unit //= 10
            total += int(digit) * unit
        position = match.end()
    if total > _LLONG_MAX:
        raise QuantityError(f"{text!r} is out of range", "a span such as 500ms, 5s or 1min 30s")
    return total


def parse_cpus(text: str) -> frozenset[int]:
    """CPU numbers from `0-3,5 7` (comma or blank between ranges), the form of AllowedCPUs= and `cpuset.cpus`.

    Raises `QuantityError`; numbers are bounded by the kernel's NR_CPUS limit of 8192.
    """
    if _LEADING_ZEROS.search(text):
        raise _leading_zero(text)
    cpus: set[int] = set()
    for part in re.split(r"[, \t\r\n]+", text.strip(_BLANKS)):
        match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", part, re.ASCII)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last or last >= 8192:
            raise QuantityError(f"{text!r} is not a list of CPUs", "CPU numbers and ranges such as 0-3,5")
        cpus.update(range(first, last + 1))
    return frozenset(cpus)


def format_cpus(cpus: frozenset[int]) -> str:
    """The kernel's own spelling of a CPU list: sorted ranges, comma between."""
    ranges: list[list[int]] = []
    for cpu in sorted(cpus):
        if ranges and ranges[-1][1] == cpu - 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def says(attribute: str, expected: str, actual: str) -> bool:
    """Whether the kernel's text of an attribute file means what was expected; the kernel writes some values differently."""
    text = actual.strip()
    if attribute == "io.weight":
        return text.split("\n", 1)[0].split() == ["default", expected]
    if attribute == "io.max":
        return _says_device(expected, text)
    if attribute.startswith("cpuset."):
        try:
            asked, actual_cpus = parse_cpus(expected), parse_cpus(text)
        except QuantityError:
            return False
        # The kernel leaves out CPUs that the machine lacks; any CPU beyond the list is one too many.
        return actual_cpus <= asked if attribute.endswith(".effective") else actual_cpus == asked
    return text == expected


def _says_device(expected: str, text: str) -> bool:
    """`8:0 rbps=1000` in the lines of io.max; the kernel has no line for a device without a limit."""
    device, _, wanted = expected.partition(" ")
    words = next((words for line in text.splitlines() if (words := line.split())[:1] == [device]), [])
    return wanted in words or (wanted.endswith("=max") and not words)


def format_bytes(count: int) -> str:
    """A size for people in systemd's spelling: `512M`, `1.5G`, `3.2M`; bytes below 1K."""
    for suffix in "TGMK":
        factor = _FACTORS[suffix]
        if count >= factor:
            return f"{count / factor:.1f}".removesuffix(".0") + suffix
    return f"{count}B"
