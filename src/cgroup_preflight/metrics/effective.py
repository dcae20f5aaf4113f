"""Limits that hold because of the slices above: the effective CPU quota and memory limit, and the entitlement of weights.

A child can use no more than each cgroup above it, and weights divide what the parent has among the children that have
tasks (Documentation/admin-guide/cgroup-v2.rst, resource distribution models).
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import TypeVar

from cgroup_preflight.core.reading import Known, value_or
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.metrics.samples import Sample

N = TypeVar("N", int, float)

#: The files that these limits come from.
FILES = ("cpu.max", "cpu.weight", "cpu.idle", "cpuset.cpus.effective", "memory.max")


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """What holds for one cgroup; None for no limit. `entitlement` is None where the cpu controller does not divide."""

    cpus: float | None
    memory: int | None
    weight: int | None
    entitlement: float | None
    #: What its children divide.
    share: float


def effective_limits(samples: Mapping[str, Sample], cpus: int) -> dict[str, Effective]:
    """The limits of every cgroup, by path, on a host with so many CPUs."""
    weights = {path: value_or(sample.cpu_weight, None) for path, sample in samples.items()}
    competing: defaultdict[str, int] = defaultdict(int)
    for path, sample in samples.items():
        if has_tasks(sample) and path:
            competing[path.rpartition("/")[0]] += weights[path] or 0
    found: dict[str, Effective] = {}
    all_cpus = _cpuset(samples[""], cpus) if "" in samples else cpus
    top = Effective(cpus=None, memory=None, weight=None, entitlement=None, share=float(all_cpus))
    for path in sorted(samples, key=lambda path: path.count("/") if path else -1):
        sample, above = samples[path], found.get(path.rpartition("/")[0], top) if path else top
        quota = _least(above.cpus, _quota(sample, all_cpus))
        weight = weights[path]
        entitlement = None
        if weight is not None:
            others = competing[path.rpartition("/")[0]] + (0 if has_tasks(sample) else weight)
            entitlement = min(above.share * weight / others if others else 0.0, above.share if quota is None else quota)
        found[path] = Effective(
            cpus=quota, memory=_least(above.memory, value_or(sample.memory_limit("max"), None)), weight=weight,
            entitlement=entitlement, share=above.share if entitlement is None else entitlement,
        )  # fmt: skip
    return found


def has_tasks(sample: Sample) -> bool:
    """Whether tasks are in the cgroup or below it; without the pids controller that is assumed."""
    return sample.files.get("pids.current", b"1") != b"0\n"


def _cpuset(sample: Sample, default: int) -> int:
    return len(sample.cpus.value) if isinstance(sample.cpus, Known) else default


def _quota(sample: Sample, all_cpus: int) -> float | None:
    """Its own quota; a cpuset limits only where it leaves fewer CPUs than the host has."""
    own = sample.cpu_max.value.cpus if isinstance(sample.cpu_max, Known) else None
    cpuset = _cpuset(sample, all_cpus)
    return _least(own, cpuset if cpuset < all_cpus else None)


def _least(one: N | None, other: N | None) -> N | None:
    return other if one is None else one if other is None else min(one, other)
