"""What `inspect` shows of one binary, as text."""

from collections.abc import Iterable, Sequence

from cgroup_preflight.core import codes
from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.report import Finding, Status
from cgroup_preflight.golang.modinfo import BuildInfo
from cgroup_preflight.golang.runtime import RuntimePrediction
from cgroup_preflight.report.escape import plain
from cgroup_preflight.report.headline import problems
from cgroup_preflight.report.text import finding_line, finding_lines

_ALWAYS = ("CGO_ENABLED", "GOARCH", "GOOS", "-race", "DefaultGODEBUG", "vcs.revision", "vcs.modified")
#: The summary: its content is in the lines above the findings.
_SUMMARY = codes.GO_RUNTIME.code


def render(
    name: str,
    info: BuildInfo | None,
    choice: RuntimePrediction | None,
    why_not: str,
    findings: Sequence[Finding],
    *,
    colour: bool,
    verbose: bool,
) -> str:
    """The binary, its runtime and its findings; `verbose` adds dependencies, all settings and what passed."""
    lines = [*_head(name, info, choice, why_not, verbose=verbose)]
    for item in problems(findings):
        lines += ["", *finding_lines(item, colour=colour)]
    passed = [item for item in findings if item.status is Status.PASS and item.code != _SUMMARY]
    if verbose and passed:
        lines += ["", *(line for item in passed for line in finding_line(item, colour=colour))]
    elif passed:
        lines += [f"  {len(passed)} more findings passed: see --verbose"]
    return "\n".join([*lines, ""])


def _head(
    name: str, info: BuildInfo | None, choice: RuntimePrediction | None, why_not: str, *, verbose: bool
) -> Iterable[str]:
    if info is None or choice is None:
        yield f"{plain(name)}: it {plain(why_not)}"
        return
    main = f", {info.main.path} {info.main.version}" if info.main else ""
    yield plain(f"{name}: {info.go_version}{main}")
    procs = "unknown" if choice.gomaxprocs is None else str(choice.gomaxprocs)
    limit = "none" if choice.gomemlimit_bytes is None else format_bytes(choice.gomemlimit_bytes)
    follows = "follows" if choice.follows_cpu_max else "does not follow"
    yield f"  runtime   GOMAXPROCS {procs}, memory limit {limit}, {follows} changes of cpu.max"
    yield from (f"  {'because' if number == 0 else '':<9} {plain(why)}" for number, why in enumerate(choice.why))
    shown = [f"{key}={value}" for key, value in info.settings if verbose or key in _ALWAYS]
    if shown:
        yield plain(f"  build     {' '.join(shown)}")
    if verbose:
        yield from (plain(f"  dep       {dep.path} {dep.version}") for dep in info.deps)
    elif info.deps:
        yield f"  deps      {len(info.deps)} modules"
