"""`run` and `smoke` with a guest that is played: what is told before a boot, and what this host does meanwhile.

Patched is the one function that boots, `guest.run.run_task`; all else is what a user calls.
"""

import hashlib
import json
import shutil

import pytest

from cgroup_preflight.checks import runner
from cgroup_preflight.cli import main, smoke_run
from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.report import Remedy, Status
from cgroup_preflight.guest import run as guest_engine
from cgroup_preflight.guest.findings import GuestRun
from cgroup_preflight.guest.requirements import GuestMachine
from cgroup_preflight.guest.spec import GuestEngine
from tests.unit.guest.played import TEXT, finding, report

PROGRAM = shutil.which("true")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose programs can run here."""
    monkeypatch.chdir(tmp_path)
    for name in ("api", "web"):
        shutil.copy(PROGRAM, tmp_path / name)
    (tmp_path / "cgroup-preflight.toml").write_text(f'{TEXT}\n[project]\nname = "shop"\n')
    return tmp_path


@pytest.fixture
def boot(monkeypatch):
    """What happened, in order; `act` happens in the guest before this host gets the time for its own work."""
    seen = []

    def run_task(task, _environment, _say, meanwhile, *, act=lambda: None, works=True):
        seen.append(f"{task.distro} starts")
        try:
            act()
            if works:
                meanwhile()
            seen.append("report")
        finally:
            seen.append(f"{task.distro} ended")
        machine = GuestMachine(engine=GuestEngine.UML, cpus=1, memory_mib=256)
        return GuestRun(report=report(), machine=machine, distro=task.distro, fence="landlock 7", lost_boot="",
                        seconds={})  # fmt: skip

    def play(**how):
        monkeypatch.setattr(guest_engine, "run_task", lambda *args: run_task(*args, **how))
        return seen

    return play


@pytest.fixture
def checks(monkeypatch):
    """The checks of this host note that they were made."""

    def note(seen, found=()):
        def noted(_context):
            seen.append("checks")
            return list(found)

        monkeypatch.setattr(smoke_run, "run_checks", noted)

    assert smoke_run.run_checks is runner.run_checks
    return note


@pytest.mark.parametrize("command", ["run", "smoke"])
def test_the_host_is_checked_while_the_guest_works(project, boot, checks, command):
    seen = boot()
    checks(seen)
    assert main([command, "--engine=guest", "-q"]) == 0
    assert seen == ["debian-12 starts", "checks", "report", "debian-12 ended"]


@pytest.mark.parametrize("command", ["run", "smoke"])
def test_once_for_several_guests(project, boot, checks, command):
    seen = boot()
    checks(seen)
    main([command, "--target=debian-12", "--target=debian-13", "-q"])
    assert seen == [
        "debian-12 starts", "checks", "report", "debian-12 ended", "debian-13 starts", "report", "debian-13 ended",
    ]  # fmt: skip


@pytest.mark.parametrize("command", ["run", "smoke"])
def test_the_report_is_the_same_whenever_the_host_is_checked(project, boot, checks, command, capsys):
    """A host that fails does not decide where a guest runs the services, and its findings come last."""
    found = [finding("CGP101", Status.FAIL, "hierarchy"), finding("CGP102", Status.UNVERIFIED, "mount")]
    made = []
    for works in (True, False):
        checks(boot(works=works), found)
        assert main([command, "--engine=guest", "--format=json"]) == 0
        document = json.loads(capsys.readouterr().out)
        made.append([(item["code"], item["subject"], item["status"]) for item in document["findings"]])
    assert made[0] == made[1]
    # What comes after is about the whole run.
    host = [(code, subject, status) for code, subject, status in made[0] if subject.startswith("this host: ")]
    assert host[:2] == [("CGP101", "this host: hierarchy", "warn"), ("CGP102", "this host: mount", "skip")]
    assert made[0][0][:2] == ("CGP512", "guest")
    last = max(at for at, item in enumerate(made[0]) if item[0] in ("CGP501", "CGP503"))
    assert made[0].index(host[0]) > last


@pytest.mark.parametrize("command", ["run", "smoke"])
@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (HostError("the host is gone", remedy=Remedy(title="look for it")), 3, "the host is gone"),
        (OSError(5, "Input/output error"), 4, "defect of cgroup-preflight (OSError)"),
        (ZeroDivisionError(), 4, "defect of cgroup-preflight (ZeroDivisionError)"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_the_guest_ends_when_a_check_raises_and_is_not_blamed(
    project, boot, monkeypatch, command, error, status, said, capsys, tmp_path
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen = boot()

    def broken(_context):
        raise error

    monkeypatch.setattr(smoke_run, "run_checks", broken)
    assert main([command, "--engine=guest"]) == status
    assert seen == ["debian-12 starts", "debian-12 ended"]
    output = capsys.readouterr()
    assert said in output.err
    assert output.out == ""


@pytest.mark.parametrize("command", ["run", "smoke"])
@pytest.mark.parametrize(
    ("words", "change", "status"),
    [
        (["nobody"], None, 2),
        (["--format=xml"], None, 2),
        (["--target=beos"], None, 2),
        (["--target=debian-12", "--engine=systemd"], None, 2),
        ([], lambda folder: (folder / "api").unlink(), 2),
        ([], lambda folder: (folder / "api").chmod(0o644), 2),
        ([], lambda folder: (folder / "cgroup-preflight.toml").write_text(TEXT.replace("64M", "64Q")), 2),
        ([], lambda folder: (folder / "api").write_bytes(b"text"), 1),
        (["--baseline=gone.json"], None, 2),
    ],
    ids=["service", "format", "target", "engine", "missing", "mode", "config", "program", "baseline"],
)
def test_what_can_refuse_the_run_is_told_before_and_costs_no_boot(project, boot, command, words, change, status):
    seen = boot()
    if change is not None:
        change(project)
    engine = [] if any(word.startswith(("--engine", "--target")) for word in words) else ["--engine=guest"]
    assert main([command, *engine, *words, "-q"]) == status
    assert seen == []


def test_artifacts_that_may_not_be_changed_cost_no_boot(project, boot):
    seen = boot()
    assert main(["run", "--engine=guest", "--inject=always", "api"]) == 2
    assert seen == []


def _proof(out: str) -> dict[str, str]:
    """The SHA-256 of the tested programs that the report names."""
    document = json.loads(out)
    return {item["subject"]: item["evidence"]["sha256"] for item in document["findings"]
            if item["code"] == "CGP302" and item["status"] == "pass"}  # fmt: skip


def test_the_proof_names_the_programs_that_were_tested(project, boot, capsys):
    boot()
    assert main(["run", "--engine=guest", "--format=json"]) == 0
    digest = hashlib.sha256((project / "api").read_bytes()).hexdigest()
    assert _proof(capsys.readouterr().out) == {"api": digest, "web": digest}


@pytest.mark.parametrize("works", [True, False])
def test_a_program_that_changes_once_the_guest_has_it_is_proven_by_nothing(project, boot, capsys, works):
    """The guest has the file of before, and this host reads that of after: by then it may be too late to tell."""

    def build():
        other = project / "new"
        other.write_bytes((project / "api").read_bytes() + b"\0")
        other.chmod(0o755)
        other.rename(project / "api")

    boot(act=build, works=works)
    status = main(["run", "--engine=guest", "--format=json"])
    out = capsys.readouterr().out
    assert _proof(out) == {}
    (changed,) = [item for item in json.loads(out)["findings"] if item["code"] == "CGP302"]
    assert (changed["subject"], changed["status"], status) == ("api", "fail", 1)
    assert "replaced during the run" in changed["message"]
