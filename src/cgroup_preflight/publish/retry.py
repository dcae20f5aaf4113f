"""Whether and when a request is sent again: pure.

The rule that both client libraries break by default: a POST is sent again only where the forge said that it did
not do it (a rate limit, a conflict) or where it never got there. After a 5xx or a cut connection the caller looks
first whether the thing was made. Sources: RFC 9110, 9.2.2 and 10.2.3; GitHub docs, "Rate limits for the REST API".
"""

import email.utils
from dataclasses import dataclass

from cgroup_preflight.publish.forge_error import Answer, Trouble

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
    trouble = _trouble(answer)
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


def _trouble(answer: Answer) -> Trouble | None:
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
