"""Both APIs below the channels: pages, answers of another shape, and whom a token writes as."""

import json

import pytest

from cgroup_preflight.publish.clock import RequestClock
from cgroup_preflight.publish.github.api import GithubApi
from cgroup_preflight.publish.github.comments import GithubComments, pull_of_run
from cgroup_preflight.publish.github.job import GithubJob, Source
from cgroup_preflight.publish.gitlab import notes
from cgroup_preflight.publish.gitlab.job import read_job
from cgroup_preflight.publish.http import ForgeError, Transport, Trouble
from cgroup_preflight.publish.secret import Secret
from tests.contract.forge import github as gh
from tests.contract.forge import gitlab as gl
from tests.unit.publish.jobs import gitlab_env

SERVER = "https://github.example"
NOTES = "/projects/42/merge_requests/5/notes"


def _transport(server):
    clock = RequestClock(sleep=lambda _seconds: None)
    return Transport(server.url, deadline=clock.monotonic() + 60, clock=clock)


@pytest.fixture
def api(github):
    return _api(github)


def _api(github, token=gh.TOKEN):
    graphql = f"{github.url}/api/graphql"
    return GithubApi(
        base_url=github.api_url, graphql_url=graphql, repo="org/demo", token=Secret(token), transport=_transport(github)
    )


@pytest.fixture
def gitlab_notes(gitlab, tmp_path):
    return notes.GitlabNotes(_client(gitlab, tmp_path), 42, 5, gitlab.server_url)


def _client(gitlab, folder, **more):
    job = read_job(gitlab_env(gitlab, folder, **more))
    return notes.connect(job, job.token or job.job_token, _transport(gitlab))


def test_all_pages_are_read_even_if_they_are_short(github, api):
    github.short_pages = True
    for number in range(8):
        github.add_comment(f"chat {number}")
    assert [item.body for item in GithubComments(api, 7, SERVER).read_all()] == [
        f"chat {number}" for number in range(8)
    ]
    assert [call.query for call in github.calls] == [{"per_page": "100", "page": str(page)} for page in (1, 2, 3)]


def test_a_list_without_end_is_an_error(github, api):
    github.fail(method="GET", body="[]", status=200, times=99, headers={"Link": '<https://x/>; rel="next"'})
    with pytest.raises(ForgeError) as caught:
        list(api.items("/issues/7/comments"))
    assert (caught.value.trouble, len(github.calls)) == (Trouble.CONTENT, 50)
    assert "more than 50 pages" in caught.value.path


@pytest.mark.parametrize(("body", "key"), [
    ("{}", ""), ('{"check_runs": {}}', "check_runs"), ("[]", "check_runs"), ('{"other": []}', "check_runs"), ("7", ""),
])  # fmt: skip
def test_a_list_of_another_shape_is_an_error(github, api, body, key):
    github.fail(status=200, body=body)
    with pytest.raises(ForgeError) as caught:
        list(api.items("/x", key))
    assert (caught.value.trouble, caught.value.method, caught.value.path) == (Trouble.CONTENT, "GET", "/x")


def test_entries_of_another_shape_are_left_out(github, api):
    github.fail(status=200, body='[1, {"id": 5}, null]')
    assert list(api.items("/x")) == [{"id": 5}]


@pytest.mark.parametrize("body", ["[]", "null", '"x"'])
def test_an_object_of_another_shape_is_an_error(github, api, body):
    github.fail(status=200, body=body)
    with pytest.raises(ForgeError) as caught:
        api.one("GET", "/x")
    assert (caught.value.trouble, caught.value.path) == (Trouble.CONTENT, "/x")


@pytest.mark.parametrize(("item", "read"), [
    ({"id": 5, "body": "b", "user": {"login": "me"}, "html_url": "https://github.example/u"}, (5, "b", "me", "https://github.example/u")),
    ({"id": 5, "html_url": "https://evil.example/u"}, (5, "", "", "")), ({"id": True}, None), ({"id": 0}, None),
    ({"id": 5}, (5, "", "", "")), ({"id": 5, "body": 7, "user": "x", "html_url": None}, (5, "", "", "")),
    ({"id": 5, "user": {"login": 7}}, (5, "", "", "")), ({"id": "5"}, None), ({}, None),
])  # fmt: skip
def test_one_comment_of_github(github, api, item, read):
    github.fail(status=200, body=json.dumps([item]))
    if read is None:
        with pytest.raises(ForgeError) as caught:
            GithubComments(api, 7, SERVER).read_all()
        assert caught.value.trouble is Trouble.CONTENT
        return
    (made,) = GithubComments(api, 7, SERVER).read_all()
    assert (made.id, made.body, made.author, made.url) == read


