"""Reports to render: one that a real run could give, and ones that nobody would want to read."""

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st

from cgroup_preflight.core.report import (
    CpuUsage,
    Finding,
    HostSummary,
    LimitResult,
    Location,
    Remedy,
    RemedyFile,
    Report,
    ServiceResult,
    Status,
    Verdict,
)
from cgroup_preflight.core.verdict import verdict_of

HOSTILE = (
    "@everyone",
    "user@1000.service",
    "#1 org/repo#2 GH-3 !4 &5 ~label %milestone :tada:",
    "<!-- cgroup-preflight -->",
    "--><script>alert(1)</script>",
    "`code` ``` ~~~",
    "a | b |\n|---|---|\n| c |",
    "\x1b[31mred\x1b[0m",
    "\u202egnp.exe\u2066",
    "line\n/close\n/merge\r\n::error::x",
    "::set-output name=a::b %0A::warning::x",
    "[text](https://evil.example) ![i](http://evil.example/i.png) www.evil.example <https://evil.example>",
    "{0} {{1}} \\[x](y)",
    "</details></code></pre>]]>",
    "\0\x0b\ufffe\ud800",
    "*bold* _em_ ~~del~~ # head\n- item\n1. one\n    code",
    "&lt;b&gt; &#64;everyone &commat;everyone",
    "",
    " ",
    "x" * 2500,
)

HOST = HostSummary(
    kernel="6.1.0-28-amd64", systemd="252", hierarchy="unified", mount_point="/sys/fs/cgroup",
    controllers=("cpu", "memory"), machine="x86_64", engine="systemd", cpus=2, memory_bytes=1 << 30,
)  # fmt: skip
REMEDY = Remedy(
    title="raise MemoryMax to 96M", why="the peak was 80M", commands=(("systemctl", "set-property", "a b", "x=1"),),
    files=(RemedyFile(path="/etc/systemd/system/api.slice", content="[Slice]\nMemoryMax=96M\n"),), needs_root=True,
    persistent=True, docs="https://systemd.io/CGROUP_DELEGATION/",
)  # fmt: skip
SERVICE = ServiceResult(
    name="user-api", engine="systemd", unit="run-user-api.service", cgroup="run.slice/run-user-api.service",
    limits=(LimitResult(file="run.slice/memory.max", expected="67108864", actual="67108864", ok=True),
            LimitResult(file="run.slice/cpu.max", expected="50000 100000", actual=None, ok=False)),
    memory_peak_bytes=60 << 20, cpu=CpuUsage(usage_usec=1_500_000, nr_periods=20, nr_throttled=5, throttled_usec=9),
    oom_kills=1, result="oom-kill", exit_status=9, duration_seconds=2.5, memory_max_bytes=64 << 20,
    log_tail=("first line", "fatal: @everyone"), host="web1", read_at="2026-01-02T03:04:05Z",
)  # fmt: skip


def finding(status: Status, **more: object) -> Finding:
    """A finding with everything in it."""
    values: dict[str, object] = {
        "code": "CGP501", "name": "limits-in-force", "status": status, "subject": "user-api",
        "message": "memory.max is not in force", "evidence": {"memory.max": "max", "oom_kill": 1, "ok": False},
        "remedies": (REMEDY,), "location": Location(file="./deploy/cgroup-preflight.toml", line=12),
    }  # fmt: skip
    return Finding(**(values | more))  # type: ignore[arg-type]


def report(*findings: Finding, services: tuple[ServiceResult, ...] | None = None) -> Report:
    """A report with these findings and the verdict that follows from them; SERVICE is in it where that is no pass."""
    verdict = verdict_of(findings)
    if services is None:
        services = () if verdict is Verdict.PASS else (SERVICE,)
    return Report(
        tool_version="1.2.3", verdict=verdict, host=HOST, findings=findings, services=services,
        started_at="2026-01-02T03:04:05Z", duration_seconds=3.25,
    )  # fmt: skip


MIXED = report(
    finding(Status.PASS, code="CGP101", name="hierarchy", subject="hierarchy", location=None, remedies=()),
    finding(Status.FAIL),
    finding(Status.WARN, code="CGP515", name="throttled", subject="io", location=None),
    finding(Status.SKIP, code="CGP130", name="user-manager", subject="user manager", remedies=()),
    finding(Status.UNVERIFIED, code="CGP511", name="bites", message="could not be tried"),
)

