"""A model of systemd's own parsers, character by character, as systemd 252 to 262 read values.

Written from what its manual pages and its sources say they do (systemd.resource-control(5), systemd.time(7); parse_size,
parse_parts, parse_time): digits by strtoull(3) and strtoll(3), a fraction of a size as a double, each digit of a fraction
of a span cut to whole microseconds. None: refused. tests/lab/test_arithmetic.py compares with the real systemd.
"""

BLANKS = " \t\n\r"
_SIZES = (
    ("E", 1 << 60),
    ("P", 1 << 50),
    ("T", 1 << 40),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
    ("B", 1),
    ("", 1),
)
_SECOND, _MINUTE, _HOUR, _DAY = 10**6, 60 * 10**6, 3600 * 10**6, 86400 * 10**6
_YEAR = 31557600 * 10**6
#: In the order in which systemd tries them: the first that the text starts with wins.
_SPANS = (
    ("seconds", _SECOND), ("second", _SECOND), ("sec", _SECOND), ("s", _SECOND), ("minutes", _MINUTE), ("minute", _MINUTE),
    ("min", _MINUTE), ("months", 2629800 * 10**6), ("month", 2629800 * 10**6), ("M", 2629800 * 10**6), ("msec", 1000),
    ("ms", 1000), ("m", _MINUTE), ("hours", _HOUR), ("hour", _HOUR), ("hr", _HOUR), ("h", _HOUR), ("days", _DAY),
    ("day", _DAY), ("d", _DAY), ("weeks", 7 * _DAY), ("week", 7 * _DAY), ("w", 7 * _DAY), ("years", _YEAR), ("year", _YEAR),
    ("y", _YEAR), ("usec", 1), ("us", 1), ("μs", 1), ("µs", 1),
)  # fmt: skip
_UINT64, _INT64, _INT32 = (1 << 64) - 1, (1 << 63) - 1, (1 << 31) - 1


def _skip(text: str, at: int, which: str) -> int:
    while at < len(text) and text[at] in which:
        at += 1
    return at


def _number(text: str, at: int) -> tuple[int, int] | None:
    """strtoull(3) in base 10: value and end; a plus sign is taken."""
    start = _skip(text, at, BLANKS + "\v\f")
    start += text[start : start + 1] == "+"
    end = _skip(text, start, "0123456789")
    return (int(text[start:end]), end) if end > start else None


def size(text: str) -> int | None:
    total, at, first = 0, 0, 0
    while at < len(text) or at == 0:
        found = _number(text, at)
        if found is None or found[0] > _UINT64:
            return None
        whole, at = found
        fraction = 0.0
        if text[at : at + 1] == ".":
            end = _skip(text, at + 1, "0123456789")
            digits = text[at + 1 : end]
            if int(digits or "0") > _UINT64:
                return None
            fraction = float(int(digits or "0"))
            for _ in digits:
                fraction /= 10
            at = end
        at = _skip(text, at, BLANKS)
        for place in range(first, len(_SIZES)):
            suffix, factor = _SIZES[place]
            if text.startswith(suffix, at):
                break
        else:
            return None
        if whole + (fraction > 0) > _UINT64 // factor:
            return None
        total += whole * factor + int(fraction * factor)
        if total > _UINT64:  # a check against off_t follows there, which lets everything pass
            return None
        at += len(suffix)
        first = place + 1
        if at == 0:
            return None
    return total


def permyriad(text: str, *, bounded: bool = True) -> int | None:
    """Only for a percent sign: per mille and per myriad are not of this tool's language."""
    if not text.endswith("%"):
        return None
    whole, dot, digits = text[:-1].partition(".")
    if dot and not (len(digits) in (1, 2) and all(char in "0123456789" for char in digits)):
        return None
    sign = whole[:1] in "+-" and whole[:1]
    number = whole.lstrip(BLANKS).removeprefix(sign or "")
    if not number or any(char not in "0123456789" for char in number) or (len(number) > 1 and number[0] == "0"):
        return None  # base 0: an octal number is another language than the one modelled here
    value = int(number) * 100 + int(digits.ljust(2, "0"))
    if value > _INT32 or (sign == "-" and value) or (bounded and value > 10000):
        return None
    return value


def span(text: str) -> int | None:
    total, at, something = 0, 0, False
    while True:
        at = _skip(text, at, BLANKS)
        if at == len(text):
            return total if something and total < _UINT64 else None
        if text[at] == "-":
            return None
        found = _number(text, at)
        whole, end = found if found is not None else (0, at)
        if whole > _INT64:
            return None
        fraction = ""
        point = text[end : end + 1] == "."
        if found is None and not point:
            return None
        at = end
        if point:
            at = _skip(text, end + 1, "0123456789")
            fraction = text[end + 1 : at]
        blank = _skip(text, at, BLANKS)
        suffix, unit = next((item for item in _SPANS if text.startswith(item[0], blank)), ("", _SECOND))
        if not suffix and blank == at and at < len(text):
            return None
        at = blank + len(suffix)
        total += whole * unit
        something = True
        if point and not fraction:
            return None
        for digit in fraction:
            unit //= 10
            total += int(digit) * unit
