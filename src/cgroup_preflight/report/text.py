"""The report for people: the verdict, what failed and what to do, then a table of services."""

from collections.abc import Iterable

from cgroup_preflight.core import codes
from cgroup_preflight.core.report import NO_PASS, PROBLEMS, Finding, Remedy, Report, ServiceResult
from cgroup_preflight.report.columns import aligned
from cgroup_preflight.report.escape import clip, log_lines, plain
from cgroup_preflight.report.headline import headline, headword, problems, service_word
from cgroup_preflight.report.views import View, excuse, host_words, surroundings, view_of

_COLOURS = {"pass": "32", "warn": "33", "fail": "31", "unverified": "35", "skip": "2"}
#: What was injected, with its hash before and after.
_ARTIFACT = codes.ARTIFACT.code
#: The finding whose evidence is the table of what the kernel charges against what the Go runtime counts.
_GO_MEMORY = codes.GO_MEMORY_VIEW.code
_COUNTERS = codes.KERNEL_COUNTERS.code
#: What the memory of a service was at the end of its time.
_PARTS = (("anonymous", "anon memory"), ("file", "file memory"), ("kernel", "kernel memory"))
#: Memory as the kernel charges it and as the Go runtime counts it: GOMEMLIMIT does not limit the difference.
_GO_COLUMNS = (
    ("charged", "memory_current"), ("peak", "memory_peak"), ("anon", "memory_anon"), ("file", "memory_file"),
    ("kernel", "memory_kernel"), ("Go counts", "go_counts"), ("heap in use", "go_heap_in_use"),
    ("unknown to Go", "unknown_to_go"),
)  # fmt: skip


def render(report: Report, *, colour: bool = False, verbose: bool = False, width: int | None = None) -> str:
    """The report as text; `verbose` adds the findings that passed, and all about the machine.

    Findings about artifacts are always shown. Tables fit into `width` columns of a terminal; None is no limit.
    """
    lines = [*_head(report, colour=colour)]
    view = view_of(report)
    for item in problems(view.problems):
        lines += ["", *finding_lines(item, colour=colour)]
    shown = [item for item in view.rest if verbose or item.code == _ARTIFACT]
    if shown:
        lines += ["", *(line for item in shown for line in finding_line(item, colour=colour))]
    if report.services:
        lines += ["", *_table(report, width)]
    parts = [
        item for item in report.findings if item.code == _COUNTERS and any(key in item.evidence for _, key in _PARTS)
    ]
    if parts:
        lines += ["", *_memory("memory", _PARTS, parts, width)]
    memory = [item for item in report.findings if item.code == _GO_MEMORY]
    if memory:
        lines += ["", *_memory("Go memory", _GO_COLUMNS, memory, width)]
    failed = {item.subject for item in report.findings if item.status in NO_PASS}
    for service in report.services:
        if service.name in failed and service.log_tail:
            # The bar: a CI runner reads a line that begins with `::`, or with blanks and `::`, as a command.
            lines += [
                "",
                f"last lines of {plain(service.name)}:",
                *(f"    | {line}" for line in log_lines(service.log_tail)),
            ]
    lines += _accepted(view, colour=colour, verbose=verbose)
    lines += _machine(view.machine, colour=colour, verbose=verbose)
    return "\n".join([*lines, ""])


def _accepted(view: View, *, colour: bool, verbose: bool) -> Iterable[str]:
    """What does not count: each exception of the config with its reason; what a baseline forgives is only counted."""
    if view.ignored or view.forgiven or view.policy:
        yield ""
    for word, items in (("ignored", view.ignored), ("forgiven", view.forgiven if verbose else ())):
        for item in items:
            before = "fail, " if item.is_accepted_fail else ""
            said = f"{plain(clip(f'{item.code} {item.subject}'))}: {plain(clip(item.message))} ({plain(clip(excuse(item)))})"
            yield f"{_paint(f'{before + word:<10}', 'fail' if before else 'skip', colour=colour)} {said}"
    if view.forgiven and not verbose:
        count, failed = len(view.forgiven), sum(item.is_accepted_fail for item in view.forgiven)
        fails = f", {failed} of them failed" if failed else ""
        yield f"{count} finding{'s' if count > 1 else ''} that the baseline has, too{fails}: --verbose lists them"
    yield from (f"{'policy':<10} {plain(clip(item.message))}" for item in view.policy)


