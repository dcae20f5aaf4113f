"""What is in an image: the dates of the archive's package lists, and the versions of all packages. Pure, but for `contents_in`.

Lines of the file: `archive NAME DATE` for each list that apt verified, with its `Date` field, and `NAME VERSION` for each
package.
"""

import contextlib
import hashlib
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from cgroup_preflight.core.records import dataclass

FILE = "contents"
_ARCHIVE = "archive "
_KERNEL = re.compile(r"linux-image-[0-9].*")
#: The beginning of a `Date` field, as `Fri, 30 Oct 2026 08:12:01 UTC` (RFC 5322). Not with `email`, which takes longer to load
#: than an image to look at.
_DATE = re.compile(r"(?:[A-Za-z]{3}, *)?([0-9]{1,2}) ([A-Z][a-z]{2}) ([0-9]{4}) ", re.ASCII)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """`day` is that of the newest package list, as 2026-10-30, empty if unknown; `packages` are versions by name."""

    day: str
    packages: Mapping[str, str]

    @property
    def stamp(self) -> str:
        """The day and 8 hex digits over all versions, which tell builds of a moving suite apart."""
        versions = "".join(f"{name} {version}\n" for name, version in sorted(self.packages.items()))
        return f"{self.day.replace('-', '') or '0' * 8}-{hashlib.sha256(versions.encode()).hexdigest()[:8]}"

    @property
    def kernel(self) -> str:
        """The version of the kernel's package, empty for none."""
        return next((version for name, version in self.packages.items() if _KERNEL.fullmatch(name)), "")

    def age(self, today: date) -> int | None:
        """Days since the newest package list; None if unknown."""
        return (today - date.fromisoformat(self.day)).days if self.day else None


def parse(text: str) -> Contents:
    """The contents by the lines of the file; lines that have another form are left out."""
    days: list[str] = []
    packages: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith(_ARCHIVE):
            found = _DATE.match(line.split(" ", 2)[-1])
            with contextlib.suppress(ValueError):
                days += [date(int(found[3]), 1 + _MONTHS.index(found[2]), int(found[1])).isoformat()] if found else []
        elif len(words := line.split()) == 2:
            packages[words[0]] = words[1]
    return Contents(day=max(days, default=""), packages=packages)


def contents_in(home: Path) -> Contents | None:
    """The contents of the image in the folder `home`; None for one without the file."""
    try:
        return parse((home / FILE).read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
