"""The files of certificates that the config names: whether each is one of the project's and has a certificate."""

import os

from cgroup_preflight.config.model import Config
from cgroup_preflight.config.places import allows, path_of
from cgroup_preflight.core import codes
from cgroup_preflight.core.errors import ConfigError
from cgroup_preflight.core.report import Remedy, Status

_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_SIZE_MAX = 1 << 20


def require_certificates(config: Config, names: tuple[str, ...]) -> None:
    """Raises ConfigError where `ready_ca` of a service (of those in `names`, or of all) has no certificate."""
    findings = tuple(
        codes.NO_MATCH.finding(
            Status.FAIL, service.name, f"ready_ca {service.smoke.ready_ca!r} of {service.name}: {wrong[0]}",
            Remedy(title=wrong[1]), location=service.ready_location,
        )
        for service in config.services
        if service.smoke.ready_ca and (not names or service.name in names)
        and (wrong := _problem(config, service.smoke.ready_ca))
    )  # fmt: skip
    if findings:
        raise ConfigError(
            f"{len(findings)} service(s) have no certificates to check answers against", where=config.path,
            findings=findings, remedy=Remedy(title="make these files first, or correct ready_ca in the config"),
        )  # fmt: skip


def _problem(config: Config, path: str) -> tuple[str, str] | None:
    """What is wrong with a file and what to do; None where it has a certificate."""
    if not allows(config, path):
        return "it is a link out of the folder of the config", "copy the file into that folder"
    try:
        with os.fdopen(os.open(path_of(config.folder, path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            data = file.read(_SIZE_MAX)
    except OSError as error:
        return (
            f"cannot read it: {error.strerror}",
            "make it first, or correct the path (relative to the config's folder)",
        )
    if _CERTIFICATE not in data:
        return f"it has no {_CERTIFICATE.decode()}", "name a PEM file with the certificate of the authority"
    return None
