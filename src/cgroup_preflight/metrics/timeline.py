"""The page of `diagnose --html`: the verdict, and below it what happened when, for each cgroup. Pure.

One file without scripts and without addresses, for a CI artifact; light and dark as the reader's system.
"""

from collections.abc import Iterator, Sequence

from cgroup_preflight.core.report import Finding
from cgroup_preflight.core.verdict import verdict_of
from cgroup_preflight.metrics.chart import Line, Row, svg, text
from cgroup_preflight.metrics.diagnosis import percent
from cgroup_preflight.metrics.entitlement import entitlements
from cgroup_preflight.metrics.go_delays import GoDelays
from cgroup_preflight.metrics.window import Group, Series, waiting

#: Cgroups shown; the others are counted. Those of the findings come first, then those that did most.
_SHOWN = 24
_STYLE = """
:root{color-scheme:light dark;--page:#fff;--ink:#1f2328;--soft:#59636e;--rule:#d1d9e0;--box:#f6f8fa;--used:#0a64c2;
--limit:#b3261e;--fair:#6a737d;--wait:#b25900;--ran:#1a7f37;--fail:#b3261e;--warn:#8a5a00;--pass:#1a7f37}
@media (prefers-color-scheme:dark){:root{--page:#0d1117;--ink:#e6edf3;--soft:#9198a1;--rule:#3d444d;--box:#151b23;
--used:#6cb6ff;--limit:#ff7b72;--fair:#9198a1;--wait:#f0a050;--ran:#57c26b;--fail:#ff7b72;--warn:#e3b341;--pass:#57c26b}}
*{box-sizing:border-box}body{margin:0 auto;padding:16px;max-width:820px;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,"Noto Sans","DejaVu Sans",sans-serif;overflow-wrap:anywhere}
h1{font-size:1.35em;margin:0 0 2px}h2{font-size:1.05em;margin:26px 0 2px}p{margin:2px 0}.soft{color:var(--soft)}
.finding{border:1px solid var(--rule);border-left-width:4px;border-radius:6px;background:var(--box);padding:8px 12px;margin:10px 0}
.fail{border-left-color:var(--fail)}.warn{border-left-color:var(--warn)}.unverified{border-left-color:var(--warn)}
.pass{border-left-color:var(--pass)}code{font:.9em ui-monospace,"DejaVu Sans Mono",monospace}
svg{display:block;width:100%;height:auto;margin:2px 0 8px}svg text{font:12px system-ui,sans-serif;fill:var(--soft)}
.end{text-anchor:end}.middle{text-anchor:middle}.grid{stroke:var(--rule);fill:none}
polyline{fill:none;stroke-width:2;stroke-linejoin:round;vector-effect:non-scaling-stroke}
.used{stroke:var(--used)}.limit{stroke:var(--limit);stroke-dasharray:6 4}.fair{stroke:var(--fair);stroke-dasharray:2 4}
.wait{stroke:var(--wait)}.ran{stroke:var(--ran)}.mark{stroke:var(--fail);stroke-width:3}
.key{font-size:.85em;color:var(--soft)}.key span{margin-right:14px;white-space:nowrap}
.key i{display:inline-block;width:18px;height:0;border-top:2px solid;vertical-align:middle;margin-right:5px}
i.used{border-color:var(--used)}i.limit{border-color:var(--limit);border-top-style:dashed}
i.fair{border-color:var(--fair);border-top-style:dotted}i.wait{border-color:var(--wait)}i.ran{border-color:var(--ran)}
i.mark{border-color:var(--fail)}
@media (max-width:560px){svg text{font-size:19px}h2{margin-top:20px}}
"""


def render(series: Series, findings: Sequence[Finding], delays: Sequence[GoDelays]) -> str:
    """The whole page."""
    whole = series.whole
    shown, left = _chosen(series, findings, delays)
    busy = "unknown" if whole.host.busy is None else percent(whole.host.busy)
    parts = [
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, '
            'initial-scale=1"><meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src '
            "'unsafe-inline'\"><title>cgroup-preflight diagnose</title>"
        ),
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{_verdict(findings)}</h1>",
        (
            f'<p class="soft">{whole.seconds:.1f} s, {len(series.parts) + 1} readings, {len(whole.groups)} cgroups, '
            f"{whole.host.cpus} CPUs, {busy} busy</p>"
        ),
        *(_finding(item) for item in findings),
        *_host(series),
    ]
    fair = [entitlements(part) for part in series.parts]
    for group in shown:
        parts += _group(series, group, [item.get(group.path) for item in fair])
        for item in delays:
            if item.path == group.path:
                parts += _go(series, item)
    if left:
        parts.append(f'<p class="soft">{left} more cgroups that did less are not shown.</p>')
    return "\n".join([*parts, "</body></html>", ""])


def _verdict(findings: Sequence[Finding]) -> str:
    causes = [item for item in findings if item.evidence.get("rule")]
    if causes:
        return f"{len(causes)} {'cause' if len(causes) == 1 else 'causes'} of contention"
    return {"pass": "No contention", "fail": "Contention"}.get(verdict_of(findings).value, "No verdict")


