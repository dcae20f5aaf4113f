"""The report as one HTML file without scripts and without anything from elsewhere: for a browser, a phone, an artifact.

Every text of a report is foreign. It reaches the page as text of an element only, never as an attribute, an address or
a style, and the page's own policy (Content-Security-Policy) allows nothing but the style in it.
"""

from collections.abc import Iterable
from html import escape

from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.report import NO_PASS, Finding, LimitResult, Remedy, Report, ServiceResult, Status
from cgroup_preflight.report.escape import clip, log_lines, plain
from cgroup_preflight.report.headline import headline, headword, problems, service_word
from cgroup_preflight.report.views import excuse, host_words, surroundings, view_of

_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #57606a; --page: #ffffff; --box: #f6f8fa; --line: #d0d7de;
  --pass: #1a7f37; --warn: #9a6700; --fail: #cf222e; --unverified: #8250df; --skip: #6e7781; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9198a1; --page: #0d1117; --box: #161b22;
  --line: #30363d; --pass: #3fb950; --warn: #d29922; --fail: #f85149; --unverified: #a371f7; --skip: #8d96a0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 64rem; color: var(--text); background: var(--page);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { margin: 0; font-size: 1.3rem; line-height: 1.3; }
h2 { margin: 2rem 0 .5rem; font-size: 1.1rem; }
header { padding: 1rem; border: 1px solid var(--line); border-left: .5rem solid var(--mark); border-radius: .4rem;
  background: var(--box); }
header p, .soft { margin: .3rem 0 0; color: var(--soft); font-size: .9rem; }
article { margin: .75rem 0; padding: .75rem 1rem; border: 1px solid var(--line); border-left: .3rem solid var(--mark);
  border-radius: .4rem; }
