"""CGP111: no cgroup on the path to the units is threaded or invalid."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, unread, unverified
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code
from cgroup_preflight.core.reading import Known, Missing
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.host.cgroupfs import CgroupReading

CODE = Code("CGP111", "cgroup-type")
PAGE = Page(
    what="Checks that no cgroup on the path to the units is threaded or invalid.",
    fails=(
        "A threaded cgroup has no memory controller, and a process cannot start in an invalid one (EOPNOTSUPP). "
        "Writing +cpu into a cgroup that contains processes creates one."
    ),
    fix=(
        "Undo the write to cgroup.subtree_control of the level that the message names, or start units under another "
        "parent."
    ),
    about=("cgroup.type",),
    sources=(
        "https://docs.kernel.org/admin-guide/cgroup-v2.html#threads",
        "https://github.com/opencontainers/runc/issues/2390",
    ),
)


def _run(context: Context) -> Iterable[Finding]:
    facts = context.facts
    if isinstance(facts.cgroup_mount, Missing):
        return (CODE.finding(Status.SKIP, "cgroup.type", "no cgroup v2, see CGP101"),)
    way = facts.user_manager.levels if context.judged == "user" else (facts.root, facts.services)
    if context.engine.place is not None:
        way = (context.engine.place.level,)
    unknown = unread(*(level.type for level in way))
    if unknown is not None:
        return (unverified(CODE, "cgroup.type", unknown),)
    levels = (*way, *(level for level in facts.own if level not in way))
    odd = [level for level in levels if _is_odd(level)]
    if not odd:
        read = {level.type.source: _shown(level) for level in levels}
        return (CODE.finding(Status.PASS, "cgroup.type", "every level is a domain", evidence=read),)
    level = odd[0]
    # A manager puts no units below the job's own cgroup, so that one only gives a warning.
    status = Status.FAIL if level in way else Status.WARN
    remedy = Remedy(
        title=f"look at cgroup.subtree_control above {level.path}",
        needs_root=True,
        why="a threaded domain appears when a controller is enabled in a cgroup that contains processes",
    )
    message = f"{level.path} is {_shown(level)!r}: memory limits do not apply there, and programs may fail to start"
    evidence = {level.type.source: _shown(level)}
    return (CODE.finding(status, "cgroup.type", message, remedy, evidence=evidence),)


def _shown(level: CgroupReading) -> str:
    return level.type.value if isinstance(level.type, Known) else str(level.type.why)


def _is_odd(level: CgroupReading) -> bool:
    return isinstance(level.type, Known) and level.type.value != "domain"


CHECK = Check(code=CODE, page=PAGE, needs=("cgroup_mount", "root", "services", "user_manager"), uses=("own",), run=_run)
