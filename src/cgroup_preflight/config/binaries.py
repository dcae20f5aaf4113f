"""The program files that the config names: whether each exists and can be executed."""

import os
import shlex
import stat
from pathlib import Path

from cgroup_preflight.config.model import Config
from cgroup_preflight.config.places import path_of
from cgroup_preflight.core import codes
from cgroup_preflight.core.errors import ConfigError
from cgroup_preflight.core.report import Finding, Remedy, Status


def require_binaries(config: Config, names: tuple[str, ...]) -> None:
    """Raises ConfigError where the program of a service (of those in `names`, or of all) is no executable file."""
    findings: list[Finding] = []
    for service in config.services:
        named = not names or service.name in names
        # Without a binary, the program is the one that the unit names on the machine that runs it.
        wrong = _problem(config.folder, service.binary) if named and service.binary else None
        if wrong:
            message = f"binary {service.binary!r} of {service.name}: {wrong[0]}"
            findings.append(
                codes.BINARY.finding(
                    Status.FAIL, service.name, message, Remedy(title=wrong[1]), location=service.location
                )
            )
    if findings:
        raise ConfigError(
            f"{len(findings)} service(s) have no program to run", where=config.path, findings=tuple(findings),
            remedy=Remedy(title="build the programs first, or correct binary in the config"),
        )  # fmt: skip


def program_hashes(config: Config) -> dict[str, str]:
    """SHA-256 of each service's program now; those that cannot be read are left out."""
    import hashlib

    found = {}
    for service in config.services:
        try:
            with open(path_of(config.folder, service.binary), "rb", buffering=0) as file:
                found[service.name] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            continue
    return found


def _problem(folder: str, binary: str) -> tuple[str, str] | None:
    """What is wrong with the file and what to do; None for an executable file."""
    path = Path(path_of(folder, binary))
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "the file does not exist", "build it first, or correct the path (relative to the config's folder)"
    except OSError as error:
        return f"cannot read its status: {error.strerror}", "correct the path (relative to the config's folder)"
    if stat.S_ISDIR(mode):
        return "it is a folder", "name the program file itself"
    if not stat.S_ISREG(mode):
        return "it is not a regular file", "name a program file"
    if not os.access(path, os.X_OK):
        return "it is not executable", f"chmod +x {shlex.quote(binary)}"
    return None
