"""Every event of GitHub and every kind of pipeline of GitLab: the commit and the request that get the result.

The tables are those of docs/publishing.md. Each row is tried with recorded events, with the right commit checked out and
with another one, against forges on loopback.
"""

import json
from pathlib import Path

import pytest

from cgroup_preflight.publish.github.events import Checkout, subject
from cgroup_preflight.publish.gitlab import job as gitlab_job
from tests.contract.forge import github as gh
from tests.contract.forge import gitlab as gl
from tests.unit.publish.jobs import PASS, github_env, gitlab_env, write_report

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "tests" / "fixtures" / "events"
GITHUB = json.loads((FOLDER / "github.json").read_text())
GITLAB = json.loads((FOLDER / "gitlab.json").read_text())
#: GITHUB_SHA of the job, and commits that have nothing to do with it.
OWN, STRANGER, BASE = "a" * 40, "b" * 40, "c" * 40

HEAD, PULL = "the head of the pull request", "the pull request"
OPEN = "the open pull request with this head"
#: Recorded events (all whose name begins so), commit, request, and what GitHub checks out by default.
EVENTS = [
    (("pull_request ",), "`pull_request`, all types but a merge", HEAD, PULL, Checkout.MERGE),
    (("pull_request closed by a merge",), "`pull_request`, `closed` by a merge", "`GITHUB_SHA`, which is on the base branch", "none", Checkout.SAME),
    (("pull_request_target ",), "`pull_request_target`", HEAD, PULL, Checkout.OTHER),
    (("pull_request_review ", "pull_request_review_comment "), "`pull_request_review`, `pull_request_review_comment`", HEAD, PULL, Checkout.MERGE_REF),
    (("issue_comment created on a", "issue_comment edited on a pull", "issue_comment deleted on a pull"), "`issue_comment` on a pull request", f"{HEAD}, from the API", PULL, Checkout.OTHER),
    (("issue_comment created on an", "issue_comment edited on an", "issue_comment deleted on an"), "`issue_comment` on an issue", "`GITHUB_SHA`", "none", Checkout.SAME),
    (("merge_group",), "`merge_group`", "the commit of the merge group", "none", Checkout.SAME),
    (("workflow_run",), "`workflow_run`", "`workflow_run.head_sha`", OPEN, Checkout.ARTIFACT),
    (("workflow_run completed after pull_request_target",), "`workflow_run` after `pull_request_target`", "`workflow_run.head_sha`", OPEN, Checkout.OTHER),
    (("push", "workflow_dispatch", "schedule", "release", "deployment", "repository_dispatch", "check_", "status", "create", "issues"),
     "`push` of a branch or a tag, `workflow_dispatch`, `schedule`, `release`, `deployment`, `repository_dispatch`, all others",
     "`GITHUB_SHA`", "none", Checkout.SAME),
]  # fmt: skip
#: Those that are published whole; `subject` is tried with all.
PUBLISHED = [
    "pull_request synchronize", "pull_request labeled", "pull_request closed", "pull_request closed by a merge",
    "pull_request with an empty payload", "pull_request_target opened", "pull_request_review submitted",
    "pull_request_review_comment created", "issue_comment created on a pull request", "issue_comment created on an issue",
    "merge_group checks_requested", "workflow_run completed after pull_request",
    "workflow_run completed after pull_request_target", "push of a branch", "push of a tag", "schedule",
]  # fmt: skip
#: Kinds of pipelines, commit and request.
OF_COMMIT = "the first open merge request with this head"
PIPELINES = [
    (("merge request pipeline, detached", "merge request of a fork", "child pipeline of a merge request"), "merge request pipeline (detached), also of a fork; its child pipelines", "`CI_COMMIT_SHA`", "the merge request"),
    (("merged results", "merge train", "child pipeline of a merged"), "merged results pipeline, merge train; their child pipelines", "`CI_MERGE_REQUEST_SOURCE_BRANCH_SHA`", "the merge request"),
    (("branch", "child pipeline of a branch", "tag", "scheduled", "pipeline started", "multi-project", "pipeline of a pull"),
     "branch and tag, schedule, started by hand, by the API or a trigger; child and multi-project pipelines of these",
     "`CI_COMMIT_SHA`", OF_COMMIT),
]  # fmt: skip


