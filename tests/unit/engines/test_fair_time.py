"""Time counts in full while a CPU is idle, and by the share of the CPUs where many programs want them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.engines.fair_time import SLOWEST, FairTime, parse_ticks
from tests.unit.engines.machine import Machine


def stat(idle: int, busy: int, cpus: int = 2, waits: int = 0) -> str:
    lines = [f"cpu  {busy} 0 0 {idle} {waits} 0 0 0 0 0", *(f"cpu{number} 0 0 0 0" for number in range(cpus)), "intr 1"]
    return "\n".join(lines) + "\n"


def passed(first: str | None, then: str | None, programs: int, seconds: float = 1.0) -> float:
    """What counts of a second in which /proc/stat went from `first` to `then`."""
    made = Machine()
    made.files.update({"/proc/stat": first} if first else {})
    fair = FairTime(made, made)
    made.files.update({"/proc/stat": then} if then else {})
    made.sleep(seconds)
    return fair.passed(programs)


@pytest.mark.parametrize(
    ("then", "programs", "counts"),
    [
        (stat(0, 200), 8, 0.25),
        (stat(0, 200), 2, 1.0),
        (stat(0, 200), 1, 1.0),
        (stat(0, 200), 100, 1 / SLOWEST),
        (stat(10, 190), 8, 0.25),
        (stat(20, 180), 8, 1.0),
        (stat(0, 100, waits=100), 8, 1.0),
        (stat(200, 0), 8, 1.0),
        (stat(0, 0), 8, 1.0),
        (None, 8, 1.0),
    ],
)
def test_a_second_of_one_of_several_programs(then, programs, counts):
    assert passed(stat(0, 0) if then else None, then, programs) == pytest.approx(counts)


def test_what_was_measured_holds_until_the_next_measurement():
    made = Machine()
    made.files["/proc/stat"] = stat(0, 0)
    fair = FairTime(made, made)
    made.files["/proc/stat"] = stat(0, 200)
    made.sleep(1.0)
    fair.passed(8)
    made.files["/proc/stat"] = stat(200, 200)
    made.sleep(0.1)
    assert fair.passed(8) == pytest.approx(0.025)
    made.sleep(0.5)
    assert fair.passed(8) == pytest.approx(0.5)


@given(st.binary(max_size=100))
def test_any_other_text_is_refused(data):
    try:
        assert len(parse_ticks(data)) == 3
    except ValueError:
        return


def test_the_file_of_this_machine():
    with open("/proc/stat", "rb") as file:
        idle, total, cpus = parse_ticks(file.read())
    assert 0 <= idle <= total
    assert cpus > 0
