"""Payloads that are moved: real processes, in slices of a played manager."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cgroup_preflight.host.command import LiveRunner
from cgroup_preflight.host.local import LocalProcesses
from cgroup_preflight.smoke.payloads import AT_ONCE, STORES, MovedPayloads
from cgroup_preflight.smoke.probe_plan import Capacity, ProbeUnit, plan_probes, probe_units
from cgroup_preflight.smoke.probes import Probes
from tests.unit.engines.machine import MOUNT, NUMBERS, Machine, Process, Units, slice_cgroup
from tests.unit.smoke.fabricate import SCOPE, plan

TEXT = '[slices.api]\nMemoryMax = "256M"\n[services.web]\nbinary = "x"\nslice = "api"\nTasksMax = 64\n'
#: The slice of the only payload.
PLACE = f"{SCOPE}-api-{SCOPE}_0.slice"
PLENTY = Capacity(cpus=2, available_bytes=4 << 30, swap_bytes=0)

pytestmark = pytest.mark.starts_processes


class Moving(Units):
    """A manager whose kernel moves a process that is written into `cgroup.procs`, unless it `refuses_to_move`."""

    refuses_to_move = False
    texts: dict[str, str]

    def create_slices(self, files, units):
        known = dict(self.slices)
        made = super().create_slices(files, units)
        self.texts = {**getattr(self, "texts", {}), **{file.path: file.content for file in files}}
        self.slices = {**known, **made}
        return made

    def write_attribute(self, path, text):
        super().write_attribute(path, text)
        if path.endswith("/cgroup.procs") and not self.refuses_to_move:
            cgroup = path.removeprefix(MOUNT).removesuffix("/cgroup.procs")
            self.machine.processes[int(text)] = Process(int(text), "python3", cgroup, 1, "")


class Trial:
    def __init__(self, tmp_path: Path) -> None:
        self.machine, self.folder = Machine(), tmp_path
        self.units = Moving(self.machine, str(tmp_path))
        self.plan = plan(TEXT)
        self.units.slices = {item.unit: slice_cgroup(item.unit) for item in self.plan.slices}
        self.probes, _ = plan_probes(self.plan, NUMBERS, PLENTY)
        self.unit_list = probe_units(SCOPE, self.probes)
        door = replace(self.machine.door(), programs=LiveRunner(), processes=LocalProcesses())
        self.payloads = MovedPayloads(self.units, self.machine.observer(), door, SCOPE, str(tmp_path))

    def said(self, item: ProbeUnit, word: str) -> dict[str, int]:
        """The line with this word, for which it waits."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            path = Path(self.payloads.output(item))
            lines = (
                [{word: int(number)} for word, number in map(str.split, path.read_text().splitlines())]
                if path.exists()
                else []
            )
            if found := [line for line in lines if word in line]:
                return found[0]
            time.sleep(0.01)
        raise AssertionError(word)

    def places(self) -> list[str]:
        return [process.cgroup for process in self.machine.processes.values()]


@pytest.fixture
def trial(tmp_path):
    made = Trial(tmp_path)
    yield made
    made.payloads.close()


def test_they_wait_with_the_least_weight_and_push_where_they_were_moved(trial):
    pauses = []
    (item,) = trial.unit_list
    trial.payloads.begin(trial.unit_list, (), lambda: pauses.append(trial.places()))
    waiting = slice_cgroup(f"{SCOPE}_wait.slice")
    assert pauses == [[waiting]]
    assert "\n[Slice]\nCPUWeight=1\n" in trial.units.texts[f"{SCOPE}_wait.slice"]
    pid = trial.said(item, "up")["up"]
    with trial.payloads.started(trial.unit_list, 60.0) as refused:
        assert refused == {}
        own = trial.payloads.cgroup(item)
        # Services can still be where it pushes.
        assert trial.places() == [waiting]
        assert trial.payloads.enter(item) == trial.payloads.enter(item) == ""
        assert trial.places() == [own]
        assert own == slice_cgroup(PLACE)
        text = trial.units.texts[PLACE]
        assert "\n[Slice]\nTasksMax=64\nMemorySwapMax=0\n" in text
        trial.payloads.ask(item, "tasks 3")
        assert trial.said(item, "started") == {"started": 3}
        trial.payloads.ask(item, "drop 0")
        assert trial.said(item, "over") == {"over": 0}
        assert Path(f"/proc/{pid}").exists()
    # It has answered, so it is free for the next unit.
    other = replace(item, unit=f"{SCOPE}-_load-0.service")
    with trial.payloads.started([other], 60.0) as refused:
        assert refused == {}
        assert trial.said(other, "up")["up"] == pid
        assert trial.payloads.enter(other) == ""
        assert trial.places() == [slice_cgroup(f"{SCOPE}-api-{SCOPE}_1.slice")]
    trial.payloads.close()
    assert not Path(f"/proc/{pid}").exists()


