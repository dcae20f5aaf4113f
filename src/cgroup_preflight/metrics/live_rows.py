"""The rows of `diagnose --watch`: one for each slice and unit, in columns of fixed width. Pure."""

import unicodedata
from collections.abc import Iterable, Sequence

from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.metrics.diagnosis import Diagnosis, percent
from cgroup_preflight.metrics.window import Group, Series, Window, name_of, waiting
from cgroup_preflight.report.escape import plain

#: Title, width, and whether it is aligned to the right; the name takes what is left, the verdict at least so much.
_COLUMNS = (("CPU", 5), ("quota", 5), ("thr", 4), ("wait", 5), ("memory", 6), ("free", 4), ("OOM", 3))
_NAME_LEAST, _VERDICT = 20, 18
#: Key, and what it sorts by.
KEYS = {"c": "CPU", "t": "throttled", "w": "waiting", "m": "memory", "o": "OOM kills", "n": "name"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRow:
    """One cgroup; shares are 0 to 1, `quota` and `free` are the least over all levels above, too."""

    path: str
    cpu: float
    quota: float | None
    throttled: float
    waits: float
    resource: str
    memory: int
    free: float | None
    kills: int
    verdict: str


def rows_of(series: Series, diagnoses: Sequence[Diagnosis], sort: str) -> list[LiveRow]:
    """A row for each cgroup that did something, in the order of a key of KEYS."""
    window = series.whole
    found = [_row(window, group, diagnoses) for group in window.groups.values()]
    order = {
        "c": lambda row: -row.cpu, "t": lambda row: -row.throttled, "w": lambda row: -row.waits,
        "m": lambda row: -row.memory, "o": lambda row: -row.kills, "n": lambda row: row.path,
    }[sort]  # fmt: skip
    return sorted(sorted(found, key=lambda row: row.path), key=order)


def _row(window: Window, group: Group, diagnoses: Sequence[Diagnosis]) -> LiveRow:
    levels = [group, *window.above(group.path)]
    quotas = [level.cpu.quota for level in levels if level.cpu and level.cpu.quota is not None]
    free = [
        1 - level.memory.current / limit
        for level in levels if level.memory
        for limit in (level.memory.max, level.memory.high) if limit
    ]  # fmt: skip
    waits = [
        (waiting(part.pressure), letter)
        for part, letter in ((group.cpu, "c"), (group.memory, "m"), (group.io, "i"))
        if part
    ]
    most, letter = max(waits, default=(0.0, ""))
    mine = next((item for item in diagnoses if item.victim == group.path), None)
    return LiveRow(
        path=group.path, cpu=group.cpu.usage if group.cpu else 0.0, quota=min(quotas, default=None),
        throttled=group.cpu.ratio if group.cpu else 0.0, waits=most, resource=letter if most >= 0.005 else "",
        memory=group.memory.current if group.memory else 0, free=max(min(free), 0.0) if free else None,
        kills=group.memory.events.get("oom_kill", 0) if group.memory else 0,
        verdict="" if mine is None else _verdict(mine),
    )  # fmt: skip


def _verdict(item: Diagnosis) -> str:
    who = "itself" if item.cause == item.victim else name_of(item.cause) if item.cause else "nobody"
    return f"{item.rule} {who}"


def table(rows: Sequence[LiveRow], columns: int, lines: int, head: str) -> list[str]:
    """At most `lines` lines of at most so many `columns` of the terminal: a line about the host, the titles, and the rows."""
    fixed = sum(width + 1 for _, width in _COLUMNS)
    spare = max(columns - fixed - _VERDICT - 1, _NAME_LEAST)
    titles = " ".join(["slice or unit".ljust(spare), *(title.rjust(width) for title, width in _COLUMNS), "because of"])
    shown = [_line(row, spare) for row in rows[: max(lines - 2, 0)]]
    return [_start(line, columns) for line in (head, titles, *shown)][:lines]


def _line(row: LiveRow, spare: int) -> str:
    depth = row.path.count("/") - 1
    name = _fitted("  " * min(depth, 4) + plain(name_of(row.path)), spare)
    cells = (
        f"{row.cpu:.2f}", "-" if row.quota is None else f"{row.quota:.2f}", percent(row.throttled) if row.throttled else "-",
        f"{percent(row.waits)}{row.resource}" if row.resource else "-", format_bytes(row.memory) if row.memory else "-",
        "-" if row.free is None else percent(row.free), str(row.kills) if row.kills else "-",
    )  # fmt: skip
    return " ".join(
        [name, *(cell.rjust(width) for cell, (_, width) in zip(cells, _COLUMNS, strict=True)), plain(row.verdict)]
    )


def _fitted(text: str, width: int) -> str:
    """The text in exactly so many columns; of a long one the middle is left out."""
    if _width(text) > width:
        tail = _start(text[::-1], (width - 2) // 2)[::-1]
        text = f"{_start(text, width - 2 - _width(tail))}..{tail}"
    return text + " " * (width - _width(text))


def _start(text: str, columns: int) -> str:
    """As much of the beginning as fits."""
    if text.isascii():
        return text[:columns]
    end = used = 0
    for character in text:
        used += _width(character)
        if used > columns:
            break
        end += 1
    return text[:end]


def _width(text: Iterable[str]) -> int:
    """Columns in a terminal: two for wide characters, none for marks on the one before (Unicode Standard Annex 11)."""
    return sum(
        0
        if unicodedata.category(item) in ("Mn", "Me", "Cf")
        else 2
        if unicodedata.east_asian_width(item) in "WF"
        else 1
        for item in text
    )
