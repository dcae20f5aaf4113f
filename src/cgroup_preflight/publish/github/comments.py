"""The comments of a pull request, and the pull request that belongs to a `workflow_run`."""

from typing import Any

from cgroup_preflight.publish.answers import dig, id_of, sha_of, text_of, url_of
from cgroup_preflight.publish.comment import Comment
from cgroup_preflight.publish.github.api import GithubApi
from cgroup_preflight.publish.github.job import GithubJob
from cgroup_preflight.publish.http import Answer, ForgeError, Trouble


class GithubComments:
    """Comments of pull request `number` on `server`; reads our login only if a comment has our mark."""

    def __init__(self, api: GithubApi, number: int, server: str) -> None:
        self._api = api
        self._number = number
        self._server = server
        self._login: str | None = None

    def read_all(self) -> list[Comment]:
        return [self._comment(item) for item in self._api.items(f"/issues/{self._number}/comments")]

    def is_own(self, author: str) -> bool:
        if self._login is None:
            self._login = self._api.login()
        # The name of an app ends in [bot] in REST but not in GraphQL.
        return author != "" and author in (self._login, f"{self._login}[bot]")

    def head(self) -> str:
        return sha_of(dig(self._api.one("GET", f"/pulls/{self._number}"), "head", "sha"))

    def create(self, body: str) -> Comment:
        made = self._comment(self._api.one("POST", f"/issues/{self._number}/comments", {"body": body}))
        self._login = made.author or self._login
        return made

    def update(self, comment: Comment, body: str) -> Comment:
        return self._comment(self._api.one("PATCH", f"/issues/comments/{comment.id}", {"body": body}))

    def delete(self, comment: Comment) -> None:
        self._api.send("DELETE", f"/issues/comments/{comment.id}")

    def _comment(self, item: dict[str, Any]) -> Comment:
        number = id_of(item.get("id"))
        if number is None:
            raise ForgeError(Trouble.CONTENT, method="GET", path="comments", answer=Answer())
        return Comment(
            id=number, body=text_of(item.get("body")), author=text_of(dig(item, "user", "login")),
            url=url_of(item.get("html_url"), self._server),
        )  # fmt: skip


def pull_of_run(api: GithubApi, job: GithubJob, claimed: int | None) -> int | None:
    """The pull request whose head is the commit of a `workflow_run`; None if there is none.

    `claimed` is a number from the artifact, which anybody can write: it counts only if GitHub says that the head of
    that pull request is the commit. Without it, the open pull requests of the branch that GitHub names are searched.
    Raises ForgeError.
    """
    if claimed is not None:
        return claimed if _is_at(api.one("GET", f"/pulls/{claimed}"), job.sha) else None
    if job.source is None or not job.source.owner or not job.source.branch:
        return None
    head = f"{job.source.owner}:{job.source.branch}"
    found = (item for item in api.items("/pulls", state="open", head=head) if _is_at(item, job.sha))
    return id_of(next(found, {}).get("number"))


def _is_at(pull: dict[str, Any], sha: str) -> bool:
    return bool(sha) and dig(pull, "head", "sha") == sha
