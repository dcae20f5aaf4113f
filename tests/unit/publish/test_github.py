"""Publishing to GitHub: what is sent, when nothing is sent, and what the receipt says."""

import json
import sys
import threading
import time
from pathlib import Path

import pytest

from cgroup_preflight.core.report import Remedy, RemedyFile, Status
from cgroup_preflight.publish import forges
from cgroup_preflight.publish.clock import Outside, RequestClock
from cgroup_preflight.publish.options import Options, Results, view
from cgroup_preflight.publish.origin import LegId
from cgroup_preflight.report.merge import Leg
from tests.contract.forge import github as gh
from tests.unit.publish.jobs import FAIL, PASS, fleet, github_env, pull_event, write_report
from tests.unit.report.samples import finding, report


@pytest.fixture
def env(github, tmp_path):
    return github_env(github, tmp_path)


@pytest.fixture
def failing(tmp_path):
    return write_report(tmp_path / "report.json", FAIL)


@pytest.fixture
def passing(tmp_path):
    return write_report(tmp_path / "pass.json", PASS)


def _receipt(capsys):
    return capsys.readouterr().err


def test_first_fail_makes_a_check_run_and_a_comment(github, env, call, failing, capsys):
    assert call(env, failing, "--publish", "strict") == 0
    (check,) = github.checks
    assert (check["head_sha"], check["status"], check["conclusion"]) == (gh.SHA, "completed", "failure")
    assert check["annotations"][0]["path"] == "deploy/cgroup-preflight.toml"
    assert check["annotations"][0]["start_line"] == 12
    (comment,) = github.comments
    assert comment["body"].startswith(
        "## ❌ cgroup-preflight FAIL: 1 of 2 checks failed: <code>CGP501</code> user-api\n**To do:** raise MemoryMax"
    )
    assert github.writes() == ["POST /repos/org/demo/check-runs", "POST /repos/org/demo/issues/7/comments"]
    told = capsys.readouterr()
    assert "delivered comment: up to date https://github.example/org/demo/pull/7#issuecomment-" in told.err
    assert told.out.startswith("::error title=CGP501")
    assert Path(env["GITHUB_STEP_SUMMARY"]).read_text().startswith("\n## ❌")


def test_nothing_is_written_where_nothing_changed(github, env, call, failing, capsys):
    call(env, failing)
    github.calls.clear()
    assert call(env | {"GITHUB_RUN_ID": "101"}, failing) == 0
    assert github.writes() == ["POST /api/graphql"]
    assert "unchanged comment" in _receipt(capsys)


def test_a_pass_makes_no_comment_but_turns_an_old_one_green(github, env, call, failing, passing):
    call(env, passing)
    assert github.comments == []
    assert github.checks[0]["conclusion"] == "success"
    call(env | {"GITHUB_RUN_ID": "101"}, failing)
    call(env | {"GITHUB_RUN_ID": "102"}, passing)
    (comment,) = github.comments
    assert comment["body"].startswith("## ✅ cgroup-preflight PASS: ")
    assert [check["conclusion"] for check in github.checks] == ["success", "failure", "success"]


def test_comment_modes(github, env, call, failing, passing, tmp_path):
    call(env, passing, "--comment", "always", "--check", "off")
    assert len(github.comments) == 1
    github.comments.clear()
    call(env, failing, "--comment", "never", "--check", "off")
    assert github.comments == []
    baseline = write_report(tmp_path / "base.json", FAIL)
    call(env, passing, "--baseline", baseline, "--check", "off")
    assert len(github.comments) == 1


def test_an_older_run_does_not_overwrite(github, env, call, failing, passing, capsys):
    call(env | {"GITHUB_RUN_ID": "200"}, failing)
    github.calls.clear()
    assert call(env | {"GITHUB_RUN_ID": "199"}, passing) == 0
    assert github.writes() == ["POST /api/graphql"]
    assert _receipt(capsys).count("run 200, newer than this run (199), has reported") == 2


