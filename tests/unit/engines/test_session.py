"""A session starts services, waits until they are ready and stops them, without any proof: what `up` needs."""

import itertools
import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest

from cgroup_preflight.engines.base import Exit, How, Launch, Phase, UnitState
from cgroup_preflight.engines.service_run import ServiceRun
from cgroup_preflight.engines.session import Session, local_door
from cgroup_preflight.host.command import LiveRunner
from cgroup_preflight.plan.build import build_plan
from cgroup_preflight.plan.run_unit import RunUnit
from cgroup_preflight.plan.unit_syntax import setting_pairs
from tests.unit.core.making import config_of
from tests.unit.engines.machine import Machine, Program, Unit, Units

URL = "http://127.0.0.1:8080/"
TEXT = (
    f'[services.web]\nbinary = "web"\nMemoryMax = "64M"\n[services.web.smoke]\nready = "{URL}"\nstart_timeout = "9s"\n'
)


class Played:
    """One service outside any slice of a run, and the steps of its session."""

    def __init__(
        self, program: Program, *, gates: float = 60.0, text: str = TEXT, kind: str = "exec", own: RunUnit | None = None
    ) -> None:  # fmt: skip
        self.machine = Machine()
        self.units = Units(self.machine, "/nowhere", {"web.service": program})
        self.units.slices = {"app.slice": "/app.slice"}
        (service,) = build_plan(config_of(text)).services
        launch = Launch(
            unit=service.unit, slice="app.slice", description="", command=(service.binary,),
            settings=setting_pairs(service.settings), hold_before=gates, hold_after=gates,
            type=kind, own=own,
        )  # fmt: skip
        self.run = ServiceRun(service, launch)
        self.session = Session(self.units, self.machine.observer(), self.machine.door())

    def up(self) -> ServiceRun:
        for run in (runs := self.session.start([self.run])):
            assert run is self.run
        self.session.wait_for_gates(runs)
        self.session.bring_up(runs)
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


SLOW = """
[services.web]
binary = "web"
[services.web.smoke]
ready = "{ready}"
start_timeout = "{seconds}s"
"""


def moments_of_asking(ready: str, *, seconds: int, listens_after: float | None) -> tuple[ServiceRun, list[float]]:
    """A service that listens so late, and when it was asked, in seconds after its start."""
    played = Played(Program(address=ready, listens_after=listens_after), text=SLOW.format(ready=ready, seconds=seconds))
    run = played.up()
    played.session.close(run)
    return run, [moment - run.released_at for moment, _ in played.machine.asked]


@pytest.mark.parametrize("ready", ["https://127.0.0.1:8443/", "grpc://127.0.0.1:50051"])
@pytest.mark.parametrize(("seconds", "most"), [(10, 45), (60, 80), (600, 350)])
def test_a_slow_start_costs_few_handshakes(ready, seconds, most):
    run, asked = moments_of_asking(ready, seconds=seconds, listens_after=None)
    assert not run.is_ready
    assert 30 < len(asked) <= most
    assert asked[-1] > seconds, "it is asked once more at the end"
    pauses = [after - before for before, after in itertools.pairwise(asked)][:-1]
    assert all(after >= before - 0.051 for before, after in itertools.pairwise(pauses)), (
        "they grow, in steps of the loop"
    )
    assert max(pauses) <= 2.06


@pytest.mark.parametrize("after", [0.1, 0.7, 3.0, 11.0, 19.0, 47.0])
def test_a_service_is_seen_to_be_ready_after_a_small_share_of_its_start(after):
    run, _ = moments_of_asking(URL, seconds=60, listens_after=after)
    assert run.is_ready
    assert run.readiness.seconds - after <= max(0.11, 0.1 * after + 0.06)
    assert run.readiness.seconds - after <= 2.06


def test_an_end_is_seen_at_once_however_long_the_next_question_would_wait():
    played = Played(Program(address=URL, listens_after=None, ends_after=40.0), text=SLOW.format(ready=URL, seconds=60))
    run = played.up()
    assert not run.is_ready
    assert 40.0 <= run.readiness.seconds <= 40.2
    played.session.close(run)


def hands_over(seconds: float):
    """The main process names another one, and ends (MAINPID= of sd_notify(3)); systemd goes on with that."""

    def over(units: Units, unit: Unit) -> None:
        old, unit.main = unit.main, units.machine.spawn("app", unit.cgroup)
        units.machine.end(old)
        units.machine.listen(URL, unit.main)

    return lambda units, unit: units.machine.later(seconds, lambda: over(units, unit))


