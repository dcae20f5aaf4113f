"""The identity of a leg: its job and its whole matrix, hashed; and the names made from it. Pure.

Names are cut and folded: GitHub and GitLab shorten them, slugs turn `.`, `/` and `_` into `-`, and readers see no
difference between some characters. So no name decides whether two reports belong to the same leg; `Origin.id` does.
"""

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.report import Origin
from cgroup_preflight.publish.comment_state import RunId
from cgroup_preflight.report.escape import clip
from cgroup_preflight.report.merge import Leg

#: Longest name of a check run, and longest name that a table shows whole (`report.comment`), characters.
_NAME_MAX, _SHOWN_MAX, _BEGIN_MAX = 100, 60, 40
#: Texts that no reader, slug or comparison without case can take for another text of this kind.
_STRICT = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,60}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobId:
    """One job as its CI system names it: `workflow` (empty: there is one only), `name` without its matrix, `id`."""

    workflow: str
    name: str
    run: RunId
    id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LegId:
    """What tells the legs of a job apart.

    `matrix` is the text of the whole matrix, `name` the name for people, `folder` the folder in the repository that the
    report is about. `index` counts from 1 to `total`, which tells whether a leg is missing; 0 is unknown.
    """

    matrix: str = ""
    name: str = ""
    folder: str = ""
    index: int = 0
    total: int = 0


def origin_of(job: JobId, leg: LegId) -> Origin:
    """The origin of a report that `job` publishes for `leg`."""
    folder = "" if leg.folder == "." else leg.folder
    group = _hash(job.workflow, job.name)
    return Origin(
        id=_hash(group, _canonical(leg.matrix), leg.name, folder), group=group, name=clip(leg.name or job.name, 300),
        job=clip(job.name, 300), index=leg.index, total=leg.total, run=job.run.run, attempt=job.run.attempt,
        job_id=job.id,
    )  # fmt: skip


def _hash(*parts: str | int) -> str:
    return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()[:24]


def _parsed(matrix: str) -> object:
    try:
        return json.loads(matrix)
    except (ValueError, RecursionError):
        return matrix


def _canonical(matrix: str) -> str:
    """The matrix with its keys in order; any other text as it is; empty for a job without a matrix."""
    parsed = _parsed(matrix)
    if parsed in (None, {}, ""):
        return ""
    return json.dumps(parsed, sort_keys=True) if isinstance(parsed, dict) else f"text {matrix}"


def matrix_name(matrix: str) -> str:
    """The values of a matrix for people, as in the names that GitHub gives to jobs; empty if it is no JSON object."""
    parsed = _parsed(matrix)
    if not isinstance(parsed, dict):
        return ""
    return ", ".join(value if isinstance(value, str) else json.dumps(value) for value in parsed.values())


def unique_name(job: JobId, leg: LegId) -> str:
    """A name of at most 100 characters that no other leg of any job has, and every attempt of this leg.

    It ends with a part of the hash unless each part is a plain word that stands for one value only.
    """
    parts, plain = _parts(job, leg)
    name = ", ".join(parts)
    if plain and len(name) <= _NAME_MAX:
        return name
    return f"{printable(name)[: _NAME_MAX - 15]} #{origin_of(job, leg).id[:12]}"


def _parts(job: JobId, leg: LegId) -> tuple[list[str], bool]:
    parsed = _parsed(leg.matrix)
    names = [name for name in (job.workflow, job.name) if name]
    parts, plain = [" / ".join(names)], list(map(_is_strict, names))
    if isinstance(parsed, dict):
        for key, value in sorted(parsed.items()):
            text = value if isinstance(value, str) else json.dumps(value)
            parts.append(f"{key}: {text}")
            plain += [_is_strict(key), isinstance(value, str) and _is_strict(value) and _parsed(value) == value]
    else:
        plain.append(not _canonical(leg.matrix))
    if leg.name and leg.name != matrix_name(leg.matrix):
        parts.append(leg.name)
        plain.append(_is_strict(leg.name))
    if leg.folder not in ("", "."):
        parts.append(f"in {leg.folder}")
        plain.append(_is_strict(leg.folder))
    return parts, all(plain)


def _is_strict(text: str) -> bool:
    return bool(_STRICT.fullmatch(text))


def artifact_name(origin: Origin) -> str:
    """A name for an artifact or a folder that no other leg and no other attempt has: letters, digits, `.` and `-`."""
    said = origin.job if origin.name == origin.job else f"{origin.job}-{origin.name}"
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", said)[:50].strip("-.")
    own = _hash(origin.id, origin.run, origin.attempt, origin.job_id)[:16]
    return "-".join(filter(None, ("cgroup-preflight", slug, own)))


def named(legs: Sequence[Leg]) -> tuple[Leg, ...]:
    """The legs with names that a reader can tell apart: where names look the same, with job, hash or number."""
    names = [leg.name for leg in legs]
    for better in (_with_job, _with_hash):
        names = _better(legs, names, better)
    taken: set[str] = set()
    for index, name in enumerate(names):
        number, found = 1, name
        while _seen(found) in taken:
            number += 1
            found = f"{_begin(name)} ({number})"
        taken.add(_seen(found))
        names[index] = found
    return tuple(replace(leg, name=name) for leg, name in zip(legs, names, strict=True))


def _better(legs: Sequence[Leg], names: Sequence[str], better: Callable[[Origin, str], str]) -> list[str]:
    counts = Counter(map(_seen, names))
    return [
        better(leg.report.origin, name) if leg.report.origin and counts[_seen(name)] > 1 else name
        for leg, name in zip(legs, names, strict=True)
    ]


def _with_job(origin: Origin, name: str) -> str:
    return name if name.startswith(origin.job) else f"{origin.job}: {name}"


def _with_hash(origin: Origin, name: str) -> str:
    return f"{name[:40]} #{origin.id[:12]}"


def _begin(name: str) -> str:
    """The beginning of a name, so short that a number after it is seen, too: folding can make a character several."""
    begin = name[:_BEGIN_MAX]
    while len(_folded(begin)) > _BEGIN_MAX:
        begin = begin[:-1]
    return begin


def _seen(name: str) -> str:
    """What a reader sees of a name in a table."""
    return _folded(name)[:_SHOWN_MAX]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
