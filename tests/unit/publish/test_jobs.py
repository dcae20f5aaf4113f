"""What a job's environment says of it, on GitHub and on GitLab; nothing is sent."""

import json

import pytest

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.publish import forges
from cgroup_preflight.publish.github import job as github_job
from cgroup_preflight.publish.gitlab import job as gitlab_job
from cgroup_preflight.publish.origin import LegId
from tests.contract.forge import github as gh

REPO = {"GITHUB_REPOSITORY": "o/r"}
SERVER = {"CI_SERVER_URL": "https://gitlab.example", "CI_PROJECT_ID": "42"}
A, B = "a" * 40, "b" * 64


@pytest.fixture
def read(tmp_path):
    """`read(event, **variables)`: the GitHub job."""

    def run(event=None, **variables):
        path = tmp_path / "event.json"
        path.write_text(json.dumps({} if event is None else event))
        return github_job.read_job(REPO | {"GITHUB_EVENT_PATH": str(path)} | variables)

    return run


def _pull(head="o/r", base="o/r", **more):
    sides = {"head": {"sha": A, "repo": head and {"full_name": head}}, "base": {"repo": base and {"full_name": base}}}
    return {"pull_request": {"number": 7} | sides | more}


@pytest.mark.parametrize(("event", "name", "sha"), [
    (_pull(), "pull_request", A), (_pull(), "pull_request_target", A), (_pull(), "push", B), ({}, "pull_request", B),
    ({"workflow_run": {"head_sha": A}}, "workflow_run", A), ({"merge_group": {"head_sha": A}}, "merge_group", A),
    ({"workflow_run": {"head_sha": A + "0"}}, "workflow_run", ""), ({"merge_group": {"head_sha": 7}}, "merge_group", B),
    ({"merge_group": {"head_sha": A.upper()}}, "merge_group", B),
    ({}, "workflow_run", ""),
])  # fmt: skip
def test_the_commit(read, event, name, sha):
    assert read(event, GITHUB_EVENT_NAME=name, GITHUB_SHA=B).sha == sha


@pytest.mark.parametrize(("event", "name", "number"), [
    (_pull(), "pull_request", 7), (_pull(), "pull_request_target", 7), (_pull(), "push", None),
    ({"number": 9}, "pull_request", 9), ({"number": 9} | _pull(), "pull_request", 7), ({}, "pull_request", None),
    ({"number": True}, "pull_request", None), ({"number": -9}, "pull_request", None), ({"number": "9"}, "pull_request", None),
])  # fmt: skip
def test_the_pull_request(read, event, name, number):
    assert read(event, GITHUB_EVENT_NAME=name).pull == number


@pytest.mark.parametrize(("event", "name", "token", "read_only"), [
    (_pull(), "pull_request", "ghs_x", False), (_pull(head="stranger/r"), "pull_request", "ghs_x", True),
    (_pull(head=None), "pull_request", "", True), (_pull(base=None), "pull_request", "ghs_x", False),
    (_pull(head="stranger/r"), "pull_request_target", "ghs_x", False), (_pull(), "pull_request_review", "ghs_x", False),
    (_pull(head="stranger/r"), "pull_request_review", "ghs_x", True),
    (_pull(head="stranger/r"), "pull_request_review_comment", "ghs_x", True),
    (_pull(head="stranger/r"), "pull_request", "ghp_x", False), (_pull(head="stranger/r"), "pull_request", "github_pat_x", False),
])  # fmt: skip
def test_a_fork_may_only_read_with_the_token_of_the_job(read, event, name, token, read_only):
    job = read(event, GITHUB_EVENT_NAME=name, GITHUB_TOKEN=token)
    assert job.read_only == ("a run of a fork's pull request" if read_only else "")


@pytest.mark.parametrize(("text", "number"), [
    ("7", 7), ("", 0), ("-7", 0), ("x", 0), ("7.0", 0), ("\u0663", 0), ("9" * 18, int("9" * 18)), ("9" * 19, 0), (None, 0),
])  # fmt: skip
def test_numbers(read, text, number):
    assert read(**({} if text is None else {"GITHUB_RUN_ID": text})).run.run == number
    assert gitlab_job.read_job(SERVER | ({} if text is None else {"CI_PIPELINE_ID": text})).run.run == number


def test_the_rest_of_a_github_job(read):
    run = {"workflow_run": {"head_branch": "topic", "head_repository": {"owner": {"login": "me"}}}}
    job = read(run, GITHUB_EVENT_NAME="workflow_run", GITHUB_API_URL="https://h/api/v3/", GITHUB_SERVER_URL="https://h",
               GITHUB_JOB="j" * 150, GITHUB_RUN_ID="5", GITHUB_RUN_ATTEMPT="2", GITHUB_WORKSPACE="/w",
               GITHUB_STEP_SUMMARY="/s", GITHUB_OUTPUT="/o", GITHUB_ACTOR="dependabot[bot]")  # fmt: skip
    assert (job.source.owner, job.source.branch) == ("me", "topic")
    assert (job.api_url, job.graphql_url) == ("https://h/api/v3", "https://h/api/v3/graphql")
    assert job.run_url == "https://h/o/r/actions/runs/5"
    assert (job.name, job.run.attempt, job.doubtful) == ("j" * 150, 2, "a run started by Dependabot")
    assert (job.workspace, job.summary_file, job.output_file) == ("/w", "/s", "/o")
    bare = read()
    assert (bare.api_url, bare.graphql_url) == ("https://api.github.com", "https://api.github.com/graphql")
    assert (bare.server_url, bare.run_url, bare.doubtful, bare.source, bare.token) == (
        "https://github.com",
        "",
        "",
        None,
        None,
    )
    assert read(GITHUB_GRAPHQL_URL="https://h/api/graphql").graphql_url == "https://h/api/graphql"
    assert read(GITHUB_ACTOR="octocat").doubtful == ""


