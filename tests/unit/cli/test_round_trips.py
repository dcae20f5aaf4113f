"""How often each command waits for another host: no more than docs/hosts.md says, which every row is read from."""

import importlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
from ci.cgroup_tree import CgroupTree

from cgroup_preflight.cli import COMMANDS, hosts, main
from cgroup_preflight.config.model import Rollout
from cgroup_preflight.core.reading import Known
from cgroup_preflight.engines.choice import EngineChoice
from cgroup_preflight.host.cgroupfs import Mount
from cgroup_preflight.host.gather import gather
from cgroup_preflight.host.remote.machine import door_of
from cgroup_preflight.host.remote.questions import Kind, Question
from cgroup_preflight.host.remote.rounds import Rounds
from cgroup_preflight.metrics import asked
from cgroup_preflight.rollout import journal as journals
from cgroup_preflight.rollout.base import UnitPlan
from cgroup_preflight.rollout.drop_ins import HOLD, hold_text
from cgroup_preflight.rollout.remote import host_behind
from cgroup_preflight.rollout.saved import Saved, fields
from cgroup_preflight.rollout.session import runner_of
from cgroup_preflight.rollout.stages import Stage
from tests.unit.cli.test_hosts import ssh  # noqa: F401 - a fixture
from tests.unit.host.remote.ends import LocalLines
from tests.unit.host.remote.test_machine import NO_SERVER, NoNetwork
from tests.unit.host.remote.test_run_files import PARTS
from tests.unit.metrics.conftest import cgroups  # noqa: F401 - a fixture
from tests.unit.stated import round_trips

pytestmark = [pytest.mark.starts_processes, pytest.mark.timeout(120)]
STATED = round_trips()
#: What the lab counts: it needs a service manager.
LAB = ("`run`: the three services of examples/shop",)
LOOK, SAMPLE = (f"`rollout apply`, `resume`: {what} of one slice with two limits" for what in ("a look", "a sample"))
FIRST, STEP = (
    "`diagnose`: the first reading, which learns what to ask",
    "`diagnose`: each further one, where no cgroup came",
)
CALLS = {
    "`check`": ("check", "--exit-zero"), "`check --units`": ("check", "--units", "--exit-zero"), "`snapshot`": ("snapshot",),
    "`snapshot --slices`": ("snapshot", "--slices"), "`exporter --once`": ("exporter", "--once"),
    "`logs`, of slices": ("logs", "a.slice"), "`rollout plan`, of one slice with two limits": ("rollout", "plan"),
}  # fmt: skip
CONFIG = '[project]\nname = "x"\n[rollout.slices.a]\nCPUQuota = "50%"\nTasksMax = 80\n'
PROGRAMS = {
    "journalctl": """
case "$*" in
*--field=*) echo a.slice;;
*--output=json*) echo '{"MESSAGE":"ready","_SYSTEMD_UNIT":"x.service","_SYSTEMD_SLICE":"a.slice"}';;
esac""",
    "sudo": 'shift; exec "$@"',
    "systemctl": """
case "$*" in
*" show "*x.service*|"show "*x.service*) printf 'Id=x.service\\nActiveState=active\\nInvocationID=1\\nNRestarts=0\\n';;
*a.slice*|*'*.slice'*) printf 'Id=a.slice\\nLoadState=loaded\\nActiveState=active\\nControlGroup=/a.slice\\nTransient=no\\nDropInPaths=\\n'
    printf 'CPUQuotaPerSecUSec=1s\\nTasksMax=100\\nMemoryMax=infinity\\nMemoryHigh=infinity\\nMemorySwapMax=infinity\\nCPUWeight=100\\nIOWeight=100\\n';;
esac""",
}


@pytest.fixture
def played(tmp_path, cgroups, monkeypatch) -> CgroupTree:  # noqa: F811
    """A host with a service manager and cgroups that are played; all else of it is this machine."""
    for name, script in PROGRAMS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "cgroup-preflight.toml").write_text(CONFIG)
    cgroups.write("/a.slice", "cpu.max", "100000 100000\n")
    cgroups.write("/a.slice", "pids.max", "100\n")
    mount = Mount(device="0:1", root="/", point=str(cgroups.top), fs_type="cgroup2", options=(), super_options=())

    def facts(fs, runner):
        return replace(gather(fs, runner), cgroup_mount=Known(value=mount, source="played"))

    for room in ("rollout_hosts", "snapshot"):
        monkeypatch.setattr(f"cgroup_preflight.cli.{room}.gather", facts)
    monkeypatch.setattr(
        "cgroup_preflight.engines.choice.choose_engine", lambda *_: EngineChoice(name="systemd", sudo=True)
    )
    monkeypatch.setattr("cgroup_preflight.metrics.asked.cgroup_mount", lambda _: str(cgroups.top))
    return cgroups


