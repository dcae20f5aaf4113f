"""The services of an `up` on a manager with gates, as systemd has them, and time that passes when somebody waits."""

from dataclasses import replace

from cgroup_preflight.engines.base import Exit, How, Phase
from cgroup_preflight.plan.build import build_plan
from cgroup_preflight.up.launches import launch_of
from cgroup_preflight.up.services import Item, UpServices
from tests.unit.core.making import config_of
from tests.unit.engines.machine import MOUNT, Machine, Program, Units

URLS = {"web": "http://127.0.0.1:8080/", "api": "http://127.0.0.1:8081/"}
TEXT = "".join(
    f'[services.{name}]\nbinary = "{name}"\nMemoryMax = "64M"\n[services.{name}.smoke]\nready = "{url}"\nstart_timeout = "9s"\n'
    for name, url in URLS.items()
)  # fmt: skip


class Played:
    """Two services below one slice, with these programs."""

    def __init__(self, tmp_path, *, restart=False, kind=Units, **programs):
        self.machine = Machine()
        made = {f"{name}.service": programs.get(name, Program(address=url)) for name, url in URLS.items()}
        self.units = kind(self.machine, "/nowhere", made)
        self.units.slices = {"app.slice": "/app.slice"}
        config = config_of(TEXT)
        services = build_plan(config).services
        launches = {item.label: launch_of(_in_slice(item), config, {}, "", None) for item in services}
        items = [Item(service=item, launch=launches[item.label]) for item in services]
        self.said = []
        self.services = UpServices(
            self.units, self.machine.door(), MOUNT, items, lambda text, name: self.said.append(f"{name}: {text}"),
            lambda: None, restart=restart,
        )  # fmt: skip

    def run(self, seconds):
        end = self.machine.now + seconds
        while self.machine.now < end:
            self.services.wait(0.2)
            self.services.look()


def _in_slice(service):
    return replace(service, slices=("app.slice",))


def test_services_become_ready_and_stop(tmp_path):
    played = Played(tmp_path)
    played.services.start(["web", "api"])
    assert sorted(line.partition(" after")[0] for line in played.said) == ["api: ready", "web: ready"]
    assert played.services.running
    played.services.stop_all()
    assert played.said[2:] == ["api: stopped", "web: stopped"]
    assert not played.services.running
    assert not played.units.units
    assert not played.machine.handles


def test_one_that_fails_is_shown_and_its_unit_can_be_started_again(tmp_path):
    bad = Program(address=URLS["web"], ends_after=5.0, ended=Exit(how=How.EXITED, status=3), result="exit-code")
    played = Played(tmp_path, restart=True, web=bad)
    played.services.start(["web", "api"])
    played.run(6)
    assert "web: ended with exit status 3; starts again in 1 s" in played.said
    played.run(8)
    assert "web: ended with exit status 3; starts again in 2 s" in played.said
    assert sum(line.startswith("web: ready") for line in played.said) >= 2
    played.services.stop_all()
    assert not played.machine.handles


def test_one_that_ends_well_is_not_started_again(tmp_path):
    played = Played(tmp_path, restart=True, web=Program(address=URLS["web"], ends_after=5.0))
    played.services.start(["web", "api"])
    played.run(8)
    assert "web: ended with exit status 0" in played.said
    assert [row.state for row in played.services.rows()] == ["runs", "ended"]
    assert played.services.failed == ()
    played.services.stop_all()


def test_memory_is_named_with_peak_and_limit_of_the_unit(tmp_path):
    def dies(units, unit):
        units.machine.files[f"{MOUNT}{unit.cgroup}/memory.events"] = "oom 1\noom_kill 1\n"
        units.machine.files[f"{MOUNT}{unit.cgroup}/memory.events.local"] = "oom 1\n"
        units.machine.files[f"{MOUNT}{unit.cgroup}/memory.peak"] = f"{64 << 20}\n"

    killed = Program(
        address=URLS["web"], ends_after=4.0, ended=Exit(how=How.KILLED, status=9), result="oom-kill", does=dies
    )  # fmt: skip
    played = Played(tmp_path, web=killed)
    played.services.start(["web"])
    played.run(5)
    assert "web: killed by the kernel for memory: peak 64M, limit 64M of web.service" in played.said
    assert played.services.failed == ("web",)


def test_one_that_is_not_ready_in_time_runs_on_and_says_why(tmp_path):
    played = Played(tmp_path, web=Program(address=URLS["web"], listens_after=None))
    played.services.start(["web"])
    assert any(line.startswith("web: not ready: ") for line in played.said)
    assert [row.ready for row in played.services.rows()] == ["-", "no"]
    played.services.stop_all()


def test_a_restart_stops_before_it_starts(tmp_path):
    played = Played(tmp_path)
    played.services.start(["web", "api"])
    played.services.restart(["web"])
    assert [line.partition(" after")[0] for line in played.said][2:] == ["web: stopped", "web: ready"]
    assert ("stop", ("web.service",)) in played.units.calls
    played.services.stop_all()


