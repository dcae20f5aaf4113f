"""What the kernel's files say about each limit that the plan expects: readings, not yet judged."""

from collections.abc import Iterable

from cgroup_preflight.config.properties import Role
from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.reading import Known, Missing, Reading, Why, parsed, value_or
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.host.cgroupfs import parse_limit
from cgroup_preflight.plan.expect import Expectation, agrees


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitReading:
    """The text of one attribute file; `file` is relative to the cgroup mount, `unit` whose limit it is.

    `used` is memory.current next to memory.max, read after it, in bytes; None for other files, and where it is unknown.
    """

    unit: str
    file: str
    expected: Expectation
    actual: Reading[str]
    enabled: bool
    used: int | None = None

    def excess(self, slack: int) -> int:
        """Bytes in use above memory.max and `slack`, which the kernel allows in passing; 0 where the limit is kept.

        A limit that was written without waiting (systemd of 2025 and later, kernels from 6.16 on) reads back, and the
        usage stays above it, without an event.
        """
        most = parsed(self.actual, parse_limit) if isinstance(self.actual, Known) else self.actual
        limit = value_or(most, None)
        return max(self.used - limit - slack, 0) if self.used is not None and limit is not None else 0

    def in_force(self, slack: int) -> bool:
        """Whether the file has what was expected, and the usage is not above it."""
        return isinstance(self.actual, Known) and agrees(self.expected, self.actual.value) and not self.excess(slack)


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
            used=_used(observer, cgroup) if item.attribute == "memory.max" else None,
        )
        for item in expected
    )  # fmt: skip


def _used(observer: Observer, cgroup: str) -> int | None:
    return value_or(parsed(observer.read(cgroup, "memory.current"), parse_limit), None)


def above_limit(item: LimitReading) -> str:
    """What a usage above memory.max shows, for a message."""
    used = f"{item.used} ({format_bytes(item.used)})" if item.used is not None else "unknown"
    return f"memory.current is {used}: the file has the limit, and the kernel does not enforce it"


def remedy_of(item: LimitReading, *, manager: bool = True) -> Remedy:
    """What to do about a limit that is not in force: the file is absent, or it has another value.

    Without a service `manager` there is no journal of it, and nothing but the run and its programs writes the files.
    """
    why = "systemd accepts the limit without an error, but the kernel never gets it" if manager else ""
    if isinstance(item.actual, Known) and agrees(item.expected, item.actual.value):
        if not manager:
            return Remedy(
                title="find what wrote the limit during the run without waiting (O_NONBLOCK), or what moved processes in",
                why="kernels from 6.16 on then leave the usage above memory.max, kill nobody, and count no event",
                docs="https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files",
            )
        # Only the usage contradicts it.
        return Remedy(
            title="restart the service, so that it starts below its limit, or write the limit to the file by hand, which waits",
            why="systemd of 2025 and later writes memory.max without waiting; kernels from 6.16 on then leave the usage "
            "above it, kill nobody, and count no event",
            docs="https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files",
        )  # fmt: skip
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
        if not item.actual.value.strip():
            why = "the kernel refuses the whole list for one CPU that the machine lacks, and the unit runs on all CPUs"
        return Remedy(title=title, why=why)
    if not manager:
        return Remedy(
            title="find what else writes the file: a program of the run, or one that manages the cgroup above",
            why="the file exists, so that the controller is enabled here, and this run wrote the limit to it",
        )
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