@pytest.fixture
def counted(monkeypatch) -> list[int]:
    """The round trips of all hosts that were asked."""
    found, each = list[int](), hosts.each

    def counting(asked, work):
        outcomes = each(asked, work)
        assert not [item.error for item in outcomes if item.error]
        found.extend(item.round_trips for item in outcomes)
        return outcomes

    monkeypatch.setattr(hosts, "each", counting)
    return found


def test_every_command_that_asks_hosts_has_a_row_and_every_row_a_test():
    for command, (module, _) in COMMANDS.items():
        text = Path(importlib.import_module(f"cgroup_preflight.cli.{module}").__file__ or "").read_text()
        assert ("options.add_hosts(" not in text) or [row for row in STATED if f"`{command}" in row], command
    assert set(STATED) == {*CALLS, FIRST, STEP, LOOK, SAMPLE, *PARTS, *LAB}


@pytest.mark.parametrize("row", list(CALLS))
@pytest.mark.parametrize("end", [0, 1], ids=["sftp", "shell"])
def test_a_command_waits_as_often_as_stated(row, end, played, counted):
    assert played
    main([*CALLS[row], "--host", ("web1", "plain")[end]])
    assert 0 < counted[0] <= STATED[row][end], counted
    # The facts, and what is asked on the other lines to the same host.
    assert not row.startswith("`rollout") or counted[0] > STATED["`check`"][end]


@pytest.mark.parametrize("end", [0, 1], ids=["sftp", "shell"])
def test_a_diagnosis_waits_as_often_as_stated(end, played, counted, monkeypatch):
    assert played
    costs, read = list[int](), Rounds.read

    def counting(rounds, reader):
        before = rounds._asker.round_trips
        found = read(rounds, reader)
        costs.append(rounds._asker.round_trips - before)
        return found

    monkeypatch.setattr(Rounds, "read", counting)
    # However busy this machine is.
    monkeypatch.setattr(asked, "_LATE", 1e6)
    main(["diagnose", "--seconds", "2", "--exit-zero", "--host", ("web1", "plain")[end]])
    # The first reading only learns what to ask.
    assert len(costs) == 4
    assert 0 < costs[0] <= STATED[FIRST][end]
    assert 0 < max(costs[1:]) <= STATED[STEP][end]
    assert counted == [sum(costs)]


@pytest.mark.parametrize("end", [0, 1], ids=["sftp", "shell"])
def test_a_rollout_waits_as_often_as_stated(end, played, tmp_path, request):
    door, asker = door_of(LocalLines(files=(None, NO_SERVER)[end]), NoNetwork())
    request.addfinalizer(asker.close)
    facts = Rounds(asker).read(gather)
    mount = Mount(device="0:1", root="/", point=str(played.top), fs_type="cgroup2", options=(), super_options=())

    def folders(path):
        return asker.ask([Question(kind=Kind.TREE, path=path)])[0]

    host = host_behind(
        replace(door, host="far"), replace(facts, cgroup_mount=Known(value=mount, source="played")),
        EngineChoice(name="systemd", sudo=True), None, folders,
    )  # fmt: skip
    host.manager._units = str(tmp_path / "units")
    values = {"a.slice": {"CPUQuota": 1_000_000, "TasksMax": 100}}
    unit = UnitPlan(unit="a.slice", cgroup="/a.slice", old={"CPUQuota": None, "TasksMax": None}, new=values["a.slice"])
    unit = replace(unit, files=dict.fromkeys(host.manager.control_files("a.slice", ("CPUQuota", "TasksMax"))))
    held = Path(host.manager.hold_file("a.slice"))
    held.parent.mkdir(parents=True)
    held.write_text(hold_text("a.slice", values["a.slice"]))
    assert held.name == HOLD
    stage = Stage(values=values, share=10_000, slices=("a.slice",))
    saved = Saved(
        rollout="20260101-000000-0000", boot="b", manager="systemd", units=(unit,), stages=(stage,), baseline=(), control=(),
        config=Rollout(),
    )  # fmt: skip
    journal = journals.create(str(tmp_path / "r.journal"))
    request.addfinalizer(lambda: os.close(journal._handle))
    journal.add("begin", 1.0, **fields(saved))
    journal.add("step", 2.0, stage=0, share=10_000, slices=["a.slice"], squeeze=False)
    runner = runner_of(saved, journal, host, print)
    runner._watcher.begin()
    before = asker.round_trips
    assert runner._pass(0.0, stage), "nothing is taken back"
    assert 0 < asker.round_trips - before <= STATED[LOOK][end], asker.round_trips - before
    before = asker.round_trips
    # It may be void: hardly any time has passed.
    runner._watcher.window()
    assert 0 < asker.round_trips - before <= STATED[SAMPLE][end], asker.round_trips - before
