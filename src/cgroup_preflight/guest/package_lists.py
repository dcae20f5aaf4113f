"""A program for the namespace of a build: leaves in apt's lists only what can be chosen, so that apt has less to read.

    python3 -m cgroup_preflight.guest.package_lists ROOT NAME...

apt has verified the lists, which have 60000 packages: it needs two seconds to read and search them. Whole paragraphs stay:
those of the named packages, of the required ones, and of all that these need, with each alternative and each package that
provides one. apt could choose none of the others, and so it chooses the same packages.
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
    """Narrows the lists of `root` to what the packages `names` and the required ones can need. Raises OSError."""
    texts = {path: b"\n" + path.read_bytes() for path in (root / _LISTS).iterdir() if path.name.endswith(_ENDING)}
    kept = _reachable(list(texts.values()), {name.encode() for name in names})
    for path, text in texts.items():
        found = sorted(at for chosen in kept for own, at in chosen if own is text)
        path.write_bytes(b"".join(_paragraph(text, at)[1:] + b"\n\n" for at in found))


def _reachable(texts: list[bytes], todo: set[bytes]) -> list[_Places]:
    """The places of all packages that can be chosen for `todo` and the required ones; takes all names out of `todo`."""
    places: dict[bytes, _Places] = {}
    providers: defaultdict[bytes, set[bytes]] = defaultdict(set)
    for text in texts:
        for found in _PACKAGE.finditer(text):
            places[found[1]] = (*places.get(found[1], ()), (text, found.start()))
        for field in _ALWAYS:
            todo.update(_owner(text, at) for at in _found(text, field))
        for at in _found(text, _PROVIDES):
            owner = _owner(text, at)
            for other in _named(text, at + len(_PROVIDES)):
                providers[other].add(owner)
    kept: dict[bytes, _Places] = {}
    while todo:
        name = todo.pop()
        kept[name] = places.get(name, ())
        todo |= providers.get(name, set()) - kept.keys()
        for text, at in kept[name]:
            paragraph = _paragraph(text, at)
            for field in _NEEDS:
                for begin in _found(paragraph, field):
                    todo.update(other for other in _named(paragraph, begin + len(field)) if other not in kept)
    return list(kept.values())


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


def _named(text: bytes, at: int) -> Iterator[bytes]:
    """The names in the field whose value begins at `at`, without versions and architectures."""
    end = text.find(b"\n", at)
    while end >= 0 and text[end + 1 : end + 2] in (b" ", b"\t"):
        end = text.find(b"\n", end + 1)
    for part in text[at : end if end >= 0 else len(text)].replace(b"|", b",").split(b","):
        # For example `libc6:any (>= 2.36)`.
        if words := part.replace(b"(", b" ").replace(b":", b" ").split(None, 1):
            yield words[0]


if __name__ == "__main__":
    try:
        narrow(Path(sys.argv[1]), sys.argv[2:])
    except OSError as error:
        sys.exit(f"the package lists cannot be read: {error}")
