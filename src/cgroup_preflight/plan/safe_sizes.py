"""Limits in percent that come out too small on this host; the config's own rules judge those in bytes."""

from cgroup_preflight.config.model import Config
from cgroup_preflight.config.rules import TINY
from cgroup_preflight.core import codes
from cgroup_preflight.core.errors import ConfigError
from cgroup_preflight.core.quantities import Permyriad, format_bytes
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.plan.expect import HostNumbers, memory_bytes


def refuse_tiny(config: Config, numbers: HostNumbers) -> None:
    """Raises ConfigError where a percentage of this host's memory is too small to be safe (CGP208)."""
    findings: list[Finding] = []
    for setting in config.settings:
        if setting.property not in ("MemoryMax", "MemoryHigh") or not isinstance(setting.value, Permyriad):
            continue
        size = memory_bytes(setting.value, numbers)
        if size is not None and size < TINY:
            message = f"{setting.property}: {setting.text} of this host's memory is {format_bytes(size)}, below 16M"
            remedy = Remedy(title="use at least 16M, or set allow_tiny_limits = true in [smoke]")
            findings.append(
                codes.LIMIT_TOO_SMALL.finding(Status.FAIL, setting.property, message, remedy, location=setting.location)
            )
    if findings:
        raise ConfigError(
            f"{len(findings)} limit(s) are too small on this host", where=config.path, findings=tuple(findings),
            remedy=Remedy(title="correct the lines named above"),
        )  # fmt: skip