@pytest.mark.parametrize("workflows", [("ci.yml", "ci.yml"), ("ci.yml", "nightly.yml")])
def test_every_job_is_in_the_comment(github, env, call, failing, passing, workflows):
    """Two jobs of one commit that nobody told apart: what passes later must not cover what failed."""
    one, two = (
        env | {"GITHUB_JOB": name, "GITHUB_WORKFLOW_REF": f"org/demo/.github/workflows/{workflow}@refs/pull/7/merge"}
        for name, workflow in zip(("one", "two"), workflows, strict=True)
    )
    two |= {} if workflows[0] == workflows[1] else {"GITHUB_JOB": "one", "GITHUB_RUN_ID": "101"}
    call(one, failing)
    assert call(two, passing, "--publish", "strict") == 0
    assert github.comments[0]["body"].startswith("## ❌")
    assert "**2 runners:** ❌ 1 fail, ✅ 1 pass" in github.comments[0]["body"]
    assert [check["conclusion"] for check in github.checks] == ["failure", "success"]
    assert len({check["name"] for check in github.checks}) == 2
    call(one | {"GITHUB_RUN_ATTEMPT": "2"}, passing)
    assert github.comments[0]["body"].startswith("## ✅")
    call(two | {"GITHUB_RUN_ATTEMPT": "2"}, failing)
    assert github.comments[0]["body"].startswith("## ❌")
    assert [check["conclusion"] for check in github.checks] == ["failure", "success", "success", "failure"]


def test_a_branch_that_moved_on_is_left_alone(github, env, call, failing, passing):
    call(env, failing)
    github.pulls[7]["head"]["sha"] = gh.OTHER_SHA
    call(env | {"GITHUB_RUN_ID": "101"}, passing)
    assert github.comments[0]["body"].startswith("## ❌")


def test_a_quoted_mark_of_somebody_else_is_not_touched(github, env, call, failing, passing):
    call(env, failing)
    stolen = github.comments[0]["body"]
    github.comments[0]["user"] = gh.user("mallory")
    call(env | {"GITHUB_RUN_ID": "101"}, failing)
    assert len(github.comments) == 2
    assert github.comments[0]["body"] == stolen
    quoted = "\n".join(f"> {line}" for line in stolen.splitlines())
    github.add_comment(quoted, "github-actions[bot]")  # the mark is not on a line of its own
    call(env | {"GITHUB_RUN_ID": "102"}, passing)
    assert github.comments[1]["body"].startswith("## ✅")
    assert github.comments[2]["body"].startswith("> ##")


def test_doubles_are_joined_and_all_pages_read(github, env, call, failing):
    call(env, failing)
    body = github.comments[0]["body"]
    for number in range(8):
        github.add_comment(f"chat {number}")
    github.add_comment(body, "github-actions[bot]")
    github.short_pages = True
    call(env | {"GITHUB_RUN_ID": "101"}, failing)
    assert [item["id"] for item in github.comments if "cgroup-preflight:v1" in item["body"]] == [1000]


def test_addresses_in_answers_are_not_followed(github, env, call, failing):
    github.public_url = "https://elsewhere.example/api/v3"
    github.short_pages = True
    for number in range(5):
        github.add_comment(f"chat {number}")
    assert call(env, failing, "--publish", "strict") == 0
    call(env | {"GITHUB_RUN_ID": "101"}, failing)
    assert sum("cgroup-preflight:v1" in item["body"] for item in github.comments) == 1


def test_annotations_go_in_batches_and_a_patch_carries_output_only(github, env, call, tmp_path):
    many = report(*[finding(Status.FAIL, subject=f"s{number}") for number in range(130)])
    call(env, write_report(tmp_path / "many.json", many), "--comment", "never")
    assert len(github.checks[0]["annotations"]) == 130
    patches = [call_ for call_ in github.calls if call_.method == "PATCH"]
    assert [set(patch.body) for patch in patches] == [{"output"}] * 2
    assert all({"title", "summary", "annotations"} == set(patch.body["output"]) for patch in patches)


def test_refused_annotations_do_not_cost_the_check_run(github, env, call, failing, capsys):
    github.fail(method="POST", path="check-runs", status=422, body='{"message": "Invalid path"}')
    assert call(env, failing, "--publish", "strict") == 5
    assert github.checks[0]["conclusion"] == "failure"
    assert github.checks[0]["annotations"] == []
    assert "degraded  check run cgroup-preflight: created without annotations" in _receipt(capsys)


