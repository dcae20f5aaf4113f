"""A manager's answers over its socket and by `systemctl`, both played: which way is taken, and what is asked again."""

import io
import os
import tarfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Known, Reading
from cgroup_preflight.engines import bus
from cgroup_preflight.engines.base import Exit, How, Launch, Phase, UnitState
from cgroup_preflight.engines.choice import EngineChoice
from cgroup_preflight.engines.session import local_door
from cgroup_preflight.engines.shown import unit_state
from cgroup_preflight.engines.systemd import Manager, bus_environment
from cgroup_preflight.host.command import Completed, LiveRunner
from cgroup_preflight.host.door import Door
from cgroup_preflight.plan.model import UnitFile

ACTIVE = {"ActiveState": "active", "SubState": "running", "Job": "0"}


def door_of(played: "Played") -> Door:
    """This machine, with these programs."""
    return replace(local_door({}), programs=cast("LiveRunner", played))


class Played:
    """Both ways to a manager: `answers` are those of the socket, one a call; `status` is that of `systemctl`."""

    def __init__(self, answers: Sequence[object] = (), *, status: int | list[int] = 0) -> None:
        self.answers, self.status = list(answers), status
        self.stdout, self.stderr = "", "Unit a.slice is masked.\nmore"
        self.inputs: list[bytes] = []
        self.brief: list[dict[str, dict[str, str]]] = []
        self.commands: list[tuple[str, ...]] = []
        self.shown: list[tuple[str, ...]] = []
        self.slices: list[dict[str, dict[str, str]]] = []

    def call(self, _calls: Sequence[bus.Call]) -> list[object]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [answer]

    def states(self, _units: Sequence[str]) -> dict[str, dict[str, str]]:
        if not self.brief:
            raise bus.BusError("nobody there")
        return self.brief.pop(0)

    def show(self, units: Iterable[str], _names: Sequence[str]) -> dict[str, dict[str, str]]:
        self.shown.append(tuple(units))
        return {unit: {**ACTIVE, "Id": unit} for unit in units}

    def of_slices(self, _units: Sequence[str]) -> dict[str, dict[str, str]]:
        if not self.slices:
            raise bus.BusError("nobody there")
        return self.slices.pop(0)

    def run(self, argv: tuple[str, ...], *, timeout: float = 20.0, stdin: bytes = b"") -> Reading[Completed]:
        self.commands.append(argv)
        self.inputs.append(stdin)
        status = self.status.pop(0) if isinstance(self.status, list) else self.status
        done = Completed(argv=argv, returncode=status, stdout=self.stdout, stderr=self.stderr)
        return Known(value=done, source=argv[0])

    def run_together(self, argvs: Sequence[tuple[str, ...]], *, timeout: float) -> tuple[Reading[Completed], ...]:
        return tuple(self.run(argv, timeout=timeout) for argv in argvs)

    def manager(self, folder: str, *, direct: bool = True) -> Manager:
        return Manager(
            EngineChoice(name="systemd"), door_of(self), self if direct else None, uid=0, systemd=252,
            machine_folder=folder,
        )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path)


def test_slices_that_are_there_at_once_take_no_process(folder):
    played = Played(["/job/1"])
    played.brief = [{"a.slice": {"ActiveState": "inactive"}}, {"a.slice": ACTIVE}]
    played.manager(folder)._start_slices(["a.slice"])
    assert not played.commands


@pytest.mark.parametrize("answer", [bus.REFUSED, bus.BusError("closed")])
def test_slices_that_the_socket_refuses_are_systemctls(folder, answer):
    played = Played([answer])
    played.manager(folder)._start_slices(["a.slice"])
    assert played.commands == [("systemctl", "start", "--", "a.slice")]


def test_slices_that_do_not_come_are_systemctls_which_says_why(folder):
    played = Played(["/job/1"], status=1)
    played.brief = [{"a.slice": {"ActiveState": "failed"}}] * 9
    with pytest.raises(HostError) as raised:
        played.manager(folder)._start_slices(["a.slice"])
    assert "Unit a.slice is masked." in str(raised.value)
    assert played.commands == [("systemctl", "start", "--", "a.slice")]


