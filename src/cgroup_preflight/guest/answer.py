"""Reads the report that this tool printed in a guest.

Untrusted binaries ran as root in the guest, so its report is hostile input. It is read strictly and within bounds. A
guest whose report is incomplete, contradictory or about something else has verified nothing.
"""

from collections import Counter

from cgroup_preflight import __version__
from cgroup_preflight.config.model import Setting
from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.quantities import Permyriad
from cgroup_preflight.core.report import Report, ServiceResult, Verdict
from cgroup_preflight.core.verdict import exit_status_of
from cgroup_preflight.guest.run import GuestTask, lost
from cgroup_preflight.guest.session import Guest
from cgroup_preflight.guest.spec import CommandResult
from cgroup_preflight.plan.build import build_plan
from cgroup_preflight.plan.expect import HostNumbers, expectations
from cgroup_preflight.report.read import ReportShapeError, report_of

_REPORT_MAX = 8 << 20


def read_report(guest: Guest, task: GuestTask, done: CommandResult) -> Report:
    """The report on stdout, if it is a valid one of this version and about this task. Raises GuestError."""
    if len(done.stdout) > _REPORT_MAX:
        raise lost(guest, f"returned {len(done.stdout)} bytes; a report has at most {_REPORT_MAX}")
    try:
        report = report_of(done.stdout)
    except ReportShapeError as error:
        raise lost(guest, f"returned no valid report ({error}); the tool in it {_ended(done)}") from None
    if report.tool_version != __version__:
        raise lost(guest, f"returned a report of another version; the tool in it {_ended(done)}")
    if any(item.policy is not None for item in report.findings):
        raise lost(guest, "returned a report with a policy applied, which only the host does")
    if done.returncode != exit_status_of(report.verdict):
        raise lost(guest, f"returned the verdict {report.verdict}, but the tool in it {_ended(done)}")
    if other := _not_about(task, report):
        raise lost(guest, f"returned a report that is not about this config: {other}")
    return report


def _not_about(task: GuestTask, report: Report) -> str:
    """What in `report` does not fit `task`: services that are not in it, or a pass without all services and limits."""
    expected = set(task.names) or {item.name for item in task.config.services}
    found = {item.name: item for item in report.services}
    if not found.keys() <= expected:
        return "it has services that were not started"
    if report.verdict is not Verdict.PASS:
        return ""
    if found.keys() != expected:
        return "a pass that leaves out services"
    plan = build_plan(task.config)
    above = {item.unit: item.settings for item in plan.slices}
    for item in plan.services:
        levels = (*(above.get(unit, ()) for unit in item.slices), item.settings)
        if item.label in expected and not _has_limits(found[item.label], levels):
            return f"a pass that leaves out limits of {item.label}"
    return task.packages.contradiction(report) if task.packages is not None else ""


#: Of the guest, for what is a percentage of its memory or tasks: these texts are not compared.
_NUMBERS = HostNumbers(page_size=4096, memory_bytes=1 << 30, tasks_max=10_000)


def _has_limits(result: ServiceResult, levels: tuple[tuple[Setting, ...], ...]) -> bool:
    """Whether `result` read a file for each setting of its unit and of the slices above, against the right text."""
    shown: Counter[tuple[str, str]] = Counter()
    for limit in result.limits:
        attribute = limit.file.rpartition("/")[2]
        shown.update([(attribute, limit.expected), (attribute, "")])
    wanted: Counter[tuple[str, str]] = Counter()
    for settings in levels:
        relative = {
            item.property for item in settings if isinstance(item.value, Permyriad) and item.property != "CPUQuota"
        }
        for item in expectations(settings, _NUMBERS):
            wanted.update([(item.attribute, "")])
            if item.property.name not in relative:
                wanted.update([(item.attribute, item.text)])
    return wanted <= shown


def _ended(done: CommandResult) -> str:
    words = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
    said = printable(" / ".join(words))[:400]
    return f"exited with {done.returncode}" + (f": {said}" if said else "")
