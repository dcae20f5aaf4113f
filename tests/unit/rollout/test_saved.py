"""What a journal keeps of a rollout, and what is not believed when it is read."""

import copy
import json

import pytest

from cgroup_preflight.config.model import Rollout
from cgroup_preflight.config.rollout import Hook, Prometheus, Query, Thresholds
from cgroup_preflight.core.reading import Known, Missing, Why
from cgroup_preflight.core.report import Status
from cgroup_preflight.host.command import Completed
from cgroup_preflight.rollout.hook import Hooks
from cgroup_preflight.rollout.machine import Phase, State
from cgroup_preflight.rollout.outcome import findings_of
from cgroup_preflight.rollout.saved import Saved, fields, saved_of
from tests.unit.rollout.played import QUIET, Game
from tests.unit.rollout.test_run import NEW, OLD, harm


@pytest.fixture
def saved(tmp_path):
    game = Game(str(tmp_path), OLD, NEW)
    config = Rollout(
        steps=(5000, 10_000), thresholds=Thresholds(samples_min=5), hook=Hook(before=("/bin/x", "{share}")),
        prometheus=Prometheus(url="http://h", queries=(Query(expression="up", operator=">", bound=-1.0),)),
    )  # fmt: skip
    return Saved(rollout="20260101-000000-ab12", boot="b", manager="systemd", units=game.units, stages=game.stages,
                 baseline=(QUIET,), control=("/old.slice",), config=config, kills={"/a.slice": 2},
                 services={"a.service": {"ActiveState": "active", "NRestarts": "1"}})  # fmt: skip


def test_it_comes_back_as_it_was(saved):
    record = json.loads(json.dumps(fields(saved)))
    found = saved_of(record)
    assert (found.units, found.stages, found.baseline, found.control) == (
        saved.units,
        saved.stages,
        saved.baseline,
        saved.control,
    )
    assert found.config.hook == saved.config.hook
    assert (found.kills, found.services) == (saved.kills, saved.services)
    assert found.config.prometheus == saved.config.prometheus
    assert found.config.thresholds == saved.config.thresholds


def _break(record, path, value):
    *way, last = path
    for step in way:
        record = record[step]
    if value is KeyError:
        del record[last]
    else:
        record[last] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("rollout",), "../x"),
        (("units", 0, "unit"), "a.slice; rm"),
        (("units", 0, "unit"), "--all.slice"),
        (("units", 0, "cgroup"), "/../etc"),
        (("units", 0, "old", "CPUQuota"), -1),
        (("units", 0, "old", "CPUQuota"), "1"),
        (("units", 0, "old", "CPUQuota"), True),
        (("units", 0, "old", "Odd"), 1),
        (("units", 0, "old", "MemoryMax"), KeyError),
        (("units", 0, "files"), {"/etc/passwd": None}),
        (("units", 0, "files"), {"/etc/systemd/system.control/other.slice.d/50-CPUQuota.conf": None}),
        (("units", 0, "files"), {"/etc/../a.slice.d/50-CPUQuota.conf": None}),
        (("units",), []),
        (("stages", 0, "values"), {}),
        (("stages", -1, "values", "a.slice", "CPUQuota"), 5),
        (("stages",), []),
        (("config",), KeyError),
        (("config", "interval"), "x"),
        (("config", "thresholds", "odd"), 1),
        (("config", "hook", "before"), "x"),
        (("config", "prometheus", "queries"), [["up", "=="]]),
        (("config", "prometheus", "queries"), [["up", "==", 1]]),
        (("baseline", 0, "seconds"), None),
    ],
)  # fmt: skip
def test_what_was_changed_is_refused(saved, path, value):
    record = copy.deepcopy(json.loads(json.dumps(fields(saved))))
    _break(record, path, value)
    with pytest.raises(ValueError):
        saved_of(record)


def test_how_it_ended(tmp_path):
    game = Game(str(tmp_path), OLD, NEW)
    game.play()
    runner, journal = game.runner()
    found = findings_of(runner.state, journal.records)
    journal.close()
    assert {item.status for item in found} == {Status.PASS}
    assert found[-1].code == "CGP800"
    assert "soak" in found[-2].subject


def test_how_it_was_taken_back(tmp_path):
    game = Game(str(tmp_path), OLD, NEW)
    game.watcher = harm()
    game.play()
    runner, journal = game.runner()
    found = findings_of(runner.state, journal.records)
    asked = findings_of(runner.state, journal.records, wanted=True)
    journal.close()
    assert (found[-1].code, found[-1].status) == ("CGP805", Status.FAIL)
    assert "throttled" in found[-1].message
    assert asked[-1].status is Status.PASS


@pytest.mark.parametrize(
    ("phase", "code", "status"),
    [
        (Phase.STUCK, "CGP806", Status.FAIL),
        (Phase.PAUSED, "CGP807", Status.UNVERIFIED),
        (Phase.CHANGING, "CGP807", Status.UNVERIFIED),
    ],
)
def test_what_is_no_end_is_no_success(phase, code, status):
    state = State(phase=phase, stage=0, stages=2, reason="r", left=("a.slice CPUQuota",))
    found = findings_of(state, [{"kind": "begin", "at": 1.0, "rollout": "r1"}])
    assert (found[-1].code, found[-1].status) == (code, status)
    assert (found[0].code, found[0].status) == ("CGP804", Status.FAIL)


class Programs:
    """A runner that plays one answer and keeps what it was told to run."""

    def __init__(self, answer) -> None:
        self.answer, self.ran = answer, []

    def run(self, argv, *, timeout=20.0, stdin=b""):
        self.ran.append((argv, timeout))
        return self.answer


def done(status):
    return Known(value=Completed(argv=("x",), returncode=status, stdout="", stderr="no route\n"), source="x")


def test_a_hook_gets_the_numbers_of_the_step_and_no_shell(saved):
    programs = Programs(done(0))
    hooks = Hooks(Hook(before=("/bin/w", "{share};{step}", "{slices}", "$(id)"), timeout=7.0), programs, "r1")
    state = State(phase=Phase.CHANGING, stage=0, stages=2)
    assert hooks.run("before", state, saved.stages[-1]) == ""
    assert programs.ran == [(("/bin/w", "100;1", "a.slice,a-b.slice", "$(id)"), 7.0)]
    assert hooks.run("after", state, saved.stages[0]) == ""
    assert len(programs.ran) == 1


@pytest.mark.parametrize("host", ["", "me@web1"])
def test_a_hook_knows_which_host_is_changed(saved, host):
    programs = Programs(done(0))
    hooks = Hooks(Hook(before=("/bin/w", "{host}:{rollout}"), timeout=7.0), programs, "r1", host)
    assert hooks.run("before", State(phase=Phase.CHANGING, stage=0, stages=2), saved.stages[0]) == ""
    assert programs.ran == [(("/bin/w", f"{host}:r1"), 7.0)]


@pytest.mark.parametrize("answer", [done(1), Missing(source="/bin/w", why=Why.ABSENT)])
def test_a_hook_that_fails_says_why(answer):
    hooks = Hooks(Hook(back=("/bin/w", "{share}")), Programs(answer), "r1")
    assert "/bin/w" in hooks.run("back", State(phase=Phase.ROLLED_BACK, stage=0, stages=2), None)
