"""Which codes are about a word: a property of systemd, a file of a cgroup, or any other word. Pure."""

import difflib
import re
from collections.abc import Iterable

from cgroup_preflight.checks.reference import Entry
from cgroup_preflight.config.properties import PROPERTIES, Property

#: difflib is quadratic; no word that is looked for is longer.
_WORD_MAX = 60


def property_of(word: str) -> Property | None:
    """The property with this name or this file, in any case: `MemoryMax`, `memorymax=`, `memory.max`."""
    wanted = word.lower().removesuffix("=")
    return next((item for item in PROPERTIES if wanted and wanted in (item.name.lower(), item.attribute)), None)


def entries_about(word: str, entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The entries that have the word in their name, their page or its `about`; a property also by its file."""
    found = property_of(word)
    words = ({word} if found is None else {found.name, found.attribute}) - {""}
    patterns = [re.compile(rf"(?<![\w.]){re.escape(item)}(?!\w)", re.IGNORECASE) for item in sorted(words)]
    return tuple(item for item in entries if any(pattern.search(_text(item)) for pattern in patterns))


def nearest_word(word: str, entries: Iterable[Entry]) -> str:
    """The known code, name, property or file that is most like the word; empty where none is."""
    known = {item.code.code for item in entries} | {item.code.name for item in entries}
    known |= {item.name for item in PROPERTIES} | {item.attribute for item in PROPERTIES if item.attribute}
    lower = {item.lower(): item for item in sorted(known)}
    match = difflib.get_close_matches(word.lower()[:_WORD_MAX], lower, n=1, cutoff=0.5)
    return lower[match[0]] if match else ""


def _text(item: Entry) -> str:
    page = item.page
    return "\n".join((item.code.name.replace("-", " "), item.code.name, page.what, page.fails, page.fix, *page.about))
