"""What somebody else does to the slices while no tool runs: after the timer, after a start of the host, before an abort."""

import dataclasses

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.rollout import journal as journals
from cgroup_preflight.rollout.base import DeadMan
from cgroup_preflight.rollout.limits import PERCENT
from cgroup_preflight.rollout.machine import Phase
from tests.unit.rollout.played import ETC, RUN, Game, M
from tests.unit.rollout.test_judge import window
from tests.unit.rollout.test_run import NEW, OLD, PlayedWatcher, harm

THEIRS = f"{ETC}/a.slice.d/50-CPUQuota.conf"


@pytest.fixture
def game(tmp_path):
    """Killed in its first step, after the value was set."""
    game = Game(str(tmp_path), OLD, NEW)
    game.manager.kill_at = 30
    assert game.play() is None
    assert game.manager.memory["a.slice"] != game.old["a.slice"]
    return game


def _end(game, then):
    if then == "resume":
        return game.play()
    runner, journal = game.runner()
    try:
        return runner.abort("by hand")
    finally:
        journal.close()


@pytest.mark.parametrize("then", ["resume", "abort"])
@pytest.mark.parametrize("before", ["timer", "restart", "nothing"])
def test_what_somebody_else_sets_meanwhile_stays(game, before, then):
    if before == "timer":
        game.clock.sleep(game.config.restore_after + 1)
    if before == "restart":
        game.manager.start_again()
    game.manager.set_by_anybody("a.slice", {"CPUQuota": 300 * PERCENT}, runtime=False)
    theirs = game.manager.files[THEIRS]
    state = _end(game, then)
    assert (state.phase, state.left) == (Phase.ROLLED_BACK, ("a.slice CPUQuota",))
    assert game.manager.memory["a.slice"]["CPUQuota"] == 300 * PERCENT == game.manager.kernel["a.slice"]["CPUQuota"]
    assert game.manager.files[THEIRS] == theirs
    assert game.manager.memory["a.slice"]["MemoryMax"] == 512 * M
    assert game.manager.timer is None


@pytest.mark.parametrize("then", ["resume", "abort"])
def test_the_target_that_somebody_else_sets_after_the_timer_stays(game, then):
    """Once everything was old again, also the value of a step is none of the rollout."""
    game.clock.sleep(game.config.restore_after + 1)
    assert game.is_old()
    game.manager.set_by_anybody("a.slice", {"CPUQuota": 100 * PERCENT}, runtime=False)
    state = _end(game, then)
    assert (state.phase, state.left) == (Phase.ROLLED_BACK, ("a.slice CPUQuota",))
    assert game.manager.memory["a.slice"]["CPUQuota"] == 100 * PERCENT


@pytest.mark.parametrize("then", ["resume", "abort"])
def test_without_anybody_else_everything_is_old(game, then):
    game.clock.sleep(game.config.restore_after + 1)
    state = _end(game, then)
    assert (state.phase, state.left) == (Phase.ROLLED_BACK, ())
    assert game.is_old()


def test_a_rollout_that_changed_nothing_restores_nothing(tmp_path):
    """It was ended before its first step, and another one has promoted since then."""
    game = Game(str(tmp_path), OLD, NEW)
    _, journal = game.runner()
    journal.close()
    for unit, values in game.new.items():
        game.manager.set_by_anybody(unit, values, runtime=False)
    new = game.manager.control_state()
    state = _end(game, "abort")
    assert state.phase is Phase.ROLLED_BACK
    assert game.manager.control_state() == new
    assert game.manager.memory["a.slice"]["CPUQuota"] == 100 * PERCENT


def _kinds(game):
    known = journals.read(game.path)
    return [record["kind"] for record in known.records] if known else []


def test_a_clock_that_is_set_back_does_not_make_a_pause_longer(tmp_path):
    game = Game(str(tmp_path), OLD, NEW)
    game.watcher = PlayedWatcher(window(void="a counter went back"))
    back = []

    def wall():
        if _kinds(game).count("judged"):
            back.append(1)
        return game.clock.now - (86400.0 if len(back) > 1 else 0.0)

    game.clock.wall = wall
    assert "no verdict within 60s" in game.play().reason
    assert game.clock.now - 1000.0 < 200.0
    assert game.is_old()


def test_a_clock_that_is_set_back_while_no_tool_runs_does_not_either(tmp_path):
    game = Game(str(tmp_path), OLD, NEW)
    game.watcher = PlayedWatcher(window(void="a counter went back"))
    game.config = dataclasses.replace(game.config, restore_after=3600.0)
    game.clock.wall = lambda: game.clock.now + 86400.0
    game.clock.each.append(
        lambda: setattr(game.manager, "kill_at", game.manager.acts) if "watch" in _kinds(game) else None
    )
    assert game.play() is None
    game.clock.each.pop()
    game.clock.wall = game.clock.monotonic
    began = game.clock.now
    assert "no verdict within 60s" in game.play().reason
    assert game.clock.now - began < 200.0


