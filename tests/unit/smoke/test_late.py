"""One answer of a machine comes five seconds late, one in three of them tried: what is said of a service is the same."""

from pathlib import Path

from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.host.door import Door
from tests.unit.engines.late import Counts, Late
from tests.unit.engines.machine import MOUNT, Program
from tests.unit.smoke.fabricate import TEXT
from tests.unit.smoke.test_services import URL, Trial, statuses


class Far:
    """A played machine whose answers can be late."""

    def __init__(self, inner, counts: Counts) -> None:
        self._inner, self._counts = inner, counts
        # That of the machine below the test is long.
        inner.files["/proc/net/tcp6"] = "header\n"

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def observer(self) -> Observer:
        return Observer(Late(self._inner, self._counts), MOUNT)

    def door(self) -> Door:
        door, late = self._inner.door(), Late(self._inner, self._counts)
        return Door(files=late, processes=late, programs=door.programs, clock=self._inner, network=late)


def judged(folder: Path, late: int, seconds: float) -> tuple[dict, int, str]:
    folder.mkdir()
    trial = Trial(folder, Program(address=URL, listens_after=0.5, stop_after=0.5), text=TEXT)
    counts = Counts(trial.machine.sleep, late, seconds)
    trial.machine, trial.units = Far(trial.machine, counts), Late(trial.units, counts)
    return statuses(trial.one()), counts.count, counts.said


def test_no_single_late_answer_changes_what_is_said_of_a_service(tmp_path):
    whole, count, _ = judged(tmp_path / "whole", 0, 0.0)
    assert count > 100
    for number in range(1, count + 1, 3):
        found, _, said = judged(tmp_path / f"{number}", number, 5.0)
        assert found == whole, (number, said)