def test_units_are_shown_again_when_their_state_is_another(folder):
    played = Played()
    manager = played.manager(folder)
    known = {
        "a.service": UnitState(), "b.service": unit_state({**ACTIVE, "MainPID": "7"}),
        "c.service": unit_state({**ACTIVE, "SubState": "start-pre"}),
    }  # fmt: skip
    played.brief = [dict.fromkeys(known, ACTIVE)]
    assert set(manager.changed(known)) == {"a.service", "c.service"}
    assert played.shown == [("a.service", "c.service")]
    played.brief = [{unit: dict(ACTIVE, Job="4") for unit in known}]
    assert set(manager.changed(known)) == set(known)
    played.brief = [{}]
    assert set(manager.changed(known)) == set(known), "what the manager does not list is asked for"


def test_where_the_state_cannot_be_asked_for_all_are_shown(folder):
    played = Played()
    known = {"a.service": unit_state(ACTIVE)}
    assert played.manager(folder, direct=False).changed(known) == {"a.service": UnitState()}
    assert [argv[:2] for argv in played.commands] == [("systemctl", "show")]


def test_a_socket_that_says_nothing_of_states_costs_no_answer(folder):
    """The slow way then: all properties, which hold the state, too."""
    played = Played()
    manager = played.manager(folder)
    assert manager.phases(["a.service"]) == {"a.service": Phase.STARTED}
    assert manager.phases([]) == {}


def test_files_that_come_right_after_others_change_the_folders_time(monkeypatch, folder):
    """By that alone systemd notices them; the kernel's own time stands still for some milliseconds."""
    manager = Played().manager(folder)
    for number, now in enumerate((1_700_000_000_000_000_001, 1_700_000_000_000_000_002)):
        monkeypatch.setattr(time, "time_ns", lambda now=now: now)
        manager._write_files([UnitFile(path=f"a{number}.service", content="[Service]\n")])
        assert os.stat(manager.unit_folder).st_mtime_ns == now


def test_a_folder_whose_time_is_not_ours_to_set_is_no_error(monkeypatch, folder):
    manager = Played().manager(folder)

    def refuse(*_words: object, **_more: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refuse)
    manager._write_files([UnitFile(path="a.service", content="[Service]\n")])
    assert os.listdir(manager.unit_folder) == ["a.service"]


@pytest.mark.parametrize(
    ("shown", "phase"),
    [
        ({}, Phase.OVER),
        ({"ActiveState": "inactive"}, Phase.OVER),
        ({"ActiveState": "failed", "Job": ""}, Phase.OVER),
        ({"ActiveState": "failed", "Job": "0"}, Phase.OVER),
        ({"ActiveState": "inactive", "Job": "7"}, Phase.QUEUED),
        ({"ActiveState": "activating", "SubState": "start-pre", "ControlPID": "0"}, Phase.QUEUED),
        ({"ActiveState": "activating", "SubState": "start-pre", "ControlPID": "9"}, Phase.AT_GATE),
        ({"ActiveState": "activating", "SubState": "condition"}, Phase.QUEUED),
        ({"ActiveState": "activating", "SubState": "start", "MainPID": "9"}, Phase.STARTED),
        ({"ActiveState": "active", "SubState": "running"}, Phase.STARTED),
        *(({"ActiveState": "deactivating", "SubState": name}, Phase.STOPPING)
          for name in ("stop-sigterm", "stop-sigkill", "final-sigterm", "final-sigkill", "stop-watchdog")),
        ({"ActiveState": "deactivating", "SubState": "stop-post", "ControlPID": "9"}, Phase.AFTER_END),
        ({"ActiveState": "active", "SubState": "exited"}, Phase.ENDED),
        ({"ActiveState": "deactivating", "SubState": "stop", "MainPID": "0", "ControlPID": "9"}, Phase.ENDED),
        ({"ActiveState": "deactivating", "SubState": "stop", "MainPID": "7"}, Phase.BEFORE_SIGNAL),
        ({"ActiveState": "deactivating", "SubState": "stop"}, Phase.BEFORE_SIGNAL),
    ],
)  # fmt: skip
def test_the_words_of_systemctl_are_a_phase(shown, phase):
    state = unit_state(shown)
    assert state.phase is phase
    assert state.gate_pid == (9 if shown.get("ControlPID") == "9" else 0)
    assert state.has_begun is (phase is not Phase.QUEUED)
    ended = (Phase.BEFORE_SIGNAL, Phase.ENDED, Phase.STOPPING, Phase.AFTER_END, Phase.OVER)
    assert state.has_ended is (phase in ended)
    assert state.is_at_end is (phase in (Phase.AFTER_END, Phase.OVER))


