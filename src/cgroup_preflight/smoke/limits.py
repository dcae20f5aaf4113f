"""What the kernel's files say about each limit that the plan expects: readings, not yet judged."""

from collections.abc import Iterable

from cgroup_preflight.core.reading import Known, Missing, Reading, Why
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.plan.expect import Expectation


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitReading:
    """The text of one attribute file; `file` is relative to the cgroup mount, `unit` whose limit it is."""

    unit: str
    file: str
    expected: Expectation
    actual: Reading[str]
    enabled: bool


def read_limits(
    observer: Observer, unit: str, cgroup: str, expected: Iterable[Expectation]
) -> tuple[LimitReading, ...]:
    """The readings for each expectation about one cgroup."""
    controllers = observer.read(cgroup, "cgroup.controllers")
    words = controllers.value.split() if isinstance(controllers, Known) else []
    return tuple(
        LimitReading(
            unit=unit, file=f"{cgroup.lstrip('/')}/{item.attribute}", expected=item,
            actual=observer.read(cgroup, item.attribute), enabled=item.property.controller in words,
        )
        for item in expected
    )  # fmt: skip


def nowhere(unit: str, expected: Iterable[Expectation]) -> tuple[LimitReading, ...]:
    """The readings of a unit without a cgroup: each expectation, with nothing to read it from."""
    reason = Missing(source=unit, why=Why.FAILED, detail="the engine names no cgroup of it")
    return tuple(
        LimitReading(unit=unit, file=f"{unit}/{item.attribute}", expected=item, actual=reason, enabled=False)
        for item in expected
    )


def missing_text(reading: Reading[str]) -> str | None:
    """The kernel's text, None where the file could not be read."""
    return None if isinstance(reading, Missing) else reading.value.strip()
