"""Whole rollouts on a manager that is played: good ones, harmful ones, and those that are killed anywhere."""

import dataclasses
import errno
import os
from types import SimpleNamespace

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.rollout import journal as journals
from cgroup_preflight.rollout.limits import PERCENT
from cgroup_preflight.rollout.machine import Phase
from cgroup_preflight.rollout.outcome import findings_of
from tests.unit.rollout.played import ETC, QUIET, RUN, UNITS, Game, M, PlayedWatcher
from tests.unit.rollout.test_judge import window

OLD = {"a.slice": {"CPUQuota": 200 * PERCENT, "MemoryMax": 512 * M, "MemoryHigh": None},
       "a-b.slice": {"CPUQuota": None, "MemoryMax": None, "MemoryHigh": None}}  # fmt: skip
NEW = {"a.slice": {"CPUQuota": 100 * PERCENT, "MemoryMax": 256 * M}, "a-b.slice": {"CPUQuota": 50 * PERCENT}}


@pytest.fixture
def game(tmp_path):
    return Game(str(tmp_path), OLD, NEW)


def test_a_good_change_goes_through_all_steps_and_becomes_persistent(game):
    state = game.play()
    assert state.phase is Phase.DONE
    assert game.is_new()
    assert game.manager.timer is None
    assert f"{ETC}/a.slice.d/50-CPUQuota.conf" in game.manager.files
    assert not [path for path in game.manager.files if path.startswith(RUN)]
    kinds = [record["kind"] for record in journals.read(game.path).records]
    assert kinds.count("step") == len(game.stages)
    assert kinds[-3:] == ["judged", "promote", "promoted"]
    assert game.hooks == ["before", "after"] * len(game.stages)


def test_a_quota_that_throttles_is_taken_back_at_its_step(game):
    game.watcher = PlayedWatcher(*[QUIET] * 3, window(throttled=0.5))
    state = game.play()
    assert (state.phase, state.stage) == (Phase.ROLLED_BACK, 1)
    assert "throttled" in state.reason
    assert game.is_old()
    assert game.manager.timer is None
    assert game.hooks[-1] == "back"


def test_an_alarm_takes_back_at_once(game):
    began = []

    def alarm():
        if game.manager.memory["a.slice"]["CPUQuota"] != 200 * PERCENT and not game.watcher.alarm:
            game.watcher.alarm.append("an OOM kill in a.slice")
            began.append(game.clock.now)
        if began and game.manager.kernel["a.slice"]["CPUQuota"] == 200 * PERCENT:
            began.append(game.clock.now)

    game.clock.each.append(alarm)
    state = game.play()
    assert state.reason == "an OOM kill in a.slice"
    assert game.is_old()
    assert began[1] - began[0] <= 2.0 if len(began) > 1 else True


def test_an_oom_kill_during_a_hook_is_taken_back_before_the_next_value(game):
    """Nobody looks while a hook runs."""
    before = dict(game.manager.kernel["a.slice"])

    def hook(when, _state, _stage):
        if when == "before":
            assert game.manager.kernel["a.slice"] == before
            game.watcher.alarm.append("an OOM kill in a.slice")
        return ""

    game.hook = hook
    assert game.play().reason == "an OOM kill in a.slice"
    assert game.is_old()
    assert "verified" not in [record["kind"] for record in journals.read(game.path).records]


def test_an_oom_kill_after_the_last_sample_of_the_soak_is_never_promoted(game):
    def said(line):
        records = journals.read(game.path).records
        if sum(record["kind"] == "judged" for record in records) == len(game.stages) + 1:
            game.watcher.alarm.append("an OOM kill in a.slice")

    game.said = SimpleNamespace(append=said)
    assert game.play().reason == "an OOM kill in a.slice"
    assert game.is_old()
    assert "promote" not in [record["kind"] for record in journals.read(game.path).records]


