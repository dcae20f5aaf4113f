"""What each property's value looks like, as JSON Schema: `quantities` in the form that an editor can check.

One number, then any number of (suffix, number), then perhaps a suffix: written so that no text makes the
expression try a second way, since schemas are applied to files from pull requests.
"""

from collections.abc import Mapping

Schema = dict[str, object]

_UNITS = "us|usec|µs|ms|msec|s|sec|second|seconds|m|min|minute|minutes|h|hr|hour|hours|d|day|days"  # systemd.time(7)
_NUMBER = r"[0-9]+(\.[0-9]*)?"
_SHARE = r"[0-9]+(\.[0-9]{1,2})?%"
_SPAN_NUMBER = r"[0-9]+(\.[0-9]{1,9})?"
_RANGE = "[0-9]{1,5}(-[0-9]{1,5})?"

#: A percentage with at most two decimals.
PERCENT = rf"^ *{_SHARE} *$"
#: A time span such as 500ms or 1min 30s; without a unit it is seconds.
SPAN = rf"^\s*{_SPAN_NUMBER}(\s*({_UNITS})\s*{_SPAN_NUMBER}|\s+{_SPAN_NUMBER})*\s*({_UNITS})?\s*$"
_AMOUNT = rf"^ *(infinity|{_SHARE}|{_NUMBER}( *[EPTGMKB] *{_NUMBER})*( *[EPTGMKB])?) *$"


def _amount(minimum: int) -> Schema:
    return {"type": ["string", "integer"], "pattern": _AMOUNT, "minimum": minimum}


def _weight(words: str = "") -> Schema:
    return {
        "type": ["string", "integer"], "pattern": rf"^ *(0*[1-9][0-9]{{0,3}}|0*10000{words}) *$",
        "minimum": 1, "maximum": 10000,
    }  # fmt: skip


#: Property to schema. The smallest limits are one page, below which the kernel would round to nothing.
SHAPES: Mapping[str, Schema] = {
    "MemoryMin": _amount(0),
    "MemoryLow": _amount(0),
    "MemoryHigh": _amount(4096),
    "MemoryMax": _amount(4096),
    "MemorySwapMax": _amount(0),
    "MemoryZSwapMax": _amount(0),
    "CPUWeight": _weight("|idle"),
    "CPUQuota": {"type": "string", "pattern": PERCENT},
    "CPUQuotaPeriodSec": {"type": ["string", "integer"], "pattern": SPAN, "minimum": 1, "maximum": 1},
    "AllowedCPUs": {
        "type": ["string", "integer"], "pattern": rf"^\s*{_RANGE}([,\s]+{_RANGE})*\s*$", "minimum": 0, "maximum": 8191,
    },
    "IOWeight": _weight(),
    "TasksMax": {
        "type": ["string", "integer"], "pattern": rf"^ *(infinity|{_SHARE}|[0-9]{{1,18}}) *$", "minimum": 1,
    },
    "ManagedOOMMemoryPressure": {"type": "string", "enum": ["auto", "kill"]},
}  # fmt: skip
