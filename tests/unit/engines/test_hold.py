"""The gates of a unit: which process is one, and that no other is ended."""

import itertools
import signal

import pytest

from cgroup_preflight.engines.hold import gate_process, open_gate, wait_until
from tests.unit.engines.machine import Machine, Units

CGROUP = "/a.slice/a-b.service"


@pytest.fixture
def machine():
    made = Machine()
    made.cgroups |= {"/a.slice", CGROUP, f"{CGROUP}/sub"}
    return made


def opened(machine, pid, cgroup=CGROUP):
    engine = Units(machine, "/nowhere")
    engine.open_gates = lambda units: engine.calls.append(("open_gates", tuple(units)))
    open_gate(engine, machine, machine.observer(), "b.service", cgroup, pid)
    assert not machine.handles
    return machine.signals, engine.calls


def test_waiting_ends_when_it_is_done_and_at_the_latest_when_the_time_is_over(machine):
    assert wait_until(machine, lambda: True, 0)
    assert machine.now == 1000
    assert wait_until(machine, lambda: machine.now > 1001, 5)
    assert 1001 < machine.now < 1001.1
    assert not wait_until(machine, lambda: False, 2)
    assert 1003 < machine.now < 1003.2
    assert not wait_until(machine, lambda: False, -1)


def test_pauses_grow_up_to_a_twentieth_of_a_second(machine):
    seen = []
    wait_until(machine, lambda: bool(seen.append(machine.now)), 1)
    pauses = [after - before for before, after in itertools.pairwise(seen)]
    assert pauses[0] == pytest.approx(0.005)
    assert max(pauses) == pytest.approx(0.05)
    assert pauses == sorted(pauses) or max(abs(a - b) for a, b in zip(pauses, sorted(pauses), strict=True)) < 1e-6


def test_a_sleep_that_is_alone_is_the_gate(machine):
    gate = machine.spawn("sleep", CGROUP)
    assert gate_process(machine.observer(), CGROUP) == gate.pid
    assert gate_process(machine.observer(), CGROUP, other_than=gate.pid) == 0


@pytest.mark.parametrize("others", [[], ["app"], ["sleep", "sleep"], ["sleep", "app"]])
def test_anything_else_is_no_gate(machine, others):
    for name in others:
        machine.spawn(name, CGROUP)
    assert gate_process(machine.observer(), CGROUP) == 0


def test_a_process_below_counts_as_one_of_the_unit(machine):
    machine.spawn("sleep", CGROUP)
    machine.spawn("app", f"{CGROUP}/sub")
    assert gate_process(machine.observer(), CGROUP) == 0


def test_the_gate_and_nothing_else_is_ended(machine):
    gate = machine.spawn("sleep", CGROUP)
    machine.spawn("sleep", CGROUP)
    assert opened(machine, gate.pid) == ([(gate.pid, signal.SIGTERM)], [])


def test_a_gate_in_a_cgroup_below_is_ended(machine):
    """systemd starts ExecStop= of a unit with Delegate= in `.control`."""
    gate = machine.spawn("sleep", f"{CGROUP}/sub")
    assert opened(machine, gate.pid) == ([(gate.pid, signal.SIGTERM)], [])


def test_a_number_that_belongs_to_another_process_by_now_is_not_ended(machine):
    other = machine.spawn("sleep", "/user.slice")
    assert opened(machine, other.pid) == ([], [])


def test_a_gate_that_has_ended_is_no_error(machine):
    assert opened(machine, 6_000_000) == ([], [])


def test_a_gate_that_we_may_not_signal_is_opened_by_the_engine(machine):
    gate = machine.spawn("sleep", CGROUP)
    machine.denied.add(gate.pid)
    assert opened(machine, gate.pid) == ([], [("open_gates", ("b.service",))])
