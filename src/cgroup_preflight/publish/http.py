"""The only way to the network, below both client libraries: one host, one deadline, one retry rule.

`Transport` is an adapter of `requests`, through which PyGithub and python-gitlab both send. Their own retries stay
off: PyGithub repeats a POST after a 5xx, python-gitlab waits without a limit and fails on a date in Retry-After.

`next_step` is the retry rule: a POST is sent again only if the server said that it did not do it (rate limit,
conflict), or if the request never reached the server. After a 5xx or a lost connection the caller first looks
whether the object was created. Sources: RFC 9110, 9.2.2 and 10.2.3; GitHub docs, "Rate limits for the REST API".

Errors hold no header of a request and no text of an exception: both can contain a token or a proxy's password.
"""

import email.utils
import enum
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import NewConnectionError

from cgroup_preflight.publish.answers import origin
from cgroup_preflight.publish.body import BODY_MAX, BrokenError, LateError, TooLargeError, is_json, read_body
from cgroup_preflight.publish.clock import RequestClock

#: Limit for connecting, and for each wait for a byte, in one attempt, seconds.
TIMEOUT = 15.0
#: Attempts for one request, the first one included.
_ATTEMPTS = 4
#: Wait after a rate limit that names no time, seconds; GitHub asks for at least a minute.
_SECONDARY = 60.0
#: Bytes of all answers to one transport, because the lists are kept in memory.
_TOTAL_MAX = 4 * BODY_MAX
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "PATCH", "DELETE"})
_EXCERPT_MAX = 200


class Trouble(enum.StrEnum):
    """Why a request failed, in the words of the receipt."""

    STATUS = "refused"
    LIMIT = "rate limit"
    SERVER = "server error"
    CONTENT = "not an API answer"
    LARGE = "answer too large"
    UNREACHABLE = "server not reachable"
    CUT = "connection lost"
    SLOW = "timed out"
    TLS = "TLS certificate not accepted"
    CA_FILE = "the CA certificate file cannot be read"
    MOVED = "redirect to another address"
    DEADLINE = "deadline exceeded"


#: After these nobody knows whether the server processed a POST.
_AMBIGUOUS = frozenset({Trouble.SERVER, Trouble.CUT, Trouble.SLOW, Trouble.CONTENT, Trouble.LARGE})
_TEMPORARY = frozenset({Trouble.LIMIT, Trouble.SERVER, Trouble.UNREACHABLE, Trouble.CUT, Trouble.SLOW})


