"""One answer of a machine comes seconds late, whichever it is: no service is said to be silent, or killed, because of that."""

import pytest

from cgroup_preflight.engines.hold import wait_until
from cgroup_preflight.engines.session import Session
from tests.unit.engines.late import Counts, Late
from tests.unit.engines.machine import Machine, Program
from tests.unit.engines.test_session import TEXT, URL, Played


def test_what_was_asked_before_the_time_was_over_is_asked_once_more():
    machine = Machine()
    begun = machine.now

    def is_done() -> bool:
        found = machine.now > begun + 0.5
        if machine.now < begun + 10:
            machine.sleep(10)
        return found

    assert wait_until(machine, is_done, 5)


def lived(late: int, seconds: float) -> tuple[int, str]:
    """A whole service that needs half a second to become ready, and another half to stop; how many questions that took."""
    text = TEXT.replace('"9s"', '"4s"') + 'stop_timeout = "3s"\nduration = "0.3s"\n'
    played = Played(Program(address=URL, listens_after=0.5, stop_after=0.5), text=text)
    # That of the machine below the tests is long.
    played.machine.files["/proc/net/tcp6"] = "header\n"
    counts = Counts(played.machine.sleep, late, seconds)
    door = played.machine.door()
    far = Late(played.machine, counts)
    door = type(door)(files=far, processes=far, programs=door.programs, clock=played.machine, network=far)
    played.session = Session(Late(played.units, counts), type(played.machine.observer())(far, "/sys/fs/cgroup"), door)
    run = played.up()
    assert run.is_ready, counts.said
    played.session.run_for_duration([run])
    assert (run.alive, run.ended_early) == (True, False), counts.said
    played.session.check_again([run])
    assert not run.silent, counts.said
    played.session.stop([run])
    assert not run.killed, counts.said
    assert run.state.is_at_end, counts.said
    played.session.close(run)
    return counts.count, counts.said


@pytest.mark.parametrize("seconds", [5.0, 25.0])
def test_no_single_late_answer_changes_what_is_said_of_a_service(seconds):
    count, _ = lived(0, 0.0)
    assert count > 50
    said = {lived(number, seconds)[1] for number in range(1, count + 1)}
    assert {"states", "stop", "ask"} <= said
