"""A GitHub job, read from its environment and its event file. Sends no request.

Sources: GitHub docs, "Default environment variables" and "Webhook events and payloads". On `pull_request`
GITHUB_SHA is the merge commit, whose checks nobody sees; the head commit is in the event.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.publish.comment_state import RunId
from cgroup_preflight.publish.origin import JobId
from cgroup_preflight.publish.secret import Secret, first_secret

_TOKENS = ("CGROUP_PREFLIGHT_GITHUB_TOKEN", "GITHUB_TOKEN", "GH_TOKEN")
#: Every variable that can hold a token.
SECRETS = (*_TOKENS, "ACTIONS_RUNTIME_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN")
_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", re.ASCII)
_REPO = re.compile(r"[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}", re.ASCII)
_URL = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+(?:/[A-Za-z0-9._~/-]*)?", re.ASCII)
_EVENT_MAX = 25 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Owner and branch of the code of a `workflow_run`, as GitHub's event names them; the artifact is not trusted."""

    owner: str
    branch: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GithubJob:
    """One job; `name` is its name in the file `workflow`, `number` that of the job context's `check_run_id` (0: unknown),
    `pull` the number of its pull request.

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

    @property
    def id(self) -> JobId:
        """What tells this job from all others."""
        return JobId(workflow=self.workflow, name=self.name, run=self.run, id=self.number)

    @property
    def run_url(self) -> str:
        """The page of this run; empty if the run is unknown."""
        return f"{self.server_url}/{self.repo}/actions/runs/{self.run.run}" if self.run.run else ""


def read_job(environ: Mapping[str, str]) -> GithubJob:
    """The job that `environ` describes. Raises UsageError."""
    event = _event(environ)
    name = environ.get("GITHUB_EVENT_NAME", "")
    repo = environ.get("GITHUB_REPOSITORY", "")
    if not _REPO.fullmatch(repo):
        raise UsageError("GITHUB_REPOSITORY is not OWNER/NAME", where="publish",
                         remedy=Remedy(title="set it, or use --provider none"))  # fmt: skip
    token = first_secret(environ.get(variable, "") for variable in _TOKENS)
    api = (environ.get("GITHUB_API_URL") or "https://api.github.com").rstrip("/")
    if not _URL.fullmatch(api):
        raise UsageError("GITHUB_API_URL is not the URL of a server", where="publish",
                         remedy=Remedy(title="set it as GitHub's runners do, for example https://api.github.com"))  # fmt: skip
    return GithubJob(
        repo=repo, sha=_head_sha(name, event, environ), event=name, pull=_pull(name, event),
        run=RunId(run=_number(environ.get("GITHUB_RUN_ID")), attempt=_number(environ.get("GITHUB_RUN_ATTEMPT"))),
        api_url=api, graphql_url=environ.get("GITHUB_GRAPHQL_URL") or f"{api}/graphql",
        server_url=environ.get("GITHUB_SERVER_URL") or "https://github.com", token=token,
        name=environ.get("GITHUB_JOB", ""),
        workflow=environ.get("GITHUB_WORKFLOW_REF", "").partition("@")[0].rpartition("/")[2],
        number=_number(environ.get("CGROUP_PREFLIGHT_JOB_ID")),
        read_only=_read_only(name, event, token),
        doubtful="a run started by Dependabot" if environ.get("GITHUB_ACTOR") == "dependabot[bot]" else "",
        workspace=environ.get("GITHUB_WORKSPACE", ""),
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


def dig(value: object, *keys: str) -> object:
    """The value under `keys` in nested objects; None if one of them is missing."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return max(0, value)
    text = _text(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def _head_sha(name: str, event: Mapping[str, object], environ: Mapping[str, str]) -> str:
    places = {"pull_request": ("pull_request", "head", "sha"), "pull_request_target": ("pull_request", "head", "sha"),
              "workflow_run": ("workflow_run", "head_sha"), "merge_group": ("merge_group", "head_sha")}  # fmt: skip
    sha = _text(dig(event, *places[name])) if name in places else ""
    sha = sha or environ.get("GITHUB_SHA", "")
    return sha if _SHA.fullmatch(sha) else ""


def _pull(name: str, event: Mapping[str, object]) -> int | None:
    if not name.startswith("pull_request"):
        return None
    return _number(dig(event, "pull_request", "number")) or _number(event.get("number")) or None


def _source(name: str, event: Mapping[str, object]) -> Source | None:
    if name != "workflow_run":
        return None
    owner = _text(dig(event, "workflow_run", "head_repository", "owner", "login"))
    return Source(owner=owner, branch=_text(dig(event, "workflow_run", "head_branch")))


def _read_only(name: str, event: Mapping[str, object], token: Secret | None) -> str:
    """Why the token may only read, whatever `permissions:` says; a personal access token is not affected."""
    if name != "pull_request" or (token is not None and token.begins("ghp_", "github_pat_")):
        return ""
    head, base = (_text(dig(event, "pull_request", side, "repo", "full_name")) for side in ("head", "base"))
    # `head.repo` is null if the fork has been deleted.
    return "a run of a fork's pull request" if base and head != base else ""
