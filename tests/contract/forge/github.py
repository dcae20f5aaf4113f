"""GitHub on loopback: check runs, comments and pull requests of one repository, with GitHub's own refusals."""

import re
from typing import Any

from tests.contract.forge.server import Call, Forge, Reply, Route, paged

SHA = "1" * 40
OTHER_SHA = "2" * 40
TOKEN = "ghs_0123456789abcdefghijklmnopqrstuvwxyz"


def user(login: str) -> dict[str, Any]:
    return {"login": login, "id": 41898282, "type": "Bot" if login.endswith("[bot]") else "User", "site_admin": False}


class GitHub(Forge):
    """`token` is the one that is known, `login` whom it writes as, `lacks` the permissions it has not."""

    prefix = "/api/v3"

    def __init__(self, contract: Any = None, *, token: str = TOKEN, login: str = "github-actions[bot]") -> None:
        super().__init__(contract)
        self.token, self.login = token, login
        self.lacks: set[str] = set()
        self.comments: list[dict[str, Any]] = []
        self.checks: list[dict[str, Any]] = []
        self.pulls: dict[int, dict[str, Any]] = {7: pull(7)}
        self.commits: dict[str, list[str]] = {}  # the parents of each
        self.short_pages = False
        self.public_url = ""  # another host in every `url` of an answer, as behind some gateways
        self.graphql: list[Any] = []

    def routes(self) -> list[Route]:
        repo = r"/repos/org/demo"
        return [
            ("GET", re.compile("/user"), self._user),
            ("GET", re.compile(rf"{repo}/issues/(\d+)/comments"), self._list_comments),
            ("POST", re.compile(rf"{repo}/issues/(\d+)/comments"), self._create_comment),
            ("PATCH", re.compile(rf"{repo}/issues/comments/(\d+)"), self._update_comment),
            ("DELETE", re.compile(rf"{repo}/issues/comments/(\d+)"), self._delete_comment),
            ("GET", re.compile(rf"{repo}/commits/([0-9a-f]+)/check-runs"), self._list_checks),
            ("POST", re.compile(rf"{repo}/check-runs"), self._create_check),
            ("PATCH", re.compile(rf"{repo}/check-runs/(\d+)"), self._update_check),
            ("GET", re.compile(rf"{repo}/git/commits/([0-9a-f]+)"), self._commit),
            ("GET", re.compile(rf"{repo}/pulls/(\d+)"), self._pull),
            ("GET", re.compile(rf"{repo}/pulls"), self._list_pulls),
            ("POST", re.compile("/api/graphql"), self._graphql),
        ]

    def answer(self, call: Call) -> Reply:
        if call.headers.get("authorization") not in (f"token {self.token}", f"Bearer {self.token}"):
            return Reply(status=401, content={"message": "Bad credentials", "documentation_url": "", "status": "401"})
        return super().answer(call)

    def _denied(self, permission: str) -> Reply | None:
        if permission not in self.lacks:
            return None
        accepted = {"pull_requests": "issues=write; pull_requests=write", "checks": "checks=write"}[permission]
        return Reply(
            status=403,
            headers={"X-Accepted-GitHub-Permissions": accepted},
            content={"message": "Resource not accessible by integration", "status": "403"},
        )

    def _user(self, _call: Call) -> Reply:
        if self.login.endswith("[bot]"):
            return Reply(status=403, content={"message": "Resource not accessible by integration"})
        return Reply(content=user(self.login))

    def _graphql(self, call: Call) -> Reply:
        self.graphql.append(call.body)
        return Reply(content={"data": {"viewer": {"login": self.login}}})

    def _list_comments(self, call: Call, number: str) -> Reply:
        part, link = paged(
            call,
            [item for item in self.comments if item["issue"] == int(number)],
            self.public_url or self.api_url,
            short=self.short_pages,
        )
        return Reply(content=part, headers={"Link": link} if link else {})

    def add_comment(self, body: str, login: str = "someone", number: int = 7) -> dict[str, Any]:
        ident = 1000 + len(self.comments) + sum(1 for call in self.calls if call.method == "DELETE")
        base = f"{self.public_url or self.api_url}/repos/org/demo/issues"
        item = {
            "id": ident,
            "node_id": "IC_x",
            "url": f"{base}/comments/{ident}",
            "body": body,
            "user": user(login),
            "issue": number,
            "html_url": f"https://github.example/org/demo/pull/{number}#issuecomment-{ident}",
            "created_at": "2026-01-01T00:00:00Z",
            "updated_at": "2026-01-01T00:00:00Z",
            "author_association": "NONE",
        }
        self.comments.append(item)
        return item

    def _too_long(self, call: Call) -> Reply | None:
        if len(call.body["body"]) > 65536:
            return Reply(
                status=422, content={"message": "Validation Failed", "errors": [{"message": "body is too long"}]}
            )
        return None

    def _create_comment(self, call: Call, number: str) -> Reply:
        refused = self._denied("pull_requests") or self._too_long(call)
        return refused or Reply(status=201, content=self.add_comment(call.body["body"], self.login, int(number)))

    def _find(self, ident: str) -> dict[str, Any] | None:
        return next((item for item in self.comments if item["id"] == int(ident)), None)

    def _update_comment(self, call: Call, ident: str) -> Reply:
        item = self._find(ident)
        if refused := self._denied("pull_requests") or self._too_long(call):
            return refused
        if item is None:
            return Reply(status=404, content={"message": "Not Found"})
        item["body"] = call.body["body"]
        return Reply(content=item)

    def _delete_comment(self, _call: Call, ident: str) -> Reply:
        item = self._find(ident)
        if item is None:
            return Reply(status=404, content={"message": "Not Found"})
        self.comments.remove(item)
        return Reply(status=204)

    def _list_checks(self, call: Call, sha: str) -> Reply:
        found = [
            item
            for item in self.checks
            if item["head_sha"] == sha and item["name"] == call.query.get("check_name", item["name"])
        ]
        return Reply(content={"total_count": len(found), "check_runs": found})

    def _create_check(self, call: Call) -> Reply:
        if refused := self._denied("checks") or _bad_output(call):
            return refused
        ident = 500 + len(self.checks)
        item = {
            **call.body,
            "id": ident,
            "status": "completed",
            "annotations": list(call.body["output"].get("annotations", [])),
            "html_url": f"https://github.example/org/demo/runs/{ident}",
            "url": f"{self.public_url or self.api_url}/x/{ident}",
        }
        self.checks.append(item)
        return Reply(status=201, content=item)

    def _update_check(self, call: Call, ident: str) -> Reply:
        item = next((item for item in self.checks if item["id"] == int(ident)), None)
        if item is None:
            return Reply(status=404, content={"message": "Not Found"})
        if {"status", "conclusion"} & set(call.body):
            return Reply(status=403, content={"message": "Check runs made by workflows cannot be changed"})
        if refused := _bad_output(call):
            return refused
        item["output"] = call.body["output"]
        item["annotations"] += call.body["output"].get("annotations", [])
        return Reply(content=item)

    def _pull(self, _call: Call, number: str) -> Reply:
        found = self.pulls.get(int(number))
        return Reply(content=found) if found else Reply(status=404, content={"message": "Not Found"})

    def _commit(self, _call: Call, sha: str) -> Reply:
        if sha not in self.commits:
            return Reply(status=404, content={"message": "Not Found"})
        return Reply(content={"sha": sha, "parents": [{"sha": parent, "url": ""} for parent in self.commits[sha]]})

    def _list_pulls(self, call: Call) -> Reply:
        wanted = call.query.get("head", "")
        found = [
            item for item in self.pulls.values() if f"{item['head']['user']['login']}:{item['head']['ref']}" == wanted
        ]
        return Reply(content=found)


def _bad_output(call: Call) -> Reply | None:
    output = call.body.get("output", {})
    if len(output.get("annotations", [])) > 50 or len(output.get("summary", "")) > 65535:
        return Reply(status=422, content={"message": "Invalid request.", "errors": ["too long"]})
    if any(item["path"].startswith("/") for item in output.get("annotations", [])):
        return Reply(status=422, content={"message": "Invalid path"})
    return None


def pull(number: int, sha: str = SHA, *, owner: str = "org", branch: str = "topic") -> dict[str, Any]:
    return {
        "number": number,
        "state": "open",
        "head": {"sha": sha, "ref": branch, "user": user(owner)},
        "base": {"sha": "0" * 40},
    }