def test_one_that_has_not_answered_is_ended_and_not_used_again(trial):
    (item,) = trial.unit_list
    with trial.payloads.started(trial.unit_list, 60.0):
        pid = trial.said(item, "up")["up"]
        trial.payloads.ask(item, f"load {min(os.sched_getaffinity(0))}")
    assert not Path(f"/proc/{pid}").exists()
    with trial.payloads.started([replace(item, unit="other.service")], 60.0) as refused:
        assert refused == {}


def test_one_that_was_not_moved_pushes_against_nothing(trial):
    trial.units.refuses_to_move = True
    slices = trial.units.slices
    made = Probes(trial.units, trial.machine.observer(), trial.machine.door(), slices, trial.payloads)
    seen = made.run_all(SCOPE, trial.probes, lambda _: None, iter(()), PLENTY)
    own = slice_cgroup(PLACE)
    assert {one.refused for one in seen} == {f"its process could not be moved to {own}"}
    assert {one.said for one in seen} == {()}


def test_no_more_than_a_few_wait(trial):
    begun = []
    services = "".join(
        f'[services.w{n}]\nbinary = "x"\nslice = "api"\nTasksMax = {64 + n}\n' for n in range(AT_ONCE + 1)
    )
    probes, _ = plan_probes(plan(services + TEXT.partition("[services")[0]), NUMBERS, PLENTY)
    units = probe_units(SCOPE, probes)
    assert len(units) > AT_ONCE
    later = [replace(units[0], unit=f"{SCOPE}-_load-{n}.service") for n in range(AT_ONCE + 1)]
    trial.payloads.begin(units, later, lambda: begun.append(1))
    assert len(begun) == AT_ONCE
    made = list(trial.units.texts)
    # The slice to wait in, and those of the first ones.
    assert len(made) == 1 + AT_ONCE + AT_ONCE
    with trial.payloads.started(units[:AT_ONCE], 60.0) as refused:
        assert refused == {}
    assert list(trial.units.texts) == made
    with trial.payloads.started(units[AT_ONCE:], 60.0) as refused:
        assert refused == {}
        assert trial.said(units[AT_ONCE], "up")


def test_without_probes_nothing_waits(tmp_path, trial):
    trial.payloads.begin((), (), lambda: None)
    assert trial.units.calls == []
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("mounts", [True, False])
def test_memory_to_push_is_in_a_file_system_of_their_own_and_what_is_kept_in_the_usual_one(trial, mounts):
    """Huge pages save time, and would be more than a neighbour is to keep."""
    trial.machine.mounts = mounts
    (item,) = trial.unit_list
    other = replace(item, unit=f"{SCOPE}-_load-0.service")
    store = f"{trial.folder}/store"
    with trial.payloads.started([item, other], 60.0) as refused:
        assert refused == {}
        assert trial.machine.mounted == ([store] if mounts else [])
        for one in (item, other):
            pid = trial.said(one, "up")["up"]
            place = store if mounts else STORES
            assert os.readlink(f"/proc/{pid}/fd/6") == f"{place}/{one.unit} (deleted)"
            assert os.readlink(f"/proc/{pid}/fd/9") == f"{STORES}/{one.unit}.kept (deleted)"
    trial.payloads.close()
    trial.payloads.close()
    assert trial.machine.mounted == []


def heard(trial: Trial, seconds: float) -> float:
    """How long it waits for a word."""
    began = time.monotonic()
    assert trial.payloads.heard(seconds)
    return time.monotonic() - began


def test_a_word_of_any_payload_ends_the_wait(trial):
    (item,) = trial.unit_list
    other = replace(item, unit=f"{SCOPE}-_load-0.service")
    with trial.payloads.started([item, other], 60.0):
        pids = [trial.said(one, "up")["up"] for one in (item, other)]
        assert heard(trial, 60.0) < 50
        while heard(trial, 0.2) < 0.2:
            pass
        trial.payloads.ask(other, "push 4096")
        assert heard(trial, 60.0) < 50
        assert trial.said(other, "full")
        while heard(trial, 0.2) < 0.2:
            pass
        # One that has ended says nothing any more, again and again.
        os.kill(pids[0], signal.SIGKILL)
        assert heard(trial, 60.0) < 50
        assert heard(trial, 0.2) >= 0.2
        trial.payloads.ask(other, "drop 0")
        assert heard(trial, 60.0) < 50