def test_the_token_of_a_job_asks_graphql_once(github, api):
    comments = GithubComments(api, 7, SERVER)
    assert comments.is_own("github-actions[bot]")
    assert not comments.is_own("mallory")
    assert not comments.is_own("")
    assert [call.path for call in github.calls] == ["/api/graphql"]
    github.login = "my-app"
    assert GithubComments(api, 7, SERVER).is_own("my-app[bot]")


def test_whoever_created_a_comment_is_known(github, api):
    comments = GithubComments(api, 7, SERVER)
    comments.create("text")
    github.calls.clear()
    assert comments.is_own("github-actions[bot]")
    assert not comments.is_own("mallory")
    assert github.calls == []


def test_an_answer_without_an_author_tells_nothing(github, api):
    comments = GithubComments(api, 7, SERVER)
    github.fail(method="POST", status=201, body='{"id": 5}')
    comments.create("text")
    assert comments.is_own("github-actions[bot]")
    assert len(github.graphql) == 1


def test_a_persons_token_asks_rest_and_then_graphql(github):
    github.token, github.login = "ghp_x", "alice"
    assert _api(github, "ghp_x").login() == "alice"
    assert [call.path for call in github.calls] == ["/user"]
    github.fail(path="/user", status=403)
    assert _api(github, "ghp_x").login() == "alice"
    assert len(github.graphql) == 1
    github.fail(path="/user", status=401)
    with pytest.raises(ForgeError) as caught:
        _api(github, "ghp_x").login()
    assert caught.value.status == 401
    github.fail(path="/user", status=200, body="{}")
    assert _api(github, "ghp_x").login() == "alice"


@pytest.mark.parametrize(
    "body", ["{}", "[]", '{"data": null}', '{"data": {"viewer": null}}', '{"data": {"viewer": {"login": 7}}}']
)
def test_a_login_that_graphql_does_not_tell_is_nobodys(github, api, body):
    github.fail(path="graphql", status=200, body=body, times=9)
    assert api.login() == ""
    assert not GithubComments(api, 7, SERVER).is_own("github-actions[bot]")


@pytest.mark.parametrize(("body", "head"), [
    (json.dumps({"head": {"sha": gh.SHA}}), gh.SHA), ('{"head": {"sha": "x"}}', ""), ('{"head": {"sha": 7}}', ""), ('{"head": null}', ""), ("{}", ""),
])  # fmt: skip
def test_the_head_of_a_pull_request(github, api, body, head):
    github.fail(status=200, body=body)
    assert GithubComments(api, 7, SERVER).head() == head


def _run(**more):
    job = {"repo": "org/demo", "sha": gh.SHA, "event": "workflow_run", "pull": None, "run": None, "api_url": "",
           "graphql_url": "", "server_url": "", "token": None, "source": Source(owner="org", branch="topic")}  # fmt: skip
    return GithubJob(**(job | more))


def test_the_pull_request_of_a_workflow_run(github, api):
    assert pull_of_run(api, _run(), None) == 7
    assert github.calls[-1].query == {"state": "open", "head": "org:topic", "per_page": "100", "page": "1"}
    assert pull_of_run(api, _run(), 7) == 7
    assert github.calls[-1].path == "/repos/org/demo/pulls/7"
    github.pulls[7]["head"]["sha"] = gh.OTHER_SHA
    assert pull_of_run(api, _run(), None) is None
    assert pull_of_run(api, _run(), 7) is None
    github.pulls[7]["head"] = {}
    assert pull_of_run(api, _run(sha=""), 7) is None
    github.fail(status=200, body=json.dumps([{"number": "8", "head": {"sha": gh.SHA}}]))
    assert pull_of_run(api, _run(), None) is None


@pytest.mark.parametrize("source", [None, Source(owner="", branch="topic"), Source(owner="org", branch="")])
def test_a_workflow_run_without_a_source_is_not_searched(github, api, source):
    assert pull_of_run(api, _run(source=source), None) is None
    assert github.calls == []


def test_notes_of_all_pages_and_who_wrote_them(gitlab, gitlab_notes):
    gitlab.short_pages = True
    for number in range(7):
        gitlab.add_note(f"chat {number}")
    assert [(item.body, item.author) for item in gitlab_notes.read_all()] == [
        (f"chat {n}", "someone") for n in range(7)
    ]
    assert gitlab.calls[0].query == {
        "per_page": "100", "order_by": "created_at", "sort": "asc", "activity_filter": "only_comments",
    }  # fmt: skip
    gitlab.calls.clear()
    assert gitlab_notes.is_own("project_42_bot")
    assert not gitlab_notes.is_own("someone")
    assert not gitlab_notes.is_own("")
    assert [call.path for call in gitlab.calls] == ["/user"]


