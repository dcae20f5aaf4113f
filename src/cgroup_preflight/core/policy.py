"""What a policy makes of findings: `[policy]` of the config, the comments in it, and a baseline. Pure.

Two rules keep a verdict honest, and no policy can change them. What could not be tested stays unverified. And where the
limits themselves are not proved (`core.firm`), a fail stays a fail, unless the config ignores exactly it and says why.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from cgroup_preflight.core import codes
from cgroup_preflight.core.firm import is_firm
from cgroup_preflight.core.machine import NOT_JUDGED, is_about_machine
from cgroup_preflight.core.records import dataclass, replace
from cgroup_preflight.core.report import By, Finding, Location, Remedy, Ruling, Status

#: The codes that a policy can name: what `check`, `validate`, `smoke`, `run` and `inject` find.
FAMILIES = ("CGP1", "CGP2", "CGP3", "CGP4", "CGP5")
#: Those that an ordinary `run` need not find: artifacts, built packages.
_ELSEWHERE = ("CGP3", "CGP52")
#: What a policy says of itself.
OWN = frozenset({codes.IGNORE_EXPIRED.code, codes.IGNORE_UNUSED.code})
_RENEW = Remedy(title="remove the ignore, or set a later date in until if the reason still holds")
_REMOVE = Remedy(title="remove the ignore, or correct its code or subject")
_TEST = Remedy(
    title="remove the ignore; make the test possible, or accept unverified results for the whole call with "
    "--allow-unverified"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignore:
    """One `[[policy.ignore]]`, or a comment in the config, which has a `line`: it is about findings at that line only.

    `subject` may have `*` for any text; empty is any subject. It is the same for a run here, in guests and on hosts: the name
    of the machine before a subject may be there or not, and only a `subject` that has a colon after it is about that name.
    `until` is the last day, YYYY-MM-DD, or empty.
    """

    code: str
    reason: str
    location: Location
    subject: str = ""
    until: str = ""
    line: int | None = None

    def matches(self, item: Finding, machines: Sequence[str] = ()) -> bool:
        """Whether it is about this finding of a call that is about `machines`, whatever its status."""
        if item.code != self.code:
            return False
        if self.line is not None:
            at = item.location
            return at is not None and (at.file, at.line) == (self.location.file, self.line)
        return not self.subject or any(
            fits(self.subject, name) for name in _names(item.subject, machines, self.subject)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The whole policy of one call; `today` is YYYY-MM-DD in UTC.

    `named` has every code that the config names, with its line. `machines` are the guests or hosts of the call, whose names
    are before the subjects of findings, or are not where it is only one. `baseline` are the findings of an earlier report.
    """

    fail_on: frozenset[str] = frozenset()
    warn_on: frozenset[str] = frozenset()
    ignores: tuple[Ignore, ...] = ()
    machine_warnings: bool = False
    named: tuple[tuple[str, Location], ...] = ()
    today: str = ""
    baseline: tuple[Finding, ...] = ()
    machines: tuple[str, ...] = ()

    @property
    def valid(self) -> tuple[Ignore, ...]:
        """The ignores that have not expired."""
        return tuple(item for item in self.ignores if not item.until or item.until >= self.today)


def fits(pattern: str, text: str) -> bool:
    """Whether `text` is `pattern`, in which each `*` is any text; linear, because both come from strangers."""
    first, *middle = pattern.split("*")
    if not middle:
        return text == pattern
    last = middle.pop()
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    rest, at = text[len(first) : len(text) - len(last)], 0
    for part in middle:
        found = rest.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return True


def apply(findings: Iterable[Finding], rules: Rules) -> tuple[Finding, ...]:
    """The findings, in their order, with the statuses that the policy gives them; none is added or left out."""
    items = tuple(findings)
    ignores = sorted(rules.valid, key=_rank)
    ignored = [_ignored(item, ignores, rules.machines) for item in items]
    open_ones = [
        number for number, item in enumerate(items) if ignored[number] is item and _can_be_forgiven(item, rules.fail_on)
    ]
    # A baseline that has forgiven something before has no more to give.
    is_used = any(item.policy is not None and item.policy.by is By.BASELINE for item in items)
    known = _known([(number, items[number]) for number in open_ones], () if is_used else rules.baseline)
    return tuple(
        _forgiven(item) if number in known else _raised_or_lowered(ignored[number], rules)
        for number, item in enumerate(items)
    )


def notes(findings: Iterable[Finding], rules: Rules, *, whole: bool) -> tuple[Finding, ...]:
    """Warnings about ignores that have expired; of a `whole` run also those about ignores that no finding needed.

    `findings` are those before the policy.
    """
    items = tuple(findings)
    expired = [
        codes.IGNORE_EXPIRED.finding(
            Status.WARN, item.code, f"the ignore was valid until {item.until}, so it has no effect any more", _RENEW,
            location=item.location, evidence={"reason": item.reason},
        )
        for item in rules.ignores if item not in rules.valid
    ]  # fmt: skip
    unused = [found for item in rules.valid for found in _unused(item, items, rules.machines)] if whole else []
    return apply((*expired, *unused), replace(rules, ignores=(), baseline=()))


