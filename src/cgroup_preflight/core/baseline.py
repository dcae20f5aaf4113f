"""Which findings an earlier report had already: by code, subject and text, where amounts may differ. Pure.

Nothing new is forgiven: neither another name, address or limit, nor a further clause, nor less room than before.
"""

import re
from collections.abc import Iterable, Sequence

from cgroup_preflight.core import codes
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import STATUSES_WORST_FIRST, By, Finding, Status

#: An amount with its unit, which stands by itself: not a part of a name, a path, an address, a version or a list. A time of day.
#: What only one run has: a hash, and the number in the name of a unit that systemd-run made.
_AMOUNT = re.compile(
    r"(?<![A-Za-z0-9_./:@+-])(?<![0-9],)(?:[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?\s?(?:[KMGTPE](?:i?B)?|%|[mun]?s|min|h)?|[0-9]{2}(?::[0-9]{2}){1,2})"
    r"(?![A-Za-z0-9_/@-]|[.:][A-Za-z0-9]|,[0-9])"
    r"|(?<![A-Za-z0-9_])(?=[0-9a-f]*[0-9])[0-9a-f]{8,}(?![A-Za-z0-9_])"
    r"|(?<![A-Za-z0-9_-])run-[pru]?[0-9a-f]+(?![A-Za-z0-9_])"
)
#: What a run may add to a clause without a new problem.
_MORE = ", and "
#: What is measured against a limit, by the names in the evidence: one may come nearer to the other by so much.
_SHARES = {
    codes.HEADROOM.code: ("memory_peak_bytes", "memory_max_bytes"),
    codes.THROTTLED.code: ("nr_throttled", "nr_periods"),
}
_SHARE_MORE = 0.1

#: Code, subject and text.
Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Before:
    """What can forgive: the status, the clauses after the first one, and the share of a limit that was used, if any."""

    status: Status
    clauses: frozenset[str]
    share: float | None


def key_of(item: Finding) -> Key:
    """What is the same in each run: the first clause of the message, without its amounts."""
    return item.code, item.subject, _clauses(item)[0]


def forgiven(findings: Sequence[Finding], before: Iterable[Finding]) -> frozenset[int]:
    """The positions of those that the findings `before` have, too, and that were not better then. One of before forgives one of now.

    What the earlier run ignored, or could not test, forgives nothing.
    """
    left: dict[Key, list[_Before]] = {}
    for item in before:
        status = _status_before(item)
        if status is not None:
            one = _Before(status=status, clauses=frozenset(_clauses(item)[1:]), share=_share(item))
            left.setdefault(key_of(item), []).append(one)
    found = set()
    # The worst first, so that a warning does not use up what forgives a fail; then by text, whatever order they are in.
    for number, item in sorted(enumerate(findings), key=lambda entry: _order(entry[1])):
        known = left.get(key_of(item), [])
        fitting = [one for one in known if not _is_worse(item, one)]
        if fitting:
            # The mildest that is bad enough.
            known.remove(max(fitting, key=lambda one: _rank(one.status)))
            found.add(number)
    return frozenset(found)


def _clauses(item: Finding) -> list[str]:
    return [_AMOUNT.sub("#", clause.partition(_MORE)[0]) for clause in item.message.split("; ")]


def _is_worse(item: Finding, before: _Before) -> bool:
    """Whether a finding of now says something that the one before did not."""
    share = _share(item)
    return (
        _rank(item.status) < _rank(before.status)
        or not before.clauses.issuperset(_clauses(item)[1:])
        or (share is not None and (before.share is None or share > before.share + _SHARE_MORE))
    )


def _share(item: Finding) -> float | None:
    used, whole = (item.evidence.get(name) for name in _SHARES.get(item.code, ("", "")))
    if not isinstance(used, int | float) or not isinstance(whole, int | float) or whole <= 0:
        return None
    return used / whole


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
