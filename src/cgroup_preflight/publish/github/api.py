"""GitHub's REST API through PyGithub's requester, with relative paths and numbered pages only.

PyGithub's objects would follow the absolute addresses in answers, which some gateways write with another host.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import github
import requests
from github.Requester import HTTPRequestsConnectionClass, HTTPSRequestsConnectionClass, Requester

from cgroup_preflight import __version__
from cgroup_preflight.publish.http import TIMEOUT, Answer, ForgeError, Transport, Trouble
from cgroup_preflight.publish.secret import Secret

#: Most pages of 100 entries that are read of one list.
_PAGES_MAX = 50
_VIEWER = "query{viewer{login}}"


class GithubApi:
    """One repository on one server; every method raises ForgeError.

    PyGithub has one transport for the process, so only one GithubApi can be in use at a time.
    """

    def __init__(
        self, *, base_url: str, graphql_url: str, repo: str, token: Secret, transport: Transport, ca_file: str = ""
    ) -> None:
        self._inject(transport)
        self._repo = f"/repos/{repo}"
        self._graphql_url = graphql_url
        self._of_app = token.begins("ghs_")
        self._client = github.Github(
            auth=github.Auth.Token(token.reveal()), base_url=base_url, timeout=int(TIMEOUT), retry=None,
            seconds_between_requests=0, seconds_between_writes=0, verify=ca_file or True,
            user_agent=f"cgroup-preflight/{__version__}",
        )  # fmt: skip

    @staticmethod
    def _inject(transport: Transport) -> None:
        """Makes PyGithub, which creates its sessions itself, send through `transport`."""

        class _Http(HTTPRequestsConnectionClass):
            def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - handed on
                super().__init__(*args, **kwargs)
                _mount(self.session, transport)

        class _Https(HTTPSRequestsConnectionClass):
            def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - handed on
                super().__init__(*args, **kwargs)
                _mount(self.session, transport)

        Requester.injectConnectionClasses(_Http, _Https)

    def send(
        self, method: str, path: str, body: Mapping[str, object] | None = None, **parameters: str | int
    ) -> tuple[Mapping[str, str], Any]:
        """Headers (lower case) and JSON of one answer; `path` is below the repository, or with `//` below the API."""
        url = path[1:] if path.startswith("//") else f"{self._repo}{path}"
        headers, data = self._client.requester.requestJsonAndCheck(method, url, parameters=dict(parameters), input=body)
        return headers, data

    def one(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        """The JSON object of one answer."""
        _, data = self.send(method, path, body)
        if not isinstance(data, dict):
            raise _odd(method, path)
        return data

    def items(self, path: str, key: str = "", **parameters: str | int) -> Iterator[dict[str, Any]]:
        """The objects of a list, from all pages; `key` names the list inside an object."""
        for page in range(1, _PAGES_MAX + 1):
            headers, data = self.send("GET", path, None, **parameters, per_page=100, page=page)
            entries = (data.get(key) if isinstance(data, dict) else None) if key else data
            if not isinstance(entries, list):
                raise _odd("GET", path)
            yield from (item for item in entries if isinstance(item, dict))
            # Only this header tells: a short page need not be the last one.
            if 'rel="next"' not in headers.get("link", ""):
                return
        raise _odd("GET", f"{path} (more than {_PAGES_MAX} pages)")

    def login(self) -> str:
        """The login that the token writes as; a job's own token (`ghs_`) may not read `GET /user`, but GraphQL."""
        login: object = None
        if not self._of_app:
            try:
                login = self.one("GET", "//user").get("login")
            except ForgeError as error:
                if error.status != 403:
                    raise
        login = login or self._viewer()
        return login if isinstance(login, str) else ""

    def _viewer(self) -> object:
        # PyGithub guesses the GraphQL address; the runner's variable is right on every server.
        _, data = self._client.requester.requestJsonAndCheck("POST", self._graphql_url, input={"query": _VIEWER})
        inner = data.get("data") if isinstance(data, dict) else None
        viewer = inner.get("viewer") if isinstance(inner, dict) else None
        return viewer.get("login") if isinstance(viewer, dict) else None


def _mount(session: requests.Session, transport: Transport) -> None:
    session.mount("https://", transport)
    session.mount("http://", transport)


def _odd(method: str, path: str) -> ForgeError:
    return ForgeError(Trouble.CONTENT, method=method, path=path, answer=Answer())
