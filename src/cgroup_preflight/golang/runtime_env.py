"""The environment variables that the Go runtime reads at start, by the rules of the runtime.

Sources: `schedinit` (proc.go), `readGOMEMLIMIT` (mgcpacer.go), `parseByteCount` (string.go), `parsegodebug`
(runtime1.go) of Go 1.21 to 1.27.
"""

import re
from collections.abc import Mapping
from fractions import Fraction

_INT32_MAX = (1 << 31) - 1
_INT64_MAX = (1 << 63) - 1
_BYTES = re.compile(r"(\+?\d+)(?:([KMGT])iB|B)?", re.ASCII)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
#: The defaults of Go 1.25 and later, where neither the build nor the environment says otherwise.
_AWARE_DEFAULTS: Mapping[str, int] = {"containermaxprocs": 1, "updatemaxprocs": 1}


class MalformedLimitError(ValueError):
    """A GOMEMLIMIT with which the program ends at its start: `fatal error: malformed GOMEMLIMIT`, exit status 2."""


def parse_gomaxprocs(text: str, *, plus_sign: bool = False) -> int | None:
    """The number that the runtime uses, None where it silently ignores the text (`0`, `abc`, `1.5`, empty)."""
    if not re.fullmatch(r"\+?\d+" if plus_sign else r"\d+", text, re.ASCII):
        return None
    number = int(text)
    return number if 0 < number <= _INT32_MAX else None


def parse_gomemlimit(text: str, *, plus_sign: bool = False) -> int | None:
    """Bytes, or None for no limit (empty or `off`); 0 is legal and makes the garbage collector run all the time.

    Raises MalformedLimitError for everything that is not digits with an optional B, KiB, MiB, GiB or TiB.
    """
    if text in ("", "off"):
        return None
    found = _BYTES.fullmatch(text)
    if found is None or (found[1].startswith("+") and not plus_sign):
        raise MalformedLimitError(f"GOMEMLIMIT={text!r} is malformed")
    count = int(found[1]) * 1024 ** _POWERS[found[2] or ""]
    if count > _INT64_MAX:
        raise MalformedLimitError(f"GOMEMLIMIT={text!r} is out of range")
    # The runtime itself spells "no limit" as the largest number.
    return None if count == _INT64_MAX else count


def gomemlimit_hint(text: str) -> str:
    """The nearest spelling that works: `900MiB` for systemd's `900M`, `1536MiB` for `1.5G`."""
    found = re.fullmatch(r"\s*(\d{1,18})(\.\d{1,9})?\s*([kKmMgGtT])(?:i?[bB])?\s*", text, re.ASCII)
    if found and not found[2]:
        return f"{found[1]}{found[3].upper()}iB"
    size = int(Fraction(found[1] + found[2]) * 1024 ** _POWERS[found[3].upper()]) if found else 0
    if size >> 20:
        return f"{size >> 20}MiB"
    return "a whole number of bytes, or one with KiB, MiB, GiB or TiB, such as 900MiB; or off"


def parse_godebug(text: str) -> dict[str, str]:
    """The settings of one GODEBUG text: of two with one name the last counts, words without `=` do not."""
    pairs = (field.partition("=") for field in text.split(","))
    return {key: value for key, equals, value in pairs if equals}


def godebug_numbers(default: str, environment: str) -> dict[str, int]:
    """The numbers of containermaxprocs and updatemaxprocs as the runtime of Go 1.25 and later has them at start.

    `default` is the DefaultGODEBUG of the build, `environment` the variable; a value that is not a number changes nothing.
    """
    numbers = dict(_AWARE_DEFAULTS)
    for text in (default, environment):
        # One by one, because after a malformed value an earlier one stays in force.
        for field in text.split(","):
            key, equals, value = field.partition("=")
            if equals and key in numbers and re.fullmatch(r"[+-]?\d{1,100}", value, re.ASCII):
                number = int(value)
                numbers[key] = number if abs(number) <= _INT32_MAX else numbers[key]
    return numbers


def append_godebug(text: str, more: str) -> str:
    """GODEBUG with `more` after `text`: a replacement would drop the user's own settings."""
    return f"{text},{more}" if text and more else text or more
