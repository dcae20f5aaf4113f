"""CGP112: no kernel parameter disables what is required."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, unread, unverified
from cgroup_preflight.checks.boot import remove_parameter
from cgroup_preflight.checks.cgroup.controllers import enable_controller
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code
from cgroup_preflight.core.reading import Missing, value_or
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.host.boot import is_off

CODE = Code("CGP112", "kernel-command-line")
PAGE = Page(
    what="Checks that no kernel parameter disables what is required.",
    fails=(
        "With cgroup_disable=memory systemd still accepts every MemoryMax=. With psi=0 the pressure files cannot be "
        "read. systemd's hierarchy parameters bring cgroup v1 back up to systemd 257; 258 and later ignore them."
    ),
    fix="Remove the parameter from the boot loader's configuration and reboot.",
    about=("cgroup_disable", "psi", "swapaccount", "boot"),
    sources=("https://docs.kernel.org/admin-guide/kernel-parameters.html",),
)

#: Parameters that give a warning where their value means off, and what they do.
_SWITCHES = {
    "psi": "disables pressure stall information",
    "swapaccount": "disables swap accounting on older kernels",
    "systemd.unified_cgroup_hierarchy": "asks systemd for cgroup v1 (CGP101 shows the result)",
}
#: The first systemd that knows only cgroup v2 and ignores its parameters about v1 (systemd NEWS).
_ONLY_V2 = 258


def _run(context: Context) -> Iterable[Finding]:
    cmdline = context.facts.cmdline
    if isinstance(cmdline, Missing):
        return (unverified(CODE, "kernel command line", cmdline),)
    evidence = {cmdline.source: cmdline.value or "no parameter about cgroups"}
    findings: list[Finding] = []
    for word in cmdline.value.split():
        name, _, value = word.partition("=")
        if name == "cgroup_disable":
            findings += _disabled(context, word, value.split(","))
        elif name.startswith("systemd.") and value_or(context.facts.systemd_version, 0) >= _ONLY_V2:
            continue
        elif name in _SWITCHES and is_off(value):
            remedy = remove_parameter(context, word, why=f"it {_SWITCHES[name]}", docs=PAGE.sources[0])
            findings.append(_finding(Status.WARN, word, _SWITCHES[name], cmdline.value, remedy))
    message = "no kernel parameter disables what is required"
    return findings or [CODE.finding(Status.PASS, "kernel", message, evidence=evidence)]


def _disabled(context: Context, word: str, names: list[str]) -> Iterable[Finding]:
    """What `cgroup_disable=` disables. A later `cgroup_enable=` enables the controller again on some kernels."""
    line, offered = value_or(context.facts.cmdline, ""), context.facts.root_controllers
    unknown = unread(offered)
    if unknown is not None:
        yield unverified(CODE, word, unknown)
        return
    there = value_or(offered, frozenset())
    lost = [name for name in names if name not in there]
    for name in names:
        status = Status.FAIL if name in context.required and name in lost else Status.WARN
        remedy = enable_controller(context, word, name)
        if name in lost:
            yield _finding(status, word, f"disables {name}", line, remedy)
        elif "cgroup_enable=" not in line:
            yield _finding(status, word, f"names {name}, which is available all the same", line, remedy)
    if not lost and "cgroup_enable=" in line:
        message = f"{word} is overridden by a later parameter: {', '.join(names)} is available"
        yield CODE.finding(Status.PASS, word, message, evidence={"/proc/cmdline": line})


def _finding(status: Status, word: str, effect: str, line: str, remedy: Remedy) -> Finding:
    message = f"the kernel parameter {word} {effect}"
    return CODE.finding(status, word, message, remedy, evidence={"/proc/cmdline": line})


CHECK = Check(
    code=CODE, page=PAGE, needs=("cmdline", "root"), uses=("boot_loader", "container", "kernel", "systemd_version"), run=_run,
)  # fmt: skip
