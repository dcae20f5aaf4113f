"""The numbers of round trips that docs/hosts.md states, by the words of their rows."""

import re
from pathlib import Path

_PAGE = Path(__file__).parents[2] / "docs" / "hosts.md"
_ROW = re.compile(r"\| (.+) \| (\d+) \| (\d+) \|")


def round_trips() -> dict[str, tuple[int, int]]:
    """The most with SFTP, and without it."""
    _, _, rest = _PAGE.read_text("utf-8").partition("\n## Round trips\n")
    section, _, _ = rest.partition("\n## ")
    return {row[1]: (int(row[2]), int(row[3])) for row in map(_ROW.fullmatch, section.splitlines()) if row}
