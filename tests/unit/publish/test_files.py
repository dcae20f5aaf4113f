"""The channels without a token: report files, job summary, outputs, log."""

import json
import os
import re
from pathlib import Path

import pytest

from cgroup_preflight.core.report import Status
from cgroup_preflight.publish import files
from cgroup_preflight.publish.github import job_files
from cgroup_preflight.publish.options import view
from cgroup_preflight.publish.receipt import Delivery, Outcome
from cgroup_preflight.report.merge import Leg
from tests.unit.publish.jobs import FAIL, PASS, github_env, gitlab_env, write_report
from tests.unit.report.samples import finding, report

MERGED = view((Leg(name="report", report=FAIL),))


def test_files_are_replaced_as_a_whole_and_links_are_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / "out").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "out" / "a.txt")
    outcome = files.write_files(str(tmp_path / "out"), {"a.txt": "new \ud800", "b.txt": "b"})
    assert (outcome.channel, outcome.delivery) == ("report files", Delivery.DELIVERED)
    assert outcome.detail == f"a.txt, b.txt in {tmp_path / 'out'}"
    assert sorted(item.name for item in (tmp_path / "out").iterdir()) == ["a.txt", "b.txt"]
    assert (tmp_path / "out" / "a.txt").read_text() == "new \\ud800"
    assert (tmp_path / "elsewhere").read_text() == "kept"


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    outcome = files.write_files(str(tmp_path / "file" / "out"), {"a": "b"})
    assert (outcome.channel, outcome.delivery) == ("report files", Delivery.FAILED)
    assert outcome.detail == f"{tmp_path / 'file' / 'out'}: Not a directory"
    assert outcome.hint == "choose a folder that the job can write: --files DIR"


def test_every_report_file_and_the_receipt_in_the_report():
    made = files.report_files(MERGED, {"job": "https://gitlab.example/-/jobs/1"})
    assert sorted(made) == [
        "annotations.json",
        "codequality.json",
        "junit.xml",
        "merged.json",
        "preflight.env",
        "report.md",
    ]
    assert "https://gitlab.example/-/jobs/1" in made["annotations.json"]
    assert made["report.md"].startswith("## ❌")
    told = files.merged_file(MERGED, [Outcome(channel="note", delivery=Delivery.SKIPPED)])["merged.json"]
    assert [item["code"] for item in json.loads(told)["findings"]][-1] == "CGP607"
    large = report(*(finding(Status.FAIL, subject=f"s{number}", message="m" * 500) for number in range(1000)))
    assert len(files.report_files(view((Leg(name="x", report=large),)), {})["report.md"].encode()) <= 200_000


def test_the_room_in_a_summary(tmp_path):
    path = tmp_path / "summary.md"
    assert job_files.summary_room(str(path)) == (1 << 20) - 1000
    path.write_text("x" * 5000)
    assert job_files.summary_room(str(path)) == (1 << 20) - 6000


def test_what_is_appended(tmp_path):
    path = tmp_path / "summary.md"
    path.write_text("before")
    outcome = job_files.append_summary(str(path), "é\ud800")
    assert path.read_text() == "before\né\\ud800\n"
    assert (outcome.channel, outcome.delivery) == ("summary", Delivery.DELIVERED)
    outcome = job_files.append_outputs(str(tmp_path / "out"), {"verdict": "fail", "findings": "1"})
    assert (outcome.channel, outcome.delivery, outcome.detail) == ("outputs", Delivery.DELIVERED, "verdict, findings")
    lines = (tmp_path / "out").read_text().splitlines()
    for at, name, value in ((0, "verdict", "fail"), (3, "findings", "1")):
        delimiter = lines[at].removeprefix(f"{name}<<")
        assert delimiter.startswith("end-")
        assert lines[at : at + 3] == [f"{name}<<{delimiter}", value, delimiter]
    for append, channel in ((job_files.append_summary, "summary"), (job_files.append_outputs, "outputs")):
        failed = append(str(tmp_path), "x" if channel == "summary" else {"a": "b"})
        assert (failed.channel, failed.delivery) == (channel, Delivery.FAILED)
        assert failed.detail == "cannot write the file: Is a directory"


@pytest.fixture
def failing(tmp_path):
    return write_report(tmp_path / "report.json", FAIL)


def test_without_the_runners_files_the_receipt_says_so(github, tmp_path, call, failing, capsys):
    env = github_env(github, tmp_path, GITHUB_STEP_SUMMARY="", GITHUB_OUTPUT="")
    assert call(env, failing, "--publish", "strict") == 0
    told = capsys.readouterr().err
    assert "skipped   summary: GITHUB_STEP_SUMMARY is not set" in told
    assert "outputs" not in told
    github.lacks = {"checks"}
    assert call(env | {"GITHUB_RUN_ID": "101"}, write_report(tmp_path / "r.json", PASS), "--publish", "strict") == 5