@pytest.mark.parametrize(
    ("result", "code", "status", "said"),
    [
        ("resources", "", "", "resources"),
        ("resources", "2", "15", "success"),
        ("resources", "1", "143", "exit-code"),
        ("resources", "2", "9", "signal"),
        ("resources", "3", "6", "core-dump"),
        ("signal", "1", "0", "success"),
        ("signal", "2", "1", "success"),
        ("signal", "2", "9", "signal"),
        ("signal", "2", "11", "signal"),
        ("timeout", "1", "0", "timeout"),
        ("oom-kill", "2", "15", "oom-kill"),
    ],
)
def test_the_result_of_a_gate_is_not_that_of_the_program(result, code, status, said):
    assert unit_state({"Result": result, "ExecMainCode": code, "ExecMainStatus": status}).result == said


@pytest.mark.parametrize(
    ("code", "status", "ended"),
    [
        ("1", "0", Exit(how=How.EXITED, status=0)),
        ("1", "203", Exit(how=How.EXITED, status=203)),
        ("2", "15", Exit(how=How.KILLED, status=15)),
        ("3", "6", Exit(how=How.DUMPED, status=6)),
        ("0", "0", None),
        ("", "", None),
        ("1", "", None),
        ("1", "-1", None),
        ("7", "0", None),
    ],
)
def test_how_a_program_ended(code, status, ended):
    assert unit_state({"ExecMainCode": code, "ExecMainStatus": status}).exit == ended


def test_all_else_of_a_state():
    state = unit_state({**ACTIVE, "MainPID": "7", "ControlGroup": "/a", "InvocationID": "0f", "Result": "success"})
    assert (state.word, state.mark, state.main_pid) == ("active", "active/running/0", 7)
    assert (state.cgroup, state.invocation, state.result) == ("/a", "0f", "success")
    assert UnitState() == unit_state({}) or unit_state({}).mark == "//"


def test_only_the_callers_own_manager_needs_a_folder_in_the_environment():
    assert bus_environment(EngineChoice(name="user"), 7) == {"XDG_RUNTIME_DIR": "/run/user/7"}
    assert bus_environment(EngineChoice(name="systemd"), 0) == {}


def launch(unit: str = "a.service", **changes: object) -> Launch:
    values = {"unit": unit, "slice": "s.slice", "description": "", "command": ("/bin/app", "$1 %"), "settings": (("CPUQuota", "50%"),),
              "output": "/tmp/out", "hold_before": 0.0, "hold_after": 0.0}  # fmt: skip
    return Launch(**{**values, **changes})


def test_units_from_files_take_one_call_and_their_files_go_at_the_end(folder):
    played = Played()
    manager = played.manager(folder, direct=False)
    with manager.started([launch(), launch("b.service", input="/tmp/100%", uid=5)]) as refused:
        assert refused == {}
        texts = [Path(manager.unit_folder, name).read_text() for name in ("a.service", "b.service")]
    assert played.commands == [("systemctl", "start", "--no-block", "--", "a.service", "b.service")]
    assert os.listdir(manager.unit_folder) == []
    for line in (
        "CPUQuota=50%",
        "Slice=s.slice",
        "StandardOutput=append:/tmp/out",
        "TimeoutStopSec=10s",
        "RuntimeMaxSec=120s",
    ):
        assert all(f"\n{line}\n" in text for text in texts), line
    assert "StandardInput" not in texts[0]
    assert "User=" not in texts[0]
    assert "\nStandardInput=file:/tmp/100%%\n" in texts[1]
    assert "\nUser=5\nGroup=5\n" in texts[1]
    assert 'ExecStart=/bin/app "$$1 %%"\n' in texts[0]


