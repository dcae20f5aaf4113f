"""The cgroups of another host, read in rounds: the same snapshot as of this host, and few round trips."""

from types import SimpleNamespace

import pytest
from ci.cgroup_tree import CgroupTree

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Known
from cgroup_preflight.host.remote.asking import Asker
from cgroup_preflight.host.remote.rounds import AskedFs, Rounds
from cgroup_preflight.host.remote.stamps import AFTER, BEFORE
from cgroup_preflight.metrics.asked import AskedDoor, moment_of, page_of, prompt
from cgroup_preflight.metrics.door import LiveDoor
from cgroup_preflight.metrics.exposition import Style
from cgroup_preflight.metrics.moment import Moment
from cgroup_preflight.metrics.samples import Snapshot
from cgroup_preflight.metrics.series import series_of
from cgroup_preflight.metrics.tree import Tree
from tests.unit.host.remote.ends import LocalLines
from tests.unit.metrics.conftest import FakeClock
from tests.unit.stated import round_trips

pytestmark = pytest.mark.starts_processes

#: By SFTP; of a step of `diagnose` in which no cgroup came.
STEP_ROUND_TRIPS, _ = round_trips()["`diagnose`: each further one, where no cgroup came"]


@pytest.fixture(params=[None, ("false",)], ids=["sftp", "shell"])
def asker(request):
    lines = LocalLines(files=request.param)
    made = Asker(lines.shell, lines.files)
    yield made
    made.close()


def taken(fs: AskedFs, cgroups: CgroupTree) -> Snapshot:
    return Tree(AskedDoor(fs, str(cgroups.top)), clock=FakeClock()).snapshot(full=True)


def compared(snapshot: Snapshot) -> dict[str, tuple[int, dict[str, bytes]]]:
    return {path: (sample.cgroup_id, dict(sample.files)) for path, sample in snapshot.samples.items()}


def test_a_snapshot_is_that_of_this_host_and_a_step_takes_few_round_trips(cgroups, asker):
    rounds = Rounds(asker)
    here = Tree(LiveDoor(str(cgroups.top))).snapshot(full=True)
    assert compared(rounds.read(lambda fs, _: taken(fs, cgroups))) == compared(here)
    before = asker.round_trips
    cgroups.add("/b.slice/new.service")
    here = Tree(LiveDoor(str(cgroups.top))).snapshot(full=True)
    assert compared(rounds.read(lambda fs, _: taken(fs, cgroups))) == compared(here)
    assert asker.round_trips - before <= 2 * STEP_ROUND_TRIPS
    before = asker.round_trips
    rounds.read(lambda fs, _: taken(fs, cgroups))
    assert asker.round_trips - before <= STEP_ROUND_TRIPS


def test_what_cannot_be_listed_is_a_reason(cgroups, asker, tmp_path):
    with pytest.raises(HostError, match="its cgroups cannot be listed"):
        Rounds(asker).read(lambda fs, _: AskedDoor(fs, f"{tmp_path}/none"))
    with pytest.raises(FileNotFoundError):
        Rounds(asker).read(lambda fs, _: AskedDoor(fs, str(cgroups.top))).open("/none.slice")


def test_a_moment_has_the_clock_of_the_host(cgroups, asker, monkeypatch):
    monkeypatch.setattr("cgroup_preflight.metrics.asked.cgroup_mount", lambda fs: str(cgroups.top))
    rounds = Rounds(asker)
    first = rounds.read(lambda fs, _: moment_of(fs, 0))
    second = rounds.read(lambda fs, _: moment_of(fs, 0))
    with open("/proc/uptime", encoding="ascii") as file:
        assert abs(second.time - float(file.read().split()[0])) < 60
    assert second.time >= first.time
    assert "/proc/stat" in second.host
    assert set(second.snapshot.samples) == set(first.snapshot.samples) != set()


def test_metrics_have_every_slice(cgroups, asker, monkeypatch):
    monkeypatch.setattr("cgroup_preflight.metrics.asked.cgroup_mount", lambda fs: str(cgroups.top))
    readings = Rounds(asker).read(lambda fs, _: page_of(fs, ["a"], 0))
    page = b"".join(readings.render(Style.TEXT, packed=False))
    assert b'slice="a.slice"' in page
    assert b'slice="b.slice"' not in page


