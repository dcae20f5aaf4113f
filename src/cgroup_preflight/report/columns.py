"""Tables of text: aligned columns, and several tables below each other where a terminal is too narrow for one. Pure."""

from collections.abc import Iterable, Iterator, Sequence

_GAP = "  "


def aligned(rows: Sequence[Sequence[str]], width: int | None = None) -> Iterator[str]:
    """The lines of a table; a row has one text for each column. `width` is that of the terminal, None for no limit.

    Columns that do not fit go into a further table, which begins with the first column again.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, columns in enumerate(_groups(widths, width)):
        if number:
            yield ""
        for row in rows:
            yield _GAP.join(row[column].ljust(widths[column]) for column in columns).rstrip()


def _groups(widths: Sequence[int], width: int | None) -> Iterable[list[int]]:
    """The columns of each table; each has the first one and at least one more."""
    groups = [[0]]
    for column in range(1, len(widths)):
        used = sum(widths[item] + len(_GAP) for item in groups[-1])
        if width is not None and len(groups[-1]) > 1 and used + widths[column] > width:
            groups.append([0])
        groups[-1].append(column)
    return groups