def _row(name, rows):
    """The row with the longest beginning of `name`."""
    fitting = [(len(start), row) for row in rows for start in row[0] if name.startswith(start)]
    return max(fitting, key=lambda item: item[0])[1]


def _table(head, rows):
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(str(cell) for cell in row[1:])} |" for row in rows)])


def test_the_documentation_has_both_tables():
    text = (ROOT / "docs" / "publishing.md").read_text()
    assert _table(["event", "commit", "comment on", "actions/checkout takes by default"], EVENTS) in text
    assert _table(["pipeline", "commit", "note on"], PIPELINES) in text


@pytest.mark.parametrize(("names", "rows"), [(GITHUB, EVENTS), (GITLAB, PIPELINES)])
def test_every_row_has_a_recorded_event(names, rows):
    used = {_row(name, rows)[1] for name in names}
    assert used == {row[1] for row in rows}


class Case:
    """One recorded event as the server and the runner see it."""

    def __init__(self, github, folder, name):
        self.github, self.folder, self.name = github, folder, name
        self.event, self.payload = GITHUB[name]["event"], GITHUB[name]["payload"]
        _, _, commit, request, self.checkout = _row(name, EVENTS)
        self.head = self._commit(commit)
        self.pull = self._pull() if request == PULL else 7 if request == OPEN else None
        merged = self.checkout is Checkout.MERGE or self.checkout is Checkout.MERGE_REF
        self.ref = f"refs/pull/{self.pull}/merge" if merged else "refs/heads/main"
        github.pulls = {}
        if self.pull:
            run = self.payload.get("workflow_run", {})
            owner = run["head_repository"]["owner"]["login"] if run else "someone"
            branch = run.get("head_branch", "topic")
            github.pulls = {self.pull: gh.pull(self.pull, self.head, owner=owner, branch=branch)}
        github.commits = {OWN: [BASE, self.head]} if merged else {}

    def _pull(self):
        source = self.payload.get("issue") or self.payload.get("pull_request") or {"number": 7}
        return source["number"]

    def _commit(self, text):
        if text.endswith("from the API"):
            return "d" * 40
        if text == HEAD:
            return self.payload["pull_request"]["head"]["sha"] if self.payload else "d" * 40
        if text == "the commit of the merge group":
            return self.payload["merge_group"]["head_sha"]
        return self.payload["workflow_run"]["head_sha"] if "head_sha" in text else OWN

    def environment(self):
        env = github_env(self.github, self.folder, event=self.payload or {"action": "closed"})
        return env | {"GITHUB_EVENT_NAME": self.event, "GITHUB_SHA": OWN, "GITHUB_REF": self.ref}

    def check_out(self, commit):
        (self.folder / ".git").mkdir()
        (self.folder / ".git" / "HEAD").write_text(f"{commit}\n")


@pytest.fixture
def case(github, tmp_path):
    return lambda name: Case(github, tmp_path, name)


@pytest.fixture
def publish(call, tmp_path, capsys):
    """`publish(environment)`: exit status and receipt of a pass that creates a comment in every case."""

    def run(environment, *words):
        report = write_report(tmp_path / "report.json", PASS)
        status = call(environment, report, "--publish", "strict", "--comment", "always", *words)
        return status, capsys.readouterr().err

    return run


def _places(github):
    return [item["head_sha"] for item in github.checks], [item["issue"] for item in github.comments]


