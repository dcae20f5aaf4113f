"""What a project that packages itself has to do to get the plan's files into a folder, and which files those are."""

import os
import shlex

from cgroup_preflight.artifacts.content import ALL, Holdings, Wish, wanted_files
from cgroup_preflight.artifacts.emit import STAGE, Staging
from cgroup_preflight.artifacts.model import Program


def staging_of(wish: Wish) -> Staging:
    """The commands give exactly these paths, also where the wish differs from the config by options of the call."""
    services = frozenset(item.label for item in wish.plan.services)
    programs, commands = {}, [f"mkdir -p {STAGE}"]
    if wish.service_units:
        # A whole unit names its program, so that has to be in the folder, at the place where the package has it.
        services = frozenset()
        for item in wish.plan.services:
            path = wish.below(f"usr/bin/{os.path.basename(item.binary)}")
            programs[item.label] = (Program(path=path, sha256=""),)
            commands.append(shlex.join(["install", "-D", os.path.relpath(item.binary), f"{STAGE}/{path}"]))
    commands.append(shlex.join(["cgroup-preflight", "inject", *_options(wish), STAGE]))
    files = wanted_files(wish, Holdings(programs=programs, units=services))
    return Staging(paths=sorted(files), commands=commands)


def _options(wish: Wish) -> list[str]:
    words = [] if wish.layout == "system" else ["--layout", wish.layout]
    if wish.prefix:
        words += ["--prefix", wish.prefix]
    if not isinstance(wish.services, str):
        words += ["--services", ",".join(sorted(wish.services))]
    elif wish.services != ALL:
        words += ["--services", ALL]
    return [*words, "--service-units"] if wish.service_units else words