def not_run(findings: Iterable[Finding], machine: str = "") -> tuple[Finding, ...]:
    """What keeps a report without any service from being a pass by a policy; `findings` are those after the policy.

    With `machine`, those of that one of several, on which no service was run.
    """
    label = f"{machine}: " if machine else ""
    items = tuple(item for item in findings if item.subject.startswith(label))
    kept = [item for item in items if item.policy is not None and item.policy.was is Status.FAIL]
    if not kept or any(item.code == codes.SMOKE.code and item.status is Status.UNVERIFIED for item in items):
        return ()
    names = ", ".join(dict.fromkeys(item.code for item in kept))
    return (
        codes.SMOKE.finding(
            Status.UNVERIFIED,
            f"{label}services",
            f"no service was run, and the policy accepts what failed ({names})",
            _TEST,
        ),
    )


def _can_be_forgiven(item: Finding, fail_on: frozenset[str]) -> bool:
    if item.policy is not None or item.status not in (Status.FAIL, Status.WARN):
        return False
    if item.status is Status.FAIL:
        return not is_firm(item.code)
    # A warning about the machine is not the project's, so a project has nothing to be forgiven there.
    return item.code in fail_on or not is_about_machine(item)


def _rank(item: Ignore) -> tuple[object, ...]:
    """Of two ignores that match, the narrower one is named; this order is the same for every order in the config."""
    return (
        item.line is None, not item.subject, "*" in item.subject, item.location.line, item.subject, item.reason, item.until
    )  # fmt: skip


def _known(items: Sequence[tuple[int, Finding]], before: Sequence[Finding]) -> frozenset[int]:
    if not before:
        return frozenset()
    from cgroup_preflight.core.baseline import forgiven  # few calls have one

    places = forgiven([item for _, item in items], before)
    return frozenset(items[place][0] for place in places)


def _names(subject: str, machines: Sequence[str], pattern: str) -> tuple[str, ...]:
    """What a subject is called without the name of its machine; also with it where the pattern has one.

    `web*` is about services: on a host `web1` it must not be about everything.
    """
    if subject.startswith(NOT_JUDGED):
        return subject, subject.removeprefix(NOT_JUDGED)
    owner = next((name for name in machines if subject.startswith(f"{name}: ")), "")
    if not owner and len(machines) == 1:
        owner, subject = machines[0], f"{machines[0]}: {subject}"
    bare = subject.removeprefix(f"{owner}: ") if owner else subject
    return (bare, subject) if ": " in pattern else (bare,)


def _ignored(item: Finding, ignores: Sequence[Ignore], machines: Sequence[str]) -> Finding:
    if item.status not in (Status.FAIL, Status.WARN) or item.policy is not None:
        return item
    for one in ignores:
        if one.matches(item, machines):
            ruling = Ruling(by=By.IGNORE, was=item.status, reason=one.reason, until=one.until, location=one.location)
            return replace(item, status=Status.SKIP, policy=ruling)
    return item


def _forgiven(item: Finding) -> Finding:
    return replace(item, status=Status.SKIP, policy=Ruling(by=By.BASELINE, was=item.status))


def _raised_or_lowered(item: Finding, rules: Rules) -> Finding:
    if item.status not in (Status.FAIL, Status.WARN) or item.policy is not None:
        return item
    if item.code in rules.fail_on and item.status is Status.WARN:
        return replace(item, status=Status.FAIL, policy=Ruling(by=By.FAIL_ON, was=item.status))
    if item.code in rules.warn_on and not (item.status is Status.FAIL and is_firm(item.code)):
        return replace(item, status=Status.WARN, policy=Ruling(by=By.WARN_ON, was=item.status))
    if rules.machine_warnings and is_about_machine(item):
        return replace(item, policy=Ruling(by=By.MACHINE_WARNINGS, was=item.status))
    return item


def _unused(ignore: Ignore, findings: Sequence[Finding], machines: Sequence[str]) -> Iterable[Finding]:
    if ignore.code.startswith(_ELSEWHERE):
        return
    seen = Counter(item.status for item in findings if ignore.matches(item, machines))
    if seen[Status.FAIL] or seen[Status.WARN]:
        return
    where = f"line {ignore.line}" if ignore.line is not None else f"subject {ignore.subject}" if ignore.subject else ""
    about = f"{ignore.code} ({where})" if where else ignore.code
    message, remedy = f"nothing was found that the ignore of {about} is about", _REMOVE
    if seen[Status.UNVERIFIED]:
        message = f"the ignore of {about} has no effect: the finding is unverified, and no policy makes a pass of that"
        remedy = _TEST
    yield codes.IGNORE_UNUSED.finding(
        Status.WARN, ignore.code, message, remedy, location=ignore.location, evidence={"reason": ignore.reason}
    )