_UNREAD = {TooLargeError: Trouble.LARGE, LateError: Trouble.SLOW, BrokenError: Trouble.CUT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One attempt: a response (`status`, lower-case `headers`, `excerpt` of the body), or the trouble without one."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    excerpt: str = ""
    trouble: Trouble | None = None

    def header(self, name: str) -> str:
        """The text of a header, empty if it is missing."""
        return self.headers.get(name, "")


class ForgeError(Exception):
    """A request that failed. `ambiguous`: the server may have done it anyway."""

    def __init__(self, trouble: Trouble, *, method: str, path: str, answer: Answer, ambiguous: bool = False) -> None:
        super().__init__(f"{method} {path}: {trouble.value}")
        self.trouble = trouble
        self.method = method
        self.path = path
        self.answer = answer
        self.ambiguous = ambiguous

    @property
    def status(self) -> int | None:
        """The HTTP status, None without an answer."""
        return self.answer.status or None


class Transport(HTTPAdapter):
    """Sends to the host of `base` only, until `deadline` (of `clock.monotonic`); every failure is a ForgeError.

    A POST to one of the addresses in `reads` changes nothing, so it is repeated like a GET.
    """

    def __init__(self, base: str, *, deadline: float, clock: RequestClock, reads: Collection[str] = ()) -> None:
        super().__init__(max_retries=0)
        self._origin = origin(base)
        self._room = _TOTAL_MAX
        self._deadline = deadline
        self._clock = clock
        self._reads = frozenset(reads)

    def send(
        self, request: requests.PreparedRequest, stream: bool = False,  # noqa: ARG002, FBT001, FBT002 - theirs
        timeout: Any = None, verify: Any = True, cert: Any = None,  # noqa: ANN401, ARG002, FBT002
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:  # fmt: skip
        """A response with a status below 300. Raises ForgeError."""
        method, path = request.method or "GET", shown_path(request.url or "")
        if origin(request.url or "") != self._origin:
            # A link in an answer leads to another host: the token must not go there.
            raise ForgeError(Trouble.MOVED, method=method, path=path, answer=Answer())
        request.headers["Accept-Encoding"] = "gzip"  # what `read_body` can unpack
        kind = "GET" if request.url in self._reads else method
        attempt = 0
        while True:
            attempt += 1
            left = self._left()
            if left <= 0:
                raise ForgeError(Trouble.DEADLINE, method=method, path=path, answer=Answer())
            response, answer = self._once(request, min(TIMEOUT, left), verify=verify, cert=cert, proxies=proxies)
            step = next_step(kind, answer, attempt=attempt, left=self._left(), now=self._clock.wall())
            if step.trouble is None and response is not None:
                return response
            if not step.seconds:
                trouble = step.trouble or Trouble.CONTENT
                raise ForgeError(trouble, method=method, path=path, answer=answer, ambiguous=step.ambiguous)
            self._clock.sleep(step.seconds)

    def _left(self) -> float:
        return self._deadline - self._clock.monotonic()

    def _once(
        self,
        request: requests.PreparedRequest,
        timeout: float,
        **more: Any,  # noqa: ANN401 - theirs, handed on
    ) -> tuple[requests.Response | None, Answer]:
        try:
            response = super().send(request, stream=True, timeout=timeout, **more)
        except requests.exceptions.RequestException as error:
            return None, Answer(trouble=_trouble_of(error))
        except OSError:  # `requests` looks for the CA file before it sends anything
            return None, Answer(trouble=Trouble.CA_FILE)
        try:  # read here, so that the retry rule sees a connection lost half-way
            body = read_body(response, limit=min(BODY_MAX, self._room), left=self._left)
        except (TooLargeError, LateError, BrokenError) as error:
            return None, Answer(trouble=_UNREAD[type(error)])
        self._room -= len(body)
        headers = {name.lower(): value for name, value in response.headers.items()}
        excerpt = body[:_EXCERPT_MAX].decode("utf-8", "replace")
        answer = Answer(status=response.status_code, headers=headers, excerpt=excerpt)
        return response, replace(answer, trouble=_content_trouble(response, body))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What comes next: done (no `trouble`), wait `seconds` and send again, or give up (`seconds` is 0)."""

    seconds: float = 0.0
    trouble: Trouble | None = None
    ambiguous: bool = False


def next_step(method: str, answer: Answer, *, attempt: int, left: float, now: float) -> Step:
    """The retry rule after attempt number `attempt`, from 1. Pure.

    `left` is the time until the deadline in seconds, `now` is Unix time.
    """
    trouble = _trouble(answer)
    if trouble is None:
        return Step()
    ambiguous = method not in _IDEMPOTENT and trouble in _AMBIGUOUS
    stop = Step(trouble=trouble, ambiguous=ambiguous)
    if ambiguous or not _is_temporary(trouble, answer) or attempt >= _ATTEMPTS:
        return stop
    seconds = _wait(answer, trouble, attempt, now)
    return stop if seconds >= left else Step(seconds=seconds, trouble=trouble)


def _trouble(answer: Answer) -> Trouble | None:
    status = answer.status
    if answer.trouble is not None:
        return answer.trouble
    if status == 429 or (status == 403 and _is_limit(answer)):
        return Trouble.LIMIT
    if status >= 500:
        return Trouble.SERVER
    # Both libraries would follow a redirect: a POST becomes a GET, and the token goes to another host.
    if 300 <= status < 400:
        return Trouble.MOVED
    return Trouble.STATUS if status >= 400 else None


def _is_limit(answer: Answer) -> bool:
    """A 403 can be a rate limit; only these signs tell it from a missing permission."""
    return bool(answer.header("retry-after")) or answer.header("x-ratelimit-remaining") == "0" or (
        "rate limit" in answer.excerpt.lower()
    )  # fmt: skip


def _is_temporary(trouble: Trouble, answer: Answer) -> bool:
    if trouble is Trouble.STATUS:
        return answer.status in (408, 409, 423, 425)
    return trouble in _TEMPORARY


def _wait(answer: Answer, trouble: Trouble, attempt: int, now: float) -> float:
    """Seconds until the next attempt: what the server says, else 0.5, 1, 2."""
    named = retry_after(answer.header("retry-after"), now)
    if named is not None:
        return max(named, 0.1)
    if trouble is Trouble.LIMIT and answer.header("x-ratelimit-remaining") == "0":
        return max(1.0, _seconds(answer.header("x-ratelimit-reset"), default=now + _SECONDARY) - now)
    if trouble is Trouble.LIMIT and answer.status == 403:
        return _SECONDARY
    return 0.5 * 2.0 ** (attempt - 1)


def retry_after(text: str, now: float) -> float | None:
    """Seconds from `now` in a Retry-After header, a number or an HTTP date; None for anything else, never negative."""
    seconds = _seconds(text, default=-1.0)
    if seconds >= 0:
        return seconds
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def _seconds(text: str, *, default: float) -> float:
    stripped = text.strip()
    return float(stripped) if stripped.isascii() and stripped.isdigit() and len(stripped) < 12 else default


def _content_trouble(response: requests.Response, body: bytes) -> Trouble | None:
    """A success without JSON in it: a page of a gateway, or a body cut half-way (older urllib3 does not raise)."""
    if response.status_code >= 300 or not body:
        return None
    if "json" not in response.headers.get("content-type", "").lower():
        return Trouble.CONTENT
    return None if is_json(body) else Trouble.CUT


def _trouble_of(error: requests.exceptions.RequestException) -> Trouble:
    """The kind of an exception."""
    kinds = requests.exceptions
    if isinstance(error, kinds.SSLError):
        return Trouble.TLS
    if isinstance(error, (kinds.ConnectTimeout, kinds.ProxyError)):
        return Trouble.UNREACHABLE
    if isinstance(error, kinds.Timeout):
        return Trouble.SLOW
    if isinstance(error, kinds.ConnectionError) and any(
        isinstance(item, NewConnectionError) for item in _causes(error)
    ):
        return Trouble.UNREACHABLE
    return Trouble.CUT


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it wraps: urllib3 wraps a refused connection twice."""
    yield error
    for inner in (*error.args, getattr(error, "reason", None)):
        if isinstance(inner, BaseException):
            yield from _causes(inner)


def shown_path(url: str) -> str:
    """Path and query of an address, for a message."""
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