#: A slice above is tighter than the service's own limit, and the log holds what no log should.
TIGHT = replace(
    SERVICE, memory_peak_bytes=30 << 20, memory_max_bytes=32 << 20,
    log_tail=(*(f"line {number}" for number in range(30)), *HOSTILE, "\x1b" * 200, "\u202e" * 200, "\xe4" * 400),
)  # fmt: skip
FREE = replace(SERVICE, memory_max_bytes=None, log_tail=(), cpu=None, oom_kills=None, exit_status=None, result=None)
#: A service that ran well under two limits, and what is said of it.
GOOD = replace(
    SERVICE, name="web", limits=(SERVICE.limits[0], replace(SERVICE.limits[1], actual="50000 100000", ok=True)),
    oom_kills=0, result="success", exit_status=0, log_tail=("ready",),
)  # fmt: skip
PROVED = (
    finding(Status.PASS, subject="web", evidence={"files": 2}, remedies=()),
    finding(Status.PASS, code="CGP503", name="service-run", subject="web", evidence={}, remedies=()),
)
#: Every report that the renderers are tried with.
SAMPLES = (
    MIXED,
    report(*PROVED, services=(GOOD,)),
    report(finding(Status.FAIL), services=(TIGHT, replace(FREE, name="other"))),
    report(
        finding(Status.UNVERIFIED, evidence={"a": float("inf"), "b": float("nan"), "c": 0.1, "d": 2**70}),
        services=(FREE,),
    ),
    replace(report(finding(Status.WARN), services=()), host=None, duration_seconds=1.23456),
)

#: Whole reports take their time to make and to read back; the texts in them are what varies.
few = settings(max_examples=25, deadline=None)

#: Any text, spiced with what does harm; surrogates included, since they come out of file names.
texts = st.one_of(
    st.sampled_from(HOSTILE),
    st.lists(st.sampled_from([*HOSTILE[:17], "word", " ", "\n", "|", "\\"]), max_size=4).map("".join),
    st.text(st.characters(), max_size=40),
)
_locations = st.none() | st.builds(Location, file=texts, line=st.integers(-1, 2**40))
_argv = st.lists(texts, min_size=1, max_size=3).map(tuple)
_remedies = st.builds(
    Remedy, title=texts, why=texts, commands=st.lists(_argv, max_size=2).map(tuple),
    files=st.lists(st.builds(RemedyFile, path=texts, content=texts), max_size=1).map(tuple), needs_root=st.booleans(),
    docs=texts,
)  # fmt: skip
_values = st.one_of(texts, st.integers(-(2**70), 2**70), st.booleans(), st.none())
_findings = st.builds(
    Finding, code=st.sampled_from(["CGP101", "CGP501"]) | texts, name=st.just("hierarchy") | texts,
    status=st.sampled_from(Status), subject=st.just("user-api") | texts, message=texts,
    evidence=st.dictionaries(texts, _values, max_size=2), remedies=st.lists(_remedies, max_size=2).map(tuple),
    location=_locations,
)  # fmt: skip
_services = st.builds(
    ServiceResult, name=st.just("user-api") | texts, engine=texts, unit=texts, cgroup=texts, result=st.none() | texts,
    log_tail=st.lists(texts, max_size=3).map(tuple), memory_max_bytes=st.none() | st.integers(1, 2**63),
    memory_peak_bytes=st.none() | st.integers(0, 2**63),
)  # fmt: skip


@st.composite
def reports(draw: st.DrawFn) -> Report:
    """Reports that hold anything anywhere, with the verdict of their findings."""
    findings = tuple(draw(st.lists(_findings, max_size=5)))
    services = tuple(draw(st.lists(_services, max_size=2, unique_by=lambda item: item.name)))
    if verdict_of(findings) is Verdict.PASS:
        services = draw(st.sampled_from([(), (GOOD,)]))
        findings += PROVED if services else ()
    host = draw(st.none() | st.just(HOST) | st.builds(
        HostSummary, kernel=texts, systemd=texts, hierarchy=texts, mount_point=texts, controllers=st.none(),
        machine=texts,
    ))  # fmt: skip
    return Report(
        tool_version=draw(texts), verdict=verdict_of(findings), host=host, findings=findings,
        services=services, started_at=draw(texts), duration_seconds=1.5,
    )  # fmt: skip
