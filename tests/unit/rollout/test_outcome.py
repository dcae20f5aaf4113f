"""What is in force now, next to what the journal says."""

import pytest

from cgroup_preflight.core.report import Status
from cgroup_preflight.rollout import journal as journals
from cgroup_preflight.rollout.limits import PERCENT
from cgroup_preflight.rollout.machine import Phase, State
from cgroup_preflight.rollout.outcome import findings_of, present, signal_words
from tests.unit.rollout.played import Game
from tests.unit.rollout.test_run import NEW, OLD, harm


@pytest.fixture
def game(tmp_path):
    return Game(str(tmp_path), OLD, NEW)


def _now(game) -> list[tuple[Status, str]]:
    runner, journal = game.runner()
    journal.close()
    hands = runner._hands
    found = present(
        runner.state, game.units, hands.read_back(hands.old, held=False), hands.read_back(hands.new, held=False)
    )
    return [(item.status, f"{item.subject} {item.message}") for item in found]


def test_in_mid_rollout_each_value_is_old_new_or_between(game):
    # The first stage lowers MemoryHigh, the second is half of the way.
    def kill():
        if journals.read(game.path).state.stage == 1:
            game.manager.kill_at = game.manager.acts

    game.clock.each.append(kill)
    game.play()
    found = _now(game)
    assert (Status.WARN, "a.slice CPUQuota is 150% now, between 200% (old) and 100% (new)") in found
    assert (Status.WARN, "a.slice MemoryMax is 384M now, between 512M (old) and 256M (new)") in found
    game.manager.set_by_anybody("a.slice", {"CPUQuota": 100 * PERCENT}, runtime=True)
    assert (Status.WARN, "a.slice CPUQuota is 100% now, the new value") in _now(game)
    # MemoryHigh is no target, and is shown only where it is not as it was.
    assert not [text for _, text in found if "MemoryHigh" in text]
    game.clock.each.remove(kill)
    game.clock.sleep(game.config.restore_after + 1)
    assert {status for status, _ in _now(game)} == {Status.PASS}
    assert (Status.PASS, "a.slice CPUQuota is 200% now, the old value") in _now(game)
    read = journals.read(game.path)
    assert "timer has restored" in findings_of(read.state, read.records, by_timer=True)[-1].message


def test_after_the_end_only_what_differs_is_named(game):
    game.play()
    assert _now(game) == []
    game.manager.set_by_anybody("a.slice", {"CPUQuota": 90 * PERCENT}, runtime=True)
    assert _now(game) == [(Status.WARN, "a.slice CPUQuota is 90% now, and the rollout ended with 100%")]


def test_after_a_rollback_the_old_values_are_expected_except_those_of_somebody_else(game):
    game.watcher = harm()
    assert game.play().phase is Phase.ROLLED_BACK
    assert _now(game) == []
    game.manager.set_by_anybody("a.slice", {"CPUQuota": 90 * PERCENT}, runtime=True)
    assert [text for _, text in _now(game)] == ["a.slice CPUQuota is 90% now, and the rollout ended with 200%"]
    hands = game.runner()[0]._hands
    left = State(phase=Phase.ROLLED_BACK, stage=0, stages=1, left=("a.slice CPUQuota",))
    assert list(present(left, game.units, hands.read_back(hands.old, held=False), ())) == []


def test_a_kernel_that_has_another_value_than_the_manager_is_named(game):
    game.play()
    game.manager.kernel["a.slice"]["CPUQuota"] = 30 * PERCENT
    ((_, text),) = _now(game)
    assert text.startswith("a.slice CPUQuota is 30000 100000 now")


def test_an_abort_that_came_too_late_is_no_success(game):
    game.play()
    read = journals.read(game.path)
    assert findings_of(read.state, read.records)[-1].status is Status.PASS
    end = findings_of(read.state, read.records, wanted=True)[-1]
    assert end.status is Status.FAIL
    assert "too late to take it back" in end.message


def test_a_hook_after_the_rollback_that_failed_is_in_the_report(game):
    game.watcher = harm()
    game.hook = lambda when, _state, _stage: "the hook back (/bin/x) failed: exit status 1" if when == "back" else ""
    assert game.play().phase is Phase.ROLLED_BACK
    game.clock.sleep(50.0)
    read = journals.read(game.path)
    *_, note, end = findings_of(read.state, read.records, wanted=True)
    assert (note.status, note.message) == (Status.WARN, "the hook back (/bin/x) failed: exit status 1")
    assert (end.code, end.status) == ("CGP805", Status.PASS)


def test_a_signal_promises_the_timer_only_where_it_runs():
    def words(phase):
        return signal_words(State(phase=phase, stage=0, stages=2), 60.0)

    for phase in (Phase.READY, Phase.CHANGING, Phase.WATCHING, Phase.SOAKING, Phase.PAUSED, Phase.PROMOTABLE):
        assert "restores the old values within 60s" in words(phase)
    for phase in (Phase.PROMOTING, Phase.RESTORING):
        assert "rollout resume" in words(phase)
        assert "within" not in words(phase)
    for phase in (Phase.DONE, Phase.ROLLED_BACK):
        assert "is over" in words(phase)