def _finding(item: Finding) -> str:
    remedies = "".join(
        f"<p>do: {text(remedy.title)}{f' <span class=soft>({text(remedy.why)})</span>' if remedy.why else ''}</p>"
        for remedy in item.remedies
    )
    return (f'<div class="finding {item.status.value}"><p><b>{text(item.code)} {text(item.subject)}</b>: {text(item.message)}'
            f"</p>{remedies}</div>")  # fmt: skip


def _chosen(series: Series, findings: Sequence[Finding], delays: Sequence[GoDelays]) -> tuple[list[Group], int]:
    """The cgroups to show, and how many are left out."""
    named = {f"/{name}" for item in findings for name in (item.subject, item.evidence.get("cause"))} | {
        item.path for item in delays
    }

    def rank(group: Group) -> tuple[bool, float]:
        used = group.cpu.usage if group.cpu else 0.0
        waits = max((waiting(part.pressure) for part in (group.cpu, group.memory, group.io) if part), default=0.0)
        return group.path in named, used + waits

    ordered = sorted(series.whole.groups.values(), key=rank, reverse=True)
    shown = [group for group in ordered if rank(group) > (False, 0.005)][:_SHOWN]
    return shown, len(ordered) - len(shown)


def _line(series: Series, name: str, kind: str, values: Sequence[float | None]) -> Line:
    """A value is the mean of its part of the time, so the line is level there."""
    points = [
        (time, value) for part, value in zip(series.parts, values, strict=True) for time in (part.begin, part.end)
    ]
    return Line(name=name, kind=kind, points=points)


def _top(lines: Sequence[Line]) -> float:
    return 1.1 * max((value for line in lines for _, value in line.points if value is not None), default=1.0)


def _host(series: Series) -> Iterator[str]:
    lines = [_line(series, "CPUs busy", "used", [part.host.busy for part in series.parts])]
    waits = [part.host.memory.waiting if part.host.memory else None for part in series.parts]
    if any(waits):
        lines.append(_line(series, "waiting for memory", "wait", waits))
    yield "<h2>The host</h2>"
    yield from _picture(series, Row(title="share of the time", unit="%", lines=lines, top=1.0))


def _group(series: Series, group: Group, fair: Sequence[float | None]) -> Iterator[str]:
    yield f"<h2><code>{text(group.path.lstrip('/'))}</code></h2>"
    found = [part.groups.get(group.path) for part in series.parts]
    if group.cpu is not None:
        lines = [_line(series, "CPUs used", "used", [item.cpu.usage if item and item.cpu else None for item in found])]
        if group.cpu.quota is not None:
            edge = [group.cpu.quota] * len(found)
            lines.append(_line(series, f"CPUQuota ({group.cpu.quota:.2g})", "limit", edge))
        if (series.whole.host.busy or 0) >= 0.5:
            lines.append(_line(series, "entitled by weight", "fair", fair))
        yield from _picture(series, Row(title="CPUs", unit="", lines=lines, top=_top(lines)))
    lines, marks = [*_shares(series, found)], [*_kills(series, group.path)]
    if lines or marks:
        yield from _picture(series, Row(title="share of the time", unit="%", lines=lines, top=1.0, marks=marks))


def _shares(series: Series, found: Sequence[Group | None]) -> Iterator[Line]:
    """Throttled periods and pressure, those that are not all zero."""
    for name, kind, values in (
        ("throttled periods", "limit", [item.cpu.ratio if item and item.cpu else None for item in found]),
        ("waiting for CPU", "wait", [waiting(item.cpu.pressure) if item and item.cpu else None for item in found]),
        (
            "waiting for memory",
            "ran",
            [waiting(item.memory.pressure) if item and item.memory else None for item in found],
        ),
        ("waiting for I/O", "fair", [waiting(item.io.pressure) if item and item.io else None for item in found]),
    ):
        if any(values):
            yield _line(series, name, kind, values)


def _kills(series: Series, path: str) -> Iterator[tuple[float, str]]:
    for part in series.parts:
        item = part.groups.get(path)
        count = item.memory.events.get("oom_kill", 0) if item and item.memory else 0
        if count:
            yield (part.begin + part.end) / 2, f"{count} OOM {'kill' if count == 1 else 'kills'}"


def _go(series: Series, item: GoDelays) -> Iterator[str]:
    shares = [item.share(part.begin, part.end) for part in series.parts]
    lines = [
        _line(series, "goroutines waiting to run", "wait", [share[0] if share else None for share in shares]),
        _line(series, "goroutines running", "ran", [share[1] if share else None for share in shares]),
    ]
    procs = "" if item.procs is None else f", GOMAXPROCS={item.procs}"
    yield (f'<p class="soft">Go: delay before running p50 {1000 * item.median:.1f} ms, p99 {1000 * item.p99:.1f} ms, longest '
           f"{1000 * item.longest:.1f} ms{procs} ({text(item.source)})</p>")  # fmt: skip
    yield from _picture(series, Row(title="goroutines", unit="", lines=lines, top=_top(lines)))


def _picture(series: Series, row: Row) -> Iterator[str]:
    keys = "".join(f'<span><i class="{line.kind}"></i>{text(line.name)}</span>' for line in row.lines)
    if row.marks:
        keys += '<span><i class="mark"></i>OOM kill</span>'
    yield f'<p class="key">{text(row.title)}: {keys}</p>'
    yield svg(row, series.whole.begin, series.whole.end)
