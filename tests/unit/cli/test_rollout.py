"""`rollout` as a user calls it, as far as that needs no service manager; the rest is in the lab."""

import json
import os

import pytest

from cgroup_preflight.cli import common
from cgroup_preflight.cli.guard import guarded
from cgroup_preflight.cli.rollout import _check_server, main
from cgroup_preflight.core import codes
from cgroup_preflight.core.errors import HostError, UsageError
from cgroup_preflight.core.report import Status
from cgroup_preflight.report.headline import headline
from cgroup_preflight.rollout import journal as journals
from cgroup_preflight.rollout.session import (
    BusyError,
    abort_file,
    last,
    locked,
    new_name,
    refuse_other,
    state_folder,
    taking_over,
)
from tests.unit.rollout.played import Game
from tests.unit.rollout.test_run import NEW, OLD, harm


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    return str(path)


@pytest.fixture
def in_process(capfd):
    """Calls the command here; exit status, stdout and stderr."""

    def run(*words):
        try:
            status = guarded(lambda: main(list(words[1:])))
        except SystemExit as end:
            status = end.code
        return status, *capfd.readouterr()

    return run


def test_status_shows_the_steps_and_the_end(in_process, folder):
    Game(folder, OLD, NEW).play()
    status, out, err = in_process("rollout", "status", "--state", folder, "--format", "json")
    report = json.loads(out)
    assert (status, report["verdict"]) == (0, "pass")
    assert report["findings"][-1]["code"] == "CGP800"
    assert f"{folder}/r1.journal" in err


def test_status_of_a_rollout_that_was_taken_back_fails_with_the_reason(in_process, folder):
    game = Game(folder, OLD, NEW)
    game.watcher = harm()
    game.play()
    status, out, _ = in_process("rollout", "status", "--state", folder)
    assert status == 1
    assert "CGP805" in out
    assert "throttled" in out
    assert in_process("rollout", "abort", "--yes", "--state", folder)[0] == 2, "it is over"


def test_status_of_an_unfinished_rollout_is_unverified(in_process, folder):
    game = Game(folder, OLD, NEW)
    game.manager.kill_at = 30
    game.play()
    status, out, _ = in_process("rollout", "status", "--state", folder)
    assert status == 3
    assert "rollout resume" in out


def test_nothing_to_show_is_a_wrong_call(in_process, folder):
    for words in (["status"], ["abort", "--yes"], ["resume"]):
        status, _, err = in_process("rollout", *words, "--state", folder)
        assert status == 2
        assert "there was no rollout" in err


def test_a_journal_with_another_first_record_is_not_followed(in_process, folder):
    game = Game(folder, OLD, NEW)
    game.manager.kill_at = 30
    game.play()
    # The record of the played host has no units: nothing may be restored from it.
    status, _, err = in_process("rollout", "resume", "--state", folder)
    assert status == 3
    assert "the journal cannot be used" in err


def test_nobody_to_ask_is_a_wrong_call(in_process, folder):
    assert in_process("rollout")[0] == 2
    assert in_process("rollout", "undo")[0] == 2


@pytest.mark.parametrize(
    ("url", "good"),
    [("", True), ("http://127.0.0.1:9090", True), ("http://[::1]:9090", True), ("http://localhost", True), ("http://10.0.0.1", False),
     ("http://prometheus", False)],
)  # fmt: skip
def test_a_server_of_another_machine_needs_a_word_of_the_caller(url, good):
    _check_server(url, allow=True)
    if good:
        _check_server(url, allow=False)
        return
    with pytest.raises(UsageError, match="another machine"):
        _check_server(url, allow=False)


def test_the_folder_of_journals_belongs_to_one_user(folder):
    assert state_folder(folder) == folder
    os.chmod(folder, 0o777)
    with pytest.raises(UsageError, match="nobody else"):
        state_folder(folder)


def test_one_rollout_at_a_time(folder):
    with locked(folder), pytest.raises(BusyError), locked(folder):
        pass
    with locked(folder):
        pass


def test_an_abort_leaves_nothing_behind(folder):
    with taking_over(folder, "r1"):
        assert os.path.exists(abort_file(folder, "r1"))
    assert not os.path.exists(abort_file(folder, "r1"))


def test_a_lock_that_cannot_be_used_is_said(folder):
    os.mkdir(os.path.join(folder, "lock"))
    with pytest.raises(HostError, match="cannot use the lock"), locked(folder):
        pass


def test_an_abort_needs_no_space_where_no_tool_runs(folder):
    """A folder instead of the file: nothing can be written there, as on a full disk."""
    with locked(folder):
        pass
    os.mkdir(abort_file(folder, "r1"))
    with locked(folder), pytest.raises(BusyError), taking_over(folder, "r1"):
        pass
    with taking_over(folder, "r1"), pytest.raises(BusyError), locked(folder):
        pass


def test_the_newest_journal_with_a_record_counts(folder):
    Game(folder, OLD, NEW).play()
    journals.create(os.path.join(folder, "r2.journal")).close()
    path, found = last(folder)
    assert os.path.basename(path) == "r1.journal"
    assert found.records[0]["rollout"] == "r1"


@pytest.mark.parametrize(
    ("findings", "line"),
    [
        ((codes.ROLLOUT_PLAN.finding(Status.PASS, "a.slice", "CPUQuota: 200% -> 100%"),), "PASS: 1 value would change"),
        ((codes.ROLLOUT.finding(Status.PASS, "r1", "the new values are persistent after 4 steps"),), "PASS: the new values are persistent after 4 steps"),
        ((codes.ROLLOUT_TAKEN_BACK.finding(Status.FAIL, "r1", "the old values are back: x"),), "FAIL: 1 of 1 check failed: CGP805 r1"),
        ((codes.HOST.finding(Status.PASS, "web1", "x"), codes.ROLLOUT_PLAN.finding(Status.PASS, "web1: a.slice", "CPUQuota: 200% -> 100%")),
         "PASS: 1 value would change"),
        (tuple(codes.ROLLOUT.finding(Status.PASS, name, "the new values are persistent", evidence={"phase": "done"}) for name in "ab"),
         "PASS: 2 rollouts: the new values are persistent"),
    ],
)  # fmt: skip
def test_the_headline_claims_no_proof_of_a_service(findings, line):
    assert headline(common.report(common.start(), None, findings)) == line


def test_the_newest_journal_is_the_last_one_also_if_the_clock_was_set_back():
    now = 1_700_000_000.0
    first = new_name([], now)
    assert first.startswith("20231114-221320-")
    paths = [f"/x/{first}.journal", "/x/r1.journal"]
    assert new_name(paths, now - 86400).startswith("20231114-221321-")
    assert new_name(paths, now + 60).startswith("20231114-221420-")


def test_the_timer_of_another_rollout_is_left_alone(tmp_path):
    game = Game(str(tmp_path), OLD, NEW)
    refuse_other(game, "r1")
    game.manager.kill_at = 30
    game.play()
    refuse_other(game, "r1")
    with pytest.raises(BusyError, match="another rollout"):
        refuse_other(game, "r2")


def test_a_report_that_could_not_be_written_is_refused_before_anything_changes(in_process, tmp_path):
    (tmp_path / "c.toml").write_text('[project]\nname = "x"\n')
    call = ("rollout", "apply", "--yes", "--config", str(tmp_path / "c.toml"), "--state", str(tmp_path / "state"))
    status, _, err = in_process(*call, "--format", f"json={tmp_path}/none/report.json")
    assert status == 2
    assert "the folder of the report does not exist" in err
    assert not (tmp_path / "state").exists()
