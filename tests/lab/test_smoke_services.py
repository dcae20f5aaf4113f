"""Services that behave and services that do not, all of one config and so all at the same time in one guest."""

import pytest

from cgroup_preflight.guest.session import Guest
from tests.lab.configs import Lab, Outcome, config, fixture, leftovers, service, toml

_MIB = 1 << 20
#: Answers with a redirect to another port, where somebody counts the visitors (see `redirected`).
_REDIRECTOR = """\
#!/usr/bin/python3
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(302)
        self.send_header("Location", "http://127.0.0.2:9199/trap")
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", 9106), Handler).serve_forever()
"""
#: Ready at first, and then only alive.
_FALLS_SILENT = """\
#!/usr/bin/python3
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    answers = iter([200])
    def do_GET(self):
        self.send_response(next(self.answers, 503))
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", 9108), Handler).serve_forever()
"""
_TRAP = "import socket,sys; s=socket.create_server(('127.0.0.2', 9199)); s.accept(); sys.exit(3)"

_SERVICES = {
    "hog": fixture("hog", "--max=256", "--pause=1ms", ready="log:hog ready", MemoryMax="40M", slice="crowd"),
    "exiter": fixture("exiter", "--code=1"),
    "neverready": fixture("neverready", ready="http://127.0.0.1:9101/healthz", smoke={"start_timeout": "4s"}),
    "stubborn": fixture("stubborn", "--port=9102", ready="http://127.0.0.1:9102/healthz", smoke={"stop_timeout": "2s"}),
    "forker": fixture("forker", "--port=9103", "--mode=idle", ready="tcp://127.0.0.1:9103", slice="crowd", TasksMax=64),
    "cramped": fixture("forker", "--port=9104", "--mode=idle", ready="tcp://127.0.0.1:9104", slice="crowd", TasksMax=6),
    # Over long before the others, and its time to stop is shorter than that: the hold after the end must outlast it.
    "job": fixture(
        "exiter", "--code=0", ready="exit", smoke={"stop_timeout": "1s"}, slice="crowd", MemoryMax="48M", CPUQuota="50%"
    ),
    "badjob": fixture("exiter", "--code=3", ready="exit", slice="crowd", MemoryMax="48M"),
    "killedjob": fixture("hog", "--max=256", "--pause=1ms", ready="exit", slice="crowd", MemoryMax="40M"),
    "listener": fixture("server", "--port=9105", ready="tcp://127.0.0.1:9105"),
    "redirector": service("redirector.py", ready="http://127.0.0.1:9106/"),
    "silent": service("silent.py", ready="http://127.0.0.1:9108/"),
    "zero": fixture("exiter", "--code=0", TasksMax=50),
    # A name that units of the tool's own once had, and a limit that leaves no room for a child.
    "probe-0": service("/bin/sleep", "315", TasksMax=1),
    "policy": service("/bin/sleep", "316", ManagedOOMMemoryPressure="kill"),
    "badenv": fixture("server", "--port=9107", ready="tcp://127.0.0.1:9107", smoke={"env": {"GOMEMLIMIT": "900M"}}),
}
_SCRIPTS = {"redirector.py": _REDIRECTOR, "silent.py": _FALLS_SILENT}


@pytest.fixture(scope="module")
def crowd(boot, fixtures) -> Outcome:
    """One run of all these services; `Lab.run` itself asserts that nothing of them is left."""
    lab = Lab(boot())
    folder = lab.write("crowd", config(_SERVICES, {"crowd": {"CPUWeight": 50}}), _SCRIPTS)
    trap = lab.guest.spawn(["python3", "-c", _TRAP])
    outcome = lab.run("smoke", folder=folder)
    assert lab.guest.poll(trap) is None, "the redirect was followed to another address"
    lab.guest.wait(trap, timeout=0.0)
    return outcome


def test_a_run_with_failing_services_fails(crowd: Outcome) -> None:
    assert (crowd.verdict, crowd.exit_status) == ("fail", 1)
    assert [row["name"] for row in crowd.report["services"]] == sorted(_SERVICES)
    assert {row["engine"] for row in crowd.report["services"]} == {"systemd"}