@pytest.mark.parametrize(
    ("event", "more", "said"),
    [
        (pull_event(head="stranger/demo"), {}, "a run of a fork's pull request"),
        (pull_event(), {"GITHUB_TOKEN": ""}, "no token"),
        (pull_event(), {"GITHUB_TOKEN": "two\nlines-of-a-token"}, "no token"),
    ],
)
def test_read_only_runs_make_no_request(github, tmp_path, call, failing, capsys, event, more, said):
    assert call(github_env(github, tmp_path, event=event, **more), failing, "--publish", "strict") == 0
    assert github.calls == []
    told = capsys.readouterr()
    assert told.out.count("::notice ") == (0 if said == "no token" else 1)
    assert "file=deploy/cgroup-preflight.toml,line=12" in told.out
    assert said in told.err
    assert "lines-of-a-token" not in told.out + told.err


def test_a_read_only_token_of_dependabot_is_noticed_once(github, tmp_path, call, failing, capsys):
    github.lacks = {"checks", "pull_requests"}
    env = github_env(github, tmp_path, GITHUB_ACTOR="dependabot[bot]")
    assert call(env, failing, "--publish", "strict") == 0
    told = capsys.readouterr()
    assert told.out.count("::notice title=cgroup-preflight::a run started by Dependabot") == 1
    assert "file=deploy/cgroup-preflight.toml,line=12" in told.out
    assert "skipped   check run: a run started by Dependabot: its token may only read (HTTP 403)" in told.err
    assert "skipped   comment: a run started by Dependabot: its token may only read (HTTP 403)" in told.err
    assert "permissions: { pull-requests: write }" in told.err
    assert (github.checks, github.comments) == ([], [])


def test_dependabot_with_permissions_is_like_anybody(github, tmp_path, call, failing, capsys):
    env = github_env(github, tmp_path, GITHUB_ACTOR="dependabot[bot]")
    assert call(env, failing, "--publish", "strict") == 0
    assert (len(github.checks), len(github.comments)) == (1, 1)
    assert "Dependabot" not in capsys.readouterr().out


def test_without_a_check_run_the_log_shows_the_lines(github, env, call, failing, tmp_path, capsys):
    place = "file=deploy/cgroup-preflight.toml,line=12"
    call(env, failing)
    assert place not in capsys.readouterr().out
    github.lacks = {"checks"}
    call(env | {"GITHUB_RUN_ID": "101"}, failing)
    assert capsys.readouterr().out.count(place) == 0  # the check run of before says the same already
    github.checks.clear()
    call(env | {"GITHUB_RUN_ID": "102"}, failing)
    assert capsys.readouterr().out.count(place) == 1
    many = report(*[finding(Status.FAIL, subject=f"s{number}") for number in range(7)])
    call(env | {"GITHUB_RUN_ID": "103"}, write_report(tmp_path / "many.json", many))
    out = capsys.readouterr().out
    assert out.count("::error ") == 10
    assert out.count(place) == 2
    assert "and 5 more: see the job summary" in out.splitlines()[-1]


def test_missing_permissions_are_named(github, env, call, failing, capsys):
    github.lacks = {"checks", "pull_requests"}
    assert call(env, failing) == 0
    told = _receipt(capsys)
    assert "next: add to the job:  permissions: { checks: write }" in told
    assert "next: add to the job:  permissions: { pull-requests: write }" in told
    assert call(env, failing, "--publish", "strict") == 5
    assert "Not delivered" in Path(env["GITHUB_STEP_SUMMARY"]).read_text()


def test_the_verdict_comes_first_where_it_is_asked_for(github, env, call, failing, passing):
    github.lacks = {"checks", "pull_requests"}
    assert call(env, failing, "--publish", "strict", "--fail-on", "fail") == 1
    assert call(env, passing, "--publish", "strict", "--fail-on", "fail") == 5


def test_workflow_run_believes_github_only(github, tmp_path, call, failing, capsys):
    run = {
        "workflow_run": {
            "head_sha": gh.SHA,
            "head_branch": "topic",
            "head_repository": {"owner": {"login": "stranger"}},
            "pull_requests": [],
        }
    }
    env = github_env(github, tmp_path, event=run, GITHUB_EVENT_NAME="workflow_run")
    github.pulls[8] = gh.pull(8, gh.OTHER_SHA, owner="victim", branch="other")
    call(env, failing, "--pull-request", "8")
    assert github.comments == []
    assert "the head of pull request 8 is not 111111111111" in _receipt(capsys)
    call(env, failing)
    assert "no open pull request has the head 111111111111" in _receipt(capsys)
    github.pulls[7] = gh.pull(7, owner="stranger")
    call(env, failing)
    assert github.comments[0]["issue"] == 7
    call(env | {"GITHUB_RUN_ID": "101"}, failing, "--pull-request", "7\n")
    assert len(github.comments) == 1


