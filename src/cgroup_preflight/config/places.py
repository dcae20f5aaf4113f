"""Where the paths of a config lead: everything that reads or writes one takes it from here.

A config comes from a pull request. What is written, and what goes into a guest, must be in the folder of the config or in
a folder that the person who calls the tool allows (`--allow-outside`); a link cannot lead out of them.
"""

import os

from cgroup_preflight.config.model import Config


def path_of(folder: str, path: str) -> str:
    """The path on this machine of a path in a config in `folder`, with its links."""
    return os.path.join(folder, path)


def allowed(config: Config) -> tuple[str, ...]:
    """The folders that paths of the config may lead into, without links."""
    return (os.path.realpath(config.folder), *config.outside)


def allows(config: Config, path: str) -> bool:
    """Whether `path` (relative to the folder of the config), with its links followed, is in one of these folders."""
    real = os.path.realpath(path_of(config.folder, path))
    return any(is_below(real, folder) for folder in allowed(config))


def allows_program(config: Config, binary: str) -> bool:
    """The same for a program; one that the config openly names outside may also be in the folder that it names."""
    if allows(config, binary):
        return True
    path = os.path.normpath(path_of(config.folder, binary))
    if is_below(path, os.path.normpath(config.folder)):
        return False
    return os.path.dirname(os.path.realpath(path)) == os.path.realpath(os.path.dirname(path))


def spells_outside(config: Config, glob: str) -> bool:
    """Whether a glob leads out of the allowed folders by its text alone, whatever links there are."""
    fixed: list[str] = []
    parts = glob.split("/")
    while parts and not any(sign in parts[0] for sign in "*?["):
        fixed.append(parts.pop(0))
    # A `..` after a wildcard would need the file system to tell where it leads.
    if ".." in parts:
        return True
    spelled = os.path.normpath(path_of(config.folder, "/".join(fixed) or ("/" if glob.startswith("/") else ".")))
    return not any(is_below(spelled, folder) for folder in (os.path.normpath(config.folder), *allowed(config)))


def is_below(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or in it, by its text: links and `..` must be gone from both."""
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")