def test_too_small_a_limit_is_an_oom_kill_with_peak_and_proposal(crowd: Outcome) -> None:
    row, found = crowd.service("hog"), crowd.finding("CGP504", "hog")
    assert found["status"] == "fail"
    assert found["evidence"]["memory_max_bytes"] == 40 * _MIB
    # Killed at the limit: the peak is that, but for the pages that the kernel counts in batches.
    assert 39 * _MIB <= row["memory_peak_bytes"] <= 41 * _MIB
    assert found["evidence"]["memory_peak_bytes"] == row["memory_peak_bytes"]
    assert "80M" in found["remedies"][0]["title"]
    assert found["location"]["line"] == _line_of("[services.hog]", "MemoryMax")
    assert (row["oom_kills"], row["result"], row["exit_status"]) == (1, "oom-kill", 9)
    assert "hog touched 20 MiB" in crowd.text


def _line_of(table: str, key: str) -> int:
    lines = toml(config(_SERVICES, {"crowd": {"CPUWeight": 50}})).splitlines()
    start = lines.index(table)
    return next(number for number, line in enumerate(lines, 1) if number > start and line.startswith(key))


def test_an_exit_with_1_fails_with_status_and_log(crowd: Outcome) -> None:
    row, found = crowd.service("exiter"), crowd.finding("CGP503", "exiter")
    assert found["status"] == "fail"
    assert "status 1" in found["message"]
    assert (row["result"], row["exit_status"], row["oom_kills"]) == ("exit-code", 1, 0)
    assert "last lines of exiter:\n    | exiter started\n    | exiter: ending with status 1\n" in crowd.text


def test_never_ready_fails_at_its_time_limit(crowd: Outcome) -> None:
    found = crowd.finding("CGP505", "neverready")
    assert found["status"] == "fail"
    assert "http://127.0.0.1:9101/healthz" in found["message"]
    assert crowd.service("neverready")["duration_seconds"] >= 4
    assert "neverready: still warming up" in crowd.text


def test_one_that_ignores_sigterm_is_reported_and_killed(crowd: Outcome) -> None:
    row, found = crowd.service("stubborn"), crowd.finding("CGP506", "stubborn")
    assert found["status"] == "fail"
    assert "SIGTERM" in found["message"]
    assert row["exit_status"] == 9
    assert row["duration_seconds"] >= 2


def test_children_are_counted_in_the_unit(crowd: Outcome) -> None:
    statuses = crowd.statuses("forker")
    # The warning is that it has no MemoryMax.
    assert {status for code, status in statuses.items() if code != "CGP501"} == {"pass"}
    assert crowd.finding("CGP501", "forker")["status"] == "pass"
    assert crowd.finding("CGP502", "forker")["evidence"]["processes"] == 4
    assert crowd.limits("forker") == {"crowd.slice/cpu.weight": "50", "crowd.slice/forker.service/pids.max": "64"}


def test_tasks_max_too_small_fails_and_says_so(crowd: Outcome) -> None:
    found = crowd.finding("CGP503", "cramped")
    assert found["status"] == "fail"
    assert found["evidence"]["tasks_refused"] > 0
    assert "TasksMax" in found["remedies"][0]["title"]
    assert crowd.service("cramped")["exit_status"] in (1, 2)


def test_a_job_that_is_over_at_once_passes_with_its_limits_and_numbers(crowd: Outcome) -> None:
    row = crowd.service("job")
    # It was over before anybody could look into its runtime, which is said; all the rest is proven.
    assert {status for code, status in crowd.statuses("job").items() if code.startswith("CGP5")} == {"pass"}
    assert set(crowd.statuses("job").values()) <= {"pass", "skip"}
    assert crowd.limits("job") == {
        "crowd.slice/cpu.weight": "50",
        "crowd.slice/job.service/memory.max": f"{48 * _MIB}",
        "crowd.slice/job.service/cpu.max": "50000 100000",
    }
    assert (row["result"], row["exit_status"], row["oom_kills"]) == ("success", 0, 0)
    # Counted by the kernel although it lived for some 50 ms only.
    assert row["memory_peak_bytes"] > 0
    assert row["cpu"]["usage_usec"] > 0


def test_a_job_with_another_status_fails(crowd: Outcome) -> None:
    assert crowd.finding("CGP503", "badjob")["status"] == "fail"
    assert (crowd.service("badjob")["result"], crowd.service("badjob")["exit_status"]) == ("exit-code", 3)