def test_no_numbers_pause_and_are_taken_back_at_the_deadline(game):
    game.watcher = PlayedWatcher(window(void="a counter went back"))
    state = game.play()
    assert state.phase is Phase.ROLLED_BACK
    assert "no verdict within 60s" in state.reason
    assert game.clock.now - 1000.0 < 200.0
    kinds = [record["kind"] for record in journals.read(game.path).records]
    assert kinds.count("watch") >= 1
    assert game.is_old()


def test_numbers_that_come_back_end_the_pause(game):
    game.watcher = PlayedWatcher(*[window(void="a counter went back")] * 3, QUIET)
    assert game.play().phase is Phase.DONE


def test_a_kernel_that_swallows_the_write_is_no_success(game):
    game.manager.deaf.add("CPUQuota")
    state = game.play()
    assert state.phase is Phase.ROLLED_BACK
    assert "the kernel's file says" in state.reason


def test_a_refusal_of_the_manager_is_not_a_step(game):
    game.manager.refuses = "Access denied"
    state = game.play()
    # Nothing can be set, but nothing was.
    assert state.phase is Phase.ROLLED_BACK
    assert "Access denied" in state.reason


def test_somebody_elses_value_is_left_alone_and_named(game):
    def somebody():
        if game.manager.memory["a.slice"]["CPUQuota"] != 200 * PERCENT and not done:
            done.append(1)
            game.manager.set_by_anybody("a.slice", {"CPUQuota": 77 * PERCENT}, runtime=False)

    done = []
    game.clock.each.append(somebody)
    state = game.play()
    assert state.phase is Phase.ROLLED_BACK
    assert state.left == ("a.slice CPUQuota",)
    # Our own drop-in sorts last until the rollback; theirs is the other one.
    assert "a.slice: CPUQuota must be" in state.reason
    assert game.manager.memory["a.slice"]["CPUQuota"] == 77 * PERCENT
    assert game.manager.memory["a.slice"]["MemoryMax"] == 512 * M
    assert game.manager.files[f"{ETC}/a.slice.d/50-CPUQuota.conf"]


def test_a_reload_in_mid_step_changes_nothing(tmp_path):
    # The persistent drop-in of an earlier rollout has the old value.
    game = Game(str(tmp_path), OLD, NEW, files={f"{ETC}/a.slice.d/50-CPUQuota.conf": "[Slice]\nCPUQuota=150%\n"})
    assert game.old["a.slice"]["CPUQuota"] == 150 * PERCENT
    game.clock.each.append(game.manager.reload_by_anybody)
    assert game.play().phase is Phase.DONE
    assert game.is_new()


def test_a_percentage_that_a_reload_would_bring_back_goes_with_the_promotion(tmp_path):
    stale = f"{ETC}/a.slice.d/50-MemoryMaxScale.conf"
    game = Game(str(tmp_path), OLD, NEW, files={stale: f"[Slice]\nMemoryMax={400 * M}\n"})
    assert game.play().phase is Phase.DONE
    assert stale not in game.manager.files
    assert game.is_new()


def test_memory_max_waits_until_the_memory_is_reclaimed(game):
    game.manager.used["a.slice"] = 500 * M

    def reclaim():
        # The kernel reclaims down to memory.high.
        high = game.manager.kernel["a.slice"]["MemoryHigh"]
        if high is not None:
            game.manager.used["a.slice"] = min(game.manager.used["a.slice"], high)

    game.clock.each.append(reclaim)
    assert game.play().phase is Phase.DONE


def test_memory_that_stays_is_no_success(game):
    game.manager.used["a.slice"] = 500 * M
    state = game.play()
    assert state.phase is Phase.ROLLED_BACK
    assert "still uses more than 95%" in state.reason
    assert game.is_old()


def test_a_timer_that_fired_is_believed(game):
    def late():
        if game.manager.timer and len(journals.read(game.path).records) > 4:
            game.manager.timer = (game.manager.timer[0], 0.0)

    game.clock.each.insert(0, late)
    state = game.play()
    assert state.phase is Phase.ROLLED_BACK
    assert "timer" in state.reason
    assert game.is_old()


