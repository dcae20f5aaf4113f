"""How much of a report fits into a file of limited size: whole entries, the worst first. Pure.

Source: GitLab docs, "Unit test reports": less than 30 MB in one file.
"""

from collections.abc import Iterable, Sequence

from cgroup_preflight.core.report import NO_PASS, STATUSES_WORST_FIRST
from cgroup_preflight.report.place import Placed

#: Largest file, bytes: some less than GitLab reads.
FILE_MAX = 28_000_000


def fitting(items: Sequence[Placed], sizes: Sequence[int], limit: int) -> tuple[list[Placed], list[Placed]]:
    """The items that fit into `limit` bytes together, and the others; the worst are kept. Both in the given order."""
    order = sorted(range(len(items)), key=lambda index: STATUSES_WORST_FIRST.index(items[index].finding.status))
    kept = set()
    for index in order:
        limit -= sizes[index]
        if limit < 0:
            break
        kept.add(index)
    inside = [item for index, item in enumerate(items) if index in kept]
    return inside, [item for index, item in enumerate(items) if index not in kept]


def harmful(items: Iterable[Placed]) -> bool:
    """Whether any of `items` rules out a pass."""
    return any(item.finding.status in NO_PASS for item in items)
