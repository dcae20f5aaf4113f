"""Whether a memory limit can be lowered to a value without a kill: pure, from the kernel's numbers."""

from collections.abc import Mapping, Sequence

from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.records import dataclass

#: MemoryMax goes down only when the usage is at most this share of it, in percent.
READY_SHARE = 95


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a cgroup uses, in bytes: all of it, and the parts that the kernel cannot take back without swap."""

    current: int
    anon: int
    slab_unreclaimable: int
    kernel: int = 0
    shmem: int = 0

    @property
    def kept(self) -> int:
        """Anonymous and shared memory and what the kernel needs for the tasks; `kernel` contains the slab (Linux 5.18)."""
        return self.anon + self.shmem + max(self.slab_unreclaimable, 0)


def usage_of(current: int, memory_stat: str) -> Usage:
    """From memory.current and the text of memory.stat (cgroup-v2.rst). Raises ValueError."""
    numbers: dict[str, int] = {}
    for line in memory_stat.splitlines():
        key, _, value = line.partition(" ")
        if value.isascii() and value.isdigit():
            numbers[key] = int(value)
    if "anon" not in numbers:
        raise ValueError("memory.stat has no anon")
    return Usage(
        current=current, anon=numbers["anon"], slab_unreclaimable=numbers.get("slab_unreclaimable", 0),
        kernel=numbers.get("kernel", 0), shmem=numbers.get("shmem", 0),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a target is refused: the unit, the property, and a sentence with the numbers."""

    unit: str
    property: str
    message: str


def refusals(
    unit: str, old: Mapping[str, int | None], new: Mapping[str, int | None], *,
    usage: Usage | None, margin: float, go_limits: Mapping[str, int],
) -> tuple[Refusal, ...]:  # fmt: skip
    """Why MemoryMax or MemoryHigh cannot go down to the new values; `margin` is a share of the target.

    `go_limits` are the GOMEMLIMIT of the services in the slice, in bytes. Without `usage` (the unit has no memory
    controller yet) only those count.
    """
    found: list[Refusal] = []
    for name in ("MemoryMax", "MemoryHigh"):
        target = new.get(name)
        if target is None or name not in old:
            continue
        present = old[name]
        if present is not None and target >= present:
            continue
        found += [
            Refusal(unit=unit, property=name, message=message)
            for message in _reasons(name, target, usage, margin, go_limits)
        ]
    return tuple(found)


def _reasons(
    name: str, target: int, usage: Usage | None, margin: float, go_limits: Mapping[str, int]
) -> Sequence[str]:  # fmt: skip
    reasons: list[str] = []
    if usage is not None:
        needed = usage.kept + int(target * margin)
        if needed > target:
            reasons.append(
                f"{name}={format_bytes(target)} is below what cannot be reclaimed: {format_bytes(usage.anon)} anonymous, "
                f"{format_bytes(usage.shmem)} shared and {format_bytes(usage.slab_unreclaimable)} kernel memory, "
                f"and a margin of {margin:.0%}"
            )
    reasons += [
        f"{name}={format_bytes(target)} is below GOMEMLIMIT={format_bytes(limit)} of {service}: its garbage collector "
        "would not run before the limit"
        for service, limit in sorted(go_limits.items())
        if limit > target
    ]
    return reasons


def is_ready(current: int, maximum: int | None) -> bool:
    """Whether MemoryMax can go down to `maximum` now: the usage is at most 95% of it."""
    return maximum is None or current * 100 <= maximum * READY_SHARE