def test_a_job_that_is_killed_does_not_count_as_ended(crowd: Outcome) -> None:
    assert crowd.finding("CGP504", "killedjob")["status"] == "fail"
    # On a busy machine the kernel has counted 2.
    assert crowd.service("killedjob")["oom_kills"] >= 1


def test_readiness_by_tcp(crowd: Outcome) -> None:
    smoke = {code: status for code, status in crowd.statuses("listener").items() if code.startswith("CGP5")}
    assert smoke == {**dict.fromkeys(("CGP502", "CGP503", "CGP509"), "pass"), "CGP501": "fail"}
    assert "no limit is set" in crowd.finding("CGP501", "listener")["message"]
    assert crowd.service("listener")["exit_status"] == 0


def test_a_redirect_counts_as_an_answer_and_is_not_followed(crowd: Outcome) -> None:
    assert crowd.finding("CGP503", "redirector")["status"] == "pass"


def test_one_that_falls_silent_fails_though_it_lives(crowd: Outcome) -> None:
    found = crowd.finding("CGP505", "silent")
    assert found["status"] == "fail"
    assert "HTTP status 503" in found["message"]
    assert crowd.finding("CGP502", "silent")["status"] == "pass"


def test_one_that_is_over_at_once_fails_unless_it_is_meant_to(crowd: Outcome) -> None:
    found = crowd.finding("CGP503", "zero")
    assert found["status"] == "fail"
    assert 'ready = "exit"' in found["remedies"][0]["title"]


def test_a_policy_that_nobody_acts_on_is_a_warning(crowd: Outcome) -> None:
    found = crowd.finding("CGP513", "policy")
    assert found["status"] == "warn"
    assert found["evidence"]["systemctl show ManagedOOMMemoryPressure"] == "kill"


def test_what_the_slice_counted_is_told(crowd: Outcome) -> None:
    counted = crowd.finding("CGP509", "hog")["evidence"]
    # hog and killedjob are in it, and each was killed.
    kills = sum(crowd.service(name)["oom_kills"] for name in ("hog", "killedjob"))
    assert counted["crowd.slice memory.events oom_kill"] == kills >= 2
    assert counted["hog.service memory.events oom_kill"] == 1


def test_a_program_killed_by_its_environment_fails_with_its_own_words(crowd: Outcome) -> None:
    assert crowd.finding("CGP503", "badenv")["status"] == "fail"
    assert crowd.service("badenv")["exit_status"] == 2
    assert "malformed GOMEMLIMIT" in crowd.text


def test_each_distinct_limit_was_pushed_against(crowd: Outcome) -> None:
    pushed = {(f["subject"], f["message"].split(":")[0]): f["status"] for f in crowd.findings("CGP511")}
    assert pushed == {
        ("hog", "MemoryMax"): "pass",
        ("badjob", "MemoryMax"): "pass",
        ("job", "CPUQuota"): "pass",
        ("forker", "TasksMax"): "pass",
        ("cramped", "TasksMax"): "pass",
        ("probe-0", "TasksMax"): "pass",
        ("zero", "TasksMax"): "pass",
    }


def test_what_is_left_would_be_seen_and_can_be_removed(boot, fixtures) -> None:
    """The proof that `Lab.leftovers` is able to fail, and that a test that fails leaves nothing to the next one."""
    guest: Guest = boot()
    lab = Lab(guest)
    stray = guest.spawn([str(fixtures / "neverready")])
    lab.shell("systemd-run --quiet --unit=cgpf-left --slice=cgpfleft sleep 100")
    lab.shell("touch /run/systemd/system/cgpfx.slice /tmp/cgpfy")
    # Also what systemd neither knows nor can stop.
    lab.shell("cd /sys/fs/cgroup; mkdir -p cgpfhid/a.service; sleep 100 & echo $! > cgpfhid/a.service/cgroup.procs;"
              " echo 1 > cgpfhid/cgroup.freeze; mount --bind cgpfhid cgpfleft.slice; echo")  # fmt: skip
    seen = lab.leftovers()
    assert {line.split()[0] for line in seen} == {"unit", "file", "cgroup", "process"}
    assert leftovers(guest, "clean") == [] == lab.leftovers()
    guest.wait(stray, timeout=0.0)