def _machine(items: Iterable[Finding], *, colour: bool, verbose: bool) -> Iterable[str]:
    """Warnings about the machine, below everything that is about the project: what was found, and the first remedy."""
    shown = list(items)
    if shown:
        yield ""
        yield "about the machine, not the project:"
    for item in shown:
        if verbose:
            yield from finding_lines(item, colour=colour)
            continue
        yield from finding_line(item, colour=colour)
        yield from (f"    do:   {plain(clip(remedy.title))}" for remedy in item.remedies)


def brief(report: Report, *, colour: bool = False) -> str:
    """The verdict and what is no pass, each with what to do: no warning, no table, no log."""
    lines = [*_head(report, colour=colour)]
    for item in problems(report.findings):
        if item.status in NO_PASS:
            lines += ["", *finding_lines(item, colour=colour)]
    return "\n".join([*lines, ""])


def _paint(text: str, status: str, *, colour: bool) -> str:
    return f"\x1b[{_COLOURS[status]}m{text}\x1b[0m" if colour else text


def _head(report: Report, *, colour: bool) -> Iterable[str]:
    word = headword(report)
    yield _paint(word, report.verdict.value, colour=colour) + headline(report).removeprefix(word)
    host = report.host
    if host is not None:
        words = ", ".join(f"{name} {value}" for name, value in host_words(host))
        around = surroundings(report)
        yield plain(f"on {words}") + (f"; {around}" if around else "")


def finding_line(item: Finding, *, colour: bool) -> Iterable[str]:
    """The first line of a finding, for a problem with its line in the config."""
    at = f" [{item.location.file}:{item.location.line}]" if item.location and item.status in PROBLEMS else ""
    why = f" ({excuse(item)})" if excuse(item) else ""
    word = _paint(f"{item.status.value:<10}", item.status.value, colour=colour)
    yield f"{word} {plain(clip(f'{item.code} {item.subject}'))}: {plain(clip(item.message))}{plain(clip(why))}{plain(at)}"


def finding_lines(item: Finding, *, colour: bool) -> Iterable[str]:
    """A finding with what was read and what to do."""
    yield from finding_line(item, colour=colour)
    if item.evidence:
        read = ", ".join(f"{key} = {value}" for key, value in item.evidence.items())
        yield plain(f"    read: {read}")[:600]
    for remedy in item.remedies:
        yield from _remedy(remedy)


def _remedy(item: Remedy) -> Iterable[str]:
    why = f" ({item.why})" if item.why else ""
    yield f"    do:   {plain(item.title)}{plain(why)}"
    for file in item.files:
        yield plain(f"          write {file.path}:")
        yield from (f"            | {plain(line)}" for line in file.content.splitlines())
    if item.commands:
        import shlex

    for command in item.commands:
        yield f"          {'sudo ' if item.needs_root else ''}{plain(shlex.join(command))}"


def _table(report: Report, width: int | None) -> Iterable[str]:
    rows = [["service", "MemoryMax", "peak", "headroom", "CPU used", "throttled", "limits", "result"]]
    yield from aligned([*rows, *(_row(item, service_word(report, item.name)) for item in report.services)], width)


def _memory(
    title: str, columns: Iterable[tuple[str, str]], findings: Iterable[Finding], width: int | None
) -> Iterable[str]:  # fmt: skip
    """One row for each finding; a column is a title and a key of the evidence, in bytes."""
    rows = [[title, *(name for name, _ in columns)]]
    rows += [[plain(item.subject), *(_size(item.evidence.get(key)) for _, key in columns)] for item in findings]
    yield from aligned(rows, width)


def _size(value: object) -> str:
    from cgroup_preflight.core.quantities import format_bytes

    return format_bytes(value) if isinstance(value, int) else "-"


def _row(item: ServiceResult, word: str) -> list[str]:
    limit, peak = item.memory_max_bytes, item.memory_peak_bytes
    headroom = f"{max(0, 100 * (limit - peak) // limit)}%" if limit and peak is not None else "-"
    cpu = item.cpu
    used = f"{cpu.usage_usec / 1e6:.2f}s" if cpu else "-"
    periods = cpu.nr_periods if cpu else None
    throttled = f"{100 * (cpu.nr_throttled or 0) / periods:.0f}%" if cpu and periods else "-"
    good = sum(limit.ok for limit in item.limits)
    return [
        plain(item.name), _size(limit) if limit else "none", _size(peak), headroom, used, throttled, f"{good}/{len(item.limits)}", word,
    ]  # fmt: skip
