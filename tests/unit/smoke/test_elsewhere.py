"""Programs and files of a project on the way to another machine: a real shell plays it, and its systemd-run is played."""

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from cgroup_preflight.core import codes
from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.report import Status
from cgroup_preflight.engines.choice import EngineChoice
from cgroup_preflight.engines.run_scope import Guarded
from cgroup_preflight.host.door import Door
from cgroup_preflight.host.remote.machine import door_of
from cgroup_preflight.plan.build import build_plan
from cgroup_preflight.smoke.elsewhere import Carried, Elsewhere
from tests.unit.core.making import config_of
from tests.unit.host.remote.ends import LocalLines
from tests.unit.host.remote.test_machine import NO_SERVER, NoNetwork

pytestmark = [pytest.mark.starts_processes, pytest.mark.timeout(120)]
SCOPE = "cgpf0000000000aa"
TEXT = """\
[slices.api]
[services.web]
binary = "bin/web"
slice = "api"
[services.far]
binary = "/opt/far"
slice = "api"
"""


@pytest.fixture
def played(tmp_path, monkeypatch):
    """A folder of programs that come first: systemd-run and systemctl note how they were called."""
    folder = tmp_path / "played"
    folder.mkdir()
    for name in ("systemd-run", "systemctl"):
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {folder}/calls\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture(params=["sftp", "shell"])
def door(request, played):
    made, asker = door_of(LocalLines(files=None if request.param == "sftp" else NO_SERVER), NoNetwork())
    yield replace(made, host="far")
    asker.close()


class Trial:
    def __init__(self, top: Path, text: str = TEXT) -> None:
        self.project, self.folder = top / "project", top / "there"
        (self.project / "bin").mkdir(parents=True)
        self.folder.mkdir(mode=0o700)
        (self.project / "bin" / "web").write_bytes(b"#!/bin/sh\n" + bytes(100_000))
        (self.project / "bin" / "web").chmod(0o750)
        (self.project / "data.txt").write_text("data")
        (self.project / "far").write_text("far")
        self.config = replace(config_of(text), folder=str(self.project))
        files = {
            "project/bin/web": self.project / "bin" / "web", "project/data.txt": self.project / "data.txt",
            "absolute/opt/far": self.project / "far",
        }  # fmt: skip
        self.carried = Carried(files={name: str(path) for name, path in files.items()}, home="project")
        self.said: list[str] = []

    def prepared(self, door: Door):
        elsewhere = Elsewhere(EngineChoice(name="systemd"), 255, self.carried)
        guarded = Guarded(scope=SCOPE, folder=str(self.folder), unit_folder="/run/systemd/system")
        return elsewhere.prepared(door, guarded, self.config, build_plan(self.config), self.said.append)


def test_programs_and_files_arrive_and_config_and_plan_name_them_there(door, played, tmp_path):
    trial = Trial(tmp_path)
    with trial.prepared(door) as there:
        home = f"{trial.folder}/project"
        assert there.config.folder == home
        assert [item.binary for item in there.plan.services] == [
            f"{trial.folder}/absolute/opt/far" if item.label == "far" else f"{home}/bin/web"
            for item in there.plan.services
        ]
        web = Path(home, "bin/web")
        assert web.read_bytes() == (trial.project / "bin" / "web").read_bytes()
        assert stat.S_IMODE(web.stat().st_mode) == 0o755
        assert stat.S_IMODE(Path(home, "data.txt").stat().st_mode) == 0o644
        assert stat.S_IMODE(trial.folder.stat().st_mode) == 0o700, "all services run as who they are copied by"
        assert trial.said == ["copying 3 file(s), 97.7K, to far"]
        there.door.clock.sleep(0)
        calls = (played / "calls").read_text()
        assert calls.startswith("systemd-run ")
        assert "systemctl" not in calls.splitlines()[-1]
    assert (played / "calls").read_text().splitlines()[-1].startswith("systemctl stop -- cgroup-preflight-guard-")


def test_after_an_error_the_guard_stays_to_end_what_is_left(door, played, tmp_path):
    trial = Trial(tmp_path)
    with pytest.raises(HostError, match="broken"), trial.prepared(door):
        raise HostError("broken", remedy=None)  # type: ignore[arg-type]
    assert "systemctl stop" not in (played / "calls").read_text()


def test_a_service_of_another_user_can_reach_its_program(door, tmp_path):
    trial = Trial(tmp_path, TEXT.replace('binary = "bin/web"', 'binary = "bin/web"\nUser = "nobody"'))
    with trial.prepared(door):
        assert stat.S_IMODE(trial.folder.stat().st_mode) == 0o711


def test_a_full_disk_is_said_before_anything_is_copied(door, played, tmp_path):
    trial = Trial(tmp_path)
    (played / "df").write_text("#!/bin/sh\necho Filesystem 1024-blocks Used Available\necho tmpfs 100 90 10 90% /x\n")
    (played / "df").chmod(0o755)
    with pytest.raises(HostError, match=r"has 10K free, and the run needs 64\.1M"), trial.prepared(door):
        pass
    assert os.listdir(trial.folder) == ["alive"]


def test_where_no_folder_has_space_each_is_named_with_what_it_has(door, played):
    (played / "df").write_text("#!/bin/sh\necho tmpfs 100 90 10 90% /x\n")
    (played / "df").chmod(0o755)
    with pytest.raises(HostError, match=r"no folder with space .* \(131072 KiB needed, .*, 10 KiB free in /tmp\)"):
        door.files.private_folder("cgpftest02-")


def test_an_error_after_the_disk_has_filled_says_so(door, played, tmp_path):
    trial = Trial(tmp_path)
    with (
        pytest.raises(HostError, match=r"^the disk of far is full: 10 KiB free in .*\(broken\)$"),
        trial.prepared(door),
    ):
        (played / "df").write_text("#!/bin/sh\necho tmpfs 100 90 10 90% /x\n")
        (played / "df").chmod(0o755)
        raise HostError("broken", remedy=None)  # type: ignore[arg-type]
    assert "systemctl stop" not in (played / "calls").read_text()


def test_what_a_full_disk_explains_is_judged_by_the_machine_itself(door, played, tmp_path):
    """Its `du` tells whose output fills it."""
    trial = Trial(tmp_path)
    findings = [codes.READINESS.finding(Status.FAIL, name, "not ready") for name in ("web", "far")]
    with trial.prepared(door):
        (played / "df").write_text("#!/bin/sh\necho tmpfs 100 90 10 90% /x\n")
        (played / "df").chmod(0o755)
        with (trial.folder / "far").open("wb") as output:
            os.posix_fallocate(output.fileno(), 0, 40 << 20)
        elsewhere = Elsewhere(EngineChoice(name="systemd"), 255, trial.carried)
        found = elsewhere.judged(door, str(trial.folder), findings)
        (trial.folder / "far").unlink()
    assert [item.status for item in found] == [Status.UNVERIFIED, Status.FAIL]
    assert "the disk of far is full: 10 KiB free" in found[0].message


def test_a_copy_that_fails_says_why(door, tmp_path):
    trial = Trial(tmp_path)
    (trial.folder / "project").write_text("in the way")
    with pytest.raises(HostError, match="cannot write"), trial.prepared(door):
        pass


def test_a_run_that_its_guard_has_begun_to_end_is_not_judged(door, played, tmp_path):
    trial = Trial(tmp_path)
    with pytest.raises(HostError, match="no such file"), trial.prepared(door):
        (trial.folder / "alive").unlink()
    assert "systemctl stop" not in (played / "calls").read_text()
