"""Builds the programs of services with the command of the config. Its output is shown only if it fails."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence

from cgroup_preflight.config.model import Service
from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.records import dataclass

_LINES = 20
_BYTES = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One command in one folder, and the services whose programs it builds."""

    command: tuple[str, ...]
    folder: str
    services: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A build that failed: why, in one line, and the last lines of its output."""

    build: Build
    why: str
    lines: tuple[str, ...]


def builds(folder: str, services: Sequence[Service]) -> tuple[Build, ...]:
    """The builds of services, each command once; `folder` is that of the config."""
    found: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for service in services:
        if service.build:
            where = os.path.normpath(os.path.join(folder, service.build_folder))
            found.setdefault((service.build, where), []).append(service.name)
    return tuple(
        Build(command=command, folder=where, services=tuple(names)) for (command, where), names in found.items()
    )


def run_builds(todo: Sequence[Build], say: Callable[[str], None]) -> tuple[Failure, ...]:
    """Runs builds one after the other, with all variables of this job; the Go tool itself uses all CPUs."""
    failures = []
    for build in todo:
        say(f"building {', '.join(build.services)}")
        if failure := _run(build):
            failures.append(failure)
    return tuple(failures)


def _run(build: Build) -> Failure | None:
    with tempfile.TemporaryFile() as output:
        try:
            # Not in a session of its own: Ctrl-C ends a build as well.
            done = subprocess.run(
                build.command, cwd=build.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            return Failure(build=build, why=f"cannot run {build.command[0]} in {build.folder}: {why}", lines=())
        if done.returncode == 0:
            return None
        output.seek(max(output.seek(0, os.SEEK_END) - _BYTES, 0))
        lines = output.read().decode("utf-8", "replace").splitlines()[-_LINES:]
    how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit status {done.returncode}"
    return Failure(build=build, why=how, lines=tuple(printable(line) for line in lines))
