"""What the commands that judge share about the policy: the rules of the config, the baseline, and their one use."""

import argparse
import time
from collections.abc import Iterable, Sequence

from cgroup_preflight import __version__
from cgroup_preflight.core.errors import ConfigError, UsageError
from cgroup_preflight.core.records import TYPE_CHECKING, replace
from cgroup_preflight.core.report import Finding, Remedy, ServiceResult, Status

if TYPE_CHECKING:
    from cgroup_preflight.cli.common import Started
    from cgroup_preflight.config.model import Config, Policy
    from cgroup_preflight.core.policy import Rules
    from cgroup_preflight.core.report import Report

#: Largest baseline, bytes; the report of one run has about 100 kB.
_BASELINE_MAX = 32 << 20
_THRESHOLDS_SHOWN = 6
_MAKE = Remedy(title="write a baseline with this version and this config",
               commands=(("cgroup-preflight", "run", "--format", "json=baseline.json"),))  # fmt: skip


def add_baseline(to: argparse.ArgumentParser) -> None:
    """`--baseline`."""
    to.add_argument("--baseline", metavar="FILE", default="",
                    help="the JSON report of an earlier call: what it found already does not fail this one")  # fmt: skip


def rules_of(config: "Config", started: "Started", baseline: str = "", machines: tuple[str, ...] = ()) -> "Rules":
    """The policy of this call, which is about these guests or this host, if any. Raises UsageError for a baseline that is none, or is about something else."""
    today = time.strftime("%Y-%m-%d", time.gmtime(started.wall))
    before = _read_baseline(baseline, config.project).findings if baseline else ()
    return replace(config.rules, today=today, baseline=before, machines=machines)


def thresholds(config: "Config") -> tuple[Finding, ...]:
    """One line about the thresholds that differ from the defaults; none where all are the same. It decides nothing."""
    from cgroup_preflight.config.model import Policy
    from cgroup_preflight.core import codes

    usual = Policy()
    found = [f"{name} {value}" for name, value in _different(config.policy, usual, usual)]
    for service in config.services:
        found += [f"{service.name}: {name} {value}" for name, value in _different(service.policy, config.policy, usual)]
    if not found:
        return ()
    more = f"; and {len(found) - _THRESHOLDS_SHOWN} more" if len(found) > _THRESHOLDS_SHOWN else ""
    said = f"thresholds that differ from the defaults: {'; '.join(found[:_THRESHOLDS_SHOWN])}{more}"
    return (codes.THRESHOLDS.finding(Status.SKIP, "policy", said),)


def _different(policy: "Policy", other: "Policy", usual: "Policy") -> Iterable[tuple[str, str]]:
    for name in ("headroom_min", "throttled_max"):
        value, default = getattr(policy, name), getattr(usual, name)
        if value != getattr(other, name):
            yield name, f"{100 * value:g}% (default {100 * default:g}%)"


def fails(findings: Iterable[Finding], rules: "Rules") -> bool:
    """Whether a finding fails in spite of the policy, so that it would be useless to go on."""
    from cgroup_preflight.core.policy import apply

    return any(item.status is Status.FAIL for item in apply(findings, rules))


def judged(
    findings: Sequence[Finding], rules: "Rules", services: Sequence[ServiceResult] | None = None, *, whole: bool = False
) -> tuple[Finding, ...]:
    """The findings as the report has them; no other place applies the policy to a report.

    `services` are the results of a run, None for a command that runs none. `whole`: it tested all that the config has.
    """
    from cgroup_preflight.core.policy import apply, not_run, notes

    found = (*apply(findings, rules), *notes(findings, rules, whole=whole and bool(services)))
    if services is None:
        return found
    if not services:
        return (*found, *not_run(found))
    if len(rules.machines) < 2:
        return found
    # A guest on which nothing was run is no pass because services ran in another one.
    idle = [name for name in rules.machines if not any(item.name.startswith(f"{name}: ") for item in services)]
    return (*found, *(item for name in idle for item in not_run(found, name)))


def require_known(config: "Config") -> None:
    """Raises ConfigError where the policy names codes that do not exist."""
    from cgroup_preflight.checks.reference import is_known
    from cgroup_preflight.core import codes

    remedy = Remedy(title="use a code of the report; cgroup-preflight explain lists them")
    wrong = tuple(
        codes.BAD_VALUE.finding(Status.FAIL, "policy", f"no check has the code {code}", remedy, location=at)
        for code, at in config.rules.named
        if not is_known(code)
    )
    if wrong:
        count = f"{len(wrong)} mistake{'s' if len(wrong) > 1 else ''} in the config"
        raise ConfigError(
            count, where=config.path, findings=wrong, remedy=Remedy(title="correct the lines named above")
        )


def _read_baseline(path: str, project: str) -> "Report":
    """The earlier report: hostile input, as any report. Raises UsageError."""
    from cgroup_preflight.host.files import open_regular
    from cgroup_preflight.report.read import ReportShapeError, report_of

    try:
        with open_regular(path, follow=True) as file:
            data = file.read(_BASELINE_MAX + 1)
    except (OSError, ValueError) as error:
        raise _useless(path, f"cannot read it: {getattr(error, 'strerror', None) or 'not a file name'}") from None
    if len(data) > _BASELINE_MAX:
        raise _useless(path, f"it is larger than {_BASELINE_MAX >> 20} MiB")
    try:
        report = report_of(data)
    except ReportShapeError as error:
        raise _useless(path, f"it is not a report: {error}") from None
    if report.tool_version != __version__:
        raise _useless(path, f"it is from version {report.tool_version[:40]!r} of this tool, and this is {__version__}: "
                       "texts of findings differ between versions")  # fmt: skip
    if report.project != project:
        other = f"the project {report.project[:100]!r}" if report.project else "no project"
        raise _useless(path, f"it is about {other}, and this call is about the project {project!r}")
    return report


def _useless(path: str, why: str) -> UsageError:
    return UsageError(f"this baseline cannot be used: {why}", where=path, remedy=_MAKE)
