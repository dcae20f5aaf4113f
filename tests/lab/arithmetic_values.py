"""Texts for every property, the same for the same seed: what people write, what borders on a rule, and random numbers."""

import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cgroup_preflight.config.properties import PROPERTIES

_AMOUNTS = ("memory.min", "memory.low", "memory.high", "memory.max", "memory.swap.max", "memory.zswap.max")
MEMORY = tuple(item.name for item in PROPERTIES if item.attribute in _AMOUNTS)
#: The files of the properties that are tried.
ATTRIBUTES = (*_AMOUNTS, "cpu.weight", "cpu.max", "cpuset.cpus", "io.weight", "pids.max")
_SIZES = """
67108863|67108864|67108865|67112959|67112961|64M|64 M|64  M|65536K|0.0625G|0.5G|.5G|1.G|1.5G|0.1G|0.3G|0.7G|33.333M|100.9M
99.999999M|64M 512K|64M512K|64M 512K 3B|64M 3|1G 1M 1K 1B|1G 1G|512K 64M|64M,512K|064M|0064M|+64M|-64M|64MB|64MiB|64m|64 MB|64g
1e8|0x4000000|64_000K|64,5M|1,000M|1T|1P|1E|7E|7.9E|7.9999999999999999E|8E|16E|0.1E|1.1E|1.3E|1.7P|1.1P|1.9T|0.9999999999999999G
1.9999999999999999G|1.99999999999999999999G|63.99999999999999999999M|63.9999999999999999M|63.999999999999M|9223372036854775807
9223372036854775808|9223372036854771711|9223372036854771712|9223372036854771713|9223372036854767616|9223372036854763520
18446744073709551615|18446744073709551616|8388607T|8191P|infinity|Infinity|max|unlimited|none|-1||64M;|'64M'|"64M"|64..M|64.5.5M
64. 5M|64.5 M|64.00000000000000000000001M|64.000000000000000000001M|100000000000000000000000000000.5M|64T 1G|64Megabytes
50%|50.0%|50.00%|50.000%|50.55%|33.3%|33.33%|66.67%|75%|12.5%|99%|99.99%|100%|100.0%|100.01%|200%|50 %|+50%|050%|50.%|.5%|50,5%
500‰|333.3‰|5000‱|2147483648%|08%
"""
_SMALL = (
    "0|0B|0M|0.0M|0.5B|0.9|1|1B|4095|4096|4097|8191|8192|3.9K|4.1K|0.0039M|00|4K 1B|0%|0.01%|0.1%|1%|1.01%|0.001%|00%"
)
_QUOTAS = """
0.01%|0.02%|0.05%|0.09%|0.1%|0.11%|0.2%|0.3%|0.33%|0.7%|0.99%|1%|1.01%|3.33%|7.77%|12.34%|33.33%|33.34%|66.67%|99.99%|100%
100.01%|133.33%|150%|199.99%|400%|6400%|12345.67%|1000000%|21474836%|21474836.47%|21474836.48%|21474837%|9999999999%|0%|0.00%
0.001%|-1%|+50%|50|1.5|0.5|50 %|050%|0x32%|.5%|5.%|500‰|infinity|max|-1||50%%|50,5%|500m|50.123%|1.5 %|100% 50%
"""
_PERIODS = """
1ms|1000us|1000usec|0.001s|0.001|1.5ms|2ms|5ms|10 ms|10msec|0.01|99.999ms|100ms|0.1s|0.1|.1s|100000us|100.5ms|100.0005ms
100.9999ms|123456us|123456µs|150ms|333.333ms|0.5s|999999us|999.999ms|1s|1 s|1sec|1second|1seconds|1|900ms 100ms|500ms500us
0.5s500ms|0.25 250ms|0.01min|0.015m|0.0016min|0.00166666min|0.001666666min|0.0016666666min|0.0000277h|0.00002777h|0.00027777h
0.0002777777h|0.00001d|0.0000115d|0.00000115d|0.000001w|0.0000003M|0.00000003y|0.01minutes|0.0001hours|0.1234567s|0.9999999s
0.99999999999999999999s|0.100000000000000000001s|0.123456789012345678901234567890s|100ms 0|+100ms|-100ms|100 000us|100.ms|1e-1
0x64ms|0100ms|100ms,|100MS|100 milliseconds|infinity||max|0|1us|999us|999.9us|1001us|1.000001s|1s 1us|1.1s|2s|5s|1min|1h|1d
99999999999s|18446744073709551615us|100ms 50|100000ns|0.1.1s
"""
_WEIGHTS = """
1|2|7|9|10|11|99|100|101|256|500|999|1000|1024|5000|9999|10000|10001|0|-1|+100|0100|08|0x64|1e2|100.0|100%|idle|Idle||infinity|max
default|100 100|1,000|99999999999|4294967396|18446744073709551716|'100'|default 100
"""
_TASKS = """
1|2|5|10|32|64|100|512|1000|4096|4915|10000|32767|32768|65536|100000|1000000|4194303|4194304|4194305|10000000|2147483648
4294967296|999999999999999999|1000000000000000000|18446744073709551615|18446744073709551616|infinity|Infinity|max|unlimited|-1
+64|0|00|064|08|0x40|64.5|64K|6 4|1e3|1,000||0.01%|0.02%|0.03%|0.1%|0.5%|1%|1.5%|10%|33.3%|33.33%|50%|75%|96%|97%|99%|99.99%
100%|100.01%|101%|050%|500‰|50.5%|12.5%|0%|'64'
"""
_CPUS = """
0|1|2|3|0-1|0-2|0-3|1-3|2-3|0,1|0,3|1,3|0,1,2,3|0 1|0 1 2 3|3,2,1,0|2,0-1|0-1 3|0-1, 3|0-1 ,3|0 , 3|0,,3|0,3,|,0,3|0-0|0-1,1-2
0,0|00|01|0-03|0x1|0-|-0|-1|1-0|0 - 1|0:1|0;1|all|max|infinity||4|7|0-4|0-7|3-4|0,4|63|8191|8192|99999|'0-1'|"0 1"|1e0|0.5|^0|0-N
0-1,a|0-1-2
"""