article p { margin: .3rem 0; }
.word { color: var(--mark); font-weight: 700; }
.pass { --mark: var(--pass); } .warn { --mark: var(--warn); } .fail { --mark: var(--fail); }
.unverified { --mark: var(--unverified); } .skip, .accepted { --mark: var(--skip); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .95rem; overflow-wrap: normal; }
th, td { padding: .35rem .75rem .35rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
td { font-variant-numeric: tabular-nums; }
td:first-child { white-space: nowrap; }
details { margin: .3rem 0; }
code, pre { font: .85rem/1.45 ui-monospace, "DejaVu Sans Mono", monospace; }
pre { margin: .3rem 0; padding: .6rem; overflow-x: auto; background: var(--box); border-radius: .4rem; }
summary { cursor: pointer; }
li { margin: .2rem 0; }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_OTHERS = (Status.PASS, Status.SKIP)
_OTHERS_WORDS = {Status.PASS: "passed", Status.SKIP: "did not apply"}


def render(report: Report) -> str:
    """The whole page."""
    parts = [
        "<!doctype html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>cgroup-preflight {headword(report)}</title>", f"<style>{_STYLE}</style>", "</head>", "<body>",
        *_head(report), *_problems(report), *_services(report), *_accepted(report), *_machine(report), *_others(report),
        "</body>", "</html>", "",
    ]  # fmt: skip
    return "\n".join(parts)


def _text(value: str) -> str:
    """Foreign text as the text of an element: bounded, visible, without meaning."""
    return escape(plain(clip(value)))


def _head(report: Report) -> Iterable[str]:
    yield f'<header class="{report.verdict.value}">'
    yield f"<h1>{_text(headline(report))}</h1>"
    host = report.host
    if host is not None:
        words = ", ".join(f"{name} {value}" for name, value in host_words(host))
        around = surroundings(report)
        yield f"<p>{_text(words + (f'; {around}' if around else ''))}</p>"
    made = f"{report.started_at}, {report.duration_seconds:.0f} s, cgroup-preflight {report.tool_version}"
    yield f"<p>{_text(made)}</p>"
    yield "</header>"


def _problems(report: Report) -> Iterable[str]:
    wrong = problems(view_of(report).problems)
    if wrong:
        yield "<h2>What to look at</h2>"
    for item in wrong:
        yield from _article(item)


def _accepted(report: Report) -> Iterable[str]:
    """What does not count, with the reason; what the baseline forgives is closed."""
    view = view_of(report)
    if view.ignored:
        yield "<h2>Ignored</h2>"
        yield from _list(view.ignored)
    if view.forgiven:
        failed = sum(item.is_accepted_fail for item in view.forgiven)
        fails = f", {failed} of them failed" if failed else ""
        yield f"<details><summary>{len(view.forgiven)} forgiven by the baseline{fails}</summary>"
        yield from _list(view.forgiven)
        yield "</details>"
    yield from (f'<p class="soft">Policy: {_text(item.message)}</p>' for item in view.policy)


def _list(items: Iterable[Finding]) -> Iterable[str]:
    yield "<ul>"
    for item in items:
        why = f' <span class="soft">({_text(excuse(item))})</span>' if excuse(item) else ""
        failed = '<span class="fail"><span class="word">fail</span></span> ' if item.is_accepted_fail else ""
        yield f"<li>{failed}<code>{_text(item.code)}</code> {_text(item.subject)}: {_text(item.message)}{why}</li>"
    yield "</ul>"


def _machine(report: Report) -> Iterable[str]:
    """Warnings about the machine, closed: nobody changes the project because of them."""
    found = view_of(report).machine
    if found:
        yield f"<details><summary>{len(found)} warning{'s' if len(found) > 1 else ''} about the machine, not the project</summary>"
        for item in found:
            yield from _article(item)
        yield "</details>"


def _article(item: Finding) -> Iterable[str]:
    yield f'<article class="{item.status.value}">'
    place = f" <code>{_text(f'{item.location.file}:{item.location.line}')}</code>" if item.location else ""
    yield f'<p><span class="word">{item.status.value}</span> <code>{_text(item.code)}</code> {_text(item.subject)}{place}</p>'
    why = f' <span class="soft">({_text(excuse(item))})</span>' if excuse(item) else ""
    yield f"<p>{_text(item.message)}{why}</p>"
    yield from _evidence(item)
    for remedy in item.remedies:
        yield from _remedy(remedy)
    yield "</article>"


def _evidence(item: Finding) -> Iterable[str]:
    if item.evidence:
        rows = (
            (f"<code>{_text(key)}</code>", f"<code>{_text(str(value))}</code>") for key, value in item.evidence.items()
        )
        yield f"<details><summary>What was read: {len(item.evidence)}</summary>"
        yield from _table(("what", "value"), rows)
        yield "</details>"


def _remedy(item: Remedy) -> Iterable[str]:
    why = f' <span class="soft">({_text(item.why)})</span>' if item.why else ""
    yield f"<p><strong>Do:</strong> {_text(item.title)}{why}</p>"
    for file in item.files:
        yield f"<p>Write <code>{_text(file.path)}</code>:</p>"
        yield _lines(plain(line) for line in file.content.splitlines())
    if item.commands:
        import shlex

        prefix = "sudo " if item.needs_root else ""
        yield _lines(f"{prefix}{plain(shlex.join(command))}" for command in item.commands)


def _lines(lines: Iterable[str]) -> str:
    return f"<pre>{escape(clip(chr(10).join(lines)))}</pre>"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterable[str]:
    """A table of cells that are HTML already; a wide one scrolls by itself, not the page."""
    yield '<div class="wide"><table>'
    yield "<tr>" + "".join(f"<th>{name}</th>" for name in head) + "</tr>"
    for row in rows:
        yield "<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>"
    yield "</table></div>"


def _services(report: Report) -> Iterable[str]:
    if not report.services:
        return
    yield "<h2>Services</h2>"
    names = ("service", "MemoryMax", "peak", "headroom", "CPU used", "throttled", "limits", "result")
    yield from _table(names, (_row(item, service_word(report, item.name)) for item in report.services))
    troubled = {item.subject for item in report.findings if item.status in NO_PASS}
    for item in report.services:
        if item.limits:
            yield f"<details><summary>Limits of {_text(item.name)}</summary>"
            yield from _table(("file", "planned", "read", ""), map(_limit, item.limits))
            yield "</details>"
        if item.name in troubled and item.log_tail:
            yield f"<details open><summary>Last lines of {_text(item.name)}</summary>{_lines(log_lines(item.log_tail))}</details>"


def _row(item: ServiceResult, word: str) -> Iterable[str]:
    limit, peak, cpu = item.memory_max_bytes, item.memory_peak_bytes, item.cpu
    periods = cpu.nr_periods if cpu else None
    yield _text(item.name)
    yield format_bytes(limit) if limit else "none"
    yield "-" if peak is None else format_bytes(peak)
    yield f"{max(0, 100 * (limit - peak) // limit)}%" if limit and peak is not None else "-"
    yield f"{cpu.usage_usec / 1e6:.2f} s" if cpu else "-"
    yield f"{100 * (cpu.nr_throttled or 0) / periods:.0f}%" if cpu and periods else "-"
    yield f"{sum(each.ok for each in item.limits)}/{len(item.limits)}"
    yield f'<span class="{word}"><span class="word">{word}</span></span>'


def _limit(item: LimitResult) -> Iterable[str]:
    word = "pass" if item.ok else "fail"
    yield f"<code>{_text(item.file)}</code>"
    yield f"<code>{_text(item.expected)}</code>"
    yield "not read" if item.actual is None else f"<code>{_text(item.actual)}</code>"
    yield f'<span class="{word}"><span class="word">{"in force" if item.ok else "not in force"}</span></span>'


def _others(report: Report) -> Iterable[str]:
    """What nobody has to read, closed."""
    for status in _OTHERS:
        found = [item for item in view_of(report).rest if item.status is status]
        if found:
            yield f"<details><summary>{len(found)} {'check' if len(found) == 1 else 'checks'} {_OTHERS_WORDS[status]}</summary>"
            yield from _list(found)
            yield "</details>"
