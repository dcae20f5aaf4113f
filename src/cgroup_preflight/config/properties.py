"""The one table of systemd properties that this tool generates, applies and proves.

Config, schema, plan, smoke run and docs all follow from it. `since` is the first systemd with the property on
the unified hierarchy (systemd NEWS, systemd.resource-control(5)); `attribute` the file that holds the value
in the unit's cgroup (kernel Documentation/admin-guide/cgroup-v2.rst), empty where only systemd keeps it.

`shape` is the JSON Schema of the value: what `core.quantities` accepts, in the form that an editor can check. Its
expressions (a number, then pairs of suffix and number, then perhaps a suffix) never have two ways to match a text,
because schemas are applied to files from pull requests.
"""

import enum
from collections.abc import Callable
from functools import partial

from cgroup_preflight.core import quantities as q
from cgroup_preflight.core.records import dataclass

#: Parsed values: an amount, a weight, a span in microseconds or a number of tasks, a CPU set, a word.
Value = q.Amount | int | frozenset[int] | str


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


def _amount_shape(minimum: int) -> Schema:
    """`minimum` for a whole number; that of a limit is one page, below which the kernel would round it to nothing."""
    return {"type": ["string", "integer"], "pattern": _AMOUNT, "minimum": minimum}


def _weight_shape(words: str = "") -> Schema:
    return {
        "type": ["string", "integer"], "pattern": rf"^ *(0*[1-9][0-9]{{0,3}}|0*10000{words}) *$",
        "minimum": 1, "maximum": 10000,
    }  # fmt: skip


class Role(enum.Enum):
    """What the kernel does with a property: it enforces a limit at any time, a share only under contention."""

    LIMIT = "limit"
    PROTECTION = "protection"
    SHARE = "share"
    PLACEMENT = "placement"
    PARAMETER = "parameter"
    POLICY = "policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """One property: its controller and file, the first systemd with it, its parser, and what editors and docs show."""

    name: str
    controller: str
    attribute: str
    since: int
    role: Role
    parse: Callable[[str], Value]
    doc: str
    example: str
    shape: Schema


def _cpu_weight(text: str) -> int | str:
    weight = q.parse_weight(text, idle=True)
    return "idle" if weight is None else weight


def _io_weight(text: str) -> int:
    weight = q.parse_weight(text)
    assert weight is not None
    return weight


def _oomd(text: str) -> str:
    if text not in ("auto", "kill"):
        raise q.QuantityError(f"{text!r} is not a policy", "auto or kill")
    return text


_limit = partial(q.parse_amount, zero=False)
_amount = partial(q.parse_amount, zero=True)


def _memory(name: str, attribute: str, since: int, role: Role, doc: str, example: str) -> Property:
    zero = role is Role.PROTECTION or name.endswith("SwapMax")
    parse = _amount if zero else _limit
    return Property(
        name=name, controller="memory", attribute=attribute, since=since, role=role, parse=parse, doc=doc,
        example=example, shape=_amount_shape(0 if zero else 4096),
    )  # fmt: skip


PROPERTIES: tuple[Property, ...] = (
    _memory("MemoryMin", "memory.min", 240, Role.PROTECTION, "Memory that the kernel never reclaims from the unit.", "32M"),
    _memory("MemoryLow", "memory.low", 231, Role.PROTECTION, "Memory that the kernel reclaims only as a last resort.", "64M"),
    _memory("MemoryHigh", "memory.high", 231, Role.LIMIT,
            "Above this the kernel throttles the unit and reclaims; it never kills.", "400M"),
    _memory("MemoryMax", "memory.max", 231, Role.LIMIT, "Hard limit: above it the kernel kills.", "512M"),
    _memory("MemorySwapMax", "memory.swap.max", 232, Role.LIMIT, "Hard limit of swap; 0 forbids swap.", "0"),
    _memory("MemoryZSwapMax", "memory.zswap.max", 253, Role.LIMIT, "Hard limit of compressed swap.", "64M"),
    Property(name="CPUWeight", controller="cpu", attribute="cpu.weight", since=232, role=Role.SHARE,
             parse=_cpu_weight, doc="Share of CPU among siblings, 1 to 10000 or idle (idle: systemd >= 252).",
             example="80", shape=_weight_shape("|idle")),
    Property(name="CPUQuota", controller="cpu", attribute="cpu.max", since=213, role=Role.LIMIT,
             parse=q.parse_quota, doc="Hard limit of CPU time, as a percentage of one CPU.", example="150%",
             shape={"type": "string", "pattern": PERCENT}),
    Property(name="CPUQuotaPeriodSec", controller="cpu", attribute="", since=242, role=Role.PARAMETER,
             parse=q.parse_span, doc="Period over which CPUQuota is counted, 1ms to 1s.", example="100ms",
             shape={"type": ["string", "integer"], "pattern": SPAN, "minimum": 1, "maximum": 1}),
    Property(name="AllowedCPUs", controller="cpuset", attribute="cpuset.cpus", since=244, role=Role.PLACEMENT,
             parse=q.parse_cpus, doc="CPUs the unit may run on.", example="0-1",
             shape={"type": ["string", "integer"], "pattern": rf"^\s*{_RANGE}([,\s]+{_RANGE})*\s*$", "minimum": 0,
                    "maximum": 8191}),
    Property(name="IOWeight", controller="io", attribute="io.weight", since=230, role=Role.SHARE,
             parse=_io_weight, doc="Share of disk time, 1 to 10000; needs bfq or io.cost.", example="60",
             shape=_weight_shape()),
    Property(name="TasksMax", controller="pids", attribute="pids.max", since=227, role=Role.LIMIT,
             parse=q.parse_tasks, doc="Hard limit of processes and threads; Go threads count.", example="64",
             shape={"type": ["string", "integer"], "pattern": rf"^ *(infinity|{_SHARE}|[0-9]{{1,18}}) *$", "minimum": 1}),
    Property(name="ManagedOOMMemoryPressure", controller="memory", attribute="", since=247, role=Role.POLICY,
             parse=_oomd, doc="Whether systemd-oomd may kill the unit under memory pressure.", example="kill",
             shape={"type": "string", "enum": ["auto", "kill"]}),
)  # fmt: skip

BY_NAME = {item.name: item for item in PROPERTIES}
#: What bounds the use of a service by itself. A share does not, nor does a limit of swap alone.
BOUNDS = ("MemoryMax", "MemoryHigh", "CPUQuota", "TasksMax", "AllowedCPUs")