def _acts(tmp_path, watcher=None) -> int:
    os.mkdir(tmp_path / "all")
    game = Game(str(tmp_path / "all"), OLD, NEW)
    game.watcher = watcher() if watcher else game.watcher
    game.play()
    return game.manager.acts


def harm():
    return PlayedWatcher(*[QUIET] * 4, window(throttled=0.9))


def test_a_restart_of_the_host_ends_the_rollout_and_the_reason_says_so(game):
    game.manager.kill_at = 30
    assert game.play() is None
    assert journals.read(game.path).state.stage >= 0
    game.manager.start_again()
    state = game.play()
    assert state.phase is Phase.ROLLED_BACK
    assert "the host was started again" in state.reason
    assert game.is_old()


@pytest.mark.parametrize("watcher", [PlayedWatcher, harm])
@pytest.mark.parametrize("then", ["resume", "timer", "restart", "abort"])
def test_killed_at_any_act_it_ends_wholly_old_or_wholly_new(tmp_path, watcher, then):
    total = _acts(tmp_path, watcher)
    assert total > 40
    # The two ways that any crash can take are tried everywhere.
    for number in range(0, total, 1 if then in ("resume", "timer") else 3):
        folder = tmp_path / str(number)
        folder.mkdir()
        game = Game(str(folder), OLD, NEW)
        game.watcher = watcher()
        game.manager.kill_at = number
        assert game.play() is None
        if then == "timer" and game.manager.timer is not None:
            game.clock.sleep(game.config.restore_after + 1)
            assert game.is_old(), number
        if then == "restart":
            game.manager.start_again()
        if then == "abort":
            runner, journal = game.runner()
            state = runner.abort("by hand")
            journal.close()
        else:
            state = game.play()
        assert state.phase in (Phase.DONE, Phase.ROLLED_BACK), number
        assert game.is_new() if state.phase is Phase.DONE else game.is_old(), (number, then)
        assert game.manager.timer is None


def test_every_cut_of_the_journal_is_read_and_goes_on(tmp_path):
    # What a disk that lies about fsync has of the journal after a crash: a beginning of it, with a torn last line.
    whole = Game(str(tmp_path), OLD, NEW)
    whole.play()
    with open(whole.path, "rb") as file:
        data = file.read()
    first = data.find(b"\n") + 1
    ends = [at + 1 for at, byte in enumerate(data) if byte == 10]
    for number, end in enumerate([*ends, *(end - 1 for end in ends[1:]), *(end + 7 for end in ends[:-1])]):
        folder = tmp_path / f"cut{number}"
        folder.mkdir()
        game = Game(str(folder), OLD, NEW)
        game.play()
        with open(game.path, "r+b") as file:
            file.truncate(max(end, first))
        state = game.play()
        assert state.phase in (Phase.DONE, Phase.ROLLED_BACK), end
        assert game.is_new() if state.phase is Phase.DONE else game.is_old(), (end, state)


class FullDisk:
    """A file that takes so many writes; stands in for os.write, as no test can fill a disk."""

    def __init__(self, writes: int) -> None:
        self.left = writes
        self.write = os.write

    def __call__(self, handle: int, data: bytes) -> int:
        if self.left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.left -= 1
        return self.write(handle, data)


@pytest.mark.parametrize("writes", range(1, 20))
def test_a_full_disk_at_any_write_brings_the_old_values_back(tmp_path, monkeypatch, writes):
    game = Game(str(tmp_path), OLD, NEW)
    runner, journal = game.runner()
    monkeypatch.setattr(journals.os, "write", FullDisk(writes))
    try:
        state = runner.run()
        assert state.phase is Phase.DONE
    except HostError as error:
        assert "the old values are back" in error.message
        assert game.is_old()
        assert game.manager.timer is None
    finally:
        monkeypatch.undo()
        journal.close()
    # The journal is whole, and a resume comes to an end.
    assert not journals.read(game.path).torn
    assert game.play().phase in (Phase.DONE, Phase.ROLLED_BACK)