@pytest.mark.parametrize("name", GITHUB)
def test_the_subject_of_each_event(case, name):
    it = case(name)
    found = subject(it.event, it.payload, sha=OWN, ref=it.ref)
    assert found.checkout is it.checkout
    assert found.head == ("" if it.head == "d" * 40 else it.head)
    assert found.pull == (None if it.event == "workflow_run" else it.pull)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_right_commit_gets_the_result(case, publish, github, name):
    it = case(name)
    it.check_out(it.head)
    status, told = publish(it.environment())
    assert (status, *_places(github)) == (0, [it.head], [it.pull] if it.pull else []), told


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_result_of_another_commit_is_shown_nowhere(case, publish, github, name):
    it = case(name)
    it.check_out(STRANGER)
    status, told = publish(it.environment())
    assert (status, *_places(github)) == (5, [], []), told
    assert f"commit {STRANGER[:12]} was tested, but the result would be shown for {it.head[:12]}" in told
    assert "input commit of the Action" in told


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_default_of_the_checkout_action(case, publish, github, name):
    """GITHUB_SHA is checked out: right for a merge commit, wrong for the default branch."""
    it = case(name)
    it.check_out(it.head if it.event == "merge_group" else OWN)
    status, told = publish(it.environment())
    wrong = it.checkout in (Checkout.OTHER, Checkout.ARTIFACT)
    assert (status, *_places(github)) == ((5, [], []) if wrong else (0, [it.head], [it.pull] if it.pull else [])), told


@pytest.mark.parametrize("name", PUBLISHED)
def test_without_a_checkout(case, publish, github, name):
    it = case(name)
    status, told = publish(it.environment())
    wrong = it.checkout is Checkout.OTHER
    assert (status, *_places(github)) == ((5, [], []) if wrong else (0, [it.head], [it.pull] if it.pull else [])), told
    assert ("it is unknown which commit was tested" in told) == wrong


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_caller_names_the_tested_commit(case, publish, github, name):
    """It is believed for events without a request; a request gets the result only if it is its head."""
    it = case(name)
    it.check_out(STRANGER)
    status, told = publish(it.environment(), "--commit", it.head)
    assert (status, *_places(github)) == (0, [it.head], [it.pull] if it.pull else []), told
    github.checks.clear()
    github.comments.clear()
    status, told = publish(it.environment(), "--commit", BASE)
    free = it.checkout is Checkout.SAME
    assert (status, *_places(github)) == ((0, [BASE], []) if free else (5, [], [])), told


@pytest.mark.parametrize("name", ["pull_request_target opened", "issue_comment created on a pull request",
                                  "pull_request_review submitted", "workflow_run completed after pull_request"])  # fmt: skip
@pytest.mark.parametrize(("parents", "merges"), [
    (("base", "head"), True), (("head", "base"), False), (("base", "other"), False), (("head",), False),
    (("base", "head", "other"), False), ((), False),
])  # fmt: skip
def test_only_a_merge_of_the_head_counts_as_the_head(case, publish, github, name, parents, merges):
    it = case(name)
    known = {"base": BASE, "head": it.head, "other": "e" * 40}
    github.commits = {STRANGER: [known[parent] for parent in parents]}
    it.check_out(STRANGER)
    status, told = publish(it.environment())
    assert (status, *_places(github)) == ((0, [it.head], [it.pull]) if merges else (5, [], [])), told


def test_a_merge_commit_of_an_older_head(case, publish, github):
    """`refs/pull/N/merge` stays where it was while a pull request has a conflict, and a review starts a workflow then."""
    it = case("pull_request_review submitted")
    github.commits = {OWN: [BASE, "e" * 40]}
    status, _ = publish(it.environment())
    assert (status, *_places(github)) == (5, [], [])


@pytest.mark.parametrize("status", [403, 404, 409, 422])
def test_a_commit_that_the_server_does_not_tell_is_no_merge(case, publish, github, status):
    it = case("pull_request_target opened")
    it.check_out(STRANGER)
    github.fail(path="/git/commits/", status=status, times=9)
    assert publish(it.environment())[0] == 5
    assert _places(github) == ([], [])


def test_a_server_that_fails_is_no_other_commit(case, publish, github):
    it = case("pull_request_target opened")
    it.check_out(STRANGER)
    github.fail(path="/git/commits/", status=401, times=9)
    status, told = publish(it.environment())
    assert (status, *_places(github)) == (5, [], [])
    assert "HTTP 401" in told


