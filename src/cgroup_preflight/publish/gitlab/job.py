"""A GitLab job, read from its environment. Sends no request.

Source: GitLab docs, "Predefined CI/CD variables reference". CI_MERGE_REQUEST_SOURCE_BRANCH_SHA is set only in
merged results pipelines, where CI_COMMIT_SHA is a temporary merge commit.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.publish.answers import is_server, number_of, sha_of
from cgroup_preflight.publish.checkout import named_and_found
from cgroup_preflight.publish.comment_state import RunId
from cgroup_preflight.publish.origin import JobId
from cgroup_preflight.publish.secret import Secret, first_secret, secret

_TOKENS = ("CGROUP_PREFLIGHT_GITLAB_TOKEN", "GITLAB_TOKEN")
#: Every variable that can hold a token.
SECRETS = (*_TOKENS, "CI_JOB_TOKEN", "CI_REGISTRY_PASSWORD")
#: What GitLab adds to the name of a job with `parallel`.
_MATRIX = re.compile(r"(?:: \[.*\]| \d+/\d+)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class GitlabJob:
    """One job, number `index` of the `total` jobs that `parallel` makes of it.

    The merge request is in `project`, the pipeline runs in `own_project`; they differ for forks. `sha` is the head of the
    merge request or of the branch; `obstacle` says why the result is not about it, or is empty.
    """

    server_url: str
    project: int
    own_project: int
    iid: int | None
    sha: str
    run: RunId
    token: Secret | None
    job_token: Secret | None
    ca_file: str = ""
    job_url: str = ""
    pipeline_url: str = ""
    project_dir: str = ""
    job_name: str = ""
    obstacle: str = ""
    index: int = 0
    total: int = 0
    is_child: bool = False

    @property
    def id(self) -> JobId:
        """What tells this job from all others. Child pipelines of one parent can have jobs of the same name."""
        workflow = f"pipeline {self.run.run}" if self.is_child else ""
        return JobId(workflow=workflow, name=_MATRIX.sub("", self.job_name), run=self.run, id=self.run.attempt)


def read_job(environ: Mapping[str, str], commit: str = "checkout") -> GitlabJob:
    """The job that `environ` describes; `commit` is as in `checkout.named_and_found`.

    Raises UsageError if the server or the project is missing.
    """
    server = (environ.get("CI_SERVER_URL") or "").rstrip("/")
    own = number_of(environ.get("CI_PROJECT_ID"))
    if not is_server(server) or not own:
        raise UsageError("CI_SERVER_URL or CI_PROJECT_ID is missing or malformed", where="publish",
                         remedy=Remedy(title="set them, or use --provider none"))  # fmt: skip
    sha, obstacle = _commits(environ, commit)
    return GitlabJob(
        server_url=server, project=number_of(environ.get("CI_MERGE_REQUEST_PROJECT_ID")) or own, own_project=own,
        iid=number_of(environ.get("CI_MERGE_REQUEST_IID")) or None, sha=sha, obstacle=obstacle,
        run=RunId(run=number_of(environ.get("CI_PIPELINE_ID")), attempt=number_of(environ.get("CI_JOB_ID"))),
        token=first_secret(environ.get(variable, "") for variable in _TOKENS),
        job_token=secret(environ.get("CI_JOB_TOKEN", "")), ca_file=environ.get("CI_SERVER_TLS_CA_FILE", ""),
        job_url=environ.get("CI_JOB_URL", ""), pipeline_url=environ.get("CI_PIPELINE_URL", ""),
        project_dir=environ.get("CI_PROJECT_DIR", ""), job_name=environ.get("CI_JOB_NAME", ""),
        index=number_of(environ.get("CI_NODE_INDEX")), total=number_of(environ.get("CI_NODE_TOTAL")),
        is_child=environ.get("CI_PIPELINE_SOURCE") == "parent_pipeline",
    )  # fmt: skip


def _commits(environ: Mapping[str, str], commit: str) -> tuple[str, str]:
    """The commit that gets the result, and why the one that was tested is another one; empty if it is not."""
    default = sha_of(environ.get("CI_COMMIT_SHA"))
    head = sha_of(environ.get("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA")) or default
    stated, found = named_and_found(commit, environ.get("CI_PROJECT_DIR", ""))
    if stated and not environ.get("CI_MERGE_REQUEST_IID"):
        return stated, ""
    own = stated or found
    if own in ("", default, head):
        return head, ""
    return head, f"commit {own[:12]} was tested, but the pipeline is about {default[:12] or 'an unknown commit'}"
