"""CGP410: automaxprocs or automemlimit is linked: what that changes, and what it cannot see."""

from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code, Severity
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.golang.runtime_libs import AUTOMAXPROCS, AUTOMEMLIMIT, effects

CODE = Code("CGP410", "tuning-library", Severity.WARNING)
PAGE = Page(
    what="Checks what automaxprocs and automemlimit change in the choice of the runtime.",
    fails="automaxprocs sees only the quota of its own cgroup; automemlimit below 0.7.5 sees no limit of a slice.",
    fix="Repeat the limit on the service, or remove automaxprocs with Go 1.25 or later.",
    about=("slice",),
    sources=("https://github.com/uber-go/automaxprocs", "https://github.com/KimMachineGun/automemlimit"),
)


def _run(subject: Subject) -> Iterable[Finding]:
    quota, at = subject.chain.cpus()
    limit, above = subject.chain.memory_max()
    for effect in effects(subject.info, subject.environment, subject.chain):
        name = effect.module.rsplit("/", 1)[-1]
        message = f"{name} {effect.version} is linked and, if it is called, {effect.words}"
        status, location = Status.PASS, None
        remedies: tuple[Remedy, ...] = ()
        if (
            effect.module == AUTOMAXPROCS
            and effect.gomaxprocs is None
            and "GOMAXPROCS" not in subject.environment
            and quota is not None
        ):
            status, location = Status.WARN, subject.line_of(at, "CPUQuota")
            remedies = (Remedy(title=f"repeat the quota on the service: CPUQuota={quota * 100:g}%"),)
        elif effect.module == AUTOMAXPROCS and subject.choice.aware:
            remedies = (Remedy(title="remove automaxprocs: Go 1.25 and later do this themselves and follow changes"),)
        elif (
            effect.module == AUTOMEMLIMIT
            and effect.gomemlimit_bytes is None
            and limit is not None
            and "GOMEMLIMIT" not in subject.environment
        ):
            status, location = Status.WARN, subject.line_of(above, "MemoryMax")
            remedies = (Remedy(title="update automemlimit to 0.7.5 or newer, or set GOMEMLIMIT"),)
        yield CODE.finding(
            status,
            subject,
            message,
            *remedies,
            location=location,
            evidence={"module": effect.module, "version": effect.version},
        )


CHECK = GoCheck(code=CODE, page=PAGE, run=_run)