@pytest.mark.parametrize(("kind", "ready"), [("notify", True), ("exec", False)])
def test_a_service_may_make_another_process_its_main_one_before_it_is_ready(kind, ready):
    played = Played(Program(address=URL, listens_after=None, does=hands_over(1.0)), kind=kind)
    run = played.up()
    assert (run.is_ready, run.alive) == (ready, ready)
    played.session.close(run)


def test_a_service_may_make_another_process_its_main_one_while_it_runs():
    played = Played(Program(address=URL, does=hands_over(2.0)), kind="notify")
    run = played.up()
    first = run.pid
    played.session.run_for_duration([run])
    assert (run.is_ready, run.ended_early, run.pid != first) == (True, False, True)
    played.session.stop([run])
    assert (run.killed, run.state.is_at_end) == (False, True)
    played.session.close(run)
    assert not played.machine.handles


@pytest.mark.parametrize(("own", "alive"), [(RunUnit(text="", type="exec"), True), (None, False)])
def test_a_main_process_that_only_makes_another_one_may_have_ended_before_it_is_looked_at(own, alive):
    """systemd 257 and later with PrivatePIDs=."""
    played = Played(Program(address=URL, does=hands_over(0.05)), own=own)
    open_, first = played.machine.open, []

    def late(pid: int) -> int | None:
        if not first and played.units.units["web.service"].main is played.machine.processes.get(pid):
            first.append(pid)
            played.machine.sleep(0.1)
        return open_(pid)

    played.machine.open = late
    run = played.up()
    assert run.pid in played.machine.processes or not alive
    assert (run.is_ready, run.alive) == (alive, alive)
    played.session.close(run)
    assert not played.machine.handles


def test_one_that_only_ends_has_no_other_main_process():
    played = Played(Program(address=URL, ends_after=2.0), kind="notify")
    run = played.up()
    played.session.run_for_duration([run])
    assert run.ended_early
    assert run.ended_at - run.released_at < 3.0
    played.session.close(run)


def leaves_a_child(units: Units, unit: Unit) -> None:
    """It outlives the main process, and ends only by SIGKILL."""
    child = units.machine.spawn("child", unit.cgroup)
    child.on_signal = lambda number: units.machine.end(child) if number == signal.SIGKILL else None

    def after_end(unit: Unit) -> None:
        assert unit.main is not None
        units.machine.end(unit.main)
        unit.phase, unit.gate = Phase.AFTER_END, units.machine.spawn("sleep", unit.cgroup)

    units._after_end = after_end


@pytest.mark.parametrize(
    ("mode", "killed", "left"),
    [("mixed", False, ()), ("process", False, ("child --work",)), ("control-group", True, ("child --work",))],
)
def test_what_outlives_the_main_process_is_judged_by_the_kill_mode(mode, killed, left):
    """systemd ends it at once, leaves it, or waits for it until the time to stop is over."""
    own = RunUnit(text="", type="exec", kill_mode=mode)
    played = Played(Program(address=URL, does=leaves_a_child), own=own)
    run = played.up()
    begun = played.machine.now
    played.session.stop([run])
    assert (run.killed, run.outlasting) == (killed, left)
    assert (played.machine.now - begun > run.service.smoke.stop_timeout) is killed
    played.session.close(run)
    assert not played.machine.handles


def test_a_stop_goes_on_where_the_manager_knows_no_main_process():
    """Its own gate would hold it: without a main process, systemd takes the stop for that of a service that has ended."""
    played = Played(Program(address=URL, stop_after=None), kind="forking", own=RunUnit(text="", type="forking"))
    machine, unit_of = played.machine, played.units.units

    def state(unit: Unit) -> UnitState:
        return replace(known(unit), main_pid=0, word="active" if unit.phase is Phase.STARTED else unit.phase.value)

    known = Unit.state
    played.units.states = lambda units: {name: state(unit_of[name]) for name in units if name in unit_of}
    run = played.up()
    assert run.pid == unit_of["web.service"].main.pid

    def stop(units: list[str]) -> None:
        unit = unit_of[units[0]]
        gate = unit.gate = machine.spawn("sleep", unit.cgroup)
        unit.phase = Phase.ENDED
        played.units.states = lambda _: {units[0]: replace(state(unit), gate_pid=unit.gate.pid)}
        gate.on_signal = lambda _number: (
            machine.end(gate),
            played.units.finish(unit, Exit(how=How.KILLED, status=15), "success"),
        )

    played.units.stop = stop
    played.session.stop([run])
    assert (run.killed, run.stopped) == (False, True)
    played.session.close(run)