def test_our_drop_in_keeps_the_values_of_the_step(game):
    seen = []
    game.clock.each.append(lambda: seen.extend(path for path in game.manager.files if path.startswith(UNITS)))
    game.play()
    assert seen
    assert not [path for path in game.manager.files if path.startswith(UNITS)]


def _promoting(game) -> int:
    """The act with which the promotion begins."""
    begun = []
    real = game.manager.set

    def seen(unit, values, *, runtime):
        if not runtime:
            begun.append(game.manager.acts)
        return real(unit, values, runtime=runtime)

    game.manager.set = seen
    game.play()
    return begun[-1]


def test_a_restart_of_the_host_in_mid_promotion_is_said_and_taken_back_without_anybody(tmp_path):
    (tmp_path / "all").mkdir()
    at = _promoting(Game(str(tmp_path / "all"), OLD, NEW))
    game = Game(str(tmp_path), OLD, NEW)
    game.manager.kill_at = at + 1
    assert game.play() is None
    game.manager.start_again()
    assert not game.is_old(), "one slice has its new values already"
    (end,) = [item for item in findings_of(journals.read(game.path).state, journals.read(game.path).records)
              if item.code == "CGP807"]  # fmt: skip
    assert "some values can be persistent already" in end.message
    game.clock.sleep(game.config.restore_after + 1)
    assert game.is_old()
    assert game.play().phase is Phase.ROLLED_BACK


def test_a_manager_that_gives_no_answer_is_taken_back(game):
    real, calls = game.manager.values, []

    def values(units):
        calls.append(units)
        if len(calls) == 9:
            raise HostError("no answer: it took too long", where="systemctl show", remedy=Remedy(title="wait"))
        return real(units)

    game.manager.values = values
    state = game.play()
    assert state.phase is Phase.ROLLED_BACK
    assert "it took too long" in state.reason
    assert game.is_old()


def test_a_manager_that_is_lost_leaves_the_timer_and_says_that_the_host_is_in_between(game):
    lost = []

    def gone():
        if game.manager.kernel["a.slice"]["CPUQuota"] == 100 * PERCENT:
            lost.append(1)

    def values(units):
        if lost:
            raise HostError("no answer", where="systemctl show", remedy=Remedy(title="wait"))
        return real(units)

    real = game.manager.values
    game.manager.values = values
    game.clock.each.append(gone)
    state = game.play()
    assert state.phase is Phase.STUCK
    assert game.manager.timer is not None
    # The manager is back, and nobody calls resume.
    game.clock.each.remove(gone)
    lost.clear()
    game.clock.sleep(game.config.restore_after + 1)
    assert game.is_old()
    state = game.play()
    assert state.phase is Phase.ROLLED_BACK
    assert game.is_old()


def test_what_somebody_else_sets_while_a_hook_runs_is_not_overwritten(game):
    def hook(when, _state, _stage):
        if when == "before" and len(game.hooks) == 6:
            game.manager.set_by_anybody("a.slice", {"CPUQuota": 77 * PERCENT}, runtime=False)
            game.manager.set = recorded
        game.hooks.append(when)
        return ""

    def recorded(unit, values, *, runtime):
        later.append((unit, *values))
        return real(unit, values, runtime=runtime)

    later, real = [], game.manager.set

    game.hook = hook
    state = game.play()
    assert (state.phase, state.left) == (Phase.ROLLED_BACK, ("a.slice CPUQuota",))
    assert game.manager.memory["a.slice"]["CPUQuota"] == 77 * PERCENT
    assert not [call for call in later if call[0] == "a.slice" and "CPUQuota" in call]


