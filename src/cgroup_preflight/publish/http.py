"""What a forge, or the way to it, answered instead of doing what was asked. Carries no header of the request.

Whether and when a request is sent again: pure.

The rule that both client libraries break by default: a POST is sent again only where the forge said that it did
not do it (a rate limit, a conflict) or where it never got there. After a 5xx or a cut connection the caller looks
first whether the thing was made. Sources: RFC 9110, 9.2.2 and 10.2.3; GitHub docs, "Rate limits for the REST API".

The one seam to the network, below both client libraries: deadline, retries, one host, nothing secret in errors.

It is an adapter of `requests`, which PyGithub and python-gitlab both send through. Their own retries stay off:
PyGithub's replay a POST after a 5xx and python-gitlab's wait for ever and stumble over a date in Retry-After.
"""

import email.utils
import enum
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import NewConnectionError

from cgroup_preflight.publish.clock import Clock


class Trouble(enum.StrEnum):
    """Kinds of trouble, as the receipt tells them apart."""

    STATUS = "refused"
    LIMIT = "rate limit"
    SERVER = "server error"
    CONTENT = "not an API answer"
    UNREACHABLE = "not reachable"
    CUT = "connection cut"
    SLOW = "no answer in time"
    TLS = "certificate not accepted"
    CA_FILE = "the file with the CA's certificate cannot be used"
    MOVED = "redirected elsewhere"
    DEADLINE = "out of time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One attempt: a response (`status`, lower-case `headers`, `excerpt` of the body) or trouble without one."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    excerpt: str = ""
    trouble: Trouble | None = None

    def header(self, name: str) -> str:
        """A header's text, empty where it is missing."""
        return self.headers.get(name, "")


class ForgeError(Exception):
    """A request that did not get done. `ambiguous`: nobody knows whether the forge did it all the same."""

    def __init__(self, trouble: Trouble, *, method: str, path: str, answer: Answer, ambiguous: bool = False) -> None:
        super().__init__(f"{method} {path}: {trouble.value}")
        self.trouble = trouble
        self.method = method
        self.path = path
        self.answer = answer
        self.ambiguous = ambiguous

    @property
    def status(self) -> int | None:
        """The HTTP status, None where there was no answer."""
        return self.answer.status or None


#: Attempts for one request, the first included.
ATTEMPTS = 4
#: Wait where a forge limits without saying how long, seconds; GitHub asks for at least a minute.
_SECONDARY = 60.0
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What comes next: done, wait `seconds` and send again, or give up with `trouble`."""

    done: bool = False
    seconds: float = 0.0
    trouble: Trouble | None = None
    ambiguous: bool = False


def next_step(method: str, answer: Answer, *, attempt: int, left: float, now: float) -> Step:
    """After the `attempt`th answer (from 1); `left` seconds until the deadline, `now` is Unix time."""
    trouble = _retry_trouble(answer)
    if trouble is None:
        return Step(done=True)
    ambiguous = method not in _IDEMPOTENT and trouble in (
        Trouble.SERVER, Trouble.CUT, Trouble.SLOW, Trouble.CONTENT,
    )  # fmt: skip
    stop = Step(trouble=trouble, ambiguous=ambiguous)
    if ambiguous or not _passing(trouble, answer) or attempt >= ATTEMPTS:
        return stop
    seconds = _wait(answer, trouble, attempt, now)
    return stop if seconds >= left else Step(seconds=seconds, trouble=trouble)


def _retry_trouble(answer: Answer) -> Trouble | None:
    status = answer.status
    if answer.trouble is not None:
        return answer.trouble
    if status == 429 or (status == 403 and _is_limit(answer)):
        return Trouble.LIMIT
    if status >= 500:
        return Trouble.SERVER
    if 300 <= status < 400:
        return Trouble.MOVED
    return Trouble.STATUS if status >= 400 else None


def _is_limit(answer: Answer) -> bool:
    """GitHub says 403 for limits, too; lacking permission looks the same but for these."""
    return bool(answer.header("retry-after")) or answer.header("x-ratelimit-remaining") == "0" or (
        "rate limit" in answer.excerpt.lower()
    )  # fmt: skip


def _passing(trouble: Trouble, answer: Answer) -> bool:
    if trouble is Trouble.STATUS:
        return answer.status in (408, 409, 423, 425)
    return trouble in (Trouble.LIMIT, Trouble.SERVER, Trouble.UNREACHABLE, Trouble.CUT, Trouble.SLOW)


def _wait(answer: Answer, trouble: Trouble, attempt: int, now: float) -> float:
    asked = retry_after(answer.header("retry-after"), now)
    if asked is not None:
        return max(asked, 0.1)
    if trouble is Trouble.LIMIT and answer.header("x-ratelimit-remaining") == "0":
        return max(1.0, _seconds(answer.header("x-ratelimit-reset"), default=now + _SECONDARY) - now)
    if trouble is Trouble.LIMIT and answer.status == 403:
        return _SECONDARY
    return 0.5 * 2.0 ** (attempt - 1)


def retry_after(text: str, now: float) -> float | None:
    """Seconds from now in a Retry-After header: a number or an HTTP date; None for neither, never negative."""
    if not text:
        return None
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
            step = next_step(kind, answer, attempt=attempt, left=self.left(), now=self._clock.wall())
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
