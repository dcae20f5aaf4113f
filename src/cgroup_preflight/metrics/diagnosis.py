"""One answer of a rule: the victim, the cause, how sure, the numbers, what to do; and the finding it becomes. Pure."""

import enum

from cgroup_preflight.core.codes import Code
from cgroup_preflight.core.records import dataclass, replace
from cgroup_preflight.core.report import Evidence, Finding, Remedy, Status


class Confidence(enum.StrEnum):
    """How sure an answer is. High: every number that the rule needs was read, and points the same way throughout."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


_ORDER = (Confidence.LOW, Confidence.MEDIUM, Confidence.HIGH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """`rule` is the name in docs/diagnose.md, `cause` the path of the level or neighbour, empty for none."""

    code: Code
    rule: str
    victim: str
    cause: str
    confidence: Confidence
    message: str
    evidence: Evidence
    remedies: tuple[Remedy, ...] = ()


def at_most(confidence: Confidence, limit: Confidence) -> Confidence:
    """The lower of two."""
    return min(confidence, limit, key=_ORDER.index)


def grade(*signs: bool) -> Confidence:
    """High if all signs are present, medium if one is missing, else low."""
    missing = signs.count(False)
    return _ORDER[max(2 - missing, 0)]


def limited(item: Diagnosis, limit: Confidence) -> Diagnosis:
    """The diagnosis with at most this confidence."""
    return replace(item, confidence=at_most(item.confidence, limit))


def finding_of(item: Diagnosis) -> Finding:
    """Fail where it is sure enough to act on; an answer of low confidence is a warning."""
    status = Status.WARN if item.confidence is Confidence.LOW else Status.FAIL
    return item.code.finding(
        status, item.victim.lstrip("/") or "host", f"{item.message} ({item.confidence} confidence)", *item.remedies,
        evidence={"rule": item.rule, "cause": item.cause.lstrip("/") or None, "confidence": item.confidence.value,
                  **item.evidence},
    )  # fmt: skip


def percent(share: float) -> str:
    """A share for people."""
    return f"{100 * share:.0f}%"


def cpus(count: float) -> str:
    """A number of CPUs for people: `0.5 CPUs`, `1 CPU`."""
    text = f"{count:.2f}".rstrip("0").rstrip(".")
    return f"{text} CPU" if text == "1" else f"{text} CPUs"
