"""`smoke --host` and `run --host` where no systemd is: what is refused, what each host's verdict is, and how reports merge."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cgroup_preflight.cli import common, hosts_run, main
from cgroup_preflight.cli.hosts_run import with_interpreters
from cgroup_preflight.config.load import load
from cgroup_preflight.core import codes
from cgroup_preflight.core.reading import Known, Missing, Why
from cgroup_preflight.core.report import ServiceResult
from cgroup_preflight.host.door import Status
from cgroup_preflight.report.read import report_of
from cgroup_preflight.smoke.apart import Apart
from tests.unit.cli.test_hosts import ssh  # noqa: F401 - a fixture

pytestmark = [pytest.mark.starts_processes, pytest.mark.timeout(180)]
CONFIG = """\
[project]
name = "shop"
[slices.api]
MemoryMax = "256M"
[services.web]
binary = "web"
slice = "api"
"""


@pytest.fixture(autouse=True)
def project(tmp_path):
    (tmp_path / "cgroup-preflight.toml").write_text(CONFIG)
    (tmp_path / "web").write_bytes(Path(sys.executable).read_bytes()[:4096])
    (tmp_path / "web").write_text("#!/bin/sh\nsleep 60\n")
    (tmp_path / "web").chmod(0o755)
    return tmp_path


@pytest.fixture
def processes(monkeypatch):
    """Processes of several hosts as they are, but for the shared connections, which this `ssh` does not have."""
    script = "import sys; from cgroup_preflight.cli import hosts, main; hosts.control_folder = lambda: ''; sys.exit(main(sys.argv[1:]))"

    def run(_self: Apart, words: tuple[str, ...]) -> tuple[bytes, bytes]:
        done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, timeout=120, check=False)
        return done.stdout, done.stderr

    monkeypatch.setattr(Apart, "run", run)


def report(tmp_path: Path, *words: str) -> tuple[int, dict]:
    status = main([*words, "--format", f"json={tmp_path}/report.json"])
    return status, json.loads((tmp_path / "report.json").read_text())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--target", "debian-12"), "a guest runs on this machine"),
        (("--engine", "guest"), "a guest runs on this machine"),
        (("--engine", "cgroupfs"), "units of this machine only"),
        (("--cgroup", "/x"), "units of this machine only"),
        (("--inside",), "not a guest"),
        (("--host", "web1"), "named twice"),
        (("--host=-oProxyCommand=x",), "not the name of a host"),
    ],
)
@pytest.mark.parametrize("command", ["smoke", "run"])
def test_what_a_host_cannot_do_is_a_wrong_call(command, words, says, capsys):
    assert main([command, "--host", "web1", *words]) == 2
    assert says in capsys.readouterr().err


def test_services_that_a_package_or_the_host_brings_are_refused(project, capsys):
    text = CONFIG.replace('binary = "web"', 'package = "shop"\nunit = "shop.service"')
    (project / "cgroup-preflight.toml").write_text(text)
    assert main(["smoke", "--host", "web1"]) == 2
    assert main(["run", "--host", "web1", "--package", "x.deb"]) == 2
    assert capsys.readouterr().err.count("a package is installed in a guest only") >= 1


@pytest.mark.parametrize("command", ["smoke", "run"])
def test_a_host_without_a_service_manager_is_unverified_and_says_why(project, command):
    if os.path.isdir("/run/systemd/system"):
        pytest.skip("this machine has a service manager, which the played host would use")
    status, found = report(project, command, "--host", "web1")
    assert status == (3 if found["verdict"] == "unverified" else 1)
    assert found["findings"][0]["code"] == "CGP129"
    assert found["findings"][0]["subject"] == "web1"
    own = [item for item in found["findings"] if item["evidence"].get("host") == "web1"]
    assert all(item["subject"] == "web1" or item["subject"].startswith("web1: ") for item in own)
    assert all("cgroupfs" not in item["message"] for item in own)
    assert found["services"] == []


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("others", [(), ("--host", "dead")])
def test_an_exception_is_about_what_a_host_itself_shows(project, others):
    """By the subject without the host's name, by this process and by that of one host of several."""
    words = ("run", "web", "--host", "web1", *others)

    def own() -> dict[tuple[str, str], str]:
        _, found = report(project, *words)
        items = [item for item in found["findings"] if item["subject"].startswith("web1: ")]
        return {(item["code"], item["subject"].removeprefix("web1: ")): item["status"] for item in items}

    before = own()
    problem = next((key for key, status in before.items() if status == "fail"), None)
    if problem is None:
        pytest.skip("nothing fails on this machine")
    code, subject = problem
    ignore = f'[[policy.ignore]]\ncode = "{code}"\nsubject = "{subject}"\nreason = "known"\n'
    (project / "cgroup-preflight.toml").write_text(CONFIG + ignore)
    after = own()
    assert after[problem] == "skip"
    assert {key: status for key, status in before.items() if key != problem}.items() <= after.items()


