"""/proc/meminfo, /proc/PID/status, /proc/sys numbers, CPU lists (proc(5)).

Files whose text the kernel makes: each of them ends its last line.

Kernel configuration (/proc/config.gz, /boot/config-RELEASE): the options that cgroups depend on.
"""

from __future__ import annotations

from collections.abc import Callable

from cgroup_preflight.core.reading import Reading, parsed
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.host.fs import HostFs

if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")


#: No number of the kernel is larger than 2**64: more digits would be no number that can be divided as a float.
DIGITS_MAX = 20
#: /proc/uptime has hundredths of a second; nanoseconds.
UPTIME_STEP = 10_000_000
#: More than any kernel can have (CONFIG_NR_CPUS).
_CPUS_MAX = 1 << 16
#: include/linux/sched.h: a kernel thread; no program can set it.
_PF_KTHREAD = 0x00200000


def parse_meminfo(text: str) -> dict[str, int]:
    """Bytes by key, for the lines in kB. Raises ValueError when MemTotal is missing."""
    values: dict[str, int] = {}
    for line in text.splitlines():
        key, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB" and words[0].isdigit() and len(words[0]) <= DIGITS_MAX:
            values[key] = int(words[0]) * 1024
    if "MemTotal" not in values:
        raise ValueError("no MemTotal line")
    return values


def parse_status(text: str) -> dict[str, str]:
    """Fields of /proc/PID/status by name. Raises ValueError when there is no Uid."""
    fields = {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    if "Uid" not in fields:
        raise ValueError("no Uid line")
    return fields


def parse_uid(text: str) -> int:
    """The effective user id of /proc/PID/status. Raises ValueError."""
    words = parse_status(text)["Uid"].split()
    if len(words) != 4 or not words[1].isdigit():
        raise ValueError("no effective uid in the Uid line")
    return int(words[1])


def parse_open_files(text: str) -> tuple[str, str]:
    """Soft and hard limit of open files of /proc/PID/limits, numbers or `unlimited`. Raises ValueError."""
    line = next((line for line in text.splitlines() if line.startswith("Max open files")), "")
    words = line.removeprefix("Max open files").split()
    if len(words) < 2:
        raise ValueError("no line on open files")
    return words[0], words[1]


def parse_number(text: str) -> int:
    """One decimal number, as in /proc/sys. Raises ValueError."""
    word = text.strip()
    if not word.isascii() or not word.isdigit() or len(word) > DIGITS_MAX:
        raise ValueError(f"not a number: {word[:40]!r}")
    return int(word)


def parse_uptime(text: str) -> int:
    """Nanoseconds since the start of the machine, in whole steps of UPTIME_STEP. Raises ValueError."""
    seconds, point, hundredths = text.split(" ", 1)[0].partition(".")
    digits = seconds + hundredths
    if not (point and seconds and len(hundredths) == 2 and digits.isascii() and digits.isdigit() and len(digits) <= 15):
        raise ValueError("not an uptime")
    return int(digits) * UPTIME_STEP


def parse_cpu_list(text: str) -> frozenset[int]:
    """CPUs of /sys/devices/system/cpu/online, such as `0-3,5`. Raises ValueError."""
    cpus: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        low, high = parse_number(first), parse_number(last or first)
        if not low <= high < _CPUS_MAX:
            raise ValueError(f"not a list of CPUs: {text[:40]!r}")
        cpus.update(range(low, high + 1))
    return frozenset(cpus)


def parse_line(text: str) -> str:
    """The one line of a file such as /proc/sys/kernel/osrelease. Raises ValueError when it is empty."""
    line = text.strip()
    if not line or not line.isprintable():
        raise ValueError("not one line of text")
    return line


def read_kernel(fs: HostFs, path: str, parse: Callable[[str], T]) -> Reading[T]:
    """The file at `path`, parsed; text without a newline at its end is cut off, and so malformed."""
    return parsed(fs.read(path), lambda text: parse(_whole(text)))


def _whole(text: str) -> str:
    if text and not text.endswith("\n"):
        raise ValueError("cut off: no newline at its end")
    return text


OPTIONS = (
    "CONFIG_CGROUPS", "CONFIG_MEMCG", "CONFIG_CGROUP_SCHED", "CONFIG_FAIR_GROUP_SCHED", "CONFIG_CFS_BANDWIDTH",
    "CONFIG_RT_GROUP_SCHED", "CONFIG_CGROUP_PIDS", "CONFIG_CPUSETS", "CONFIG_PSI", "CONFIG_PSI_DEFAULT_DISABLED",
    "CONFIG_BLK_CGROUP", "CONFIG_BLK_CGROUP_IOCOST", "CONFIG_SWAP", "CONFIG_ZSWAP",
)  # fmt: skip
#: Options whose names begin with one of OPTIONS, so that every recording has them, too.
_LONGER = ("CONFIG_RT_GROUP_SCHED_DEFAULT_DISABLED",)


def parse_kernel_config(lines: tuple[str, ...]) -> dict[str, str]:
    """`y`, `m`, `n` or a value for each of OPTIONS, and of those with longer names, that the lines mention. Raises ValueError when none is."""
    found: dict[str, str] = {}
    for line in lines:
        words = line.removeprefix("# ")
        if words.endswith(" is not set"):
            name, value = words.removesuffix(" is not set"), "n"
        else:
            name, _, value = words.partition("=")
        if name in (*OPTIONS, *_LONGER) and value:
            found[name] = value
    if not found:
        raise ValueError("no CONFIG_ line of cgroups in it")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStat:
    """Who a process is: `started` is in clock ticks since the boot; with the number it names a process for good."""

    parent: int
    started: str
    kernel: bool


def parse_stat(text: str) -> ProcessStat:
    """Fields 4, 9 and 22 of proc_pid_stat(5); the name before them is in brackets and may hold anything.

    Raises ValueError.
    """
    words = text.rpartition(")")[2].split()
    if len(words) < 20 or not words[1].isdigit() or not words[6].isdigit():
        raise ValueError("not a /proc/PID/stat")
    return ProcessStat(parent=int(words[1]), started=words[19], kernel=bool(int(words[6]) & _PF_KTHREAD))


def parse_policy(text: str) -> int:
    """Field 41 of proc_pid_stat(5), the scheduling policy of a thread. Raises ValueError."""
    words = text.rpartition(")")[2].split()
    if len(words) < 39:
        raise ValueError("not a /proc/PID/stat")
    return parse_number(words[38])


def parse_huge_pages(text: str) -> int:
    """`HugetlbPages` of proc_pid_status(5) in bytes, 0 for a kernel without them. Raises ValueError."""
    found = next((line.split() for line in text.splitlines() if line.startswith("HugetlbPages:")), None)
    if found is None:
        return 0
    if len(found) != 3 or found[2] != "kB":
        raise ValueError("not a size in kB")
    return parse_number(found[1]) << 10