def test_an_address_that_another_program_has_is_no_start(tmp_path):
    played = Played(tmp_path)
    played.machine.listening.add(URLS["web"])
    played.services.start(["web", "api"])
    assert "web: was not started: another program already answers" in played.said
    assert played.services.failed == ("web",)
    played.services.stop_all()


def test_one_that_the_manager_refuses_says_its_words(tmp_path):
    played = Played(tmp_path, web=Program(refused="Unit has a bad unit file setting"))
    played.services.start(["web"])
    assert played.said == ["web: was not started: Unit has a bad unit file setting"]


def test_the_end_of_one_is_shown_while_another_still_starts(tmp_path):
    bad = Program(address=URLS["web"], ends_after=2.0, ended=Exit(how=How.EXITED, status=3), result="exit-code")
    played = Played(tmp_path, web=bad, api=Program(address=URLS["api"], listens_after=None))
    played.services.start(["web", "api"])
    assert [line.partition(": ")[0] for line in played.said] == ["web", "web", "api"]
    assert played.said[1] == "web: ended with exit status 3"
    assert played.said[2].startswith("api: not ready: ")
    played.services.stop_all()
    assert not played.machine.handles


def test_a_gate_after_a_good_end_is_not_waited_for(tmp_path):
    """A short answer of systemd about such a unit is that of one that is being stopped."""
    played = Played(tmp_path, web=Program(address=URLS["web"], ends_after=5.0))
    short = {Phase.ENDED: Phase.BEFORE_SIGNAL}
    played.units.phases = lambda units: {
        name: short.get(state.phase, state.phase) for name, state in played.units.states(units).items()
    }
    played.services.start(["web"])
    begun = played.machine.now
    while "web: ended with exit status 0" not in played.said:
        played.run(0.2)
    assert played.machine.now - begun < 10


class Gated(Units):
    """As systemd: a program that ended well has a gate, and only its end lets the unit go on; the next gate comes later."""

    def _ends(self, unit):
        super()._ends(unit)
        if unit.phase is Phase.ENDED:
            unit.gate = self.machine.spawn("sleep", unit.cgroup)
            unit.gate.on_signal = lambda _, gate=unit.gate: self.machine.end(gate)

    def stop(self, units):
        super().stop([name for name in units if self.units[name].phase is not Phase.ENDED])

    def states(self, units):
        for unit in [self.units[name] for name in units if name in self.units]:
            if unit.phase is Phase.ENDED and unit.gate is not None and unit.gate.pid not in self.machine.processes:
                self._after_end(unit)
        found = super().states(units)
        for name, state in found.items():
            gate = self.units[name].gate
            if state.phase is Phase.ENDED and gate is not None:
                found[name] = replace(state, gate_pid=gate.pid)
        return found

    def _after_end(self, unit):
        if unit.phase is Phase.AFTER_END:
            return
        super()._after_end(unit)
        self.machine.end(unit.gate)
        unit.phase = Phase.STOPPING
        self.machine.later(0.3, lambda: self._gate_begins(unit))

    def _gate_begins(self, unit):
        unit.phase, unit.gate = Phase.AFTER_END, self.machine.spawn("sleep", unit.cgroup)


def test_the_gate_of_a_good_end_is_opened_by_its_process(tmp_path):
    played = Played(tmp_path, kind=Gated, web=Program(address=URLS["web"], ends_after=5.0))
    played.services.start(["web"])
    begun = played.machine.now
    while played.services.running:
        played.run(0.2)
        assert played.machine.now - begun < 12
    assert played.said[1:] == ["web: ended with exit status 0"]
    assert not played.units.units


def test_a_stop_has_ended_when_the_gate_after_it_is_there(tmp_path):
    """The cgroup of the unit is empty for a moment between its program and that gate."""
    played = Played(tmp_path, kind=Gated)
    played.services.start(["web"])
    run = played.services._all["web"].run
    played.services.stop(["web"])
    assert run.end_gate > 0


def test_after_the_stop_of_all_none_waits_to_start(tmp_path):
    bad = Program(address=URLS["web"], ends_after=5.0, ended=Exit(how=How.EXITED, status=3), result="exit-code")
    played = Played(tmp_path, restart=True, web=bad)
    played.services.start(["web"])
    played.run(5)
    assert [row.state for row in played.services.rows()] == ["ended", "waits to start"]
    played.services.stop_all()
    assert not played.services.running
    assert played.services.failed == ("web",)


def test_without_restart_a_failure_is_not_started_again(tmp_path):
    bad = Program(address=URLS["web"], ends_after=5.0, ended=Exit(how=How.EXITED, status=3), result="exit-code")
    played = Played(tmp_path, web=bad)
    played.services.start(["web"])
    played.run(9)
    assert [row.state for row in played.services.rows()] == ["ended", "failed"]
    assert not played.services.running


def test_variables_of_the_config_win_over_those_of_the_env_file():
    config = config_of('[services.a]\nbinary = "a"\n[services.a.smoke]\nenv = { NAME = "config", MORE = "m" }\n')
    (service,) = build_plan(config).services
    launch = launch_of(_in_slice(service), config, {"NAME": "file", "OTHER": "o"}, "", None)
    assert dict(launch.env) == {"NAME": "config", "OTHER": "o", "MORE": "m"}
