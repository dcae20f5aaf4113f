"""Which findings an earlier report had already: by code, subject and text, where numbers may differ. Pure."""

import re
from collections.abc import Iterable, Sequence

from cgroup_preflight.core.report import STATUSES_WORST_FIRST, By, Finding, Status

#: A number with its unit, wherever it does not belong to a name; and what only one run has, such as a hash.
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9_])(?:(?=[0-9a-f]*[0-9])[0-9a-f]{8,}|[0-9]+(?:[.,:][0-9]+)*\s?(?:[KMGTPE](?:i?B)?|%|[mun]?s|min|h)?)"
    r"(?![A-Za-z0-9_])"
)
#: What comes after the claim: more numbers, which another run may lack.
_MORE = re.compile(r"; |, and ")

#: Code, subject and text.
Key = tuple[str, str, str]


def key_of(item: Finding) -> Key:
    """What is the same in each run: the first clause of the message, without its numbers."""
    return item.code, item.subject, _NUMBER.sub("#", _MORE.split(item.message, maxsplit=1)[0])


def forgiven(findings: Sequence[Finding], before: Iterable[Finding]) -> frozenset[int]:
    """The positions of those that the findings `before` have, too, and that were not better then. One of before forgives one of now.

    What the earlier run ignored, or could not test, forgives nothing.
    """
    left: dict[Key, list[Status]] = {}
    for item in before:
        status = _status_before(item)
        if status is not None:
            left.setdefault(key_of(item), []).append(status)
    found = set()
    # The worst first, so that a warning does not use up what forgives a fail; then by text, whatever order they are in.
    for number, item in sorted(enumerate(findings), key=lambda entry: _order(entry[1])):
        statuses = left.get(key_of(item), [])
        # The mildest that is bad enough.
        fitting = [status for status in statuses if _rank(status) <= _rank(item.status)]
        if fitting:
            statuses.remove(max(fitting, key=_rank))
            found.add(number)
    return frozenset(found)


def _status_before(item: Finding) -> Status | None:
    if item.policy is not None and item.policy.by is By.IGNORE:
        return None
    status = item.policy.was if item.policy is not None else item.status
    return status if status in (Status.FAIL, Status.WARN) else None


def _rank(status: Status) -> int:
    return STATUSES_WORST_FIRST.index(status)


def _order(item: Finding) -> tuple[object, ...]:
    at = item.location
    return _rank(item.status), item.message, at.file if at else "", at.line if at else 0
