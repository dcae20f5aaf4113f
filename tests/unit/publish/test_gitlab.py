"""Publishing to GitLab: report files without a token, a note with one, and nothing that could turn a pipeline green."""

import json
import xml.etree.ElementTree as ET

import pytest

from tests.contract.forge import gitlab as gl
from tests.unit.publish.jobs import FAIL, PASS, fleet, gitlab_env, write_report

NOTES = "/projects/42/merge_requests/5/notes"


@pytest.fixture
def env(gitlab, tmp_path):
    return gitlab_env(gitlab, tmp_path)


@pytest.fixture
def failing(tmp_path):
    return write_report(tmp_path / "report.json", FAIL)


@pytest.fixture
def passing(tmp_path):
    return write_report(tmp_path / "pass.json", PASS)


def test_widgets_need_no_token(gitlab, env, call, failing, tmp_path, capsys):
    env = {name: value for name, value in env.items() if "TOKEN" not in name}
    assert call(env, failing, "--publish", "strict") == 0
    assert gitlab.calls == []
    folder = tmp_path / "cgroup-preflight-reports"
    (entry,) = json.loads((folder / "codequality.json").read_text())
    assert entry["location"] == {"path": "deploy/cgroup-preflight.toml", "lines": {"begin": 12}}
    assert ET.parse(folder / "junit.xml").getroot().get("failures") == "1"
    assert "CGROUP_PREFLIGHT_VERDICT=fail\n" in (folder / "preflight.env").read_text()
    assert json.loads((folder / "annotations.json").read_text())["cgroup-preflight"][0]["external_link"][
        "url"
    ].endswith("/jobs/5000")
    assert "skipped   note: no token" in capsys.readouterr().err
    receipt = [item for item in json.loads((folder / "merged.json").read_text())["findings"] if item["code"] > "CGP6"]
    assert [(item["code"], item["status"]) for item in receipt] == [("CGP601", "pass"), ("CGP607", "skip")]
    assert "scope api" in receipt[1]["remedies"][0]["title"]


def test_a_note_is_made_updated_and_closed(gitlab, env, call, failing, passing, capsys):
    call(env, passing)
    assert gitlab.notes == []
    call(env | {"CI_PIPELINE_ID": "1001"}, failing, "--publish", "strict")
    call(env | {"CI_PIPELINE_ID": "1002"}, failing)
    assert gitlab.writes() == [f"POST {NOTES}"]
    told = capsys.readouterr().err
    assert "unchanged note: already shows this result" in told
    assert f"{gitlab.server_url}/group/demo/-/merge_requests/5#note_" in told
    call(env | {"CI_PIPELINE_ID": "1003"}, passing)
    (note,) = gitlab.notes
    title, todo = note["body"].split("\n")[:2]
    assert title.startswith("## ✅ cgroup-preflight PASS: ")
    assert todo == "**Nothing to do.**"
    assert {item.path for item in gitlab.calls if "status" in item.path or "discussion" in item.path} == set()


def test_a_job_token_is_tried_and_the_right_token_named(gitlab, env, call, failing, capsys):
    assert call(env | {"CGROUP_PREFLIGHT_GITLAB_TOKEN": ""}, failing, "--publish", "strict") == 0
    told = capsys.readouterr().err
    assert "skipped   note: CI_JOB_TOKEN may not write notes here" in told
    assert "scope api" in told
    assert "CGROUP_PREFLIGHT_GITLAB_TOKEN" in told
    assert gitlab.calls[0].headers["job-token"] == gl.JOB_TOKEN


def test_a_missing_scope_is_named(gitlab, env, call, failing, capsys):
    gitlab.scope_missing = True
    assert call(env, failing, "--publish", "strict") == 5
    assert "it lacks the scope api" in capsys.readouterr().err


