"""A GitHub job, read from its environment, its event file and its checkout. Sends no request.

Source: GitHub docs, "Default environment variables"; `events` has the rules for each event.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.publish.answers import dig, is_server, number_of, sha_of, text_of
from cgroup_preflight.publish.checkout import named_and_found
from cgroup_preflight.publish.comment_state import RunId
from cgroup_preflight.publish.github.events import Checkout, subject
from cgroup_preflight.publish.origin import JobId
from cgroup_preflight.publish.secret import Secret, first_secret

_TOKENS = ("CGROUP_PREFLIGHT_GITHUB_TOKEN", "GITHUB_TOKEN", "GH_TOKEN")
#: Every variable that can hold a token.
SECRETS = (*_TOKENS, "ACTIONS_RUNTIME_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN")
_REPO = re.compile(r"[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}", re.ASCII)
_EVENT_MAX = 25 << 20
#: Events of a fork's pull request that run with a token that may only read (docs, "Events that trigger workflows").
_READ_ONLY_FOR_FORKS = ("pull_request", "pull_request_review", "pull_request_review_comment")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Owner and branch of the code of a `workflow_run`, as GitHub's event names them; the artifact is not trusted."""

    owner: str
    branch: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GithubJob:
    """One job; `name` is its name in the file `workflow`, `number` that of the job context's `check_run_id` (0: unknown).

    `sha`, `pull`, `no_pull` and `checkout` are the event's subject. `default_sha` is GITHUB_SHA, `found` the commit that
    is checked out, `stated` the commit that the caller names as the tested one; each is empty if unknown.
    `read_only` says why the token may only read. `doubtful` says why it may only read unless the workflow gives it
    more permissions. Both are empty for other jobs.
    """

    repo: str
    sha: str
    event: str
    pull: int | None
    run: RunId
    api_url: str
    graphql_url: str
    server_url: str
    token: Secret | None
    name: str = ""
    workflow: str = ""
    number: int = 0
    read_only: str = ""
    doubtful: str = ""
    workspace: str = ""
    summary_file: str = ""
    output_file: str = ""
    source: Source | None = None
    checkout: Checkout = Checkout.SAME
    no_pull: str = ""
    default_sha: str = ""
    found: str = ""
    stated: str = ""

    @property
    def id(self) -> JobId:
        """What tells this job from all others."""
        return JobId(workflow=self.workflow, name=self.name, run=self.run, id=self.number)

    @property
    def run_url(self) -> str:
        """The page of this run; empty if the run is unknown."""
        return f"{self.server_url}/{self.repo}/actions/runs/{self.run.run}" if self.run.run else ""


def read_job(environ: Mapping[str, str], commit: str = "checkout") -> GithubJob:
    """The job that `environ` describes; `commit` is as in `checkout.named_and_found`. Raises UsageError."""
    event = _event(environ)
    name = environ.get("GITHUB_EVENT_NAME", "")
    repo = environ.get("GITHUB_REPOSITORY", "")
    if not _REPO.fullmatch(repo):
        raise UsageError("GITHUB_REPOSITORY is not OWNER/NAME", where="publish",
                         remedy=Remedy(title="set it, or use --provider none"))  # fmt: skip
    token = first_secret(environ.get(variable, "") for variable in _TOKENS)
    api = (environ.get("GITHUB_API_URL") or "https://api.github.com").rstrip("/")
    if not is_server(api):
        raise UsageError("GITHUB_API_URL is not the URL of a server", where="publish",
                         remedy=Remedy(title="set it as GitHub's runners do, for example https://api.github.com"))  # fmt: skip
    default_sha, workspace = sha_of(environ.get("GITHUB_SHA")), environ.get("GITHUB_WORKSPACE", "")
    about = subject(name, event, sha=default_sha, ref=environ.get("GITHUB_REF", ""))
    stated, found = named_and_found(commit, workspace)
    return GithubJob(
        repo=repo, sha=about.head, event=name, pull=about.pull, checkout=about.checkout, no_pull=about.no_pull,
        default_sha=default_sha, found=found, stated=stated,
        run=RunId(run=number_of(environ.get("GITHUB_RUN_ID")), attempt=number_of(environ.get("GITHUB_RUN_ATTEMPT"))),
        api_url=api, graphql_url=environ.get("GITHUB_GRAPHQL_URL") or f"{api}/graphql",
        server_url=environ.get("GITHUB_SERVER_URL") or "https://github.com", token=token,
        name=environ.get("GITHUB_JOB", ""),
        workflow=environ.get("GITHUB_WORKFLOW_REF", "").partition("@")[0].rpartition("/")[2],
        number=number_of(environ.get("CGROUP_PREFLIGHT_JOB_ID")),
        read_only=_read_only(name, event, token),
        doubtful="a run started by Dependabot" if environ.get("GITHUB_ACTOR") == "dependabot[bot]" else "",
        workspace=workspace,
        summary_file=environ.get("GITHUB_STEP_SUMMARY", ""), output_file=environ.get("GITHUB_OUTPUT", ""),
        source=_source(name, event),
    )  # fmt: skip


def _event(environ: Mapping[str, str]) -> Mapping[str, object]:
    path = environ.get("GITHUB_EVENT_PATH", "")
    if not path:
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            event = json.loads(file.read(_EVENT_MAX))
    except (OSError, ValueError, RecursionError):
        raise UsageError("the event file cannot be read", where=path,
                         remedy=Remedy(title="set GITHUB_EVENT_PATH to the event of this run")) from None  # fmt: skip
    return event if isinstance(event, dict) else {}


def _source(name: str, event: Mapping[str, object]) -> Source | None:
    if name != "workflow_run":
        return None
    owner = text_of(dig(event, "workflow_run", "head_repository", "owner", "login"))
    return Source(owner=owner, branch=text_of(dig(event, "workflow_run", "head_branch")))


def _read_only(name: str, event: Mapping[str, object], token: Secret | None) -> str:
    """Why the token may only read, whatever `permissions:` says; a personal access token is not affected."""
    if name not in _READ_ONLY_FOR_FORKS or (token is not None and token.begins("ghp_", "github_pat_")):
        return ""
    head, base = (text_of(dig(event, "pull_request", side, "repo", "full_name")) for side in ("head", "base"))
    # `head.repo` is null if the fork has been deleted.
    return "a run of a fork's pull request" if base and head != base else ""
