"""The comments of a pull request as a `sticky.Board`, and which pull request a `workflow_run` is about."""

from typing import Any

from cgroup_preflight.publish.comment import Entry
from cgroup_preflight.publish.github.api import GithubApi
from cgroup_preflight.publish.github.job import GithubJob, dig
from cgroup_preflight.publish.http import Answer, ForgeError, Trouble


class GithubBoard:
    """Comments of pull request `number`; asks who it writes as only where a comment bears our mark."""

    def __init__(self, api: GithubApi, number: int) -> None:
        self._api = api
        self._number = number
        self._login: str | None = None

    def entries(self) -> list[Entry]:
        return [_entry(item) for item in self._api.items(f"/issues/{self._number}/comments")]

    def is_me(self, author: str) -> bool:
        if self._login is None:
            self._login = self._api.login()
        # GraphQL names an app without the suffix that REST writes behind it.
        return author != "" and author in (self._login, f"{self._login}[bot]")

    def head(self) -> str:
        sha = dig(self._api.one("GET", f"/pulls/{self._number}"), "head", "sha")
        return sha if isinstance(sha, str) else ""

    def create(self, body: str) -> Entry:
        made = _entry(self._api.one("POST", f"/issues/{self._number}/comments", {"body": body}))
        self._login = made.author or self._login
        return made

    def update(self, entry: Entry, body: str) -> Entry:
        return _entry(self._api.one("PATCH", f"/issues/comments/{entry.id}", {"body": body}))

    def delete(self, entry: Entry) -> None:
        self._api.send("DELETE", f"/issues/comments/{entry.id}")


def _entry(item: dict[str, Any]) -> Entry:
    number, body, author = item.get("id"), item.get("body"), dig(item, "user", "login")
    if not isinstance(number, int):
        raise ForgeError(Trouble.CONTENT, method="GET", path="comments", answer=Answer())
    return Entry(
        id=number, body=body if isinstance(body, str) else "", author=author if isinstance(author, str) else "",
        url=str(item.get("html_url") or ""),
    )  # fmt: skip


def pull_of_run(api: GithubApi, job: GithubJob, claimed: int | None) -> int | None:
    """The pull request whose head is the commit that a `workflow_run` ran on; None where there is none.

    `claimed` is a number out of the artifact, thus anybody's: it counts only if GitHub says that its head is that
    commit. Without one, the open requests of the branch that GitHub names are looked through. Raises ForgeError.
    """
    if claimed is not None:
        return claimed if _is_at(api.one("GET", f"/pulls/{claimed}"), job.sha) else None
    if job.source is None or not job.source.owner or not job.source.branch:
        return None
    head = f"{job.source.owner}:{job.source.branch}"
    found = (item for item in api.items("/pulls", state="open", head=head) if _is_at(item, job.sha))
    number = next(found, {}).get("number")
    return number if isinstance(number, int) else None


def _is_at(pull: dict[str, Any], sha: str) -> bool:
    return bool(sha) and dig(pull, "head", "sha") == sha
