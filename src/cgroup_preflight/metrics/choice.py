"""Which cgroups a person means by the name of a slice or unit."""

import difflib
from collections.abc import Iterable

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.metrics.names import slice_path
from cgroup_preflight.metrics.window import name_of


def find(word: str, paths: Iterable[str]) -> tuple[str, ...]:
    """The paths that a word means: a path, or the name of a slice or unit, wherever it is; units of users, too.

    Raises UsageError with the nearest name where none exists.
    """
    known = [path for path in paths if path]
    path = f"/{word.strip('/')}"
    if path in known:
        return (path,)
    named = [path for path in known if name_of(path) in (word, f"_{word}")]
    if word.endswith(".slice") and not named:
        try:
            named = [slice_path(word)] if slice_path(word) in known else []
        except ValueError:
            named = []
    if named:
        return tuple(named)
    near = difflib.get_close_matches(word[:200], {name_of(path) for path in known}, n=1, cutoff=0.5)
    title = f"did you mean {printable(near[0])}?" if near else "systemd-cgls shows the slices and units of this host"
    raise UsageError(
        "there is no such slice or unit with a cgroup", where=printable(word[:200]), remedy=Remedy(title=title)
    )
