"""The engine cgroupfs with real processes on cgroups that are played; the real ones are in tests/lab/test_cgroupfs.py."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from cgroup_preflight.config.model import ReadyKind
from cgroup_preflight.core.errors import HostError
from cgroup_preflight.engines import cgroup_keeper, run_scope
from cgroup_preflight.engines.base import Exit, How, Phase
from cgroup_preflight.engines.cgroup_keeper import Keeper
from cgroup_preflight.engines.cgroup_result import result_of
from cgroup_preflight.engines.hold import wait_until
from cgroup_preflight.engines.service_run import ServiceRun
from cgroup_preflight.engines.session import Session, local_door
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.host.local import LocalClock
from cgroup_preflight.plan.build import build_plan, scoped
from cgroup_preflight.plan.unit_syntax import setting_pairs
from tests.unit.core.making import config_of
from tests.unit.engines.cgroup_host import SCOPE, SLICES, UNIT, Host
from tests.unit.engines.cgroup_kernel import PlayedFs

pytestmark = pytest.mark.starts_processes


@pytest.fixture
def host(tmp_path):
    made = Host(tmp_path)
    yield made
    made.engine.end_slice(SCOPE, 10)


def test_slices_are_nested_by_their_dashes_and_have_their_limits(host):
    assert host.up() == {f"{SCOPE}.slice": f"/job/{SCOPE}.slice", f"{SCOPE}-api.slice": f"/job/{SCOPE}.slice/{SCOPE}-api.slice"}  # fmt: skip
    folder = f"{host.kernel.mount}/job/{SCOPE}.slice/{SCOPE}-api.slice"
    assert host.kernel.read(f"{folder}/memory.max") == "67108864\n"
    assert host.kernel.read(f"{folder}/cpu.weight") == "50\n"
    assert host.kernel.read(f"{folder}/cgroup.subtree_control").split() == ["cpu", "memory", "pids"]


def test_a_program_waits_at_its_gate_inside_its_cgroup_and_begins_when_that_opens(host):
    host.up()
    command = ("/bin/sh", "-c", "cat /proc/$$/stat; echo ran; exec sleep 300")
    assert host.engine.start([host.launch(*command)]) == {}
    state = host.until(Phase.AT_GATE)
    assert (state.gate_pid, state.main_pid, state.is_active) == (0, 0, False)
    folder = f"{host.kernel.mount}{state.cgroup}"
    assert host.kernel.read(f"{folder}/memory.max") == "33554432\n"
    assert len(host.kernel.pids(state.cgroup)) == 1
    assert host.wrote() == ""
    host.engine.open_gates([UNIT])
    state = host.until(Phase.STARTED)
    assert host.kernel.pids(state.cgroup) == [state.main_pid]
    wait_until(LocalClock(), lambda: "ran" in host.wrote(), 20)
    assert host.wrote().startswith(f"{state.main_pid} ")
    host.engine.stop([UNIT])
    state = host.until(Phase.OVER)
    assert (state.exit, state.result) == (Exit(how=How.KILLED, status=signal.SIGTERM), "success")


@pytest.mark.parametrize(
    ("script", "settings", "ended", "result"),
    [
        ("exit 0", (), Exit(how=How.EXITED, status=0), "success"),
        ("exit 3", (), Exit(how=How.EXITED, status=3), "exit-code"),
        ("exit 3", (("SuccessExitStatus", "143 3"),), Exit(how=How.EXITED, status=3), "success"),
        ("kill -SEGV $$", (), Exit(how=How.KILLED, status=11), "signal"),
    ],
)
def test_how_a_program_ended_is_known(host, script, settings, ended, result):
    host.up()
    host.engine.start([host.launch("/bin/sh", "-c", script, hold_before=0.0, settings=settings)])
    state = host.until(Phase.OVER)
    assert (state.exit, state.result, state.word) == (ended, result, "inactive" if result == "success" else "failed")


def test_a_program_that_may_not_enter_its_cgroup_never_runs(host):
    host.up()
    launch = host.launch("/bin/echo", "ran", hold_before=0.0)
    cgroup = f"{host.kernel.mount}/job/{SCOPE}.slice/{SCOPE}-api.slice/{UNIT}"
    make = host.kernel.make

    def refusing(path):
        make(path)
        if path == cgroup:
            os.unlink(f"{path}/cgroup.procs")
            os.mkdir(f"{path}/cgroup.procs")

    host.kernel.make = refusing
    host.engine.start([launch])
    program = host.engine._programs[UNIT]
    wait_until(LocalClock(), lambda: program.exit is not None, 20)
    assert program.exit == Exit(how=How.EXITED, status=219)
    assert "ran" not in host.wrote()
    os.rmdir(f"{cgroup}/cgroup.procs")
    open(f"{cgroup}/cgroup.procs", "w").close()


def test_a_program_has_the_variables_of_its_launch_and_few_others(host, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_TOKEN", "secret")
    file = tmp_path / "variables"
    file.write_text("A=from file\nB='two words'\n")
    host.up()
    settings = (("EnvironmentFile", str(file)), ("EnvironmentFile", "-/nowhere/at/all"))
    script = "import os; print(sorted(os.environ.items()), os.getcwd())"
    host.engine.start([
        host.launch(sys.executable, "-c", script, env=(("A", "1"), ("C", "$x %n")), settings=settings, hold_before=0.0,
                    folder=str(tmp_path)),
    ])  # fmt: skip
    host.until(Phase.OVER)
    said = host.wrote()
    for wanted in ("('A', 'from file')", "('B', 'two words')", "('C', '$x %n')", "INVOCATION_ID", str(tmp_path)):
        assert wanted in said
    assert "secret" not in said


@pytest.mark.parametrize(("limit", "soft"), [("", 1024), ("77", 77), ("55:77", 55)])
def test_open_files_are_those_of_the_setting_or_systemds(host, limit, soft):
    host.up()
    settings = (("LimitNOFILE", limit),) if limit else ()
    host.engine.start([host.launch("/bin/sh", "-c", "ulimit -n", settings=settings, hold_before=0.05)])
    host.until(Phase.AT_GATE)
    host.engine.open_gates([UNIT])
    host.until(Phase.OVER)
    assert host.wrote() == f"{soft}\n"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"settings": (("User", "shop"),)}, "User=shop is a setting that only systemd can give"),
        ({"settings": (("StateDirectory", "shop"),)}, "StateDirectory=shop"),
        ({"type": "notify"}, "Type=notify needs a service manager"),
        ({"command": ("/nowhere/program",)}, "/nowhere/program cannot be executed"),
        ({"settings": (("EnvironmentFile", "/nowhere/x"),)}, "EnvironmentFile=/nowhere/x: no such file"),
        ({"settings": (("AllowedCPUs", "0"),)}, "cpuset is missing"),
        ({"folder": "/nowhere/at/all"}, "/nowhere/at/all"),
        ({"settings": (("MemoryMax", "much"),)}, "much"),
    ],
)
def test_what_it_cannot_start_is_refused_with_the_reason(host, changes, reason):
    host.up()
    refused = host.engine.start([host.launch("/bin/true", **changes)])
    assert reason in refused[UNIT]
    assert host.engine.states([UNIT]) == {}


def test_processes_that_outlive_their_program_are_seen_and_stopped(host):
    host.up()
    host.engine.start([host.launch("/bin/true", hold_before=0.0)])
    host.kernel.put(host.until(Phase.OVER).cgroup, 9_000_060)
    state = host.engine.states([UNIT])[UNIT]
    assert (state.phase, state.has_ended, state.is_at_end) == (Phase.ENDED, True, False)
    host.engine.stop([UNIT])
    assert (9_000_060, signal.SIGTERM) in host.kernel.signals
    assert host.until(Phase.OVER).is_at_end


def test_a_kill_ends_what_ignores_sigterm(host):
    host.up()
    host.engine.start([host.launch("/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done", hold_before=0.0)])  # fmt: skip
    wait_until(LocalClock(), lambda: host.wrote() == "up\n", 20)
    host.engine.stop([UNIT])
    assert host.engine.states([UNIT])[UNIT].phase is Phase.STOPPING
    host.engine.kill([UNIT])
    state = host.until(Phase.OVER)
    assert (state.exit, state.result) == (Exit(how=How.KILLED, status=9), "signal")


def test_the_end_of_a_run_leaves_nothing(host):
    host.up()
    host.engine.start([host.launch("/bin/sleep", "300", hold_before=0.0)])
    pid = host.until(Phase.STARTED).main_pid
    assert UNIT in host.engine.active(SCOPE, ".service")
    host.engine.end_slice(SCOPE, 10)
    host.engine.remove_files([f"{SCOPE}.slice"])
    assert host.engine.active(SCOPE) == []
    assert not os.path.exists(f"/proc/{pid}")
    assert sorted(host.kernel.folders(f"{host.kernel.mount}/job")) == []
    assert host.kernel.pids("/job") == [os.getpid()]
    assert host.kernel.read(f"{host.kernel.mount}/job/cgroup.subtree_control").split() == []
    assert not os.path.exists(host.folder)


def of_another_run():
    return [replace(item, path=item.path.replace("0001", "0002")) for item in SLICES]


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_several_runs_share_a_cgroup_and_the_last_one_gives_it_back(host, first_ends_first):
    """Each has its own record of what it enabled: the second one needs a controller more."""
    job = f"{host.kernel.mount}/job"
    other, second = host.another(), of_another_run()
    host.up()
    second[1] = replace(second[1], content="[Slice]\nAllowedCPUs=0\n")
    other.create_slices(second, [item.path for item in second])
    ends = [(host.engine, SCOPE), (other, SCOPE.replace("0001", "0002"))]
    for engine, scope in ends if first_ends_first else reversed(ends):
        assert host.kernel.pids("/job/cgpf-job") == [os.getpid()]
        assert set(host.kernel.read(f"{job}/cgroup.subtree_control").split()) == {"cpu", "cpuset", "memory", "pids"}
        engine.end_slice(scope, 10)
        engine.remove_files([f"{scope}.slice"])
        assert engine.active(scope) == []
    assert (list(host.kernel.folders(job)), host.kernel.pids("/job")) == ([], [os.getpid()])
    assert host.kernel.read(f"{job}/cgroup.subtree_control") == "\n"
    assert not os.path.exists(host.folder)


def test_a_run_that_nobody_claims_is_removed_by_the_next(host):
    """Its tool was killed, and what said whose it is went with its container."""
    host.up()
    host.kernel.put(f"/job/{SCOPE}.slice/{SCOPE}-api.slice", 9_000_061)
    host.engine._shared.release()
    other, second = host.another(), of_another_run()
    other.create_slices(second, [item.path for item in second])
    assert (9_000_061, signal.SIGKILL) in host.kernel.signals
    assert host.kernel.folders(f"{host.kernel.mount}/job") == ["cgpf-job", second[0].path]
    other.end_slice(SCOPE.replace("0001", "0002"), 10)
    assert host.kernel.pids("/job") == [os.getpid()]


def test_a_run_that_died_meanwhile_does_not_keep_the_last_one_from_giving_the_cgroup_back(host):
    host.up()
    other, second = host.another(), of_another_run()
    other.create_slices(second, [item.path for item in second])
    other._shared.release()
    other._keeper.end()
    host.kernel.put(f"/job/{second[0].path}", 9_000_062)
    host.engine.end_slice(SCOPE, 10)
    assert (9_000_062, signal.SIGKILL) in host.kernel.signals
    assert host.kernel.folders(f"{host.kernel.mount}/job") == []
    assert host.kernel.pids("/job") == [os.getpid()]
    assert host.kernel.read(f"{host.kernel.mount}/job/cgroup.subtree_control").split() == []


def test_what_cannot_be_given_back_is_left_and_said(host):
    host.up()
    host.kernel.put("/job/cgpf-job", 0)
    host.engine.end_slice(SCOPE, 1)
    assert host.engine.active(SCOPE) == [f"{host.kernel.mount}/job/cgpf-job"]
    os.unlink(f"{host.kernel.mount}/job/cgpf-job/cgroup.procs")


def test_a_crashed_run_is_taken_down_by_the_next(host):
    host.up()
    host.engine.start([host.launch("/bin/sleep", "300", hold_before=0.0)])
    pid = host.until(Phase.STARTED).main_pid
    owner = f"{host.folder}/{SCOPE}.slice"
    with open(owner, "w") as file:
        file.write(f"# owner: pid 1 started 1 namespace {os.readlink('/proc/self/ns/pid')[5:-1]}\n")
    door = replace(local_door({}), files=PlayedFs(host.kernel))
    assert run_scope.clean_leftovers(host.another(), door) == (SCOPE,)
    wait_until(LocalClock(), lambda: host.engine._programs[UNIT].exit is not None, 20)
    assert not host.kernel._is_alive(pid)
    assert host.kernel.folders(f"{host.kernel.mount}/job") == []
    assert host.kernel.pids("/job") == [os.getpid()]


def test_only_files_of_the_run_are_written(host):
    host.up()
    inside = f"{host.kernel.mount}/job/{SCOPE}.slice/cgroup.freeze"
    host.engine.write_attribute(inside, "1")
    host.kernel.written.clear()
    for path in (f"{host.kernel.mount}/job/memory.max", f"{host.kernel.mount}/memory.max", "/etc/hostname"):
        host.engine.write_attribute(path, "1")
    assert host.kernel.written == []
    assert host.kernel.read(inside) == "1\n"


def test_nothing_is_invented_that_only_systemd_knows(host):
    engine = host.engine
    assert (engine.unmet("x"), engine.main_processes("x"), engine.log("0" * 32, 9)) == ((), frozenset(), ())
    assert (engine.settings_of(["x"], ["ManagedOOMSwap"]), engine.system_runs("x")) == ({}, False)


def test_a_host_without_a_shell_is_said_and_nothing_stays(host, monkeypatch):
    def start(*_words, **_changes):
        raise FileNotFoundError(2, "No such file or directory", "/bin/sh")

    monkeypatch.setattr(cgroup_keeper.subprocess, "Popen", start)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(HostError, match="/bin/sh: cannot start a shell: No such file or directory"):
        host.up()
    host.engine.end_slice(SCOPE, 10)
    assert host.kernel.folders(f"{host.kernel.mount}/job") == []
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("word", [True, False])
def test_the_keeper_ends_a_run_only_if_the_tool_dies(tmp_path, word):
    file = tmp_path / "cgroup.kill"
    file.write_text("")
    keeper = Keeper(str(file))
    if word:
        keeper.end()
    else:
        os.close(keeper._pipe)
        keeper._process.wait(timeout=20)
    assert file.read_text() == ("" if word else "1\n")


@pytest.mark.parametrize("tool_dies", [True, False])
def test_before_cgroup_kill_the_keeper_kills_one_by_one(tmp_path, tool_dies):
    with subprocess.Popen(("/bin/sleep", "300")) as program:
        inner = tmp_path / "run.slice" / "a.service"
        inner.mkdir(parents=True)
        (inner.parent / "cgroup.procs").write_text("")
        (inner / "cgroup.procs").write_text(f"{program.pid}\n")
        keeper = Keeper(str(inner.parent / "cgroup.kill"))
        if tool_dies:
            os.close(keeper._pipe)
            keeper._process.wait(timeout=20)
            assert program.wait(timeout=20) == -signal.SIGKILL
        else:
            keeper.end()
            assert program.poll() is None
        program.kill()


@pytest.mark.parametrize(
    ("ended", "kills", "success", "result"),
    [
        (Exit(how=How.KILLED, status=9), 1, "", "oom-kill"),
        (Exit(how=How.KILLED, status=9), 0, "", "signal"),
        (Exit(how=How.KILLED, status=15), 1, "", "success"),
        (Exit(how=How.KILLED, status=10), 0, "SIGUSR1", "success"),
        (Exit(how=How.KILLED, status=10), 0, "", "signal"),
        (Exit(how=How.KILLED, status=199), 0, "", "signal"),
        (Exit(how=How.DUMPED, status=11), 0, "", "core-dump"),
        (Exit(how=How.EXITED, status=0), 3, "", "success"),
        (Exit(how=How.EXITED, status=1), 0, "", "exit-code"),
    ],
)
def test_results_have_systemds_words(ended, kills, success, result):
    assert result_of(ended, kills, success) == result


SERVICE = """\
[services.web]
binary = "web"
slice = "api"
MemoryMax = "32M"
[services.web.smoke]
ready = "log:up"
start_timeout = "20s"
duration = "1s"
[slices.api]
MemoryMax = "64M"
"""


@pytest.mark.parametrize("script", ["echo up; exec sleep 300", "exit 7"])
def test_a_session_brings_a_service_up_and_down_without_a_manager(host, tmp_path, script):
    plan = scoped(build_plan(config_of(SERVICE)), SCOPE)
    (service,) = plan.services
    door = replace(local_door({}), files=PlayedFs(host.kernel))
    observer = Observer(door.files, host.kernel.mount)
    with run_scope.run_scope(host.engine, door, plan, SCOPE, host.kernel.mount) as run:
        assert service.smoke.ready.kind is ReadyKind.LOG
        launch = host.launch("/bin/sh", "-c", script, unit=service.unit, settings=setting_pairs(service.settings))
        one = ServiceRun(service, launch)
        session = Session(host.engine, observer, door)
        assert session.start([one]) == [one]
        session.wait_for_gates([one])
        assert observer.read(one.cgroup, "memory.max").value == "33554432\n"
        session.bring_up([one])
        assert one.is_ready == script.startswith("echo")
        session.run_for_duration([one])
        session.count_left([one])
        session.check_again([one])
        session.stop([one])
        session.close(one)
        assert one.state.is_at_end
        assert one.state.result == ("success" if one.is_ready else "exit-code")
        assert observer.exists(one.cgroup)
    assert run.rest.left == ()
    assert host.kernel.folders(f"{host.kernel.mount}/job") == []
