"""Limits that are too small to be safe on this host: in percent, of units of the project, of the boot.

The config's own rules judge what the config writes in bytes (`config.rules`). What only a host or a unit file tells is
judged here, before anything starts: a service manager can stop working over such a value.
"""

from collections.abc import Iterable, Iterator

from cgroup_preflight.config.model import Setting
from cgroup_preflight.config.rules import PAGE, TINY, TINY_LIMITS
from cgroup_preflight.core import codes
from cgroup_preflight.core.errors import ConfigError
from cgroup_preflight.core.quantities import Infinity, Permyriad, Size, format_bytes
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.plan.expect import HostNumbers, memory_bytes, tasks

_LARGER = "use at least 16M, or set allow_tiny_limits = true in [smoke]"
_ONE_TASK = "use a whole number above 0"


def refuse_tiny(settings: Iterable[Setting], numbers: HostNumbers, source: str, *, tiny: bool) -> None:
    """Raises ConfigError where a limit is too small on this host to be safe (CGP208).

    `tiny` is allow_tiny_limits of the config, which allows what is at least a page. `source` is the file of the config.
    """
    findings = tuple(tiny_findings(settings, numbers, tiny=tiny))
    if findings:
        raise ConfigError(
            f"{len(findings)} limit(s) are too small on this host", where=source, findings=findings,
            remedy=Remedy(title="correct the lines named above"),
        )  # fmt: skip


def tiny_findings(settings: Iterable[Setting], numbers: HostNumbers, *, tiny: bool) -> Iterator[Finding]:
    """A finding for each limit that is too small on this host; as `refuse_tiny`."""
    for setting in dict.fromkeys(settings):
        if (found := why_tiny(setting, numbers, tiny=tiny)) is not None:
            message, remedy = found
            yield codes.LIMIT_TOO_SMALL.finding(
                Status.FAIL, setting.property, f"{setting.property}: {message}", Remedy(title=remedy),
                location=setting.location,
            )  # fmt: skip


def why_tiny(setting: Setting, numbers: HostNumbers, *, tiny: bool) -> tuple[str, str] | None:
    """Why a limit is too small on this host, and what to write; None for one that is large enough, or not known here."""
    value = setting.value
    if isinstance(value, Infinity):
        return None
    if setting.property == "TasksMax" and numbers.tasks_max and tasks(value, numbers) == 0:
        return f"{setting.text} of the {numbers.tasks_max} tasks of this host is no task at all", _ONE_TASK
    if setting.property not in TINY_LIMITS:
        return None
    size = memory_bytes(value, numbers) if numbers.memory_bytes or isinstance(value, Size) else None
    if size is None or size >= TINY or (tiny and size >= PAGE):
        return None
    share = f" of this host's memory is {format_bytes(size)}," if isinstance(value, Permyriad) else " is"
    least = f"use at least {format_bytes(TINY)}" if size < PAGE else _LARGER
    return f"{setting.text}{share} below 16M, which can block the service manager", least