@pytest.mark.parametrize("text", ["", "x", "A" * 40, "a" * 41, "refs/heads/main", "HEAD"])
def test_what_is_no_commit(github, tmp_path, call, text):
    from cgroup_preflight.core.errors import UsageError

    with pytest.raises(UsageError, match="not a commit"):
        call(github_env(github, tmp_path), write_report(tmp_path / "r.json", PASS), "--commit", text)


def test_reports_of_other_jobs_do_not_depend_on_the_checkout(case, publish, github):
    it = case("workflow_run completed after pull_request")
    it.check_out(OWN)
    assert publish(it.environment(), "--commit", "event")[0] == 0
    assert _places(github) == ([it.head], [it.pull])


def test_a_dry_run_shows_the_request_for_the_commit(case, call, capsys, tmp_path):
    it = case("issue_comment created on a pull request")
    it.check_out(STRANGER)
    call(it.environment(), write_report(tmp_path / "r.json", PASS), "--dry-run", "--comment", "always")
    shown = capsys.readouterr().out
    assert f'"head_sha": "{STRANGER}"' in shown
    assert f"POST /api/v3/repos/org/demo/issues/{it.pull}/comments" in shown


def _gitlab_case(gitlab, folder, name):
    recorded = GITLAB[name]["variables"]
    base = gitlab_env(gitlab, folder)
    for variable in ("CI_MERGE_REQUEST_PROJECT_ID", "CI_MERGE_REQUEST_IID", "CI_COMMIT_SHA"):
        base.pop(variable)
    return base | recorded


def _check_out(folder, commit):
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text(f"{commit}\n")


@pytest.mark.parametrize("name", GITLAB)
@pytest.mark.parametrize("tested", ["CI_COMMIT_SHA", "head", "other", ""])
def test_each_kind_of_pipeline(gitlab, tmp_path, publish, name, tested):
    env = _gitlab_case(gitlab, tmp_path, name)
    _, _, commit, request = _row(name, PIPELINES)
    assert env.get("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA" if "SOURCE" in commit else "CI_COMMIT_SHA") == gl.SHA
    job = gitlab_job.read_job(env)
    assert (job.sha, job.project, job.iid) == (
        gl.SHA,
        42 if request == "the merge request" else job.own_project,
        5 if request == "the merge request" else None,
    )
    if tested:
        _check_out(tmp_path, {"CI_COMMIT_SHA": env["CI_COMMIT_SHA"], "head": gl.SHA, "other": STRANGER}[tested])
    status, told = publish(env)
    if tested == "other":
        assert (status, gitlab.notes) == (5, [])
        assert f"commit {STRANGER[:12]} was tested, but the pipeline is about {env['CI_COMMIT_SHA'][:12]}" in told
        return
    assert status == 0, told
    (note,) = gitlab.notes
    assert gl.SHA[:12] in note["body"]


@pytest.mark.parametrize(("name", "written"), [("branch pipeline", True), ("merged results pipeline", False)])
def test_the_caller_names_the_tested_commit_on_gitlab(gitlab, tmp_path, publish, name, written):
    env = _gitlab_case(gitlab, tmp_path, name) | {"CI_COMMIT_SHA": "d" * 40}
    _check_out(tmp_path, STRANGER)
    assert publish(env, "--commit", gl.SHA)[0] == 0  # the head in both cases
    gitlab.notes.clear()
    gitlab.requests[0]["sha"] = BASE
    assert publish(env, "--commit", BASE)[0] == (0 if written else 5)
    assert len(gitlab.notes) == written


def test_a_pipeline_without_a_merge_request_writes_nothing(gitlab, tmp_path, publish):
    gitlab.requests[0]["sha"] = "4" * 40
    status, told = publish(_gitlab_case(gitlab, tmp_path, "tag pipeline"))
    assert (status, gitlab.notes) == (0, [])
    assert "no open merge request has this commit as its head" in told
