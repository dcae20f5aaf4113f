"""`--dry-run`: prints the exact requests that the client libraries make, and sends none."""

import json
from collections.abc import Callable
from urllib.parse import urlsplit

import requests

from cgroup_preflight.publish.clock import RequestClock
from cgroup_preflight.publish.http import Transport, shown_path

_NOBODY = "dry-run"
_LISTS = frozenset({"comments", "notes", "pulls", "merge_requests"})


class DryRun(Transport):
    """Answers as a server without comments does, and accepts every write."""

    def __init__(self, base: str, *, say: Callable[[str], None]) -> None:
        super().__init__(base, deadline=float("inf"), clock=RequestClock())
        self._say = say
        self._written: list[dict[str, object]] = []

    def send(self, request: requests.PreparedRequest, *_args: object, **_kwargs: object) -> requests.Response:
        """Prints method, path and JSON of `request`, but no headers, because they hold the token."""
        method, path = request.method or "GET", shown_path(request.url or "")
        body = request.body
        self._say(f"{method} {path}")
        data = json.loads(body) if body else {}
        if body:
            self._say(json.dumps(data, indent=2, ensure_ascii=True))
        return self._answer(request, 201 if method == "POST" else 200, self._content(method, path, data))

    def _content(self, method: str, path: str, data: dict[str, object]) -> object:
        last = urlsplit(path).path.rsplit("/", 1)[-1]
        if method != "GET":
            made = {"id": len(self._written) + 1, "body": data.get("body", ""), "html_url": "",
                    "user": {"login": _NOBODY}, "author": {"username": _NOBODY}}  # fmt: skip
            self._written += [made] if last in _LISTS else []
            return made
        if last == "check-runs":
            return {"total_count": 0, "check_runs": []}
        return self._written if last in _LISTS else {"id": 1, "login": _NOBODY, "username": _NOBODY}

    @staticmethod
    def _answer(request: requests.PreparedRequest, status: int, content: object) -> requests.Response:
        response = requests.Response()
        response.status_code = status
        response.request = request
        response.url = request.url or ""
        response.headers["Content-Type"] = "application/json"
        response._content = json.dumps(content).encode()  # noqa: SLF001 - `requests` has no other way
        return response