def test_a_persistent_drop_in_of_somebody_else_is_a_conflict_whatever_is_in_force(game):
    def somebody():
        if journals.read(game.path).state.stage == 1:
            game.manager.files[f"{ETC}/a.slice.d/50-CPUQuota.conf"] = "[Slice]\nCPUQuota=77%\n"

    game.clock.each.append(somebody)
    state = game.play()
    assert (state.phase, state.left) == (Phase.ROLLED_BACK, ("a.slice CPUQuota",))
    assert game.manager.files[f"{ETC}/a.slice.d/50-CPUQuota.conf"] == "[Slice]\nCPUQuota=77%\n"
    assert game.manager.memory["a.slice"]["MemoryMax"] == 512 * M


def test_an_alarm_while_memory_is_reclaimed_is_taken_back_at_once(game):
    game.manager.used["a.slice"] = 500 * M
    game.clock.each.append(lambda: game.watcher.alarm.append("an OOM kill") if game.clock.now > 1060 else None)
    state = game.play()
    assert state.reason == "an OOM kill"
    assert game.clock.now < 1065


def test_a_limit_that_is_back_and_below_the_usage_is_not_said_to_be_back(tmp_path):
    game = Game(
        str(tmp_path), {"a.slice": {"MemoryMax": 256 * M, "MemoryHigh": None}}, {"a.slice": {"MemoryMax": 512 * M}}
    )
    game.watcher = harm()

    def grow():
        if game.manager.kernel["a.slice"]["MemoryMax"] == 512 * M:
            game.manager.used["a.slice"] = 400 * M

    game.clock.each.append(grow)
    state = game.play()
    # Linux 6.16 and systemd 258 write the limit without waiting: it reads back, and nothing is below it.
    assert state.phase is Phase.STUCK
    assert "not in force yet: 400M are in use" in state.reason
    game.clock.each.remove(grow)
    game.manager.used["a.slice"] = 100 * M
    assert game.play().phase is Phase.ROLLED_BACK


def test_what_is_said_to_be_persistent_is_on_the_disk(game):
    real, synced = journals.Journal.add, []

    def add(journal, kind, at, **fields):
        if kind == "promoted":
            synced.append(dict(game.manager.synced))
        return real(journal, kind, at, **fields)

    runner, journal = game.runner()
    journal.add = add.__get__(journal)
    assert runner.run().phase is Phase.DONE
    (found,) = synced
    assert {path: text for path, text in game.manager.files.items() if path.startswith(ETC)} == found


def test_a_timer_that_begins_while_it_is_stopped_is_no_promotion(game):
    real = game.manager.disarm

    def disarm():
        # It has set the values, and not yet made its mark.
        if journals.read(game.path).state.phase is Phase.PROMOTING:
            game.manager.set_by_anybody("a.slice", {"CPUQuota": 200 * PERCENT}, runtime=True)
        real()

    game.manager.disarm = disarm
    assert game.play().phase is Phase.ROLLED_BACK
    assert game.is_old()


@pytest.mark.parametrize("answers_again", [True, False])
def test_a_manager_that_shows_nothing_is_not_somebody_else(tmp_path, answers_again):
    game = Game(str(tmp_path), {"a.slice": {"CPUQuota": 200 * PERCENT}}, {"a.slice": {"CPUQuota": 100 * PERCENT}})
    shown, silent = game.manager.values, []

    def values(units):
        changed = game.manager.memory["a.slice"]["CPUQuota"] != 200 * PERCENT
        if changed and not silent:
            silent.append(game.clock.now)
        return {} if silent and (not answers_again or game.clock.now < silent[0] + 5.0) else shown(units)

    game.manager.values = values
    state = game.play()
    assert "does not show CPUQuota" in state.reason
    assert state.left == ()
    assert state.phase is (Phase.ROLLED_BACK if answers_again else Phase.STUCK)
    assert not answers_again or game.is_old()


def test_a_service_that_fails_as_soon_as_the_first_value_is_set_is_seen(game):
    class Watcher(PlayedWatcher):
        """Knows a service only from `begin` on, as the real one."""

        known = None

        def has_failed(self):
            return game.manager.memory["a.slice"] != game.old["a.slice"] or self.known == "failed"

        def begin(self):
            self.known = self.known or ("failed" if self.has_failed() else "active")

        def alarms(self):
            return ("a.service failed",) if self.known == "active" and self.has_failed() else ()

        kills = alarms

    game.watcher = Watcher()
    state = game.play()
    assert (state.phase, state.stage, state.reason) == (Phase.ROLLED_BACK, 0, "a.service failed")
    assert game.is_old()


