"""What a glob of `core.globs` finds in a folder."""

import os
from collections.abc import Iterator

from cgroup_preflight.core import globs


def files(folder: str, text: str) -> tuple[str, ...]:
    """Paths of everything but folders that matches, sorted, each as `folder` joined with what matched.

    `**` does not follow links to folders, so that each walk ends; any other part does. A folder that may not be read has
    no files. Raises QuantityError for a text that is no glob.
    """
    return tuple(sorted(path for path, is_folder in _found(folder, text) if not is_folder))


def folders(folder: str, text: str) -> tuple[str, ...]:
    """Paths of the folders that match: what a person may have meant who finds no file. Raises QuantityError."""
    return tuple(sorted(path for path, is_folder in _found(folder, text) if is_folder))


def _found(folder: str, text: str) -> Iterator[tuple[str, bool]]:
    glob = globs.parse(text)
    todo = [("/" if glob.absolute else folder, globs.start(glob))]
    while todo:
        above, numbers = todo.pop()
        for name in _names(glob, above, numbers):
            path = os.path.join(above, name)
            is_folder = os.path.isdir(path)
            if globs.complete(glob, globs.after(glob, numbers, name)):
                yield path, is_folder
            if is_folder:
                below = globs.after(glob, numbers, name, recursive=not os.path.islink(path))
                todo += [(path, below)] if below else []


def _names(glob: globs.Glob, folder: str, numbers: frozenset[int]) -> tuple[str, ...]:
    names = globs.literals(glob, numbers)
    if names is not None:
        # Also `..`, which no list has, and names in a folder that may be entered but not listed.
        return tuple(name for name in dict.fromkeys(names) if os.path.lexists(os.path.join(folder, name)))
    try:
        return tuple(os.listdir(folder))
    except OSError:
        return ()
