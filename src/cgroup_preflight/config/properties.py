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
from cgroup_preflight.core import unit_values as u
from cgroup_preflight.core.records import dataclass

#: Parsed values: an amount, a weight, a span in microseconds or a number of tasks, a CPU set, a text, or texts of which
#: each is a line of its own in the unit file.
Value = q.Amount | int | frozenset[int] | str | tuple[str, ...]


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
    """What the kernel does with a property: it enforces a limit at any time, a share only under contention.

    POLICY: systemd keeps it, and shows it. START: it decides how systemd starts the program, and whether it can.
    """

    LIMIT = "limit"
    PROTECTION = "protection"
    SHARE = "share"
    PLACEMENT = "placement"
    PARAMETER = "parameter"
    POLICY = "policy"
    START = "start"


#: The sections of unit files that may have a property (systemd.slice(5), systemd.service(5)).
BOTH, SLICE, SERVICE = ("Slice", "Service"), ("Slice",), ("Service",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """One property: its controller and file, the first systemd with it, its parser, and what editors and docs show.

    `kind` is how the config writes it: `quantity` (a text or a whole number), `switch` (also a boolean), or `lines` (a
    text or a list of them). `later` are values that only a later systemd has. `controller` is empty for a property of
    the program itself.
    """

    name: str
    controller: str
    attribute: str
    since: int
    role: Role
    parse: Callable[[str], Value]
    doc: str
    example: str
    shape: Schema
    sections: tuple[str, ...] = BOTH
    kind: str = "quantity"
    later: tuple[tuple[str, int], ...] = ()


def _cpu_weight(text: str) -> int | str:
    weight = q.parse_weight(text, idle=True)
    return "idle" if weight is None else weight


def _io_weight(text: str) -> int:
    weight = q.parse_weight(text)
    assert weight is not None
    return weight


def _word(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise q.QuantityError(f"{text!r} is not one of the words that systemd knows here", " or ".join(words))
        return text

    return parse


_CPU_LIST: Schema = {
    "type": ["string", "integer"], "pattern": rf"^\s*{_RANGE}([,\s]+{_RANGE})*\s*$", "minimum": 0, "maximum": 8191,
}  # fmt: skip
_TEXT: Schema = {
    "type": ["string", "integer"],
    "pattern": r"^[^\u0000-\u001f\u007f%]+$",
    "maxLength": 4096,
    "minimum": 0,
}
_LINE: Schema = {"type": "string", "pattern": r"^ *-?/[^\u0000-\u001f\u007f%]*$", "maxLength": 4096}
_LINES: Schema = {"anyOf": [_LINE, {"type": "array", "items": _LINE, "minItems": 1}]}
_SWITCH: Schema = {"type": ["string", "integer", "boolean"], "pattern": "^ *(yes|no|true|false|on|off|1|0|y|n|t|f) *$",
                   "minimum": 0, "maximum": 1}  # fmt: skip


_limit = partial(q.parse_amount, zero=False)
_amount = partial(q.parse_amount, zero=True)


def _memory(name: str, attribute: str, since: int, role: Role, doc: str, example: str) -> Property:
    zero = name.endswith(("Min", "Low", "SwapMax"))
    parse = _amount if zero else _limit
    return Property(
        name=name, controller="memory", attribute=attribute, since=since, role=role, parse=parse, doc=doc,
        example=example, shape=_amount_shape(0 if zero else 4096),
    )  # fmt: skip


def _start(name: str, since: int, parse: Callable[[str], Value], doc: str, example: str) -> Property:
    return Property(
        name=name, controller="", attribute="", since=since, role=Role.START, parse=parse, doc=doc, example=example,
        shape=_TEXT, sections=SERVICE,
    )  # fmt: skip


def _device(name: str, doc: str, example: str) -> Property:
    return Property(
        name=name, controller="io", attribute="io.max", since=230, role=Role.LIMIT, parse=u.parse_device_limit, doc=doc,
        example=example, shape=_LINES, kind="lines",
    )  # fmt: skip


def _policy(
    name: str, controller: str, since: int, parse: Callable[[str], Value], doc: str, example: str, shape: Schema
) -> Property:
    return Property(
        name=name, controller=controller, attribute="", since=since, role=Role.POLICY, parse=parse, doc=doc,
        example=example, shape=shape,
    )  # fmt: skip


_BOOT = "while the system starts and stops."

#: The limits, shares and placements of units.
_CONTROL: tuple[Property, ...] = (
    _memory("MemoryMin", "memory.min", 240, Role.PROTECTION, "Memory that the kernel never reclaims from the unit.", "32M"),
    _memory("MemoryLow", "memory.low", 231, Role.PROTECTION, "Memory that the kernel reclaims only as a last resort.", "64M"),
    _memory("MemoryHigh", "memory.high", 231, Role.LIMIT,
            "Above this the kernel throttles the unit and reclaims; it never kills.", "400M"),
    _memory("MemoryMax", "memory.max", 231, Role.LIMIT, "Hard limit: above it the kernel kills.", "512M"),
    _memory("MemorySwapMax", "memory.swap.max", 232, Role.LIMIT, "Hard limit of swap; 0 forbids swap.", "0"),
    _memory("MemoryZSwapMax", "memory.zswap.max", 253, Role.LIMIT, "Hard limit of compressed swap.", "64M"),
    Property(name="CPUWeight", controller="cpu", attribute="cpu.weight", since=232, role=Role.SHARE,
             parse=_cpu_weight, doc="Share of CPU among siblings, 1 to 10000 or idle (idle: systemd >= 252).",
             example="80", shape=_weight_shape("|idle"), later=(("idle", 252),)),
    Property(name="CPUQuota", controller="cpu", attribute="cpu.max", since=213, role=Role.LIMIT,
             parse=q.parse_quota, doc="Hard limit of CPU time, as a percentage of one CPU.", example="150%",
             shape={"type": "string", "pattern": PERCENT}),
    Property(name="CPUQuotaPeriodSec", controller="cpu", attribute="", since=242, role=Role.PARAMETER,
             parse=q.parse_span, doc="Period over which CPUQuota is counted, 1ms to 1s.", example="100ms",
             shape={"type": ["string", "integer"], "pattern": SPAN, "minimum": 1, "maximum": 1}),
    Property(name="AllowedCPUs", controller="cpuset", attribute="cpuset.cpus", since=244, role=Role.PLACEMENT,
             parse=q.parse_cpus, doc="CPUs the unit may run on.", example="0-1", shape=_CPU_LIST),
    Property(name="IOWeight", controller="io", attribute="io.weight", since=230, role=Role.SHARE,
             parse=_io_weight, doc="Share of disk time, 1 to 10000; needs bfq or io.cost.", example="60",
             shape=_weight_shape()),
    Property(name="TasksMax", controller="pids", attribute="pids.max", since=227, role=Role.LIMIT,
             parse=q.parse_tasks, doc="Hard limit of processes and threads; Go threads count.", example="64",
             shape={"type": ["string", "integer"], "pattern": rf"^ *(infinity|{_SHARE}|[0-9]{{1,18}}) *$", "minimum": 1,
                    "maximum": 1 << 22}),
    Property(name="MemoryZSwapWriteback", controller="memory", attribute="memory.zswap.writeback", since=256,
             role=Role.PARAMETER, parse=u.parse_switch, kind="switch", shape=_SWITCH, example="no",
             doc="Whether compressed swap may be written to disk."),
    Property(name="AllowedMemoryNodes", controller="cpuset", attribute="cpuset.mems", since=244, role=Role.PLACEMENT,
             parse=q.parse_cpus, doc="NUMA nodes whose memory the unit may use.", example="0", shape=_CPU_LIST),
    _device("IOReadBandwidthMax", "Hard limit of bytes read from a device per second; K, M, G to the base of 1000.",
            "/dev/sda 5M"),
    _device("IOWriteBandwidthMax", "Hard limit of bytes written to a device per second; K, M, G to the base of 1000.",
            "/dev/sda 5M"),
    _device("IOReadIOPSMax", "Hard limit of reads from a device per second.", "/dev/sda 1K"),
    _device("IOWriteIOPSMax", "Hard limit of writes to a device per second.", "/dev/sda 1K"),
    Property(name="OOMPolicy", controller="memory", attribute="memory.oom.group", since=243, role=Role.POLICY,
             parse=_word("continue", "stop", "kill"), sections=SERVICE, example="kill",
             doc="What systemd does after the kernel killed a process of the service for memory; kill kills all of it.",
             shape={"type": "string", "enum": ["continue", "stop", "kill"]}),
    _policy("ManagedOOMMemoryPressure", "memory", 247, _word("auto", "kill"),
            "Whether systemd-oomd may kill the unit under memory pressure.", "kill",
            {"type": "string", "enum": ["auto", "kill"]}),
    _policy("ManagedOOMSwap", "memory", 247, _word("auto", "kill"),
            "Whether systemd-oomd may kill the unit when swap is nearly full.", "kill",
            {"type": "string", "enum": ["auto", "kill"]}),
    _policy("ManagedOOMMemoryPressureLimit", "memory", 248, q.parse_permyriad,
            "The memory pressure above which systemd-oomd acts.", "60%", {"type": "string", "pattern": PERCENT}),
)  # fmt: skip

#: What applies instead while the system starts and stops. systemd shows it; the kernel has the value of then alone.
_STARTUP: tuple[Property, ...] = (
    Property(name="StartupCPUWeight", controller="cpu", attribute="", since=232, role=Role.POLICY, parse=_cpu_weight,
             doc=f"CPUWeight {_BOOT}", example="200", shape=_weight_shape("|idle"), later=(("idle", 252),)),
    _policy("StartupIOWeight", "io", 230, _io_weight, f"IOWeight {_BOOT}", "200", _weight_shape()),
    _policy("StartupAllowedCPUs", "cpuset", 250, q.parse_cpus, f"AllowedCPUs {_BOOT}", "0-1", _CPU_LIST),
    _policy("StartupAllowedMemoryNodes", "cpuset", 250, q.parse_cpus, f"AllowedMemoryNodes {_BOOT}", "0", _CPU_LIST),
    *(_memory(f"Startup{name}", "", 254, Role.POLICY, f"{name} {_BOOT}", "64M")
      for name in ("MemoryLow", "MemoryHigh", "MemoryMax", "MemorySwapMax", "MemoryZSwapMax")),
)  # fmt: skip

_COUNT: Schema = {"type": ["string", "integer"], "pattern": "^ *(infinity|[1-9][0-9]{0,8}) *$", "minimum": 1}
_CONCURRENCY = tuple(
    Property(name=name, controller="", attribute="", since=258, role=Role.POLICY, parse=u.parse_count, doc=doc, example="8",
             shape=_COUNT, sections=SLICE)
    for name, doc in (
        ("ConcurrencyHardMax", "The most units of the slice that may be active or queued; systemd refuses more."),
        ("ConcurrencySoftMax", "The most units of the slice that may be active at the same time; others are queued."),
    )
)  # fmt: skip

#: What decides whether a service starts at all (systemd.service(5), systemd.exec(5)).
_STARTING: tuple[Property, ...] = (
    Property(name="Type", controller="", attribute="", since=201, role=Role.START, parse=u.parse_type,
             doc="When systemd takes the service for started.", example="notify", sections=SERVICE,
             shape={"type": "string", "enum": list(u.TYPES)}, later=(("exec", 240), ("notify-reload", 253))),
    _start("User", 201, u.parse_user, "The user that the program runs as. A guest creates it.", "shop"),
    _start("Group", 201, u.parse_user, "The group that the program runs as. A guest creates it.", "shop"),
    _start("WorkingDirectory", 201, u.parse_working_directory,
           "The folder that the program starts in; with a - before it, it may be absent.", "/var/lib/shop"),
    Property(name="EnvironmentFile", controller="", attribute="", since=201, role=Role.START, parse=u.parse_environment_file,
             doc="A file (or a list of files) with variables, which win over Environment; with a - before it, it may be absent.",
             example="/etc/default/shop", shape=_LINES, sections=SERVICE, kind="lines"),
    _start("StateDirectory", 235, u.parse_folders, "Folders below /var/lib that systemd creates for User.", "shop"),
    _start("RuntimeDirectory", 211, u.parse_folders, "Folders below /run that systemd creates for User.", "shop"),
    _start("CacheDirectory", 235, u.parse_folders, "Folders below /var/cache that systemd creates for User.", "shop"),
    _start("LogsDirectory", 235, u.parse_folders, "Folders below /var/log that systemd creates for User.", "shop"),
    _start("ConfigurationDirectory", 235, u.parse_folders, "Folders below /etc that systemd creates.", "shop"),
    _start("AmbientCapabilities", 229, u.parse_capabilities, "Capabilities that the program has without being root.",
           "CAP_NET_BIND_SERVICE"),
    _start("LimitNOFILE", 201, u.parse_resource_limit, "The most open files of a process: N or SOFT:HARD.", "65536"),
    _start("SuccessExitStatus", 201, u.parse_exit_statuses, "Exit statuses and signals that are no failure.", "143 SIGTERM"),
)  # fmt: skip

PROPERTIES: tuple[Property, ...] = (*_CONTROL, *_STARTUP, *_CONCURRENCY, *_STARTING)
BY_NAME = {item.name: item for item in PROPERTIES}
#: What bounds the use of a service by itself. A share does not, nor does a limit of swap alone, nor a list of all CPUs.
BOUNDS = ("MemoryMax", "MemoryHigh", "CPUQuota", "TasksMax", "AllowedCPUs")
#: Folders of the machine that belong to one unit by their names, not by its name (systemd.exec(5)).
FOLDERS = ("StateDirectory", "RuntimeDirectory", "CacheDirectory", "LogsDirectory", "ConfigurationDirectory")
