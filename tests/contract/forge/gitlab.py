"""GitLab on loopback: notes and merge requests, below a relative root, with the limits of a job token."""

import re
from typing import Any

from tests.contract.forge.server import Call, Forge, Reply, Route, paged

SHA = "3" * 40
TOKEN = "glpat-0123456789abcdefghij"
JOB_TOKEN = "64_0123456789abcdefghij"


class GitLab(Forge):
    """Project 42 with merge request 5 at SHA; `token` may write, `job_token` may read notes only."""

    def __init__(self, contract: Any = None, *, root: str = "/gitlab", token: str = TOKEN) -> None:
        super().__init__(contract)
        self.root = root
        self.prefix = f"{root}/api/v4"
        self.token, self.job_token = token, JOB_TOKEN
        self.notes: list[dict[str, Any]] = []
        self.requests = [
            {
                "id": 900,
                "iid": 5,
                "project_id": 42,
                "state": "opened",
                "sha": SHA,
                "title": "x",
            }
        ]
        self.short_pages = False
        self.public_url = ""
        self.scope_missing = False

    @property
    def server_url(self) -> str:
        return f"{self.url}{self.root}"

    def routes(self) -> list[Route]:
        notes = r"/projects/42/merge_requests/5/notes"
        return [
            ("GET", re.compile("/user"), self._user),
            ("GET", re.compile(notes), self._list),
            ("POST", re.compile(notes), self._create),
            ("PUT", re.compile(rf"{notes}/(\d+)"), self._update),
            ("DELETE", re.compile(rf"{notes}/(\d+)"), self._delete),
            ("GET", re.compile(r"/projects/42/merge_requests/5"), self._request),
            ("GET", re.compile(r"/projects/42/repository/commits/([0-9a-f]+)/merge_requests"), self._of_commit),
        ]

    def answer(self, call: Call) -> Reply:
        if call.headers.get("job-token") == self.job_token:
            if call.method != "GET" or call.path == "/user":
                return Reply(status=401, content={"message": "401 Unauthorized"})
        elif call.headers.get("private-token") != self.token:
            return Reply(status=401, content={"message": "401 Unauthorized"})
        if self.scope_missing and call.method != "GET":
            return Reply(status=403, content={"error": "insufficient_scope", "scope": "api"})
        return super().answer(call)

    def _user(self, _call: Call) -> Reply:
        return Reply(content={"id": 77, "username": "project_42_bot", "name": "preflight", "state": "active"})

    def _list(self, call: Call) -> Reply:
        part, link = paged(call, self.notes, self.public_url or self.api_url, short=self.short_pages)
        return Reply(content=part, headers={"Link": link} if link else {})

    def add_note(self, body: str, username: str = "someone") -> dict[str, Any]:
        ident = 300 + len(self.calls) + len(self.notes)
        item = {
            "id": ident,
            "type": None,
            "body": body,
            "author": {"id": 1, "username": username},
            "system": False,
            "noteable_id": 900,
            "noteable_type": "MergeRequest",
            "resolvable": False,
            "noteable_iid": 5,
            "created_at": "2026-01-01T00:00:00.000Z",
            "updated_at": "2026-01-01T00:00:00.000Z",
        }
        self.notes.append(item)
        return item

    def _create(self, call: Call) -> Reply:
        if len(call.body["body"]) > 1_000_000:
            return Reply(status=400, content={"message": {"note": ["is too long"]}})
        return Reply(status=201, content=self.add_note(call.body["body"], "project_42_bot"))

    def _update(self, call: Call, ident: str) -> Reply:
        item = next((item for item in self.notes if item["id"] == int(ident)), None)
        if item is None:
            return Reply(status=404, content={"message": "404 Note Not Found"})
        item["body"] = call.body["body"]
        return Reply(content=item)

    def _delete(self, _call: Call, ident: str) -> Reply:
        before = len(self.notes)
        self.notes = [item for item in self.notes if item["id"] != int(ident)]
        return (
            Reply(status=204) if len(self.notes) < before else Reply(status=404, content={"message": "404 Not Found"})
        )

    def _request(self, _call: Call) -> Reply:
        return Reply(content=self.requests[0] | {"web_url": f"{self.server_url}/group/demo/-/merge_requests/5"})

    def _of_commit(self, _call: Call, sha: str) -> Reply:
        return Reply(content=[item for item in self.requests if item["sha"] == sha])
