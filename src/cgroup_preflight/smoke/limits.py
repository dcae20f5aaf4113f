"""What the kernel's files say about each limit that the plan expects: readings, not yet judged."""

from collections.abc import Iterable

from cgroup_preflight.config.properties import Role
from cgroup_preflight.core.reading import Known, Missing, Reading, Why
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Remedy
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


def remedy_of(item: LimitReading) -> Remedy:
    """What to do about a limit that is not in force: the file is absent, or it has another value."""
    why = "systemd accepts the limit without an error, but the kernel never gets it"
    if isinstance(item.actual, Missing):
        return Remedy(
            title=f"find the level above {item.file} that does not enable the {item.expected.property.controller} controller",
            why=why, commands=(("cgroup-preflight", "check"),),
            docs="https://docs.kernel.org/admin-guide/cgroup-v2.html#controllers",
        )  # fmt: skip
    # A device that the machine has is expected by its number.
    if item.expected.text.startswith("/"):
        return Remedy(title="name a device of this machine: `ls /dev` and `lsblk` show them", why=why)
    if item.expected.property.role is Role.PLACEMENT:
        title = "name only CPUs and nodes of memory that this machine and the slices above have (lscpu shows them)"
        return Remedy(title=title, why=why)
    return Remedy(
        title="read in the journal of systemd why it did not set the limit, and find what else writes the file",
        why="the file exists, so that the controller is enabled here", commands=(("journalctl", "-xe"),),
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