def test_a_fleet_costs_no_more_requests_than_one_host(github, env, call, failing, tmp_path):
    call(env, failing)
    one = len(github.calls)
    github.calls.clear()
    github.comments.clear()
    for number, made in enumerate(fleet(200, 5)):
        write_report(tmp_path / "fleet" / f"host-{number}" / "report.json", made)
    call(env | {"GITHUB_RUN_ID": "101"}, str(tmp_path / "fleet"))
    assert len(github.calls) == one
    assert "200 runners" in github.comments[0]["body"]


def test_legs_that_publish_at_once_converge(github, env, tmp_path, monkeypatch):
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    forge = forges.detect(env)
    github.latency = 0.01
    receipts = []

    def leg(number):
        made = FAIL if number % 3 == 0 else PASS
        legs = (Leg(name=f"leg-{number}", report=made),)
        results = Results(legs=legs, merged=view(legs))
        options = Options(leg=LegId(name=f"leg-{number}"), comment="always", check=False, settle=0.5)
        receipts.append(forges.publish(forge, results, options, Outside(say=str, clock=RequestClock())))

    threads = [threading.Thread(target=leg, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (comment,) = github.comments
    assert all(f"leg-{number}" in comment["body"] for number in range(6))
    assert "6 runners:** ❌ 2 fail, ✅ 4 pass" in comment["body"]
    assert all(
        item.delivery in ("delivered", "unchanged")
        for made in receipts
        for item in made.outcomes
        if item.channel == "comment"
    )


def test_a_rerun_leg_replaces_its_section(github, env, call, failing, passing):
    call(env, failing, "--leg", "ubuntu", "--check", "off")
    call(env, passing, "--leg", "fedora", "--check", "off")
    assert "**2 runners:** ❌ 1 fail, ✅ 1 pass" in github.comments[0]["body"]
    call(env | {"GITHUB_RUN_ATTEMPT": "2"}, passing, "--leg", "ubuntu", "--check", "off")
    assert "**2 runners:** ✅ 2 pass" in github.comments[0]["body"]
    call(env | {"GITHUB_RUN_ID": "101"}, failing, "--leg", "ubuntu", "--check", "off")
    assert "runners" not in github.comments[0]["body"].split("<!--")[0]


def test_a_library_that_is_missing_costs_the_delivery_only(github, env, call, failing, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cgroup_preflight.publish.github.api", None)
    assert call(env, failing) == 0
    told = capsys.readouterr()
    assert "failed    comment: cannot import cgroup_preflight.publish.github.api" in told.err
    assert "file=deploy/cgroup-preflight.toml,line=12" in told.out
    assert call(env, failing, "--publish", "strict", "--fail-on", "fail") == 1


def test_keys_keep_results_apart(github, env, call, failing):
    call(env, failing, "--check", "off", "--key", "one")
    call(env, failing, "--check", "off", "--key", "two")
    assert len(github.comments) == 2


def test_dry_run_prints_what_would_be_sent_and_sends_nothing(github, env, call, failing, capsys):
    assert call(env, failing, "--dry-run") == 0
    told = capsys.readouterr()
    assert github.calls == []
    assert not Path(env["GITHUB_STEP_SUMMARY"]).exists()
    assert "POST /api/v3/repos/org/demo/check-runs\n{" in told.out
    assert "POST /api/v3/repos/org/demo/issues/7/comments" in told.out
    assert gh.TOKEN not in told.out + told.err
    sent = json.JSONDecoder().raw_decode(told.out.split("check-runs\n", 1)[1])[0]
    call(env, failing)
    real = next(call_.body for call_ in github.calls if call_.path.endswith("check-runs") and call_.method == "POST")
    assert sent == real


def test_outputs_hold_their_delimiter(github, env, call, failing):
    call(env, failing)
    lines = Path(env["GITHUB_OUTPUT"]).read_text().splitlines()
    delimiters = [line.split("<<")[1] for line in lines if "<<" in line]
    assert len(set(delimiters)) == len(delimiters) == 5
    assert all(len(item) == 36 for item in delimiters)


def test_the_summary_is_appended_and_bounded(github, env, call, failing):
    Path(env["GITHUB_STEP_SUMMARY"]).write_text("x" * ((1 << 20) - 20_000))
    call(env, failing)
    text = Path(env["GITHUB_STEP_SUMMARY"]).read_text()
    assert text.startswith("xxx")
    assert len(text.encode()) < 1 << 20
    Path(env["GITHUB_STEP_SUMMARY"]).write_text("x" * (1 << 20))
    call(env, failing)
    assert len(Path(env["GITHUB_STEP_SUMMARY"]).read_text()) == 1 << 20


def test_a_token_in_a_report_does_not_get_out(github, env, call, tmp_path):
    leaky = report(finding(Status.FAIL, message=f"log: GITHUB_TOKEN={gh.TOKEN}"))
    call(env, write_report(tmp_path / "leaky.json", leaky), "--format", f"json={tmp_path / 'all.json'}")
    assert gh.TOKEN not in (tmp_path / "all.json").read_text() + github.comments[0]["body"] + str(github.checks)


def test_a_receipt_is_of_one_delivery(github, env, call, failing, tmp_path):
    """The report may be written over itself with the receipt in it, and published again."""
    github.lacks = {"checks"}
    call(env, failing, "--format", f"json={failing}")
    once = json.loads(Path(failing).read_text())["findings"]
    assert {"CGP605", "CGP606"} < {item["code"] for item in once}
    github.lacks = set()
    call(env | {"GITHUB_RUN_ID": "101"}, failing, "--format", f"json={failing}")
    again = json.loads(Path(failing).read_text())["findings"]
    assert len(again) == len(once)
    assert [item["status"] for item in again if item["code"] == "CGP605"] == ["pass"]
    assert "CGP60" not in github.comments[0]["body"] + json.dumps(github.checks)


def test_the_receipt_is_in_the_report_and_in_a_file(github, env, call, passing, tmp_path):
    github.lacks = {"checks"}
    call(env, passing, "--format", f"json={tmp_path / 'all.json'}", "--receipt", str(tmp_path / "delivery.json"))
    whole = json.loads((tmp_path / "all.json").read_text())
    assert whole["verdict"] == "pass"
    told = {item["code"]: item for item in whole["findings"] if item["code"].startswith("CGP6")}
    assert told["CGP605"]["status"] == "warn"
    assert told["CGP605"]["evidence"]["http_status"] == 403
    lines = json.loads((tmp_path / "delivery.json").read_text())
    assert {item["channel"]: item["delivery"] for item in lines}["comment"] == "skipped"


def test_the_deadline_holds_against_a_server_that_drips(github, env, call, failing, capsys):
    github.fail(method="GET", path="check-runs", kind="drip", seconds=30, times=9)
    started = time.monotonic()
    assert call(env, failing, "--deadline", "4", "--publish", "strict") == 5
    assert time.monotonic() - started < 12
    told = _receipt(capsys)
    assert "failed    check run: GET /api/v3/repos/org/demo/commits/" in told
    assert "timed out" in told
    assert "delivered comment" in told  # the one who drips does not use up what the others need


def test_a_persons_token_is_asked_who_it_is(github, env, call, failing):
    github.token, github.login = "ghp_0123456789", "alice"
    mine = env | {"GITHUB_TOKEN": "ghp_0123456789"}
    call(mine, failing)
    call(mine | {"GITHUB_RUN_ID": "101"}, failing)
    assert [item["user"]["login"] for item in github.comments] == ["alice"]
    assert "/user" in {item.path for item in github.calls}


def test_a_report_in_the_log_is_fenced_off_from_commands(github, env, call, tmp_path, capsys):
    hostile = report(
        finding(Status.FAIL, remedies=(Remedy(title="x", files=(RemedyFile(path="p", content="::error::x"),)),))
    )
    call(env, write_report(tmp_path / "hostile.json", hostile), "--format", "text")
    out = capsys.readouterr().out
    _, _, rest = out.partition("::stop-commands::")
    token, _, inside = rest.partition("\n")
    assert "            | ::error::x" in inside.partition(f"\n::{token}::")[0]
    assert len(token) == 32
    call(env, str(tmp_path / "hostile.json"), "--format", f"json={tmp_path / 'all.json'}")
    assert "            | ::error::x" not in capsys.readouterr().out
