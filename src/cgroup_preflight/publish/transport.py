"""The one seam to the network, below both client libraries: deadline, retries, one host, nothing secret in errors.

It is an adapter of `requests`, which PyGithub and python-gitlab both send through. Their own retries stay off:
PyGithub's replay a POST after a 5xx and python-gitlab's wait for ever and stumble over a date in Retry-After.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import NewConnectionError

from cgroup_preflight.publish import retry
from cgroup_preflight.publish.clock import Clock
from cgroup_preflight.publish.forge_error import Answer, ForgeError, Trouble

#: One attempt: time to connect and time without a byte, seconds.
TIMEOUT = 15.0
_EXCERPT = 200


class Transport(HTTPAdapter):
    """Sends to `base` and nowhere else until `deadline` (of `clock.monotonic`), and raises ForgeError.

    A POST to one of the addresses in `reads` changes nothing, so it is repeated like a GET.
    """

    def __init__(self, base: str, *, deadline: float, clock: Clock, reads: Collection[str] = ()) -> None:
        super().__init__(max_retries=0)
        self._origin = _origin(base)
        self._deadline = deadline
        self._clock = clock
        self._reads = frozenset(reads)
        self.requests_sent = 0

    def left(self) -> float:
        """Seconds until the deadline."""
        return self._deadline - self._clock.monotonic()

    def send(
        self, request: requests.PreparedRequest, stream: bool = False,  # noqa: ARG002, FBT001, FBT002 - theirs
        timeout: Any = None, verify: Any = True, cert: Any = None,  # noqa: ANN401, ARG002, FBT002
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:  # fmt: skip
        """A response below 300; every other end is a ForgeError."""
        method, path = request.method or "GET", shown_path(request.url or "")
        if _origin(request.url or "") != self._origin:
            # A link in an answer leads elsewhere; the token does not go there.
            raise ForgeError(Trouble.MOVED, method=method, path=path, answer=Answer())
        attempt = 0
        while True:
            attempt += 1
            left = self.left()
            if left <= 0:
                raise ForgeError(Trouble.DEADLINE, method=method, path=path, answer=Answer())
            self.requests_sent += 1
            response, answer = self._once(request, min(TIMEOUT, left), verify=verify, cert=cert, proxies=proxies)
            kind = "GET" if request.url in self._reads else method
            step = retry.next_step(kind, answer, attempt=attempt, left=self.left(), now=self._clock.wall())
            if step.done and response is not None:
                return response
            if step.ambiguous or not step.seconds:
                trouble = step.trouble or Trouble.CONTENT
                raise ForgeError(trouble, method=method, path=path, answer=answer, ambiguous=step.ambiguous)
            self._clock.sleep(step.seconds)

    def _once(
        self,
        request: requests.PreparedRequest,
        timeout: float,
        **more: Any,  # noqa: ANN401 - theirs, handed on
    ) -> tuple[requests.Response | None, Answer]:
        try:
            response = super().send(request, stream=False, timeout=timeout, **more)
            body = response.content  # read here, so that a connection cut half-way is seen by the policy
        except requests.exceptions.RequestException as error:
            return None, Answer(trouble=_trouble(error))
        except OSError:  # before anything is sent, `requests` looks for the CA's file
            return None, Answer(trouble=Trouble.CA_FILE)
        # What the libraries would do with a redirect is not wanted: a POST becomes a GET, and a host is followed.
        headers = {name.lower(): value for name, value in response.headers.items()}
        excerpt = body[:_EXCERPT].decode("utf-8", "replace")
        answer = Answer(status=response.status_code, headers=headers, excerpt=excerpt)
        return response, replace(answer, trouble=_content_trouble(response, body))


def _content_trouble(response: requests.Response, body: bytes) -> Trouble | None:
    """A success without JSON in it: a page of some gateway, or an answer cut half-way (older urllib3 lets it pass)."""
    if response.status_code >= 300 or not body:
        return None
    if "json" not in response.headers.get("content-type", "").lower():
        return Trouble.CONTENT
    try:
        json.loads(body)
    except ValueError:
        return Trouble.CUT
    return None


def _trouble(error: requests.exceptions.RequestException) -> Trouble:
    """The kind alone: the text of these errors may hold a proxy's password."""
    kinds = requests.exceptions
    if isinstance(error, kinds.SSLError):
        return Trouble.TLS
    if isinstance(error, (kinds.ConnectTimeout, kinds.ProxyError)):
        return Trouble.UNREACHABLE
    if isinstance(error, kinds.Timeout):
        return Trouble.SLOW
    if isinstance(error, kinds.ConnectionError):
        never_sent = any(isinstance(item, NewConnectionError) for item in _chain(error))
        return Trouble.UNREACHABLE if never_sent else Trouble.CUT
    return Trouble.CUT


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it wraps: urllib3 hides a refused connection two levels deep."""
    yield error
    for inner in (*error.args, getattr(error, "reason", None)):
        if isinstance(inner, BaseException):
            yield from _chain(inner)


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    try:
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        port = 0
    return parts.scheme, parts.hostname or "", port


def shown_path(url: str) -> str:
    """Path and query of an address, for a message."""
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
