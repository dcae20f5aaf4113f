"""What packages need of the system that they are installed in, known before it boots. Pure."""

from collections.abc import Iterable, Mapping

from cgroup_preflight.core.records import dataclass
from cgroup_preflight.packages.control import Alternatives, Installed, installed, relations

_NEEDS = ("pre-depends", "depends")
_EXCLUDES = ("conflicts", "breaks")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmet:
    """A dependency that nothing fulfils: the package that has it, and its text; `package` is what would help."""

    needed_by: str
    text: str
    package: str


def unmet(packages: Iterable[Mapping[str, str]], system: Installed) -> tuple[Unmet, ...]:
    """The dependencies of `packages` (their control fields) that neither they nor `system` fulfil, each once."""
    given = tuple(packages)
    together = installed(given)
    found: dict[str, Unmet] = {}
    for fields in given:
        for group in (item for name in _NEEDS for item in relations(fields.get(name, ""))):
            if not any(some.fulfils(item) for item in group for some in (together, system)):
                text = _text(group)
                found.setdefault(text, Unmet(needed_by=fields.get("package", ""), text=text, package=group[0].name))
    return tuple(found.values())


def named(packages: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    """The packages of the distribution that `packages` depend on, the first one of alternatives."""
    given = tuple(packages)
    own = installed(given)
    groups = (item for fields in given for name in _NEEDS for item in relations(fields.get(name, "")))
    return tuple(dict.fromkeys(group[0].name for group in groups if not any(own.fulfils(item) for item in group)))


def conflicts(packages: Iterable[Mapping[str, str]], system: Installed) -> tuple[str, ...]:
    """Each pair of which one package excludes the other, in words."""
    given = tuple(packages)
    found = []
    for fields in given:
        name = fields.get("package", "")
        # A package may conflict with what it provides itself: it means all others (Debian policy 7.6.2).
        others = installed(item for item in given if item.get("package") != name)
        rest = Installed(versions={key: value for key, value in system.versions.items() if key != name})
        for group in (item for key in _EXCLUDES for item in relations(fields.get(key, ""))):
            if any(item.name != name and (others.fulfils(item) or rest.fulfils(item)) for item in group):
                found.append(f"{name} cannot be installed together with {_text(group)}")
    return tuple(found)


def _text(group: Alternatives) -> str:
    return " | ".join(map(str, group))
