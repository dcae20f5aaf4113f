"""The notes of a merge request, through python-gitlab.

Plain notes, because a discussion is a thread that somebody has to resolve, and it can block the merge.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import gitlab
import requests

from cgroup_preflight import __version__
from cgroup_preflight.publish.answers import dig, id_of, sha_of, text_of, url_of
from cgroup_preflight.publish.comment import Comment
from cgroup_preflight.publish.gitlab.job import GitlabJob
from cgroup_preflight.publish.http import TIMEOUT, Answer, ForgeError, Transport, Trouble
from cgroup_preflight.publish.secret import Secret

#: Bytes; GitLab accepts 1,000,000 characters, which nobody reads.
BODY_MAX = 200_000
_NOTES_MAX = 5000
#: `Transport` retries; python-gitlab itself would sleep for as long as a server says.
_ONCE: dict[str, Any] = {"obey_rate_limit": False, "retry_transient_errors": False, "max_retries": 0}


def connect(job: GitlabJob, token: Secret, transport: Transport, *, ca_file: str = "") -> gitlab.Gitlab:
    """A client that has sent no request yet; it accepts one kind of token at a time."""
    session = requests.Session()
    session.mount("https://", transport)
    session.mount("http://", transport)
    text = token.reveal()
    own = token is job.token
    return gitlab.Gitlab(
        job.server_url, timeout=TIMEOUT, ssl_verify=ca_file or job.ca_file or True, keep_base_url=True,
        retry_transient_errors=False, user_agent=f"cgroup-preflight/{__version__}", session=session,
        private_token=text if own else None, job_token=None if own else text,
    )  # fmt: skip


class GitlabNotes:
    """Notes of merge request `iid` of `project` on `server`; reads our user name only if a note has our mark."""

    def __init__(self, client: gitlab.Gitlab, project: int, iid: int, server: str) -> None:
        self._client = client
        self._server = server
        self._path = f"/projects/{project}/merge_requests/{iid}"
        self._request = client.projects.get(project, lazy=True).mergerequests.get(iid, lazy=True)
        self._name: str | None = None
        self._web_url = ""

    def read_all(self) -> list[Comment]:
        found: list[Comment] = []
        # The iterator follows the link to the next page; a short page need not be the last one.
        notes = self._request.notes.list(
            iterator=True, per_page=100, order_by="created_at", sort="asc", activity_filter="only_comments", **_ONCE
        )
        for note in notes:
            if len(found) >= _NOTES_MAX:
                raise ForgeError(Trouble.CONTENT, method="GET", path=f"{self._path}/notes", answer=Answer())
            found.append(_comment(note.attributes))
        return found

    def is_own(self, author: str) -> bool:
        if self._name is None:
            self._name = text_of(dig(self._client.http_get("/user", **_ONCE), "username"))
        return author != "" and author == self._name

    def head(self) -> str:
        request = self._client.http_get(self._path, **_ONCE)
        self._web_url = url_of(dig(request, "web_url"), self._server)
        return sha_of(dig(request, "sha"))

    def create(self, body: str) -> Comment:
        made = _comment(self._request.notes.create({"body": body}, **_ONCE).attributes)
        self._name = made.author or self._name
        return self._with_url(made)

    def update(self, comment: Comment, body: str) -> Comment:
        note = self._request.notes.update(comment.id, {"body": body}, **_ONCE)
        return self._with_url(_comment(dict(note)))

    def delete(self, comment: Comment) -> None:
        self._request.notes.delete(comment.id, **_ONCE)

    def _with_url(self, note: Comment) -> Comment:
        """The API returns no address of a note; it is that of the merge request with an anchor."""
        return replace(note, url=f"{self._web_url}#note_{note.id}" if self._web_url else "")


def _comment(item: dict[str, Any]) -> Comment:
    number = id_of(item.get("id"))
    if number is None:
        raise ForgeError(Trouble.CONTENT, method="GET", path="notes", answer=Answer())
    return Comment(id=number, body=text_of(item.get("body")), author=text_of(dig(item, "author", "username")))


def find_request(client: gitlab.Gitlab, job: GitlabJob) -> tuple[int, int] | None:
    """Project and number of the open merge request whose head is the job's commit; for branch pipelines."""
    if not job.sha:
        return None
    commit = client.projects.get(job.own_project, lazy=True).commits.get(job.sha, lazy=True)
    requests_found: Iterable[dict[str, Any]] = commit.merge_requests(iterator=True, **_ONCE)
    for item in requests_found:
        project, iid = id_of(dig(item, "project_id")), id_of(dig(item, "iid"))
        if dig(item, "state") == "opened" and dig(item, "sha") == job.sha and project and iid:
            return project, iid
    return None
