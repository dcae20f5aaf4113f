"""Debian's control files, relations between packages, and the order of versions. Pure.

deb-control(5), deb-version(7), Debian policy 5.6.12 and 7.1.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from cgroup_preflight.core.records import dataclass, field

_RELATION = re.compile(
    r"([a-zA-Z0-9][a-zA-Z0-9+.-]*)(?::[a-z0-9-]+)?\s*(?:\(\s*(<<|<=|=|>=|>>|<|>)\s*([^\s()]+)\s*\))?(?:\s*\[[^\]]*\])?(?:\s*<[^>]*>)*"
)
_PART = re.compile(r"(\D*)(\d*)")
#: What a relation accepts, by the sign of the comparison; the old `<` and `>` mean `<=` and `>=`.
_ACCEPTS = {"<<": (-1,), "<=": (-1, 0), "<": (-1, 0), "=": (0,), ">=": (0, 1), ">": (0, 1), ">>": (1,)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """One package that another one names; `sign` and `version` are empty for any version."""

    name: str
    sign: str = ""
    version: str = ""

    def accepts(self, version: str) -> bool:
        """Whether this version will do."""
        return not self.sign or compare(version, self.version) in _ACCEPTS[self.sign]

    def __str__(self) -> str:
        return f"{self.name} ({self.sign} {self.version})" if self.sign else self.name


#: Any one of several.
Alternatives = tuple[Relation, ...]


def paragraphs(text: str) -> Iterator[dict[str, str]]:
    """The fields of each paragraph by their names in lower case; a continued field is one line."""
    fields: dict[str, str] = {}
    last = ""
    for line in text.split("\n"):
        if not line.strip():
            if fields:
                yield fields
            fields, last = {}, ""
        elif line[0] in " \t":
            if last:
                fields[last] = f"{fields[last]} {line.strip()}"
        else:
            name, colon, value = line.partition(":")
            last = name.strip().lower() if colon else ""
            if last:
                fields[last] = value.strip()
    if fields:
        yield fields


def relations(text: str) -> tuple[Alternatives, ...]:
    """A list such as Depends; what is no relation is left out, because dpkg itself refuses it."""
    found = []
    for group in text.split(","):
        matches = [_RELATION.fullmatch(word.strip()) for word in group.split("|")]
        some = tuple(Relation(name=match[1], sign=match[2] or "", version=match[3] or "") for match in matches if match)
        if some:
            found.append(some)
    return tuple(found)


def compare(one: str, other: str) -> int:
    """-1, 0 or 1, as dpkg orders versions (deb-version(7), "Sorting algorithm")."""
    for left, right in zip(_parts(one), _parts(other), strict=True):
        if found := _compare_part(left, right):
            return found
    return 0


def _parts(version: str) -> tuple[str, str, str]:
    """Epoch, upstream version and revision."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    return (epoch, upstream, revision) if dash else (epoch, rest, "")


def _compare_part(left: str, right: str) -> int:
    # The last part of each is empty, so that the shorter one ends there.
    for (text, number), (other_text, other_number) in zip(_PART.findall(left), _PART.findall(right), strict=False):
        order, other = _order(text), _order(other_text)
        if order != other:
            return -1 if order < other else 1
        if int(number or 0) != int(other_number or 0):
            return -1 if int(number or 0) < int(other_number or 0) else 1
    return 0


def _order(text: str) -> tuple[int, ...]:
    """A tilde before the end of the text, letters before everything else."""
    return (*(-1 if char == "~" else ord(char) if char.isalpha() else ord(char) + 256 for char in text), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """The packages of a system: versions by name. `provided` are virtual names, with a version or an empty one."""

    versions: Mapping[str, str] = field(default_factory=dict)
    provided: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def fulfils(self, relation: Relation) -> bool:
        """Whether a package of that name is installed, or another one provides it (Debian policy 7.5)."""
        if relation.name in self.versions and relation.accepts(self.versions[relation.name]):
            return True
        return any(
            not relation.sign or (version and relation.accepts(version))
            for version in self.provided.get(relation.name, ())
        )


def installed(status: Iterable[Mapping[str, str]]) -> Installed:
    """What the paragraphs of dpkg's status file, or of packages to come, say is installed."""
    versions: dict[str, str] = {}
    provided: dict[str, tuple[str, ...]] = {}
    for fields in status:
        if not fields.get("status", "install ok installed").endswith(" installed"):
            continue
        versions[fields.get("package", "")] = fields.get("version", "")
        for item, *_ in relations(fields.get("provides", "")):
            provided[item.name] = (*provided.get(item.name, ()), item.version)
    return Installed(versions=versions, provided=provided)
