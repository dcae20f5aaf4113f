"""A run in an imported root from outside: programs of this machine play those of the guest."""

import os
from pathlib import Path

import pytest

from cgroup_preflight.cli import guest_outside
from cgroup_preflight.config.load import load
from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.report import Status, Verdict
from cgroup_preflight.guest import lines as guest_lines
from cgroup_preflight.guest.lines import GuestLines
from cgroup_preflight.guest.outside import Outside
from cgroup_preflight.guest.project import project_of
from cgroup_preflight.guest.requirements import GuestMachine
from cgroup_preflight.guest.run import GuestTask
from cgroup_preflight.guest.spec import GuestEngine
from tests.unit.guest.test_lines import Played

pytestmark = [pytest.mark.starts_processes, pytest.mark.timeout(180)]
CONFIG = """\
[project]
name = "shop"
[services.web]
binary = "web"
MemoryMax = "64M"
"""


@pytest.fixture
def ready(tmp_path, monkeypatch):
    if os.path.isdir("/run/systemd/system"):
        pytest.skip("this machine has a service manager, which the played guest would use")
    monkeypatch.setattr(guest_lines, "_PLACE", str(tmp_path / "text-{}"))
    (tmp_path / "cgroup-preflight.toml").write_text(CONFIG)
    (tmp_path / "web").write_text("#!/bin/sh\nsleep 60\n")
    (tmp_path / "web").chmod(0o755)
    guest = Played(GuestEngine.UML)
    config = load(tmp_path / "cgroup-preflight.toml")
    yield Outside(
        guest=guest, lines=GuestLines(guest, ""), root=None, project=project_of(config),
        task=GuestTask(config=config, words=("run",), names=(), distro="ubuntu-24.04"),
        machine=GuestMachine(engine=GuestEngine.UML, cpus=1, memory_mib=256), lost_boot="",
    )  # fmt: skip
    guest.close()


def test_the_machine_at_the_lines_is_judged(ready):
    report = guest_outside._report(ready, lambda _: None)
    assert report.verdict in (Verdict.FAIL, Verdict.UNVERIFIED)
    assert report.project == "shop"
    assert report.host.kernel.startswith(os.uname().release.partition("-")[0])
    # The system's own manager, which this machine does not have, and nothing else.
    engines = [item for item in report.findings if item.code == "CGP105"]
    assert [item.status for item in engines] == [Status.UNVERIFIED] or engines[0].status is Status.FAIL
    assert report.services == ()


def test_a_line_that_ends_verifies_nothing(ready):
    def cut() -> object:
        line = GuestLines.shell(ready.lines)
        ready.guest.opened[-1][1].kill()
        return line

    ready.lines.shell = cut
    with pytest.raises(HostError):
        guest_outside._report(ready, lambda _: None)


def test_one_that_is_lost_after_all_was_found_verifies_nothing(ready, monkeypatch):
    def tested(_ready, asker, _say):
        asker.lost = "the other end closed the connection"

    monkeypatch.setattr(guest_outside, "_tested", tested)
    with pytest.raises(HostError, match="the other end closed the connection"):
        guest_outside._report(ready, lambda _: None)


def test_the_paths_are_those_of_the_guest(ready, monkeypatch):
    seen = {}

    def tested(config, context, _names, command, _rules, _say, *, door, inside):
        seen.update(config=config, plan=context.plan, command=command, door=door, inside=inside)
        return [], ()

    monkeypatch.setattr(guest_outside, "test_machine", tested)
    guest_outside._report(ready, lambda _: None)
    assert seen["config"].folder == "/run/preflight/in/project"
    assert [item.binary for item in seen["plan"].services] == ["/run/preflight/in/project/web"]
    # What a program is was read from the file of this host.
    assert Path(seen["plan"].services[0].program.path).exists()
    assert (seen["command"], seen["inside"]) == ("run", True)
    assert seen["door"].host == ready.guest.spec.name
