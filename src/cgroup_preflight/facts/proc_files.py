"""/proc/meminfo, /proc/PID/status, /proc/sys numbers, CPU lists (proc(5))."""

#: More than any kernel can have (CONFIG_NR_CPUS).
_CPUS_MAX = 1 << 16


def parse_meminfo(text: str) -> dict[str, int]:
    """Bytes by key, for the lines in kB. Raises ValueError when MemTotal is missing."""
    values: dict[str, int] = {}
    for line in text.splitlines():
        key, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB" and words[0].isdigit():
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


def parse_number(text: str) -> int:
    """One decimal number, as in /proc/sys. Raises ValueError."""
    word = text.strip()
    if not word.isascii() or not word.isdigit():
        raise ValueError(f"not a number: {word[:40]!r}")
    return int(word)


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
    if not line or "\n" in line or not line.isprintable():
        raise ValueError("not one line of text")
    return line
