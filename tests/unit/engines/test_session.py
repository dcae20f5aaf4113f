"""A session starts services, waits until they are ready and stops them, without any proof: what `up` needs."""

import itertools

import pytest

from cgroup_preflight.engines.base import Launch
from cgroup_preflight.engines.command_lines import setting_pairs
from cgroup_preflight.engines.session import ServiceRun, Session, local_door
from cgroup_preflight.host.command import LiveRunner
from cgroup_preflight.plan.build import build_plan
from tests.unit.core.making import config_of
from tests.unit.engines.machine import Machine, Program, Units

URL = "http://127.0.0.1:8080/"
TEXT = (
    f'[services.web]\nbinary = "web"\nMemoryMax = "64M"\n[services.web.smoke]\nready = "{URL}"\nstart_timeout = "9s"\n'
)


class Played:
    """One service outside any slice of a run, and the steps of its session."""

    def __init__(self, program: Program, *, gates: float = 60.0) -> None:
        self.machine = Machine()
        self.units = Units(self.machine, "/nowhere", {"web.service": program})
        self.units.slices = {"app.slice": "/app.slice"}
        (service,) = build_plan(config_of(TEXT)).services
        launch = Launch(
            unit=service.unit, slice="app.slice", description="", command=(service.binary,),
            settings=setting_pairs(service.settings), hold_before=gates, hold_after=gates,
        )  # fmt: skip
        self.run = ServiceRun(service, launch)
        self.session = Session(self.units, self.machine.observer(), self.machine.door())

    def up(self) -> ServiceRun:
        for run in (runs := self.session.start([self.run])):
            assert run is self.run
        self.session.wait_for_gates(runs)
        self.session.open_gates(runs)
        self.session.wait_until_ready(runs)
        return self.run


@pytest.mark.parametrize("gates", [60.0, 0.0])
def test_a_service_is_up_and_is_stopped(gates):
    played = Played(Program(address=URL), gates=gates)
    run = played.up()
    assert (run.is_ready, run.alive, run.blocked, run.is_job) == (True, True, False, False)
    assert run.cgroup == "/app.slice/web.service"
    played.session.stop([run])
    assert (run.killed, run.state.is_at_end) == (False, True)
    played.session.close(run)
    assert not played.machine.handles


def test_one_that_is_not_ready_in_time_is_not_waited_for_any_longer():
    played = Played(Program(address=URL, listens_after=None))
    run = played.up()
    assert not run.is_ready
    assert 1009 < played.machine.now < 1010
    played.session.close(run)


def test_nothing_to_do_takes_no_call():
    played = Played(Program())
    for step in ("wait_for_gates", "open_gates", "wait_until_ready", "run_for_duration", "check_again", "stop"):
        getattr(played.session, step)([])
    assert played.session.start([]) == []
    assert (played.units.calls, played.machine.now) == ([], 1000)


def test_the_engine_is_asked_less_and_less_often():
    """The whole state costs a process for each unit, the phase nearly nothing."""
    played = Played(Program())
    moments: list[float] = []
    changed = played.units.changed
    played.units.changed = lambda known: moments.append(played.machine.now) or changed(known)
    played.units._to_gate = lambda _unit: None  # it never reaches its gate
    played.session.wait_for_gates(played.session.start([played.run]))
    assert 1020 < played.machine.now < 1021
    assert [round(after - before, 3) for before, after in itertools.pairwise(moments)] == [0.01, 0.02, 0.04, 0.08]


def test_the_door_to_this_machine():
    door = local_door({"XDG_RUNTIME_DIR": "/run/user/7"})
    assert isinstance(door.programs, LiveRunner)
    assert door.programs.environment()["XDG_RUNTIME_DIR"] == "/run/user/7"
    assert door.clock.monotonic() > 0
