"""Flat keyed files (`cpu.stat`, `memory.events`, `pids.events`): `KEY VALUE` a line (cgroup-v2.rst)."""


def parse_flat_keyed(text: str) -> dict[str, int]:
    """Values by key. Raises ValueError on a line of another form."""
    values: dict[str, int] = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if not key or not value.isascii() or not value.isdigit():
            raise ValueError(f"not a KEY VALUE line: {line[:80]!r}")
        values[key] = int(value)
    return values