def test_files_that_systemd_has_not_seen_are_there_after_a_reload(folder):
    played = Played(status=[1, 0, 0])
    with played.manager(folder, direct=False).started([launch()]) as refused:
        assert refused == {}
    assert [argv[1] for argv in played.commands] == ["start", "daemon-reload", "start"]


def test_the_words_of_a_refusal_are_those_of_each_unit(folder):
    played = Played(status=[1, 1, 1, 0, 1, 1, 1])
    with played.manager(folder, direct=False).started([launch(), launch("b.service")]) as refused:
        assert refused == dict.fromkeys(("a.service", "b.service"), "Unit a.slice is masked.")


def test_one_unit_that_is_refused_keeps_no_other_from_its_start(folder):
    """systemd 262 starts none of several units of one call if it refuses one of them."""
    played = Played(status=[1, 0, 1, 0, 0, 0])
    with played.manager(folder, direct=False).started([launch(), launch("b.service"), launch("c.service")]) as refused:
        assert refused == {}
    played = Played(status=[1, 0, 1, 0, 0, 1])
    with played.manager(folder, direct=False).started([launch(), launch("b.service"), launch("c.service")]) as refused:
        assert refused == {"b.service": "Unit a.slice is masked."}
    starts = [argv[4:] for argv in played.commands if argv[1] == "start"]
    each = [("a.service",), ("b.service",), ("c.service",)]
    assert starts == [("a.service", "b.service", "c.service"), *each, ("b.service",)]


@pytest.mark.parametrize(("units", "status", "stops"), [
    (["a.service", "b.service"], [0], [("a.service", "b.service")]),
    (["a.service", "b.service"], [5, 0, 5], [("a.service", "b.service"), ("a.service",), ("b.service",)]),
    (["a.service"], [5], [("a.service",)]),
])  # fmt: skip
def test_one_unit_that_is_gone_keeps_no_other_from_its_stop(folder, units, status, stops):
    """systemd 262 stops none of several units of one call if it does not know one of them."""
    played = Played(status=status)
    played.manager(folder, direct=False).stop(units)
    assert [argv[4:] for argv in played.commands] == stops
    assert {argv[1:4] for argv in played.commands} == {("stop", "--no-block", "--")}


@pytest.mark.parametrize("odd", ["/a\nExecStartPre=/bin/evil", "/a ", "/a\\", "/\udce9"])
@pytest.mark.parametrize("name", ["folder", "input"])
def test_a_path_that_no_unit_file_can_hold_goes_to_systemd_run(folder, odd, name):
    played = Played()
    manager = played.manager(folder, direct=False)
    with manager.started([launch(**{name: odd}), launch("b.service")]) as refused:
        assert refused == {}
        assert sorted(os.listdir(manager.unit_folder)) == ["a.service.d", "b.service"]
        (drop_in,) = Path(manager.unit_folder, "a.service.d").iterdir()
        assert drop_in.read_text() == "[Service]\nCPUQuota=50%\n"
    assert os.listdir(manager.unit_folder) == []
    # Nothing else makes the manager read the folder before a transient unit.
    assert [argv[1] for argv in played.commands if argv[0] == "systemctl"] == ["daemon-reload", "start"]
    (call,) = [argv for argv in played.commands if argv[0] == "systemd-run"]
    assert "--unit=a.service" in call
    assert {"folder": f"--working-directory={odd}", "input": f"--property=StandardInput=file:{odd}"}[name] in call