def test_the_deadline_counts_from_the_pause_that_goes_on(game):
    """The soak pauses for the first time, long after a step that paused, too."""
    void = window(void="a counter went back")
    each = [QUIET] * 3
    game.config = dataclasses.replace(game.config, soak=90.0, deadline=60.0)
    # The last stage pauses once; the soak has 9 windows.
    game.watcher = PlayedWatcher(*each * (len(game.stages) - 1), void, QUIET, QUIET, *each, *[void] * 9, QUIET)
    state = game.play()
    verdicts = [item["verdict"] for item in journals.read(game.path).records if item["kind"] == "judged"]
    assert verdicts == ["success"] * (len(game.stages) - 1) + ["inconclusive", "success", "inconclusive", "success"]
    assert state.phase is Phase.DONE


def test_a_file_has_one_backup_whatever_is_left_out(tmp_path):
    files = {f"{ETC}/a.slice.d/50-{name}.conf": f"[Slice]\n{name}=\n" for name in ("CPUQuota", "TasksMax")}
    old = {"a.slice": {"CPUQuota": None, "TasksMax": 5}}
    game = Game(str(tmp_path), old, {"a.slice": {"CPUQuota": 100 * PERCENT, "TasksMax": 9}}, files=files)
    hands, journal = game.runner()
    journal.close()
    hands._hands.arm()
    every = dict(game.manager.timer[0].copies)
    hands._hands.arm(("a.slice CPUQuota",))
    assert game.manager.timer[0].copies.items() < every.items()
    assert {path: game.manager.files[backup] for backup, path in every.items()} == files


def test_a_slice_that_somebody_stopped_has_its_old_values_back(game):
    def stop():
        if game.manager.memory["a.slice"]["CPUQuota"] != 200 * PERCENT:
            game.manager.stopped.add("a.slice")

    game.clock.each.append(stop)
    state = game.play()
    assert state.phase is Phase.ROLLED_BACK
    assert "the kernel's file says nothing" in state.reason
    game.manager.stopped.clear()
    assert game.is_old()


def test_a_timer_that_got_to_the_files_only_is_no_promotion(game):
    """It had begun when it was stopped, and could not set the values."""
    disarm, removed = game.manager.disarm, []

    def stopped_in_mid_work():
        if not removed:
            removed.append(game.manager.files.pop(f"{ETC}/a.slice.d/50-CPUQuota.conf"))
        disarm()

    game.manager.disarm = stopped_in_mid_work
    assert game.play().phase is Phase.ROLLED_BACK
    assert removed
    assert game.is_old()


def test_the_timer_leaves_what_somebody_else_changed_alone_too(game):
    """The rollback is stuck, so that the timer fires."""
    path = f"{ETC}/a.slice.d/50-CPUQuota.conf"

    def somebody():
        if game.manager.memory["a.slice"]["MemoryMax"] != 512 * M and path not in game.manager.files:
            game.manager.set_by_anybody("a.slice", {"CPUQuota": 77 * PERCENT}, runtime=False)
            game.manager.deaf.add("MemoryMax")

    game.clock.each.append(somebody)
    state = game.play()
    assert (state.phase, state.left) == (Phase.STUCK, ("a.slice CPUQuota",))
    theirs = game.manager.files[path]
    game.clock.each.remove(somebody)
    game.manager.deaf.clear()
    game.clock.sleep(game.config.restore_after + 1)
    assert os.path.join(game.folder, "r1.restored") in game.manager.files
    assert game.manager.files[path] == theirs
    assert game.manager.memory["a.slice"]["CPUQuota"] == 77 * PERCENT
    assert game.manager.kernel["a.slice"]["MemoryMax"] == 512 * M