def test_a_journal_that_cannot_be_written_has_the_hook_after_the_rollback(tmp_path, monkeypatch):
    """A load balancer must not send the traffic of a step to the old values."""
    game = Game(str(tmp_path), OLD, NEW)
    game.watcher = harm()
    real = journals.Journal.add

    def add(journal, kind, at, **fields):
        if kind == "rollback":
            raise journals.JournalError("cannot write the journal: no space", where=game.path, remedy=None)
        return real(journal, kind, at, **fields)

    monkeypatch.setattr(journals.Journal, "add", add)
    with pytest.raises(HostError, match="the old values are back"):
        game.play()
    assert game.hooks[-1] == "back"
    assert game.is_old()


def test_another_rollout_that_was_quicker_keeps_its_timer_and_this_one_is_over(tmp_path):
    """Both measured what is usual at the same time, with a folder of journals each."""
    game = Game(str(tmp_path), OLD, NEW)
    other = DeadMan(rollout="r2", seconds=1e6, changes=(), copies={}, removed=(), mark="/x")
    game.manager.timer = (other, game.clock.now + 1e6)
    state = game.play()
    assert state.phase is Phase.ROLLED_BACK
    assert "nothing was changed: another rollout" in state.reason
    assert game.manager.timer[0] is other
    assert game.is_old()


def test_a_timer_that_cannot_be_started_is_the_end_before_anything_changes(tmp_path):
    game = Game(str(tmp_path), OLD, NEW)

    def arm(_plan):
        raise HostError("the timer does not run", where="timer", remedy=Remedy(title="look"))

    game.manager.arm = arm
    assert game.play().phase is Phase.ROLLED_BACK
    assert (game.manager.timer, game.is_old()) == (None, True)


@pytest.mark.parametrize("then", ["resume", "abort"])
def test_a_restoration_takes_place_without_a_timer(game, then):
    """The disk is full, so that nothing of the timer can be written."""
    if then == "resume":
        _, journal = game.runner()
        journal.add("rollback", game.clock.wall(), reason="x", left=[])
        journal.close()
    game.manager.timer = None

    def arm(_plan):
        raise HostError("cannot write a file: No space left on device", where="/x", remedy=Remedy(title="free space"))

    game.manager.arm = arm
    assert _end(game, then).phase is Phase.ROLLED_BACK
    assert game.is_old()


def test_an_abort_is_heard_while_a_limit_is_not_in_force_yet(tmp_path):
    game = Game(
        str(tmp_path), {"a.slice": {"MemoryMax": 512 * M, "MemoryHigh": None}}, {"a.slice": {"MemoryMax": 256 * M}}
    )

    def grow():
        if game.manager.kernel["a.slice"]["MemoryMax"] == 384 * M:
            game.manager.used["a.slice"] = 400 * M

    game.clock.each.append(grow)
    runner, journal = game.runner()
    runner._stop = lambda: game.clock.now > stopped_at
    stopped_at = 1e9

    real = runner._hands.over_usage

    def over_usage(values):
        nonlocal stopped_at
        found = real(values)
        if found:
            stopped_at = min(stopped_at, game.clock.now)
        return found

    runner._hands.over_usage = over_usage
    state = runner.run()
    journal.close()
    assert (state.phase, state.reason) == (Phase.ROLLED_BACK, "rollout abort")
    assert game.clock.now - stopped_at < 5.0


def test_a_rollout_that_began_at_the_same_moment_keeps_its_timer(game):
    """It has overwritten the timer of this one."""
    other = (DeadMan(rollout="r2", seconds=1e6, changes=(), copies={}, removed=(), mark="/x"), game.clock.now + 1e6)
    game.manager.timer = other
    _, journal = game.runner()
    journal.add("rollback", game.clock.wall(), reason="x", left=[])
    journal.close()
    assert game.play().phase is Phase.ROLLED_BACK
    assert game.manager.timer == other
    assert game.is_old()


@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize("reloads", [False, True])
@pytest.mark.parametrize("runtime", [False, True])
def test_what_somebody_else_sets_is_in_the_kernel_at_the_end(tmp_path, runtime, reloads, stage):
    """systemd 257 brings nothing of a changed file to the kernel at a reload."""
    game = Game(str(tmp_path), OLD, NEW)
    game.manager.is_lazy = True
    done = []

    def somebody():
        state = journals.read(game.path).state
        if (state.phase, state.stage) == (Phase.WATCHING, stage) and not done:
            done.append(1)
            game.manager.set_by_anybody("a.slice", {"CPUQuota": 77 * PERCENT}, runtime=runtime)
            if reloads and not runtime:
                game.manager.reload_by_anybody()

    game.clock.each.append(somebody)
    state = game.play()
    assert (state.phase, state.left) == (Phase.ROLLED_BACK, ("a.slice CPUQuota",))
    assert game.manager.memory["a.slice"]["CPUQuota"] == game.manager.kernel["a.slice"]["CPUQuota"] == 77 * PERCENT
    path = f"{RUN if runtime else ETC}/a.slice.d/50-CPUQuota.conf"
    assert [found for found in game.manager.control_state() if found not in game.before] == [path]
    game.manager.reload_by_anybody()
    assert game.manager.memory["a.slice"]["CPUQuota"] == 77 * PERCENT
