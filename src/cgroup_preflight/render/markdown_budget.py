"""Fits a text into a number of bytes by leaving whole rows out and saying how many; nothing is cut inside."""

from collections.abc import Iterable
from dataclasses import dataclass

#: Room for the line that counts what was left out, bytes.
_RESERVE = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """`count` rows that go together between `head` and `foot`; shown not at all where not even one row fits.

    Rows may be a generator: none is made after the first that does not fit.
    """

    name: str
    head: str = ""
    foot: str = ""
    count: int
    rows: Iterable[str]


class Budget:
    """Takes sections in the order of their importance; what an earlier one uses, a later one has not.

    `head` is always shown: the caller keeps it shorter than `limit` (bytes of UTF-8) less _RESERVE.
    """

    def __init__(self, head: str, *, limit: int) -> None:
        self._limit = limit
        self._left = limit - _RESERVE - _size(head)
        self._parts = [head]
        self._omitted: list[str] = []

    def add(self, section: Section) -> None:
        """Adds as many rows as fit, in their order, so that the worst ones are those that stay."""
        room = self._left - _size(section.head) - _size(section.foot)
        kept = []
        for row in section.rows:
            room -= _size(row)
            if room < 0:
                break
            kept.append(row)
        if kept:
            text = section.head + "".join(kept) + section.foot
            self._parts.append(text)
            self._left -= _size(text)
        missing = section.count - len(kept)
        if missing:
            self._omitted.append(f"{section.name}: {missing} of {section.count}")

    def text(self) -> str:
        """The whole, with one more line where something was left out."""
        if not self._omitted:
            return "".join(self._parts)
        return "".join([*self._parts, f"\nLeft out to stay below {self._limit} bytes: {', '.join(self._omitted)}.\n"])


def _size(text: str) -> int:
    return len(text.encode("utf-8"))