def test_what_may_not_be_killed_is_ended_by_the_manager():
    """As through sudo, where the service has another user; its counters go with its cgroup."""
    played = Played(Program(address=URL, does=leaves_a_child), own=RunUnit(text="", type="exec", kill_mode="mixed"))
    run, machine = played.up(), played.machine
    machine.denied |= {item.pid for item in machine.processes.values() if item.comm == "child"}

    def kill(units: list[str]) -> None:
        for process in [item for item in machine.processes.values() if item.cgroup == run.cgroup]:
            machine.end(process)
        machine.cgroups.discard(run.cgroup)
        played.units.units[units[0]].phase = Phase.OVER

    played.units.kill = kill
    played.session.stop([run])
    assert (run.killed, run.state.is_at_end, run.counted is not None) == (False, True, True)
    played.session.close(run)


def test_nothing_to_do_takes_no_call():
    played = Played(Program())
    for step in ("wait_for_gates", "bring_up", "run_for_duration", "check_again", "stop"):
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
    assert 1021 < played.machine.now < 1022
    assert [round(after - before, 3) for before, after in itertools.pairwise(moments)] == [0.01, 0.02, 0.04, 0.08]


class Crowd:
    """Many services, each with its own address, and the moments at which their programs began and were stopped."""

    def __init__(self, programs: list[Program], *, start_timeout: str = "9s", stop_timeout: str = "3s") -> None:
        text = "".join(
            f'[services.s{number:03}]\nbinary = "x"\n[services.s{number:03}.smoke]\n'
            f'ready = "http://127.0.0.1:{8000 + number}/"\nstart_timeout = "{start_timeout}"\nstop_timeout = "{stop_timeout}"\n'
            for number in range(len(programs))
        )
        services = build_plan(config_of(text)).services
        for service, program in zip(services, programs, strict=True):
            program.address = service.smoke.ready.target
        self.machine = Machine()
        self.units = Units(
            self.machine, "/nowhere", {item.unit: one for item, one in zip(services, programs, strict=True)}
        )
        self.units.slices = {"app.slice": "/app.slice"}
        self.runs = [
            ServiceRun(
                item, Launch(unit=item.unit, slice="app.slice", description="", command=("x",), settings=())
            )
            for item in services
        ]  # fmt: skip
        self.session = Session(self.units, self.machine.observer(), self.machine.door())

    def up(self) -> None:
        runs = self.session.start(self.runs)
        self.session.wait_for_gates(runs)
        self.session.bring_up(runs)

    def down(self) -> None:
        self.session.stop(self.runs)
        for run in self.runs:
            self.session.close(run)
        assert not self.machine.handles


def test_a_few_services_start_at_a_time_and_the_clock_of_each_is_its_own():
    """Each takes 1.5 s to be ready: all together 15 times that, which is more than the time of one."""
    crowd = Crowd([Program(listens_after=1.5) for _ in range(120)])
    crowd.up()
    assert all(run.is_ready for run in crowd.runs)
    assert max(run.readiness.seconds for run in crowd.runs) < 2
    last = max(run.ready_at for run in crowd.runs)
    assert last - 1000 > 9, "or nothing was waited for"
    for moment in (run.released_at for run in crowd.runs):
        assert sum(run.released_at <= moment < run.ready_at for run in crowd.runs) <= 8
    crowd.down()


@pytest.mark.parametrize("count", [1, 8])
def test_a_few_services_start_all_at_once(count):
    crowd = Crowd([Program(listens_after=1.5) for _ in range(count)])
    crowd.up()
    assert max(run.released_at for run in crowd.runs) - min(run.released_at for run in crowd.runs) < 0.5
    crowd.down()


def test_services_may_wait_for_one_that_starts_later():
    """The first twenty answer only when the last one does."""

    def wakes_all(units: Units, _unit: object) -> None:
        for run in crowd.runs:
            units.machine.listening.add(run.service.smoke.ready.target)

    crowd = Crowd([*(Program(listens_after=None) for _ in range(20)), Program(does=wakes_all)])
    crowd.up()
    assert all(run.is_ready for run in crowd.runs)
    crowd.down()