def test_what_was_started_from_files_loses_them_after_an_error_too(folder):
    manager = Played().manager(folder, direct=False)
    with pytest.raises(KeyboardInterrupt), manager.started([launch()]):
        raise KeyboardInterrupt
    assert os.listdir(manager.unit_folder) == []


def test_nothing_to_start_takes_no_call(folder):
    played = Played()
    with played.manager(folder, direct=False).started([]) as refused:
        assert refused == {}
    assert not played.commands


def test_transient_services_and_those_refused(folder):
    played = Played(status=[0, 1])
    refused = played.manager(folder, direct=False).start([launch(), launch("b.service")])
    assert refused == {"b.service": "Unit a.slice is masked."}
    played = Played(status=2)
    played.stderr = ""
    assert played.manager(folder, direct=False).start([launch()]) == {"a.service": "systemd-run: exit status 2"}


def test_slices_are_loaded_from_our_files(folder):
    played = Played()
    manager = played.manager(folder, direct=False)
    path = f"{manager.unit_folder}/a.slice"
    played.stdout = f"Id=a.slice\nFragmentPath={path}\nControlGroup=/a.slice\n"
    assert manager.create_slices([UnitFile(path="a.slice", content="[Slice]\n")], ["a.slice"]) == {
        "a.slice": "/a.slice"
    }
    assert Path(path).read_text() == "[Slice]\n"
    assert [argv[1] for argv in played.commands] == ["start", "show"]


def test_slices_over_the_socket_are_ours_or_known_after_a_reload(folder):
    played = Played(["/job/1"])
    played.brief = [{"a.slice": ACTIVE}]
    path = f"{folder}/systemd/system/a.slice"
    played.slices = [
        {"a.slice": {"ControlGroup": "/a.slice"}},
        {"a.slice": {"ControlGroup": "/a.slice", "FragmentPath": path}},
    ]
    files = [UnitFile(path="a.slice", content="[Slice]\n")]
    assert played.manager(folder).create_slices(files, ["a.slice"]) == {"a.slice": "/a.slice"}
    assert played.commands == [("systemctl", "daemon-reload")]
    assert not played.shown


def test_drop_ins_are_written_before_the_manager_looks_and_go_with_their_folders(folder):
    played = Played()
    manager = played.manager(folder, direct=False)
    path = f"{manager.unit_folder}/a.slice"
    played.stdout = f"Id=a.slice\nFragmentPath={path}\nControlGroup=/a.slice\n"
    files = [UnitFile(path="a.service.d/50-x.conf", content="[Service]\n"), UnitFile(path="a.slice", content="")]
    manager.create_slices(files, ["a.slice"])
    assert Path(manager.unit_folder, "a.service.d", "50-x.conf").read_text() == "[Service]\n"
    assert [argv[1] for argv in played.commands] == ["start", "show"], "no reload"
    manager.remove_files(["a.service.d", "a.slice", "gone.service.d"])
    assert os.listdir(manager.unit_folder) == []


def test_a_slice_that_systemd_made_up_is_reloaded_once_and_then_refused(folder):
    played = Played()
    manager = played.manager(folder, direct=False)
    played.stdout = "Id=a.slice\nFragmentPath=\nControlGroup=/a.slice\n"
    with pytest.raises(HostError, match=r"a\.slice was not loaded from the generated file"):
        manager.create_slices([], ["a.slice"])
    assert [argv[1] for argv in played.commands] == ["start", "show", "daemon-reload", "show"]


def test_units_of_a_run_that_are_not_over(folder):
    played = Played()
    played.stdout = (
        "cgpf1-a.service loaded active running x\ncgpf1-b.service loaded inactive dead\ncgpf1-c.service loaded failed failed\n"
        "cgpf1.slice loaded active active\nother.slice loaded active active\ncgpf1-d.service loaded deactivating stop-post\nx\n"
    )
    manager = played.manager(folder, direct=False)
    assert manager.active("cgpf1") == ["cgpf1-a.service", "cgpf1.slice", "cgpf1-d.service"]
    assert played.commands[0][-1] == "cgpf1*"
    manager.active("cgpf1", ".service")
    assert played.commands[1][-1] == "cgpf1*.service"
    played.status, played.stdout, played.stderr = 1, "", "Failed to list units: Connection reset by peer"
    with pytest.raises(HostError, match="Failed to list units"):
        manager.active("cgpf1")