def test_a_summary_that_is_nearly_full_is_left_alone(github, tmp_path, call, failing, capsys):
    env = github_env(github, tmp_path)
    summary = Path(env["GITHUB_STEP_SUMMARY"])
    summary.write_text("x" * ((1 << 20) - 1000 - 15_999))
    call(env, failing)
    assert "skipped   summary: the summary of this step is full" in capsys.readouterr().err
    assert summary.read_text().strip("x") == ""
    summary.write_text("x" * ((1 << 20) - 1000 - 16_000))
    call(env, failing)
    assert "delivered summary" in capsys.readouterr().err


def test_verdict_findings_and_addresses_are_outputs(github, tmp_path, call):
    made = report(finding(Status.FAIL), finding(Status.UNVERIFIED, subject="u"), finding(Status.WARN, subject="w"))
    env = github_env(github, tmp_path)
    call(env, write_report(tmp_path / "r.json", made))
    lines = Path(env["GITHUB_OUTPUT"]).read_text().splitlines()
    values = {line.split("<<")[0]: lines[at + 1] for at, line in enumerate(lines) if "<<" in line}
    assert re.fullmatch("cgroup-preflight-[0-9a-f]{16}", values.pop("artifact"))
    assert values == {
        "verdict": "fail", "findings": "2", "check-url": github.checks[0]["html_url"], "comment-url": github.comments[0]["html_url"],
    }  # fmt: skip


def test_report_files_are_written_where_they_are_asked_for(github, gitlab, tmp_path, call, failing):
    call(github_env(github, tmp_path), failing)
    call(gitlab_env(gitlab, tmp_path), failing, "--dry-run")
    assert not (tmp_path / "cgroup-preflight-reports").exists()
    call(github_env(github, tmp_path), failing, "--files", "mine")
    assert (tmp_path / "mine" / "junit.xml").is_file()
    call(gitlab_env(gitlab, tmp_path), failing, "--files", "other")
    assert not (tmp_path / "cgroup-preflight-reports").exists()
    codes = [item["code"] for item in json.loads((tmp_path / "other" / "merged.json").read_text())["findings"]]
    assert codes[-2:] == ["CGP601", "CGP607"]


def test_a_folder_that_cannot_be_made_stops_no_other_channel(gitlab, tmp_path, call, failing, capsys):
    (tmp_path / "file").write_text("")
    assert call(gitlab_env(gitlab, tmp_path), failing, "--files", "file", "--publish", "strict") == 5
    assert "failed    report files: file: File exists" in capsys.readouterr().err
    assert len(gitlab.notes) == 1
    assert (tmp_path / "file").read_text() == ""


def test_notes_can_be_switched_off(gitlab, tmp_path, call, failing, capsys):
    assert call(gitlab_env(gitlab, tmp_path), failing, "--comment", "never") == 0
    assert gitlab.calls == []
    assert "note" not in capsys.readouterr().err


def test_a_token_of_the_user_that_is_refused_is_a_failure(gitlab, tmp_path, call, failing, capsys):
    env = gitlab_env(gitlab, tmp_path, CGROUP_PREFLIGHT_GITLAB_TOKEN="wrong-token")
    assert call(env, failing, "--publish", "strict") == 5
    assert "next: the token is not valid or has expired; create a project access token" in capsys.readouterr().err


def test_a_job_token_that_meets_a_broken_server_is_a_failure(gitlab, tmp_path, call, failing, capsys):
    gitlab.fail(status=422, times=9)
    assert call(gitlab_env(gitlab, tmp_path, CGROUP_PREFLIGHT_GITLAB_TOKEN=""), failing, "--publish", "strict") == 5
    assert "failed    note" in capsys.readouterr().err


def test_dry_runs_follow_what_the_job_may_do(github, gitlab, tmp_path, call, failing, capsys):
    fork = {
        "number": 7,
        "pull_request": {"head": {"sha": "1" * 40, "repo": None}, "base": {"repo": {"full_name": "org/demo"}}},
    }
    call(github_env(github, tmp_path, event=fork), failing, "--dry-run")
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("a run of a fork's pull request: its token may only read") == 2
    assert told.err.count("docs/workflow-run.md") == 2
    call(github_env(github, tmp_path, GITHUB_TOKEN=""), failing, "--dry-run", "--check", "off")
    out = capsys.readouterr().out
    assert "POST /api/v3/repos/org/demo/issues/7/comments" in out
    assert "check-runs" not in out
    nothing = {"CGROUP_PREFLIGHT_GITLAB_TOKEN": "", "CI_JOB_TOKEN": ""}
    call(gitlab_env(gitlab, tmp_path, **nothing), failing, "--dry-run")
    assert "POST /gitlab/api/v4/projects/42/merge_requests/5/notes" in capsys.readouterr().out
    assert github.calls == gitlab.calls == []


def test_a_notice_leaves_room_for_the_tenth(github, tmp_path, call, capsys):
    """GitHub shows ten notices of a step; the one about the token is among them."""
    made = report(finding(Status.FAIL), *(finding(Status.WARN, subject=f"w{number}") for number in range(20)))
    github.lacks = {"checks", "pull_requests"}
    call(github_env(github, tmp_path, GITHUB_ACTOR="dependabot[bot]"), write_report(tmp_path / "r.json", made))
    out = capsys.readouterr().out
    assert out.count("::notice ") == 10
    assert out.count("::notice title=cgroup-preflight::a run started by Dependabot") == 1
