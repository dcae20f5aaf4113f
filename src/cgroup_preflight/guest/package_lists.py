"""A program for the namespace of a build: leaves in apt's lists only what can be chosen, so that apt has less to read.

    python3 -m cgroup_preflight.guest.package_lists ROOT NAME...

apt has verified the lists, which have 60000 packages: it needs two seconds to read and search them. Whole paragraphs stay:
those of the named packages, of the required ones, and of all that these need, with each alternative and each package that
provides one. apt could choose none of the others.

Between several packages that provide a name which no package has, apt takes the one that the lists mention first, if only
in a field of a package that it never chooses. Where it may have to take one of several in this way, all lists stay whole.
apt takes required packages in the order of the lists, too: this may matter only where a need of one of them has several
answers, of which another one needs the second.
"""

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

#: A list and where in it the field with the name of the package is, for each of its versions.
_Places = tuple[tuple[bytes, int], ...]
_LISTS, _ENDING = "var/lib/apt/lists", "_Packages"
_PACKAGE = re.compile(rb"\nPackage: ([^\n]+)")
#: Fields with packages that apt may choose (deb-control(5)); recommended ones are not installed.
_NEEDS = (b"\nDepends:", b"\nPre-Depends:")
_PROVIDES = b"\nProvides:"
_ALWAYS = (b"\nEssential: yes", b"\nImportant: yes", b"\nPriority: required")


def narrow(root: Path, names: Iterable[str]) -> None:
    """Narrows the lists of `root` to what the packages `names` and the required ones can need. Raises OSError.

    Writes nothing where the order of the whole lists may decide which package apt chooses.
    """
    texts = {path: b"\n" + path.read_bytes() for path in (root / _LISTS).iterdir() if path.name.endswith(_ENDING)}
    known = _Known(list(texts.values()))
    kept = known.reachable({name.encode() for name in names})
    if any(known.is_tie(group) for chosen in kept for text, at in chosen for group in _needed(_paragraph(text, at))):
        return
    for path, text in texts.items():
        found = sorted(at for chosen in kept for own, at in chosen if own is text)
        path.write_bytes(b"".join(_paragraph(text, at)[1:] + b"\n\n" for at in found))


class _Known:
    """What the lists have: the places of each package, who provides each name, and the packages that are required."""

    def __init__(self, texts: list[bytes]) -> None:
        self._places: dict[bytes, _Places] = {}
        self._providers: defaultdict[bytes, set[bytes]] = defaultdict(set)
        self._required: set[bytes] = set()
        for text in texts:
            for found in _PACKAGE.finditer(text):
                self._places[found[1]] = (*self._places.get(found[1], ()), (text, found.start()))
            for field in _ALWAYS:
                self._required.update(_owner(text, at) for at in _found(text, field))
            for at in _found(text, _PROVIDES):
                owner = _owner(text, at)
                for group in _groups(text, at + len(_PROVIDES)):
                    self._providers[group[0]].add(owner)

    def reachable(self, names: set[bytes]) -> list[_Places]:
        """The places of all packages that can be chosen for `names` and the required ones."""
        kept: dict[bytes, _Places] = {}
        todo = names | self._required
        while todo:
            name = todo.pop()
            kept[name] = self._places.get(name, ())
            todo |= self._providers.get(name, set()) - kept.keys()
            for text, at in kept[name]:
                for group in _needed(_paragraph(text, at)):
                    todo.update(other for other in group if other not in kept)
        return list(kept.values())

    def is_tie(self, group: list[bytes]) -> bool:
        """Whether the first of these alternatives that exists is none but a name that several provide.

        A required one is installed in any case, and apt needs no other.
        """
        first = next((name for name in group if name in self._places or name in self._providers), b"")
        if not first or first in self._places:
            return False
        providers = self._providers[first]
        return len(providers) > 1 and not providers & self._required


def _paragraph(text: bytes, at: int) -> bytes:
    """That with the field at `at`, from the end of the line before it."""
    end = text.find(b"\n\n", at)
    return text[max(text.rfind(b"\n\n", 0, at + 1), -1) + 1 : end if end >= 0 else len(text)].rstrip(b"\n")


def _owner(text: bytes, at: int) -> bytes:
    """The package whose paragraph has the field at `at`."""
    found = _PACKAGE.search(_paragraph(text, at))
    return found[1] if found else b""


def _found(text: bytes, field: bytes) -> Iterator[int]:
    at = text.find(field)
    while at >= 0:
        yield at
        at = text.find(field, at + 1)


def _needed(paragraph: bytes) -> Iterator[list[bytes]]:
    """What a package needs: one of each group."""
    for field in _NEEDS:
        for begin in _found(paragraph, field):
            yield from _groups(paragraph, begin + len(field))


def _groups(text: bytes, at: int) -> Iterator[list[bytes]]:
    """The names in the field whose value begins at `at`, without versions and architectures: alternatives together."""
    end = text.find(b"\n", at)
    while end >= 0 and text[end + 1 : end + 2] in (b" ", b"\t"):
        end = text.find(b"\n", end + 1)
    for part in text[at : end if end >= 0 else len(text)].split(b","):
        # For example `libc6:any (>= 2.36)`.
        words = (name.replace(b"(", b" ").replace(b":", b" ").split(None, 1) for name in part.split(b"|"))
        if group := [found[0] for found in words if found]:
            yield group


if __name__ == "__main__":
    try:
        narrow(Path(sys.argv[1]), sys.argv[2:])
    except OSError as error:
        sys.exit(f"the package lists cannot be read: {error}")
