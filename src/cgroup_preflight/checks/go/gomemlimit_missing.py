"""CGP405: a Go program under a memory limit has a GOMEMLIMIT (golang/go#75164: none comes from the cgroup)."""

from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject, set_memory_limit
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code, Severity
from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.report import Finding, Status
from cgroup_preflight.golang.runtime_libs import effects

CODE = Code("CGP405", "gomemlimit-missing", Severity.WARNING)
PAGE = Page(
    what="Checks that a Go program under a memory limit has a GOMEMLIMIT.",
    fails=(
        "No Go version reads one from the cgroup. By default the heap grows to twice what is in use, and the kernel "
        "kills the program first."
    ),
    fix="Set GOMEMLIMIT to 0.9 of the limit.",
    about=("MemoryMax", "MemoryHigh", "memory.max"),
    sources=("https://github.com/golang/go/issues/75164", "https://go.dev/doc/gc-guide#Memory_limit"),
)


def _run(subject: Subject) -> Iterable[Finding]:
    limit, level, name = subject.chain.memory()
    choice = subject.choice
    if limit is None or level is None or choice.gomemlimit_bytes is not None or choice.fatal:
        return
    if any(item.gomemlimit_bytes is not None for item in effects(subject.info, subject.environment, subject.chain)):
        return
    advice = set_memory_limit(limit, name)
    end = "kills it" if name == "MemoryMax" else "slows it down"
    status, words = Status.WARN, f"its default lets the heap grow to twice what is in use, and the kernel {end} first"
    if subject.environment.get("GOMEMLIMIT") == "off":
        status, words, advice = Status.PASS, "GOMEMLIMIT=off was set on purpose", ()
    elif not advice:
        status, words = Status.PASS, "below 64M a GOMEMLIMIT does more harm than good"
    elif "set_memory_limit" in subject.program.names:
        words += " (unless it sets a limit itself: debug.SetMemoryLimit is linked)"
    yield CODE.finding(
        status,
        subject,
        f"no GOMEMLIMIT under {name}={format_bytes(limit)} at {level.name}: {words}",
        *advice,
        location=subject.line_of(level, name),
        evidence={"limit_bytes": limit, "limit_at": level.name},
    )


CHECK = GoCheck(code=CODE, page=PAGE, run=_run)