def test_one_that_is_never_ready_fails_alone_and_at_its_own_time():
    crowd = Crowd([Program(listens_after=None if number == 3 else 0.5) for number in range(40)])
    crowd.up()
    assert [run.is_ready for run in crowd.runs] == [number != 3 for number in range(40)]
    assert 9 < crowd.runs[3].readiness.seconds < 9.2
    crowd.down()


def test_a_few_services_stop_at_a_time_and_the_clock_of_each_is_its_own():
    """Each takes a second to stop, 5 of them do not: those alone are killed."""
    crowd = Crowd([Program(stop_after=None if number < 5 else 1.0) for number in range(60)])
    crowd.up()
    began = crowd.machine.now
    crowd.down()
    assert [run.killed for run in crowd.runs] == [number < 5 for number in range(60)]
    assert crowd.machine.now - began > 3 + 2, "more than the time of one"
    assert max(len(units) for name, units in crowd.units.calls if name == "stop") == 8
    assert all(run.state.is_at_end for run in crowd.runs)


def test_asking_for_many_units_takes_a_third_of_the_time_at_most():
    crowd = Crowd([Program() for _ in range(10)])
    asked: list[float] = []
    states = crowd.units.states

    def slow(units: object) -> object:
        asked.append(crowd.machine.now)
        crowd.machine.now += 1.0
        return states(units)

    crowd.units.states = slow
    crowd.units._to_gate = lambda _unit: None  # none reaches its gate
    crowd.session.wait_for_gates(crowd.session.start(crowd.runs))
    assert all(after - before >= 3 for before, after in itertools.pairwise(asked))
    assert crowd.machine.now > 1000 + 20 + 10, "each has some time more"


def test_the_door_to_this_machine():
    door = local_door({"XDG_RUNTIME_DIR": "/run/user/7"})
    assert isinstance(door.programs, LiveRunner)
    assert door.programs.environment()["XDG_RUNTIME_DIR"] == "/run/user/7"
    assert door.clock.monotonic() > 0


def test_a_program_that_systemd_has_not_executed_yet_is_not_ready():
    """On a crowded machine the set-up of a process takes seconds, and its program may not exist."""
    played = Played(Program(does=lambda units, unit: setting_up(units.machine, unit, 3.0)), text=STARTS)
    run = played.up()
    assert run.is_ready
    assert 2.9 < run.readiness.seconds < 3.2
    played.session.close(run)


def test_a_program_that_is_never_executed_is_never_ready():
    played = Played(Program(does=lambda units, unit: setting_up(units.machine, unit, 99.0)), text=STARTS)
    run = played.up()
    assert not run.is_ready
    assert run.readiness.why == "systemd has not executed its program yet"
    played.session.close(run)


STARTS = '[services.web]\nbinary = "web"\n[services.web.smoke]\nstart_timeout = "9s"\n'


def setting_up(machine: Machine, unit: Unit, seconds: float) -> None:
    main = unit.main
    main.comm = "(web)"
    machine.later(seconds, lambda: setattr(main, "comm", "web"))


def test_counters_are_read_before_a_service_is_killed():
    """Linux 6.1 and 7.2 kill whatever is started in a cgroup after cgroup.kill, also what would keep it to be read."""
    for stops, counted in ((False, True), (True, False)):
        played = Played(Program(address=URL, stop_after=0.1 if stops else None), text=f'{TEXT}stop_timeout = "2s"\n')
        run = played.up()
        assert run.counted is None
        played.session.stop([run])
        assert (run.killed, run.counted is not None) == (counted, counted)
        played.session.close(run)


@pytest.mark.parametrize(("step", "share"), [(0, 20), (4 << 20, 1)])
def test_after_a_look_that_gave_something_back_the_next_one_follows_soon(step, share):
    """A service that writes a gigabyte a second would fill the disk between two looks."""
    machine = Machine()

    class Written:
        freed = 0

        def free(self, _files, _read):
            machine.sleep(0.01)
            self.freed += step
            return 0

    run = SimpleNamespace(
        launch=SimpleNamespace(output="/out"), output=Written(), watch=None, readiness=None, frozen=False, cgroup=""
    )
    session = Session(SimpleNamespace(), machine.observer(), machine.door())
    began = machine.now
    session._bound_output([run])
    assert session._output_due - began == pytest.approx(share * 0.01)
