"""CGP406: GOMEMLIMIT is one that the runtime can read; with any other the program ends at once with status 2."""

from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject, set_variable
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code
from cgroup_preflight.core.report import Finding, Status
from cgroup_preflight.golang.runtime_env import gomemlimit_hint

CODE = Code("CGP406", "gomemlimit-malformed")
PAGE = Page(
    what="Checks that GOMEMLIMIT is spelled as Go spells it.",
    fails="GOMEMLIMIT=900M, which is right for systemd, ends every Go program at its start with status 2.",
    fix="Write 900MiB; the units are B, KiB, MiB, GiB and TiB.",
    sources=("https://pkg.go.dev/runtime#hdr-Environment_Variables",),
)


def _run(subject: Subject) -> Iterable[Finding]:
    if not subject.choice.fatal:
        return
    text = subject.environment.get("GOMEMLIMIT", "")
    yield CODE.finding(
        Status.FAIL,
        subject,
        subject.choice.fatal,
        set_variable(
            "GOMEMLIMIT",
            gomemlimit_hint(text),
            "Go spells sizes with KiB, MiB, GiB and TiB, systemd with K, M, G and T",
        ),
        location=subject.variable_at("GOMEMLIMIT"),
        evidence={"GOMEMLIMIT": text},
    )


CHECK = GoCheck(code=CODE, page=PAGE, run=_run)
