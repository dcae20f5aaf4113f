"""The table of `up --table`: what each service uses, and against which limit. Pure."""

from collections.abc import Mapping, Sequence

from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.records import dataclass

_HEAD = ("service", "state", "CPU", "throttled", "memory", "ready")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One service: shares and CPUs over the time since the last row, memory in bytes; None where it is unknown."""

    name: str
    state: str
    cpus: float | None = None
    quota: float | None = None
    throttled: float | None = None
    memory: int | None = None
    limit: int | None = None
    ready: str = "-"


def rates(before: Mapping[str, int], after: Mapping[str, int], seconds: float) -> tuple[float | None, float | None]:
    """CPUs used and the share of throttled periods between two readings of cpu.stat (cgroup-v2.rst)."""
    if seconds <= 0 or "usage_usec" not in before or "usage_usec" not in after:
        return None, None
    cpus = max(after["usage_usec"] - before["usage_usec"], 0) / seconds / 1e6
    periods = after.get("nr_periods", 0) - before.get("nr_periods", 0)
    throttled = after.get("nr_throttled", 0) - before.get("nr_throttled", 0)
    return cpus, throttled / periods if periods > 0 else None


def table_lines(rows: Sequence[Row]) -> tuple[str, ...]:
    """The table as lines, the columns aligned."""
    cells = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(cell[column]) for cell in cells) for column in range(len(_HEAD))]
    return tuple(
        "  ".join(text.ljust(width) for text, width in zip(cell, widths, strict=True)).rstrip() for cell in cells
    )


def _cells(row: Row) -> tuple[str, ...]:
    cpus = "-" if row.cpus is None else f"{row.cpus:.2f}"
    memory = "-" if row.memory is None else format_bytes(row.memory)
    return (
        row.name, row.state, f"{cpus}/{row.quota:g}" if row.quota is not None else cpus,
        "-" if row.throttled is None else f"{row.throttled:.0%}",
        f"{memory}/{format_bytes(row.limit)}" if row.limit is not None else memory, row.ready,
    )  # fmt: skip
