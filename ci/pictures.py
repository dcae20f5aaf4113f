"""Draw what users see: comment, note and summary, rendered as GitHub and GitLab do. `python -m ci.pictures DIR`.

Needs `cmarkgfm` (GitHub's own Markdown parser) and Chromium; the texts come from the product's own renderers.
"""

import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from cgroup_preflight.core.report import (
    CpuUsage,
    Finding,
    HostSummary,
    LimitResult,
    Location,
    Remedy,
    Report,
    ServiceResult,
    Status,
    Verdict,
)
from cgroup_preflight.publish.options import view
from cgroup_preflight.report import comment as comment_body
from cgroup_preflight.report.merge import Leg

_STYLE = """
body{margin:16px;font:14px/1.5 "Noto Sans","DejaVu Sans",sans-serif;color:#1f2328;background:#fff;max-width:%(width)s}
.box{border:1px solid #d1d9e0;border-radius:6px}.who{background:#f6f8fa;border-bottom:1px solid #d1d9e0;padding:8px 16px;
color:#59636e;border-radius:6px 6px 0 0}.who b{color:#1f2328}.body{padding:16px;overflow-wrap:break-word}
h2{font-size:1.5em;margin:0 0 12px;padding-bottom:.3em;border-bottom:1px solid #d1d9e0}
table{border-collapse:collapse;display:block;width:max-content;max-width:100%%;overflow:auto;margin:0 0 16px}
th,td{border:1px solid #d1d9e0;padding:6px 13px}tr:nth-child(2n){background:#f6f8fa}p{margin:0 0 12px}
code{background:#818b981f;border-radius:6px;padding:.2em .4em;font:85%% "DejaVu Sans Mono",monospace}
pre{background:#f6f8fa;border-radius:6px;padding:12px;overflow:auto;font:85%%/1.45 "DejaVu Sans Mono",monospace}
details{margin:0 0 8px}summary{cursor:pointer}sub{color:#59636e}
"""
_WHO = {
    "github": "<b>github-actions</b> <small>bot</small> commented just now",
    "gitlab": "<b>preflight</b> @project_42_bot &middot; just now",
    "summary": "<b>preflight</b> summary",
}


def _service(name: str, limit: int, peak: int, periods: int, throttled: int, *, ok: bool = True) -> ServiceResult:
    unit = f"cgpf-{name}.service"
    limits = tuple(
        LimitResult(file=f"shop.slice/{unit}/{file}", expected="x", actual="x", ok=ok or file != "memory.max")
        for file in ("memory.max", "memory.swap.max", "cpu.max", "cpu.weight")
    )
    cpu = CpuUsage(usage_usec=periods * 12_000, nr_periods=periods, nr_throttled=throttled, throttled_usec=1)
    return ServiceResult(name=name, engine="systemd", unit=unit, cgroup=f"shop.slice/{unit}", limits=limits, cpu=cpu,
                         memory_max_bytes=limit << 20, memory_peak_bytes=peak << 10, result="success")  # fmt: skip


def _finding(
    status: Status, code: str, name: str, subject: str, message: str, line: int = 0, **more: object
) -> Finding:
    evidence = more.get("evidence", {})
    remedies = more.get("remedies", ())
    assert isinstance(evidence, dict)
    assert isinstance(remedies, tuple)
    location = Location(file="cgroup-preflight.toml", line=line) if line else None
    return Finding(code=code, name=name, status=status, subject=subject, message=message, evidence=evidence,
                   remedies=remedies, location=location)  # fmt: skip


_RAISE = Remedy(title="raise MemoryMax of user-api to 160M, or use less",
                why="the peak was 96M and the kernel killed it twice")  # fmt: skip
_ENABLE = Remedy(title="boot without cgroup_disable=memory", needs_root=True, persistent=True,
                 why="memory.max of shop.slice does not exist",
                 commands=(("grubby", "--update-kernel=ALL", "--remove-args=cgroup_disable=memory"),))  # fmt: skip
_FINE = [
    _finding(Status.PASS, code, name, name, "as required")
    for code, name in (("CGP101", "hierarchy"), ("CGP102", "controllers"), ("CGP103", "systemd"), ("CGP105", "engine"),
                       ("CGP120", "io-weight"),
                       ("CGP501", "limits-in-force"), ("CGP511", "limit-enforced"), ("CGP502", "process-place"), ("CGP505", "readiness"), ("CGP506", "stop"))
]  # fmt: skip
_HOST = HostSummary(kernel="6.8.0-71-generic", systemd="255", hierarchy="unified", mount_point="/sys/fs/cgroup",
                    controllers=("cpu", "io", "memory", "pids"), machine="x86_64", engine="systemd")  # fmt: skip