#: Random values of each property, and how many of these are percentages of memory, or whole numbers of tasks.
_EACH, _PERCENTAGES = 125, 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Settings by property; `about` is the property that is tried, `seeded` whether its values are random ones."""

    name: str
    about: str
    settings: dict[str, str]
    seeded: bool = False

    @property
    def lane(self) -> str:
        """A unit has at most one case of a lane."""
        return "CPUQuota" if self.about == "CPUQuotaPeriodSec" else self.about


def cases(seed: int) -> list[Case]:
    """Some 700 values from the tables above, then more than 1,200 random ones, over all properties that have a file."""
    found = [(item, False) for item in _fixed()] + [(item, True) for item in _random(random.Random(seed))]
    return [
        Case(name=f"v{number:04}", about=about, settings=settings, seeded=seeded)
        for number, ((about, settings), seeded) in enumerate(found)
    ]


def rows(found: Iterable[Case], prefix: str) -> dict[str, list[Case]]:
    """As few units as have room for all cases: a unit has no property twice."""
    lanes: dict[str, list[Case]] = {}
    for case in found:
        lanes.setdefault(case.lane, []).append(case)
    units = itertools.zip_longest(*lanes.values())
    return {f"{prefix}{number:03}": [case for case in row if case] for number, row in enumerate(units)}


def _texts(table: str) -> list[str]:
    return [text for line in table.strip().splitlines() for text in line.split("|")]


def _fixed() -> Iterator[tuple[str, dict[str, str]]]:
    for index, name in enumerate(MEMORY):
        texts = _texts(_SIZES)
        # All of them for the limit that matters most, a share for those with the same parser.
        yield from ((name, {name: text}) for text in (texts if name == "MemoryMax" else texts[index::4]))
        yield from ((name, {name: text}) for text in _texts(_SMALL))
    yield from (("CPUQuota", {"CPUQuota": text}) for text in _texts(_QUOTAS))
    yield from (("CPUQuotaPeriodSec", {"CPUQuota": "37.5%", "CPUQuotaPeriodSec": text}) for text in _texts(_PERIODS))
    yield from ((name, {name: text}) for name in ("CPUWeight", "IOWeight") for text in _texts(_WEIGHTS))
    yield from (("TasksMax", {"TasksMax": text}) for text in _texts(_TASKS))
    yield from (("AllowedCPUs", {"AllowedCPUs": text}) for text in _texts(_CPUS))


def _random(rng: random.Random) -> Iterator[tuple[str, dict[str, str]]]:
    # As many of each property: so the units that all of them need are few.
    for name in MEMORY:
        yield from ((name, {name: _size(rng)}) for _ in range(_EACH - _PERCENTAGES))
        yield from ((name, {name: _percentage(rng)}) for _ in range(_PERCENTAGES))
    for _ in range(_EACH):
        quota = f"{0.01 * 2_000_000 ** rng.random():.{rng.randrange(3)}f}%"
        yield "CPUQuotaPeriodSec", {"CPUQuota": quota, "CPUQuotaPeriodSec": span(rng)}
    yield from (("CPUWeight", {"CPUWeight": str(rng.randint(1, 10000))}) for _ in range(_EACH))
    yield from (("TasksMax", {"TasksMax": _percentage(rng)}) for _ in range(_EACH - _PERCENTAGES))
    yield from (("TasksMax", {"TasksMax": str(int(4_194_304 ** rng.random()))}) for _ in range(_PERCENTAGES))
    # In QEMU each unit costs more.
    yield from (("IOWeight", {"IOWeight": str(rng.randint(1, 10000))}) for _ in range(15))
    for _ in range(20):
        chosen = rng.sample(range(4), rng.randint(1, 4))
        yield "AllowedCPUs", {"AllowedCPUs": rng.choice((",", " ", ", ")).join(map(str, chosen))}


def _percentage(rng: random.Random) -> str:
    return f"{rng.uniform(0.1, 100):.{rng.randrange(3)}f}%"


def _size(rng: random.Random) -> str:
    count = int(4096 * (1 << 44) ** rng.random())
    kind = rng.randrange(4)
    if kind == 0:
        return str(count // 4096 * 4096 + rng.choice((-1, 0, 1, 4095)))
    place = rng.randrange(4)
    suffix, factor = "KMGT"[place], 1 << 10 * (place + 1)
    if kind == 1:
        return f"{count // factor + 1}{rng.choice(('', ' '))}{suffix}"
    if kind == 2 and place:
        return f"{count // factor + 1}{suffix}{rng.choice(('', ' '))}{rng.randrange(1024)}{'KMGT'[place - 1]}"
    return f"{count / factor + 0.01:.{rng.choice((1, 3, 9, 15, 16, 18))}f}{suffix}"


def span(rng: random.Random) -> str:
    usec = int(1000 * 1000 ** rng.random())
    blank = rng.choice(("", " "))
    shapes = (
        f"{usec}{blank}us", f"{usec / 1000:.{rng.randrange(4)}f}{blank}ms", f"{usec / 1e6:.{rng.randrange(3, 7)}f}{blank}s",
        f"{usec // 1000}ms{blank}{usec % 1000}us", f"{usec / 6e7:.{rng.randrange(5, 22)}f}{blank}min",
        f"{usec / 3.6e9:.{rng.randrange(7, 22)}f}{blank}h", f"{usec / 8.64e10:.{rng.randrange(9, 22)}f}{blank}days",
    )  # fmt: skip
    return rng.choice(shapes)
