"""A manager's answers over its socket and by `systemctl`, both played: which way is taken, and what is asked again."""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Known, Reading
from cgroup_preflight.engines import bus
from cgroup_preflight.engines.base import Exit, How, Phase, UnitState
from cgroup_preflight.engines.choice import EngineChoice
from cgroup_preflight.engines.systemd import Manager, bus_environment, unit_state
from cgroup_preflight.host.command import Completed, LiveRunner
from cgroup_preflight.plan.model import UnitFile

ACTIVE = {"ActiveState": "active", "SubState": "running", "Job": "0"}


class Played:
    """Both ways to a manager: `answers` are those of the socket, one a call; `status` is that of `systemctl`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: Sequence[object] = (), *, status: int = 0) -> None:
        self.answers, self.status = list(answers), status
        self.states: list[Mapping[str, Mapping[str, str]]] = []
        self.commands: list[tuple[str, ...]] = []
        self.shown: list[tuple[str, ...]] = []
        monkeypatch.setattr(bus, "call", self._call)
        monkeypatch.setattr(bus, "states", lambda _units: self.states.pop(0) if self.states else self._no_answer())
        monkeypatch.setattr(bus, "show", self._show)

    def _no_answer(self) -> Mapping[str, Mapping[str, str]]:
        raise bus.BusError("nobody there")

    def _call(self, _calls: Sequence[bus.Call]) -> list[object]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [answer]

    def _show(self, units: Iterable[str], _names: Sequence[str]) -> dict[str, dict[str, str]]:
        self.shown.append(tuple(units))
        return {unit: {**ACTIVE, "Id": unit} for unit in units}

    def run(self, argv: tuple[str, ...], *, timeout: float = 20.0, stdin: bytes = b"") -> Reading[Completed]:
        self.commands.append(argv)
        done = Completed(argv=argv, returncode=self.status, stdout="", stderr="Unit a.slice is masked.\nmore")
        return Known(value=done, source=argv[0])

    def manager(self, folder: str, *, direct: bool = True) -> Manager:
        made = Manager(
            EngineChoice(name="systemd"), cast("LiveRunner", self), uid=0, systemd=252, machine_folder=folder
        )
        made._direct = direct  # else only where systemd runs, and as root
        return made


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path)


def test_slices_that_are_there_at_once_take_no_process(monkeypatch, folder):
    played = Played(monkeypatch, ["/job/1"])
    played.states = [{"a.slice": {"ActiveState": "inactive"}}, {"a.slice": ACTIVE}]
    played.manager(folder).start_slices(["a.slice"])
    assert not played.commands


@pytest.mark.parametrize("answer", [bus.REFUSED, bus.BusError("closed")])
def test_slices_that_the_socket_refuses_are_systemctls(monkeypatch, folder, answer):
    played = Played(monkeypatch, [answer])
    played.manager(folder).start_slices(["a.slice"])
    assert played.commands == [("systemctl", "start", "--", "a.slice")]


def test_slices_that_do_not_come_are_systemctls_which_says_why(monkeypatch, folder):
    played = Played(monkeypatch, ["/job/1"], status=1)
    played.states = [{"a.slice": {"ActiveState": "failed"}}] * 9
    with pytest.raises(HostError) as raised:
        played.manager(folder).start_slices(["a.slice"])
    assert "Unit a.slice is masked." in str(raised.value)
    assert played.commands == [("systemctl", "start", "--", "a.slice")]


def test_units_are_shown_again_when_their_state_is_another(monkeypatch, folder):
    played = Played(monkeypatch)
    manager = played.manager(folder)
    known = {
        "a.service": UnitState(), "b.service": unit_state({**ACTIVE, "MainPID": "7"}),
        "c.service": unit_state({**ACTIVE, "SubState": "start-pre"}),
    }  # fmt: skip
    played.states = [dict.fromkeys(known, ACTIVE)]
    assert set(manager.changed(known)) == {"a.service", "c.service"}
    assert played.shown == [("a.service", "c.service")]
    played.states = [{unit: dict(ACTIVE, Job="4") for unit in known}]
    assert set(manager.changed(known)) == set(known)
    played.states = [{}]
    assert set(manager.changed(known)) == set(known), "what the manager does not list is asked for"


def test_where_the_state_cannot_be_asked_for_all_are_shown(monkeypatch, folder):
    played = Played(monkeypatch)
    known = {"a.service": unit_state(ACTIVE)}
    assert played.manager(folder, direct=False).changed(known) == {"a.service": UnitState()}
    assert [argv[:2] for argv in played.commands] == [("systemctl", "show")]


def test_a_socket_that_says_nothing_of_states_costs_no_answer(monkeypatch, folder):
    """The slow way then: all properties, which hold the state, too."""
    played = Played(monkeypatch)
    manager = played.manager(folder)
    assert manager.phases(["a.service"]) == {"a.service": Phase.STARTED}
    assert manager.phases([]) == {}


def test_files_that_come_right_after_others_change_the_folders_time(monkeypatch, folder):
    """By that alone systemd notices them; the kernel's own time stands still for some milliseconds."""
    manager = Played(monkeypatch).manager(folder)
    for number, now in enumerate((1_700_000_000_000_000_001, 1_700_000_000_000_000_002)):
        monkeypatch.setattr(time, "time_ns", lambda now=now: now)
        manager.write_files([UnitFile(path=f"a{number}.service", content="[Service]\n")])
        assert os.stat(manager.unit_folder).st_mtime_ns == now


def test_a_folder_whose_time_is_not_ours_to_set_is_no_error(monkeypatch, folder):
    manager = Played(monkeypatch).manager(folder)

    def refuse(*_words: object, **_more: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refuse)
    manager.write_files([UnitFile(path="a.service", content="[Service]\n")])
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
        ({"ActiveState": "activating", "SubState": "start", "MainPID": "9"}, Phase.STARTED),
        ({"ActiveState": "active", "SubState": "running"}, Phase.STARTED),
        *(({"ActiveState": "deactivating", "SubState": name}, Phase.STOPPING)
          for name in ("stop-sigterm", "stop-sigkill", "final-sigterm", "final-sigkill", "stop-watchdog")),
        ({"ActiveState": "deactivating", "SubState": "stop-post", "ControlPID": "9"}, Phase.AFTER_END),
    ],
)  # fmt: skip
def test_the_words_of_systemctl_are_a_phase(shown, phase):
    state = unit_state(shown)
    assert state.phase is phase
    assert state.gate_pid == (9 if phase is Phase.AT_GATE else 0)
    assert state.has_begun is (phase is not Phase.QUEUED)
    assert state.has_ended is (phase in (Phase.STOPPING, Phase.AFTER_END, Phase.OVER))
    assert state.is_at_end is (phase in (Phase.AFTER_END, Phase.OVER))


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