def test_too_many_notes_are_an_error(gitlab, gitlab_notes):
    gitlab.notes = [{"id": number, "body": "", "author": {"username": "x"}} for number in range(1, 5001)]
    assert len(gitlab_notes.read_all()) == 5000
    gitlab.notes.append(gitlab.notes[0])
    with pytest.raises(ForgeError) as caught:
        gitlab_notes.read_all()
    assert (caught.value.trouble, caught.value.path) == (Trouble.CONTENT, NOTES)


@pytest.mark.parametrize(("item", "read"), [
    ({"id": 5, "body": "b", "author": {"username": "me"}}, (5, "b", "me")), ({"id": 5}, (5, "", "")),
    ({"id": 5, "body": 7, "author": "x"}, (5, "", "")), ({"id": 5, "author": {"username": 7}}, (5, "", "")), ({"id": "5"}, None),
])  # fmt: skip
def test_one_note(gitlab, gitlab_notes, item, read):
    gitlab.fail(status=200, body=json.dumps([item]))
    if read is None:
        with pytest.raises(ForgeError) as caught:
            gitlab_notes.read_all()
        assert caught.value.trouble is Trouble.CONTENT
        return
    (made,) = gitlab_notes.read_all()
    assert (made.id, made.body, made.author) == read


@pytest.mark.parametrize("body", ["[]", '{"username": 7}', "{}"])
def test_a_user_that_gitlab_does_not_tell_is_nobody(gitlab, gitlab_notes, body):
    gitlab.fail(path="/user", status=200, body=body)
    assert not gitlab_notes.is_own("project_42_bot")


def test_the_head_and_the_address_of_a_note(gitlab, gitlab_notes):
    assert gitlab_notes.create("a").url == ""  # the address of the merge request is not known yet
    assert gitlab_notes.head() == gl.SHA
    made = gitlab_notes.create("b")
    assert made.url == f"{gitlab.server_url}/group/demo/-/merge_requests/5#note_{made.id}"
    assert gitlab_notes.update(made, "c").url == made.url
    assert [note["body"] for note in gitlab.notes] == ["a", "c"]
    gitlab_notes.delete(made)
    assert [note["body"] for note in gitlab.notes] == ["a"]
    gitlab.calls.clear()
    assert gitlab_notes.is_own("project_42_bot")
    assert gitlab.calls == []


@pytest.mark.parametrize(
    ("body", "head"),
    [
        ("[]", ""),
        ("{}", ""),
        ('{"sha": null}', ""),
        ('{"sha": "x", "web_url": "javascript:x"}', ""),
        (json.dumps({"sha": gl.SHA, "web_url": "https://evil.example/x"}), gl.SHA),
    ],
)
def test_odd_merge_requests(gitlab, gitlab_notes, body, head):
    gitlab.fail(status=200, body=body)
    assert gitlab_notes.head() == head
    assert gitlab_notes.create("a").url == ""


def test_one_kind_of_token_is_sent(gitlab, tmp_path):
    notes.GitlabNotes(_client(gitlab, tmp_path), 42, 5, gitlab.server_url).read_all()
    assert (gitlab.calls[-1].headers.get("private-token"), gitlab.calls[-1].headers.get("job-token")) == (
        gl.TOKEN,
        None,
    )
    notes.GitlabNotes(_client(gitlab, tmp_path, CGROUP_PREFLIGHT_GITLAB_TOKEN=""), 42, 5, gitlab.server_url).read_all()
    assert (gitlab.calls[-1].headers.get("private-token"), gitlab.calls[-1].headers.get("job-token")) == (
        None,
        gl.JOB_TOKEN,
    )
    assert gitlab.calls[-1].headers["user-agent"].startswith("cgroup-preflight/")


@pytest.mark.parametrize(("item", "found"), [
    ({}, (42, 5)), ({"state": "closed"}, None), ({"sha": "4" * 40}, None), ({"project_id": "42"}, None), ({"iid": None}, None),
])  # fmt: skip
def test_the_merge_request_of_a_commit(gitlab, tmp_path, item, found):
    job = read_job(gitlab_env(gitlab, tmp_path))
    gitlab.fail(path="/merge_requests$", status=200, body=json.dumps([gitlab.requests[0] | {"iid": 9, "state": "merged"},
                                                                   gitlab.requests[0] | item]))  # fmt: skip
    assert notes.find_request(_client(gitlab, tmp_path), job) == found


def test_without_a_commit_no_merge_request_is_searched(gitlab, tmp_path):
    job = read_job(gitlab_env(gitlab, tmp_path, CI_COMMIT_SHA="x"))
    assert notes.find_request(_client(gitlab, tmp_path), job) is None
    assert gitlab.calls == []
