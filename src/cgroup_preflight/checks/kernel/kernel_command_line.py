"""CGP112: No kernel parameter switches off what is required."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity, unread
from cgroup_preflight.checks.boot import remove_parameter
from cgroup_preflight.checks.cgroup.controllers import enable_controller
from cgroup_preflight.core.reading import Missing, value_or
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.host.boot import is_off

#: Parameters that only warn, where they are off: what comes of it.
_SWITCHES = {
    "psi": "switches pressure information off",
    "swapaccount": "switches swap accounting off on older kernels",
    "systemd.unified_cgroup_hierarchy": "asks systemd for cgroup v1; see CGP101 for what came of it",
}


def _run(check: Check, context: Context) -> Iterable[Finding]:
    cmdline = context.facts.cmdline
    if isinstance(cmdline, Missing):
        return (check.unverified("kernel command line", cmdline),)
    evidence = {cmdline.source: cmdline.value or "none of the parameters of cgroups"}
    findings: list[Finding] = []
    for word in cmdline.value.split():
        name, _, value = word.partition("=")
        if name == "cgroup_disable":
            findings += _disabled(check, context, word, value.split(","))
        elif name in _SWITCHES and is_off(value):
            remedy = remove_parameter(context, word, why=f"it {_SWITCHES[name]}", docs=check.sources[0])
            findings.append(_finding(check, Status.WARN, word, _SWITCHES[name], cmdline.value, remedy))
    message = "no kernel parameter gets in the way"
    return findings or [check.finding(Status.PASS, "kernel", message, evidence=evidence)]


def _disabled(check: Check, context: Context, word: str, names: list[str]) -> Iterable[Finding]:
    """What `cgroup_disable=` took away. A later `cgroup_enable=` brings a controller back on some kernels."""
    line, offered = value_or(context.facts.cmdline, ""), context.facts.root_controllers
    unknown = unread(offered)
    if unknown is not None:
        yield check.unverified(word, unknown)
        return
    there = value_or(offered, frozenset())
    lost = [name for name in names if name not in there]
    for name in names:
        status = Status.FAIL if name in context.required and name in lost else Status.WARN
        remedy = enable_controller(context, word, name)
        if name in lost:
            yield _finding(check, status, word, f"switches {name} off", line, remedy)
        elif "cgroup_enable=" not in line:
            yield _finding(check, status, word, f"names {name}, which is there all the same", line, remedy)
    if not lost and "cgroup_enable=" in line:
        message = f"{word} was overruled by a later parameter: {', '.join(names)} is there"
        yield check.finding(Status.PASS, word, message, evidence={"/proc/cmdline": line})


def _finding(check: Check, status: Status, word: str, effect: str, line: str, remedy: Remedy) -> Finding:
    message = f"the kernel parameter {word} {effect}"
    return check.finding(status, word, message, evidence={"/proc/cmdline": line}, remedies=(remedy,))


CHECK = Check(
    code="CGP112",
    name="kernel-command-line",
    severity=Severity.ERROR,
    needs=("cmdline", "root"),
    uses=("boot_loader", "container", "kernel"),
    what="No kernel parameter switches off what is required.",
    why=(
        "cgroup_disable=memory leaves systemd accepting every MemoryMax=; psi=0 leaves the pressure files "
        "unreadable; the hierarchy parameters of systemd bring cgroup v1 back."
    ),
    remedy="Remove the parameter from the boot loader and reboot.",
    sources=("https://docs.kernel.org/admin-guide/kernel-parameters.html",),
    run=_run,
)