def test_the_end_of_a_slice(folder):
    played = Played()
    played.manager(folder, direct=False).end_slice("cgpf1", 30)
    assert [argv[1:] for argv in played.commands] == [
        ("stop", "--", "cgpf1.slice", "cgpf1_*.slice"), ("reset-failed", "--", "cgpf1-*"),
    ]  # fmt: skip


@pytest.mark.parametrize("direct", [True, False])
def test_units_are_stopped_killed_and_released(folder, direct):
    played = Played([None, None])
    manager = played.manager(folder, direct=direct)
    manager.stop(["a.service"])
    manager.kill(["a.service"])
    manager.open_gates(["a.service"])
    gate = ("kill", "--kill-who=control", "--signal=SIGTERM", "--", "a.service")
    by_client = [
        ("stop", "--no-block", "--", "a.service"),
        ("kill", "--kill-who=all", "--signal=SIGKILL", "--", "a.service"),
    ]
    assert [argv[1:] for argv in played.commands] == [*([] if direct else by_client), gate]


def test_settings_that_only_systemd_knows(folder):
    played = Played()
    played.stdout = "Id=a.service\nManagedOOMMemoryPressure=kill\n"
    found = played.manager(folder, direct=False).settings_of(["a.service"], {"OOMPolicy", "ManagedOOMMemoryPressure"})
    assert found["a.service"]["ManagedOOMMemoryPressure"] == "kill"
    assert "--property=Id,ManagedOOMMemoryPressure,OOMPolicy" in played.commands[0]


@pytest.mark.parametrize(("status", "runs"), [(0, True), (3, False)])
def test_whether_the_system_runs_a_unit(folder, status, runs):
    assert Played(status=status).manager(folder).system_runs("oomd.service") is runs


def test_the_log_of_one_invocation_and_of_nothing_else(folder):
    played = Played()
    played.stdout = "one\ntwo\n"
    manager = played.manager(folder)
    assert manager.log("0" * 32, 20) == ("one", "two")
    assert {"--lines=20", f"_SYSTEMD_INVOCATION_ID={'0' * 32}"} <= set(played.commands[0])
    assert "+" not in played.commands[0]
    assert manager.log("0" * 32, 20, 7) == ("one", "two")
    assert played.commands[1][-3:] == (f"_SYSTEMD_INVOCATION_ID={'0' * 32}", "+", "_PID=7")
    for odd in ("", "0" * 31, "0" * 33, "g" * 32, "x _SYSTEMD_UNIT=y"):
        assert manager.log(odd, 20) == ()
    assert len(played.commands) == 2


def test_a_command_that_must_succeed_and_does_not_gives_the_words(folder):
    played = Played(status=1)
    with pytest.raises(HostError, match="masked"):
        played.manager(folder)._require("daemon-reload")
    played.stderr = "\n"
    with pytest.raises(HostError, match="exit status 1"):
        played.manager(folder)._require("daemon-reload")


def sudo(played: Played, folder: str) -> Manager:
    return Manager(
        EngineChoice(name="systemd", sudo=True),
        door_of(played),
        None,
        uid=7,
        systemd=252,
        machine_folder=folder,
    )


def test_through_sudo_files_are_written_by_tar_and_removed_by_rm(folder):
    played = Played()
    manager = sudo(played, folder)
    manager._write_files([UnitFile(path="a.slice", content="[Slice]\n")])
    manager.remove_files(["a.slice"])
    manager.write_attribute("/sys/fs/cgroup/a/memory.high", "max")
    assert [argv[:3] for argv in played.commands] == [
        ("sudo", "-n", "tar"),
        ("sudo", "-n", "rm"),
        ("sudo", "-n", "tee"),
    ]
    with tarfile.open(fileobj=io.BytesIO(played.inputs[0])) as archive:
        (member,) = archive.getmembers()
        assert (member.name, member.mode, archive.extractfile(member).read()) == ("a.slice", 0o644, b"[Slice]\n")
    assert played.inputs[2] == b"max"
    with pytest.raises(HostError, match="cannot write unit files: Unit a"):
        sudo(Played(status=1), folder)._write_files([])


