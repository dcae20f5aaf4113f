"""The chain of limits around a process: its own cgroup, then every one above it, each limit as a number.

Three readers share it: `plan.limits` makes a chain from the config, `smoke.go_view` from the kernel's files, and
`golang.runtime` predicts from either what a Go program will choose.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from cgroup_preflight.core.records import dataclass, field
from cgroup_preflight.core.report import Location

N = TypeVar("N", int, float)
L = TypeVar("L")


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One cgroup; `cpus` is its quota in CPUs per `period_usec`, memory is in bytes, None means no limit.

    `has_cpu_max`: whether the file exists; it does not where no unit of the slice uses the cpu controller.
    `services`: how many services of the plan share it. `at` gives the line of the config that sets a property.
    """

    name: str
    cpus: float | None = None
    period_usec: int = 100_000
    has_cpu_max: bool = False
    memory_max: int | None = None
    memory_high: int | None = None
    swap_max: int | None = None
    tasks_max: int | None = None
    allowed_cpus: frozenset[int] | None = None
    services: int = 1
    at: Mapping[str, Location] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The levels from the process's own cgroup outwards: the service, the slices above it, the outermost last.

    `v1_cpu`: the cpu controller is on cgroup v1, whose line in /proc/self/cgroup wins; `v1_cpus` is its quota.
    """

    levels: tuple[Level, ...]
    v1_cpu: bool = False
    v1_cpus: float | None = None

    @property
    def leaf(self) -> Level:
        """The process's own cgroup; one without limits where there is none."""
        return self.levels[0] if self.levels else Level(name="")

    def cpus(self) -> tuple[float | None, Level | None]:
        """The tightest quota of all levels, in CPUs, and the level that sets it."""
        return _tightest([(level.cpus, level) for level in self.levels])

    def memory(self) -> tuple[int | None, Level | None, str]:
        """The tightest of all memory.max and memory.high, its level, and which of the two properties it is."""
        found: list[tuple[int | None, tuple[Level, str]]] = []
        for level in self.levels:
            found += [(level.memory_max, (level, "MemoryMax")), (level.memory_high, (level, "MemoryHigh"))]
        value, where = _tightest(found)
        return value, where[0] if where else None, where[1] if where else ""

    def memory_max(self) -> tuple[int | None, Level | None]:
        """The tightest memory.max and its level."""
        return _tightest([(level.memory_max, level) for level in self.levels])

    def memory_high(self) -> tuple[int | None, Level | None]:
        """The tightest memory.high and its level."""
        return _tightest([(level.memory_high, level) for level in self.levels])

    def swap_max(self) -> tuple[int | None, Level | None]:
        """The tightest memory.swap.max and its level."""
        return _tightest([(level.swap_max, level) for level in self.levels])

    def tasks(self) -> tuple[int | None, Level | None]:
        """The tightest pids.max and its level."""
        return _tightest([(level.tasks_max, level) for level in self.levels])

    def allowed_cpus(self) -> int | None:
        """How many CPUs all AllowedCPUs together leave, None without any; the machine may have fewer."""
        named = [level.allowed_cpus for level in self.levels if level.allowed_cpus is not None]
        return len(self.affinity(frozenset().union(*named))) if named else None

    def affinity(self, visible: frozenset[int]) -> frozenset[int]:
        """The CPUs that a process may run on: each level narrows them, unless none would be left (cgroup-v2.rst)."""
        cpus = visible
        for level in reversed(self.levels):
            cpus = (cpus & level.allowed_cpus if level.allowed_cpus is not None else cpus) or cpus
        return cpus


def _tightest(found: Sequence[tuple[N | None, L | None]]) -> tuple[N | None, L | None]:
    """The smallest number and what it belongs to; the innermost of equal ones."""
    best: tuple[N | None, L | None] = (None, None)
    for value, where in found:
        if value is not None and (best[0] is None or value < best[0]):
            best = (value, where)
    return best