@pytest.mark.parametrize("read", [lambda fs: moment_of(fs, 0), lambda fs: page_of(fs, ["a"], 0)])
@pytest.mark.parametrize(("digits", "is_read"), [(20, True), (21, False), (4000, False)])
def test_a_host_with_a_number_that_no_kernel_has_is_lost_and_nothing_else(
    cgroups, asker, monkeypatch, read, digits, is_read
):
    monkeypatch.setattr("cgroup_preflight.metrics.asked.cgroup_mount", lambda fs: str(cgroups.top))
    cgroups.write("/a.slice", "memory.current", "9" * digits + "\n")
    rounds = Rounds(asker)
    if is_read:
        assert rounds.read(lambda fs, _: read(fs)) is not None
        return
    with pytest.raises(HostError, match="more than 20 digits"):
        rounds.read(lambda fs, _: read(fs))


class LateAsker(Asker):
    """An asker whose call with number `late` needs some seconds of the host's clock in the middle of its questions."""

    def __init__(self, lines: LocalLines, late: int, seconds: float) -> None:
        super().__init__(lines.shell, lines.files)
        self.calls, self.late, self.seconds, self.now = 0, late, seconds, 1000.0

    def ask(self, questions):
        self.calls += 1
        found = list(super().ask(questions))
        for place, question in enumerate(questions):
            if question.path == BEFORE:
                found[place] = Known(value=f"{self.now:.2f} 1.00\n".encode(), source=BEFORE)
        if self.calls == self.late:
            self.now += self.seconds
        for place, question in enumerate(questions):
            if question.path == AFTER:
                found[place] = Known(value=f"{self.now:.2f} 1.00\n".encode(), source=AFTER)
        return found


@pytest.mark.parametrize("seconds", [0.3, 5.0])
def test_a_reading_with_a_late_answer_is_left_out(tmp_path, monkeypatch, seconds):
    """The first reading takes many rounds, and is none; each of the others is one."""
    # Few cgroups: the shell starts a program for each file.
    cgroups = CgroupTree(tmp_path)
    cgroups.add("/a.slice")
    monkeypatch.setattr("cgroup_preflight.metrics.asked.cgroup_mount", lambda fs: str(cgroups.top))

    def moments(late: int) -> tuple[list[Moment], int]:
        asker = LateAsker(LocalLines(files=("false",)), late, seconds)
        rounds, found, begun = Rounds(asker), [], 0
        for _ in range(5):
            found.append(rounds.read(lambda fs, _: moment_of(fs, 0)))
            begun = begun or asker.calls
            asker.now += 1.0
        asker.close()
        return found[1:], begun

    whole, begun = moments(0)
    assert begun > 1
    assert prompt(whole, 1.0) == tuple(whole)
    assert [item.snapshot.slack_ns for item in whole] == [5_000_000] * 4
    assert [round(item.time, 3) for item in whole] == [1001.005, 1002.005, 1003.005, 1004.005]
    assert {sample.stamp_ns for sample in whole[0].snapshot.samples.values()} == {1001_005_000_000}
    for number in range(4):
        found, _ = moments(begun + 1 + number)
        late = found[number]
        assert prompt(found, 1.0) == tuple(item for item in found if item is not late)
        assert not series_of(found).notes
    with pytest.raises(HostError, match="too slowly: 2 of 3"):
        prompt([whole[0], late, late], 1.0)


def test_on_a_slow_host_fewer_readings_may_be_later():
    """A reading is late by a tenth of the time between two: one each second by 0.1 s, one each four seconds by 0.4 s."""

    def moments(*late: float) -> list[Moment]:
        return [SimpleNamespace(snapshot=SimpleNamespace(slack_ns=int((0.2 + item) * 1e9))) for item in late]

    found = moments(0, 0.15, 0.15, 0.15, 0.15, 0.15, 0.15, 0.15, 0.15)
    assert prompt(found, 1.0) == tuple(found[::2])
    found = moments(0, 0.9, 0.9, 0.9, 0.3, 0.9, 0.9, 0.9, 0.5)
    assert prompt(found, 1.0) == (found[0], found[4])
    with pytest.raises(HostError, match="too slowly: 8 of 9"):
        prompt(moments(0, *[0.5] * 8), 1.0)