def test_files_that_cannot_be_written_are_an_error(folder):
    manager = Played().manager(folder)
    manager._write_files([UnitFile(path="a.slice", content="")])
    with pytest.raises(HostError, match="cannot write unit files"):
        manager._write_files([UnitFile(path="a.slice/x.conf", content="")])


def test_an_attribute_is_written_where_that_is_allowed(folder, tmp_path):
    manager = Played().manager(folder)
    (tmp_path / "memory.high").write_text("")
    manager.write_attribute(f"{tmp_path}/memory.high", "max")
    assert (tmp_path / "memory.high").read_text() == "max"
    manager.write_attribute(f"{tmp_path}/none/memory.high", "max")


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("MainPID=7\nControlPID=0\nTransient=no", {0, 7}),
        ("MainPID=7\nControlPID=0\nTransient=yes", set()),
        ("MainPID=7\nControlPID=8", set()),
    ],
)
def test_what_the_manager_started_for_a_unit_that_is_no_transient_one(folder, said, found):
    played = Played()
    played.stdout = f"Id=a.service\n{said}\n"
    assert played.manager(folder, direct=False).main_processes("a.service") == found


@pytest.mark.parametrize("user", [True, False])
def test_only_the_system_manager_keeps_services_from_their_cgroup_files(folder, user):
    """systemd.exec(5): the manager of a user needs a user namespace for it."""
    played = Played()
    choice = EngineChoice(name="user" if user else "systemd")
    Manager(choice, door_of(played), None, uid=0, systemd=252, machine_folder=folder).start([launch()])
    (call,) = [argv for argv in played.commands if "systemd-run" in argv]
    assert ("--property=ProtectControlGroups=yes" in call) is not user


GATED = {"hold_before": 60.0, "hold_after": 60.0, "output": ""}


def test_root_starts_services_from_files_with_one_call(folder):
    played = Played()
    played.call = lambda calls: [len(played.commands) for _ in calls]  # type: ignore[method-assign]
    manager = played.manager(folder)
    assert manager.start([launch(**GATED), launch("b.service", **GATED)]) == {}
    assert not played.commands
    text = Path(manager.unit_folder, "a.service").read_text()
    for line in (
        "ExecStartPre=-sleep 60", "ExecStopPost=-sleep 60", "ProtectControlGroups=yes", "Slice=s.slice",
        "TimeoutStartSec=90s", "TimeoutStopSec=70s", "RuntimeMaxSec=120s", "LogRateLimitIntervalSec=0",
    ):  # fmt: skip
        assert f"\n{line}\n" in text.replace(manager._sleep, "sleep"), line
    assert "CPUQuota" not in text, "the drop-in has the settings as they ship"
    assert "CollectMode" not in text, "systemd would forget what became of a service that failed"
    assert "StandardOutput" not in text, "without a file the output goes to the journal"


def test_only_the_services_that_the_socket_refuses_are_systemctls(folder):
    played = Played(status=[1, 0, 1])
    played.call = lambda calls: [bus.REFUSED if call.words[0] == "b.service" else "/job/1" for call in calls]  # type: ignore[method-assign]
    refused = played.manager(folder).start([launch(**GATED), launch("b.service", **GATED)])
    assert refused == {"b.service": "Unit a.slice is masked."}
    start = ("systemctl", "start", "--no-block", "--", "b.service")
    assert played.commands == [start, ("systemctl", "daemon-reload"), start]


def test_a_service_whose_folder_no_unit_file_can_hold_is_transient_for_root_too(folder):
    played = Played()
    assert played.manager(folder).start([launch(**GATED, folder="/a ")]) == {}
    assert [argv[0] for argv in played.commands] == ["systemd-run"]
