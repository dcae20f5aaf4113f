"""The files that a command line names, directly or by their folder, and a short name for each."""

import os
from collections.abc import Iterable, Sequence
from pathlib import PurePath


def json_files(paths: Iterable[str]) -> list[str]:
    """The paths, each once; instead of a folder the .json files below it."""
    found: list[str] = []
    for path in paths:
        if os.path.isdir(path) and not os.path.islink(path):
            found += sorted(os.path.join(folder, name) for folder, _, names in os.walk(path)
                            for name in names if name.endswith(".json"))  # fmt: skip
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def leg_names(files: Sequence[str]) -> list[str]:
    """A short, unique name for each file: the part of its path that differs from the others.

    `reports/ubuntu/report.json` and `reports/fedora/report.json` become `ubuntu` and `fedora`.
    """
    parts = [list(PurePath(os.path.normpath(file)).with_suffix("").parts) for file in files]
    while all(len(item) > 1 for item in parts) and len({item[0] for item in parts}) == 1:
        parts = [item[1:] for item in parts]
    while all(len(item) > 1 for item in parts) and len({item[-1] for item in parts}) == 1:
        parts = [item[:-1] for item in parts]
    names: list[str] = []
    taken: set[str] = set()
    for item in parts:
        name = base = "/".join(item) or "report"
        number = 1
        while name in taken:
            number += 1
            name = f"{base} ({number})"
        taken.add(name)
        names.append(name)
    return names
