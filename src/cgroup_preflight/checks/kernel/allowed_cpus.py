"""CGP120: the CPUs in AllowedCPUs exist and are online."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, unverified
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code
from cgroup_preflight.core.reading import Known, Missing
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Finding, Remedy, Status

if TYPE_CHECKING:
    from cgroup_preflight.config.model import Setting
    from cgroup_preflight.core.reading import Reading

CODE = Code("CGP120", "allowed-cpus")
PAGE = Page(
    what="Checks that the CPUs in AllowedCPUs exist and are online.",
    fails=(
        "Where one CPU of the list does not exist, the kernel refuses the whole list (ERANGE); systemd goes on, and the "
        "unit runs on all CPUs, with one line in the journal. Where a CPU is only offline, the kernel leaves it out, and "
        "the limit cannot be tested here."
    ),
    fix="Name CPUs that the host has.",
    about=("cpuset.cpus", "cpuset"),
    sources=("https://docs.kernel.org/admin-guide/cgroup-v2.html#cpuset-interface-files",),
)


def _run(context: Context) -> Iterable[Finding]:
    limits = context.plan.every_limit if context.plan is not None else ()
    settings = [(item, item.value) for item in limits if item.property.endswith("AllowedCPUs")]
    if not settings:
        return (CODE.finding(Status.SKIP, "cpuset", "AllowedCPUs is not used"),)
    from cgroup_preflight.core.quantities import format_cpus

    online, possible = context.facts.online_cpus, context.facts.possible_cpus
    if isinstance(online, Missing):
        return (unverified(CODE, "cpuset", online),)
    found = [
        _beyond(item, value, online, possible)
        for item, value in settings
        if isinstance(value, frozenset) and value - online.value
    ]
    evidence = {online.source: format_cpus(online.value)}
    return found or (CODE.finding(Status.PASS, "cpuset", "every CPU in AllowedCPUs is online", evidence=evidence),)


def _beyond(
    item: "Setting", wanted: frozenset[int], online: Known[frozenset[int]], possible: "Reading[frozenset[int]]"
) -> Finding:  # fmt: skip
    """A CPU that does not exist makes the kernel refuse the list; one that is offline only leaves it out."""
    from cgroup_preflight.core.quantities import format_cpus

    evidence = {online.source: format_cpus(online.value)}
    status, outside, is_what = Status.UNVERIFIED, wanted - online.value, "is not online here"
    if isinstance(possible, Known):
        evidence[possible.source] = format_cpus(possible.value)
        if missing := wanted - possible.value:
            status, outside = Status.FAIL, missing
            is_what = "does not exist here, so the kernel refuses the whole list, and the unit runs on all CPUs"
    message = f"{item.property}={item.text}: CPU {format_cpus(frozenset(outside))} {is_what}"
    remedy = Remedy(title=f"use CPUs out of {format_cpus(online.value)}", docs=PAGE.sources[0])
    return CODE.finding(status, item.property, message, remedy, location=item.location, evidence=evidence)


CHECK = Check(code=CODE, page=PAGE, needs=("online_cpus",), uses=("possible_cpus",), run=_run)