@pytest.mark.usefixtures("processes")
def test_one_host_of_several_that_is_not_reached_is_unverified_and_the_others_are_judged(project):
    if os.path.isdir("/run/systemd/system"):
        pytest.skip("this machine has a service manager, which the played host would use")
    status, found = report(project, "smoke", "web", "--host", "web1", "--host", "dead", "--host", "plain")
    assert status in (1, 3)
    own = {item["subject"]: item for item in found["findings"] if item["code"] == "CGP129"}
    assert list(own) == ["web1", "dead", "plain"]
    assert "Connection refused" in own["dead"]["message"]
    assert own["dead"]["status"] == "unverified"
    for name in ("web1", "plain"):
        assert [item for item in found["findings"] if item["subject"].startswith(f"{name}: ")]


def test_a_service_says_on_which_host_it_ran_and_when(project, monkeypatch):
    row = ServiceResult(name="web", engine="systemd", unit="w.service", cgroup="/w")
    monkeypatch.setattr(hosts_run, "_on_host", lambda *_: ([], (row,)))
    _, found = report(project, "smoke", "--host", "me@web1")
    (service,), (own,) = found["services"], [item for item in found["findings"] if item["code"] == "CGP129"]
    assert (service["name"], service["host"]) == ("me@web1: web", "me@web1")
    assert service["read_at"] == own["evidence"]["read_at"]
    assert report_of(json.dumps(found).encode()).services[0].host == "me@web1"


def test_a_host_that_cuts_the_connection_is_unverified(project):
    status, found = report(project, "smoke", "--host", "cut")
    assert (status, found["verdict"]) == (3, "unverified")
    assert [item["code"] for item in found["findings"]] == ["CGP129"]


def test_the_policy_judges_also_what_is_about_no_host(project):
    more = '[services.other]\nbinary = "web"\nslice = "api"\n'
    code = codes.SMOKE.code
    for policy, status in (("", "warn"), (f'[policy]\nfail_on = ["{code}"]\n', "fail"),
                           (f'[[policy.ignore]]\ncode = "{code}"\nsubject = "run"\nreason = "known"\n', "skip")):  # fmt: skip
        (project / "cgroup-preflight.toml").write_text(CONFIG + more + policy)
        _, found = report(project, "run", "web", "--host", "dead")
        (left,) = [item for item in found["findings"] if item["code"] == code and item["subject"] == "run"]
        assert "left out" in left["message"]
        assert left["status"] == status


@pytest.mark.usefixtures("processes")
def test_what_several_hosts_leave_out_is_said_once(project):
    more = '[services.other]\nbinary = "web"\nslice = "api"\n'
    (project / "cgroup-preflight.toml").write_text(f'{CONFIG}{more}[policy]\nthrottled_max = "50%"\n')
    _, found = report(project, "run", "web", "--host", "dead", "--host", "cut")
    assert [item["subject"] for item in found["findings"] if item["code"] == "CGP222"] == ["policy"]
    assert [item["subject"] for item in found["findings"] if "left out" in item["message"]] == ["run"]
    assert [item["subject"] for item in found["findings"] if item["code"] == "CGP129"] == ["dead", "cut"]


class _There:
    """Files of a machine that has only `present`, and shows nothing of `hidden`."""

    def __init__(self, present=(), hidden=()):
        self.present, self.hidden, self.asked = present, hidden, []

    def status(self, path):
        self.asked.append(path)
        if path in self.present:
            return Known(value=Status(size=1, mode=0o100755, uid=0, gid=0, time=0.0), source=path)
        return Missing(why=Why.DENIED if path in self.hidden else Why.ABSENT, source=path)


@pytest.mark.parametrize(("there", "here"), [
    (_There(), False), (_There(present=("/lib/ld-other.so",)), True), (_There(hidden=("/lib/ld-other.so",)), True),
])  # fmt: skip
def test_the_interpreter_of_a_program_is_looked_for_on_the_host(project, there, here):
    (project / "web").write_text("#!/lib/ld-other.so\n")
    plan = common.plan_of(load(project / "cgroup-preflight.toml"))
    # This machine lacks it whatever the host has.
    assert [item.program.interpreter_here for item in plan.services] == [False]
    found = with_interpreters(plan, there)
    assert [item.program.interpreter_here for item in found.services] == [here]
    assert there.asked == ["/lib/ld-other.so"]


def test_a_program_without_an_interpreter_asks_the_host_nothing(project):
    (project / "web").write_bytes(b"no program")
    plan, there = common.plan_of(load(project / "cgroup-preflight.toml")), _There()
    assert with_interpreters(plan, there) == plan
    assert there.asked == []
