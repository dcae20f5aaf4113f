"""Files with one limit: `memory.max` and its kin, `pids.max`, `cpu.max` (cgroup-v2.rst)."""

from cgroup_preflight.core.records import dataclass


@dataclass(frozen=True, slots=True)
class CpuMax:
    """`cpu.max`: microseconds of `quota` (None: no limit) in each `period`."""

    quota: int | None
    period: int

    @property
    def cpus(self) -> float | None:
        """The quota as a number of CPUs."""
        return None if self.quota is None else self.quota / self.period


def parse_limit(text: str) -> int | None:
    """A number, or None for `max`. Raises ValueError; -1 is version 1 and refused."""
    word = text.strip()
    if word == "max":
        return None
    if not word.isascii() or not word.isdigit():
        raise ValueError(f"not a limit: {word[:40]!r}")
    return int(word)


def parse_cpu_max(text: str) -> CpuMax:
    """`QUOTA PERIOD` or `max PERIOD`. Raises ValueError."""
    words = text.split()
    if len(words) != 2 or not words[1].isdigit() or int(words[1]) == 0:
        raise ValueError(f"not a cpu.max: {text[:40]!r}")
    return CpuMax(parse_limit(words[0]), int(words[1]))