_SERVICES = (_service("auth-service", 64, 1900, 52, 22), _service("user-api", 96, 98304, 50, 0),
             _service("worker", 48, 4100, 55, 24))  # fmt: skip


def _report(verdict: Verdict, *findings: Finding, services: tuple[ServiceResult, ...] = _SERVICES) -> Report:
    return Report(tool_version="1", verdict=verdict, host=_HOST, findings=(*findings, *_FINE), services=services,
                  started_at="2026-01-01T00:00:00Z", duration_seconds=30.0)  # fmt: skip


def samples() -> dict[str, tuple[str, str]]:
    """Return GitHub or GitLab and the Markdown, by the name of the picture."""
    oom = _finding(Status.FAIL, "CGP504", "oom-kill", "user-api", "the kernel killed it for memory 2 times", 18,
                   evidence={"memory.events oom_kill": 2, "memory.peak": 100663296, "memory.max": 100663296},
                   remedies=(_RAISE,))  # fmt: skip
    absent = _finding(Status.FAIL, "CGP501", "limits-in-force", "user-api", "memory.max is absent in shop.slice", 18,
                      evidence={"shop.slice/memory.max": "absent (ENOENT)", "cgroup.controllers": "cpu io pids"},
                      remedies=(_ENABLE,))  # fmt: skip
    weight = _finding(Status.WARN, "CGP120", "io-weight", "IOWeight", "no io scheduler here honours weights", 9,
                      evidence={"/sys/block/vda/queue/scheduler": "[none] mq-deadline"})  # fmt: skip
    tried = _finding(
        Status.UNVERIFIED, "CGP511", "limit-enforced", "cpu.max", "one CPU only: a quota of 150% has no effect", 15,
        evidence={"cpus": 1, "cpu.max": "150000 100000"},
        remedies=(Remedy(title="run it on a machine with 2 CPUs or more"),),
    )  # fmt: skip
    idle = (*_SERVICES[:1], _service("user-api", 160, 98304, 50, 0), *_SERVICES[2:])
    fine = _report(Verdict.PASS, services=idle)
    failed = _report(Verdict.FAIL, oom, weight)
    legs = [Leg(name=f"ubuntu-{version}", report=fine) for version in ("22.04", "24.04", "26.04")]
    legs += [Leg(name="debian-13", report=fine), Leg(name="debian-12-arm", report=_report(Verdict.UNVERIFIED, tried)),
             Leg(name="rocky-9", report=_report(Verdict.FAIL, absent, weight))]  # fmt: skip
    many = view(tuple(legs))
    return {
        "comment-fail": ("github", comment_body.render(view((Leg(name="x", report=failed),)))),
        "comment-matrix": ("github", comment_body.render(many)),
        "note-pass": ("gitlab", comment_body.render(view((Leg(name="x", report=fine),)))),
        "summary-unverified": ("summary", comment_body.render(view((
            Leg(name="x", report=replace(_report(Verdict.UNVERIFIED, tried, services=()))),)))),
    }  # fmt: skip


def page(forge: str, markdown: str, width: str) -> str:
    """Return the Markdown as a whole HTML page."""
    import cmarkgfm
    from cmarkgfm.cmark import Options

    body = cmarkgfm.github_flavored_markdown_to_html(markdown, options=Options.CMARK_OPT_UNSAFE)
    return (f"<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>"
            f"<style>{_STYLE % {'width': width}}</style><div class=box><div class=who>{_WHO[forge]}</div>"
            f"<div class=body>{body}</div></div>")  # fmt: skip


def main(words: list[str]) -> int:
    """Write all pictures for a wide window, and two of them also for a phone; exit status 0."""
    target = Path(words[0])
    target.mkdir(parents=True, exist_ok=True)
    browser = shutil.which("chromium") or "chromium"
    shots = [(name, name, 900, height) for name, height in (("comment-fail", 620), ("comment-matrix", 745), ("note-pass", 400),
                                                            ("summary-unverified", 400))]  # fmt: skip
    phones = [
        (f"{name}-phone", name, 412, height) for name, height in (("comment-fail", 875), ("comment-matrix", 1120))
    ]
    for name, of, width, height in [*shots, *phones]:
        forge, markdown = samples()[of]
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "page.html"
            source.write_text(page(forge, markdown, f"{width - 32}px"), "utf-8")
            subprocess.run(
                [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}/p",
                 f"--window-size={width},{height}", f"--screenshot={target / name}.png", source.as_uri()],
                check=True, capture_output=True, timeout=120,
            )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
