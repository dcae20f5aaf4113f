"""Judges files that systemd would read before or over those of the plan: whether they change what it says. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from cgroup_preflight.artifacts.model import Found
from cgroup_preflight.artifacts.places import Rival


def judged(rivals: Sequence[tuple[Found, Rival]], files: Mapping[str, bytes]) -> tuple[str, ...]:
    """What each file that changes something of `files` does, in words, sorted."""
    said = (_said(found, rival, files[rival.ours]) for found, rival in rivals if rival.ours in files)
    return tuple(sorted({text for text in said if text}))


def _said(found: Found, rival: Rival, ours: bytes) -> str:
    path = found.member.path
    if rival.whole:
        return "" if found.data == ours else f"{path!r} hides {rival.ours!r}"
    if found.data is None:
        return f"{path!r} ({found.member.kind.value}) may change {rival.ours!r}: its content is not known here"
    planned: dict[str, list[str]] = {}
    for key, value in _assignments(ours):
        planned.setdefault(key, []).append(value)
    changes = sorted({f"{key}={value}" for key, value in _assignments(found.data) if _changes(planned, key, value)})
    return f"{path!r} changes {rival.ours!r}: {', '.join(changes)}" if changes else ""


def _changes(planned: Mapping[str, list[str]], key: str, value: str) -> bool:
    if key not in planned:
        return False
    if key != "Environment":
        return value != planned[key][-1]
    # A list of variables: what it adds is nobody's business, what it empties or sets again is.
    names = [item.strip('"').partition("=")[0] for item in planned[key]]
    return not value or (value not in planned[key] and any(f"{name}=" in value for name in names))


def _assignments(data: bytes) -> Iterator[tuple[str, str]]:
    """`Key=value` of the sections that hold settings (systemd.syntax(7)); lines that end in a backslash go on."""
    section = ""
    for line in data.decode("utf-8", "replace").replace("\\\n", " ").splitlines():
        text = line.strip()
        if text.startswith("["):
            section = text
        elif section in ("[Service]", "[Slice]") and not text.startswith(("#", ";")):
            key, equals, value = text.partition("=")
            if equals:
                yield key.strip(), value.strip()