def test_branch_pipelines_find_their_request(gitlab, env, call, failing, capsys):
    branch = env | {"CI_MERGE_REQUEST_IID": "", "CI_MERGE_REQUEST_PROJECT_ID": ""}
    call(branch, failing)
    assert len(gitlab.notes) == 1
    gitlab.requests[0]["state"] = "merged"
    call(branch | {"CI_PIPELINE_ID": "1001"}, failing)
    assert "no open merge request has this commit as its head" in capsys.readouterr().err


def test_the_source_commit_counts_in_merged_results_pipelines(gitlab, env, call, failing):
    call(env | {"CI_COMMIT_SHA": "9" * 40, "CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": gl.SHA}, failing)
    assert gl.SHA[:12] in gitlab.notes[0]["body"]


def test_an_older_pipeline_does_not_overwrite(gitlab, env, call, failing, passing):
    call(env | {"CI_PIPELINE_ID": "1010"}, failing)
    call(env | {"CI_PIPELINE_ID": "1009"}, passing)
    assert gitlab.notes[0]["body"].startswith("## ❌")


def test_a_retried_job_replaces_its_own_result_and_no_other_jobs(gitlab, env, call, failing, passing):
    call(env | {"CI_JOB_NAME": "one", "CI_JOB_ID": "5001"}, failing)
    call(env | {"CI_JOB_NAME": "two", "CI_JOB_ID": "5002"}, passing)
    assert gitlab.notes[0]["body"].startswith("## ❌")
    call(env | {"CI_JOB_NAME": "one", "CI_JOB_ID": "5003"}, passing)
    assert gitlab.notes[0]["body"].startswith("## ✅")
    call(env | {"CI_JOB_NAME": "one", "CI_JOB_ID": "5001"}, failing)  # late: its retry has reported
    assert gitlab.notes[0]["body"].startswith("## ✅")


def test_short_pages_and_foreign_hosts_in_links(gitlab, env, call, failing):
    gitlab.short_pages, gitlab.public_url = True, "https://inside.example/gitlab/api/v4"
    for number in range(7):
        gitlab.add_note(f"chat {number}")
    call(env, failing, "--publish", "strict")
    call(env | {"CI_PIPELINE_ID": "1001"}, failing)
    assert sum("cgroup-preflight:v1" in note["body"] for note in gitlab.notes) == 1


def test_doubles_are_joined(gitlab, env, call, failing):
    call(env, failing)
    gitlab.add_note(gitlab.notes[0]["body"], "project_42_bot")
    call(env | {"CI_PIPELINE_ID": "1001"}, failing, "--publish", "strict")
    assert len(gitlab.notes) == 1


def test_a_fork_writes_to_the_target(gitlab, env, call, failing):
    call(env | {"CI_PROJECT_ID": "77", "CI_MERGE_REQUEST_PROJECT_ID": "42"}, failing)
    assert len(gitlab.notes) == 1


def test_a_matrix_is_one_note(gitlab, env, call, tmp_path):
    for number, made in enumerate(fleet(20, 5)):
        write_report(tmp_path / "legs" / f"runner-{number}.json", made)
    call(env, str(tmp_path / "legs"))
    assert "**20 runners:** ❌ 2 fail, ✅ 18 pass" in gitlab.notes[0]["body"]
    assert gitlab.writes() == [f"POST {NOTES}"]


def test_dry_run(gitlab, env, call, failing, capsys):
    call(env, failing, "--dry-run")
    assert gitlab.calls == []
    told = capsys.readouterr()
    assert f"POST /gitlab/api/v4{NOTES}\n{{" in told.out
    assert gl.TOKEN not in told.out + told.err


def test_legs_of_a_matrix_share_a_note(gitlab, env, call, failing, passing):
    call(env, failing, "--leg", "preflight: [a|b]")
    call(env | {"CI_JOB_ID": "5001"}, passing, "--leg", "preflight: [c]")
    assert "**2 runners:** ❌ 1 fail, ✅ 1 pass" in gitlab.notes[0]["body"]