@pytest.mark.parametrize("event", [[], "x", 7, {"pull_request": []}, {"pull_request": {"head": "x"}}])
def test_odd_events_are_read_as_empty(read, event):
    job = read(event, GITHUB_EVENT_NAME="pull_request")
    assert (job.pull, job.sha, job.read_only) == (None, "", "")


def test_no_event_file_is_no_error_and_a_missing_one_is():
    assert github_job.read_job(REPO).pull is None
    with pytest.raises(UsageError, match="event file"):
        github_job.read_job(REPO | {"GITHUB_EVENT_PATH": "/absent"})


@pytest.mark.parametrize("repo", ["", "o", "o/r/x", "o/", "/r", "o /r", "o/r\n", f"{'o' * 101}/r"])
def test_repositories_that_are_none(repo):
    with pytest.raises(UsageError, match="OWNER/NAME"):
        github_job.read_job({"GITHUB_REPOSITORY": repo})


def test_the_order_of_tokens():
    every = {"CGROUP_PREFLIGHT_GITHUB_TOKEN": "own", "GITHUB_TOKEN": "job", "GH_TOKEN": "gh"}
    for name in every:
        later = dict(list(every.items())[list(every).index(name) :])
        assert github_job.read_job(REPO | later).token.reveal() == every[name]
    assert github_job.read_job(REPO | {"GITHUB_TOKEN": "two words", "GH_TOKEN": "gh"}).token.reveal() == "gh"
    job = gitlab_job.read_job(SERVER | {"GITLAB_TOKEN": "b", "CI_JOB_TOKEN": "c"})
    assert (job.token.reveal(), job.job_token.reveal()) == ("b", "c")
    assert (
        gitlab_job.read_job(SERVER | {"GITLAB_TOKEN": "b", "CGROUP_PREFLIGHT_GITLAB_TOKEN": "a"}).token.reveal() == "a"
    )


def test_every_token_is_known_as_a_secret():
    names = ("CGROUP_PREFLIGHT_GITHUB_TOKEN", "GITHUB_TOKEN", "GH_TOKEN", "ACTIONS_RUNTIME_TOKEN",
             "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "CGROUP_PREFLIGHT_GITLAB_TOKEN", "GITLAB_TOKEN", "CI_JOB_TOKEN",
             "CI_REGISTRY_PASSWORD")  # fmt: skip
    found = forges.secrets_of({name: name.lower() for name in names} | {"PATH": "/bin"})
    assert {item.reveal() for item in found} == {name.lower() for name in names}


def test_the_rest_of_a_gitlab_job():
    job = gitlab_job.read_job(SERVER | {
        "CI_SERVER_URL": "https://gitlab.example/root/", "CI_COMMIT_SHA": A, "CI_JOB_ID": "9", "CI_JOB_NAME": "j" * 150,
        "CI_SERVER_TLS_CA_FILE": "/ca", "CI_JOB_URL": "https://j", "CI_PIPELINE_URL": "https://p", "CI_PROJECT_DIR": "/d",
    })  # fmt: skip
    assert (job.server_url, job.project, job.own_project, job.iid) == ("https://gitlab.example/root", 42, 42, None)
    assert (job.sha, job.run.attempt, job.job_name) == (A, 9, "j" * 150)
    assert (job.ca_file, job.project_dir) == ("/ca", "/d")
    forge = forges.detect(
        SERVER | {"CI_JOB_URL": "https://j", "CI_PIPELINE_URL": "https://p", "CI_PROJECT_DIR": "/d"}, "gitlab"
    )
    assert dict(forge.links) == {"job": "https://j", "pipeline": "https://p"}
    assert dict(forges.detect(SERVER, "gitlab").links) == {}
    assert (forge.root, forge.origin(LegId()).attempt, forge.reads_commands) == ("/d", 0, False)
    fork = gitlab_job.read_job(
        SERVER | {"CI_MERGE_REQUEST_PROJECT_ID": "7", "CI_MERGE_REQUEST_IID": "5", "CI_COMMIT_SHA": "x"}
    )
    assert (fork.project, fork.own_project, fork.iid, fork.sha) == (7, 42, 5, "")


@pytest.mark.parametrize("change", [{"CI_PROJECT_ID": ""}, {"CI_PROJECT_ID": "0"}, {"CI_SERVER_URL": ""}])
def test_a_gitlab_job_without_server_or_project(change):
    with pytest.raises(UsageError, match="CI_SERVER_URL or CI_PROJECT_ID"):
        gitlab_job.read_job(SERVER | change)


@pytest.mark.parametrize(("environ", "provider", "root"), [
    ({"GITHUB_ACTIONS": "true"}, "auto", "/g"), ({"GITLAB_CI": "true"}, "auto", "/l"), ({}, "github", "/g"), ({}, "gitlab", "/l"),
    ({"GITHUB_ACTIONS": "true", "GITLAB_CI": "true"}, "gitlab", "/l"), ({"GITHUB_ACTIONS": "true"}, "none", None), ({}, "auto", None),
])  # fmt: skip
def test_the_environment_or_the_caller_chooses(environ, provider, root):
    both = REPO | SERVER | {"GITHUB_WORKSPACE": "/g", "CI_PROJECT_DIR": "/l", "GITHUB_TOKEN": gh.TOKEN}
    forge = forges.detect(both | environ, provider)
    assert (forge.root if forge else None) == root
