"""CGP112: No kernel parameter switches off what is required."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity
from cgroup_preflight.reading import Missing
from cgroup_preflight.report import Finding, Remedy, Status

_OFF = ("0", "no", "off", "false")


def _run(check: Check, context: Context) -> Iterable[Finding]:
    cmdline = context.facts.cmdline
    if isinstance(cmdline, Missing):
        return (check.unverified("kernel command line", cmdline),)
    found = [_judge(check, context, word, cmdline.value) for word in cmdline.value.split()]
    findings = [item for item in found if item is not None]
    message = "no kernel parameter gets in the way"
    return findings or [check.finding(Status.PASS, "kernel", message, evidence={cmdline.source: cmdline.value})]


def _judge(check: Check, context: Context, word: str, line: str) -> Finding | None:
    name, _, value = word.partition("=")
    names = value.split(",")
    if name == "cgroup_disable":
        lost = [item for item in names if item in context.required]
        status = Status.FAIL if lost else Status.WARN
        return _finding(check, status, word, line, f"switches off {', '.join(lost or names)}")
    if name == "psi" and value in _OFF:
        return _finding(check, Status.WARN, word, line, "switches pressure information off")
    if name == "swapaccount" and value in _OFF:
        return _finding(check, Status.WARN, word, line, "switches swap accounting off on older kernels")
    if name == "systemd.unified_cgroup_hierarchy" and value in _OFF:
        return _finding(check, Status.WARN, word, line, "asks systemd for cgroup v1; see CGP101 for what came of it")
    return None


def _finding(check: Check, status: Status, word: str, line: str, effect: str) -> Finding:
    remedy = Remedy(
        title=f"remove {word} from the kernel command line and reboot", needs_root=True, persistent=True,
        commands=(("sed", "-i", f"s/ *{word}//", "/etc/default/grub"), ("update-grub",), ("reboot",)),
        docs=check.sources[0],
    )
    message = f"the kernel parameter {word} {effect}"
    return check.finding(status, word, message, evidence={"/proc/cmdline": line}, remedies=(remedy,))


CHECK = Check(
    code="CGP112",
    name="kernel-command-line",
    severity=Severity.ERROR,
    needs=("cmdline",),
    what='No kernel parameter switches off what is required.',
    why='cgroup_disable=memory leaves systemd accepting every MemoryMax=; psi=0 leaves the pressure files unreadable; the hierarchy parameters of systemd bring cgroup v1 back.',
    remedy='Remove the parameter from the boot loader and reboot.',
    sources=("https://docs.kernel.org/admin-guide/kernel-parameters.html",),
    run=_run,
)
