"""The report for a terminal."""

from dataclasses import replace

from cgroup_preflight.core.report import CpuUsage, Location, Remedy, Status
from cgroup_preflight.report import html_page, markdown, text
from tests.unit.report.samples import FREE, GOOD, HOST, MIXED, PROVED, SERVICE, finding, report


def test_a_report_from_top_to_bottom() -> None:
    assert text.render(MIXED).split("\n") == [
        "FAIL: 1 of 4 checks failed: CGP501 user-api; 1 check could not run",
        "on kernel 6.1.0-28-amd64, systemd 252, cgroup unified, engine systemd",
        "",
        "fail       CGP501 user-api: memory.max is not in force [./deploy/cgroup-preflight.toml:12]",
        *_rest(),
        "",
        "unverified CGP511 user-api: could not be tried [./deploy/cgroup-preflight.toml:12]",
        *_rest(),
        "",
        "warn       CGP515 io: memory.max is not in force",
        *_rest(),
        "",
        "service   MemoryMax  peak  headroom  CPU used  throttled  limits  result",
        "user-api  64M        60M   6%        1.50s     25%        1/2     fail",
        "",
        "last lines of user-api:",
        "    | first line",
        "    | fatal: @everyone",
        "",
    ]


def _rest() -> list[str]:
    return [
        "    read: memory.max = max, oom_kill = 1, ok = False",
        "    do:   raise MemoryMax to 96M (the peak was 80M)",
        "          write /etc/systemd/system/api.slice:",
        "            | [Slice]",
        "            | MemoryMax=96M",
        "          sudo systemctl set-property 'a b' x=1",
    ]


def test_what_passed_is_shown_on_request_and_artifacts_always() -> None:
    passed = finding(Status.PASS, code="CGP101", subject="host", message="is fine")
    skipped = finding(Status.SKIP, code="CGP130", subject="bus", message="is not needed")
    shipped = finding(Status.PASS, code="CGP301", subject="a.deb", message="has the plan")
    some = report(passed, skipped, shipped)
    assert text.render(some).split("\n")[2:] == ["", "pass       CGP301 a.deb: has the plan", ""]
    assert text.render(some, verbose=True).split("\n")[2:] == [
        "",
        "pass       CGP101 host: is fine",
        "skip       CGP130 bus: is not needed",
        "pass       CGP301 a.deb: has the plan",
        "",
    ]
    assert text.render(replace(some, findings=(passed,))).split("\n")[2:] == [""]


def test_colours() -> None:
    lines = text.render(MIXED, colour=True, verbose=True).split("\n")
    for start in ("31mfail      ", "35munverified", "33mwarn      ", "32mpass      ", "2mskip      "):
        assert any(line.startswith(f"\x1b[{start}\x1b[0m CGP") for line in lines), start


def test_the_host_is_named_even_where_little_is_known() -> None:
    assert text.render(replace(MIXED, host=None)).split("\n")[1] == ""
    unknown = replace(HOST, kernel=None, systemd=None, hierarchy=None, engine=None)
    assert text.render(replace(MIXED, host=unknown)).split("\n")[1] == (
        "on kernel unknown, systemd none, cgroup unknown, engine none"
    )


def test_what_was_not_asked_for_is_not_said_to_be_none() -> None:
    """`diagnose` reads the kernel's counters, and asks no service manager."""
    made = replace(MIXED, host=replace(HOST, systemd=None, mount_point=None, controllers=None, engine=None))
    assert text.render(made).split("\n")[1] == f"on kernel {HOST.kernel}, cgroup unified"
    assert f"On kernel <code>{HOST.kernel}</code>, cgroup <code>unified</code>." in markdown.render(made)
    assert f"<p>kernel {HOST.kernel}, cgroup unified</p>" in html_page.render(made)
    # A host without systemd has none.
    none = replace(MIXED, host=replace(HOST, systemd=None, engine=None))
    assert "systemd none" in text.render(none).split("\n")[1]


def _rows(*services: object) -> list[list[str]]:
    lines = text.render(replace(report(*PROVED), services=services)).split("\n")
    start = next(number for number, line in enumerate(lines) if line.startswith("service "))
    return [line.split() for line in lines[start + 1 : start + 1 + len(services)]]


def test_the_table_of_services() -> None:
    full = replace(GOOD, memory_peak_bytes=80 << 20)
    idle = replace(GOOD, cpu=CpuUsage(usage_usec=20_000, nr_periods=0))
    bare = replace(GOOD, cpu=CpuUsage(usage_usec=20_000, nr_periods=9), memory_peak_bytes=None)
    assert _rows(GOOD, FREE, full, idle, bare) == [
        ["web", "64M", "60M", "6%", "1.50s", "25%", "2/2", "pass"],
        ["user-api", "none", "60M", "-", "-", "-", "1/2", "pass"],
        ["web", "64M", "80M", "0%", "1.50s", "25%", "2/2", "pass"],
        ["web", "64M", "60M", "6%", "0.02s", "-", "2/2", "pass"],
        ["web", "64M", "-", "-", "0.02s", "0%", "2/2", "pass"],
    ]


def test_the_memory_of_go_programs() -> None:
    evidence = {"memory_current": 3 << 20, "memory_peak": 1536, "go_counts": 5, "unknown_to_go": "secret"}
    lines = text.render(report(finding(Status.PASS, code="CGP419", evidence=evidence))).split("\n")
    assert lines[-3].split("  ")[0] == "Go memory"
    assert lines[-2].split() == ["user-api", "3M", "1.5K", "-", "-", "-", "5B", "-", "-"]


def test_a_log_is_shown_for_what_failed_or_could_not_run() -> None:
    for status, shown in ((Status.FAIL, True), (Status.UNVERIFIED, True), (Status.WARN, False)):
        some = report(finding(status), services=(SERVICE,))
        assert ("last lines of user-api:" in text.render(some)) is shown
    other = report(finding(Status.FAIL, subject="other"), services=(SERVICE,))
    assert "last lines" not in text.render(other)
    silent = report(finding(Status.FAIL), services=(replace(SERVICE, log_tail=()),))
    assert "last lines" not in text.render(silent)


def test_a_remedy_may_be_words_only_and_evidence_is_clipped() -> None:
    some = report(finding(Status.FAIL, evidence={"key": "v" * 700}, remedies=(Remedy(title="do it"),), location=None))
    lines = text.render(some, colour=False).split("\n")
    read = next(line for line in lines if line.startswith("    read: "))
    assert len(read) == 600
    assert "    do:   do it" in lines
    plain = Remedy(title="do it", commands=(("a", "b"),))
    assert "          a b\n" in text.render(report(finding(Status.FAIL, remedies=(plain,), evidence={})))
    assert "read:" not in text.render(report(finding(Status.FAIL, remedies=(), evidence={})))


def test_foreign_text_is_escaped_and_clipped() -> None:
    odd = finding(Status.FAIL, subject="s" * 3000, location=Location(file="\x1b[1m", line=3))
    some = report(odd, finding(Status.FAIL), services=(replace(SERVICE, log_tail=("\x1b[2J",) * 30),))
    shown = text.render(some)
    assert "\x1b" not in shown
    assert "[\\x1b[1m:3]" in shown
    assert "characters left out): memory.max is not in force" in shown
    assert shown.count("    | \\x1b[2J\n") == 20
