"""How much CPU time each cgroup is entitled to by the weights along its path (cgroup-v2.rst, `cpu.weight`). Pure.

At each level the CPU time of the parent is divided among the children that want some. Children that wait for nothing
are satisfied with what they used, and leave the rest of their share to the others; those share it by weight, each at
most what its quota, its CPUs and its number of tasks allow (weighted max-min fairness).
"""

from collections.abc import Mapping, Sequence

from cgroup_preflight.core.records import dataclass
from cgroup_preflight.metrics.window import Group, Window, waiting

#: A cgroup that waits less than this share of the time got what it wanted.
_HUNGRY = 0.05
#: A cgroup that uses less than this many CPUs takes no part in the competition.
_ACTIVE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One competitor of a level: `most` is what it could use at all; `used` and `most` in CPUs."""

    weight: int
    used: float
    hungry: bool
    most: float


def shares(available: float, claims: Sequence[Claim]) -> tuple[float, ...]:
    """What each claim is entitled to of `available` CPUs, in their order."""
    given = [0.0 if claim.hungry else min(claim.used, claim.most) for claim in claims]
    open_claims = [number for number, claim in enumerate(claims) if claim.hungry]
    left = max(available - sum(given), 0.0)
    while open_claims:
        weights = sum(max(claims[number].weight, 1) for number in open_claims)
        fair = {number: left * max(claims[number].weight, 1) / weights for number in open_claims}
        full = [number for number in open_claims if fair[number] >= claims[number].most]
        if not full:
            for number in open_claims:
                given[number] = fair[number]
            break
        for number in full:
            given[number] = claims[number].most
            left -= claims[number].most
            open_claims.remove(number)
    return tuple(given)


def entitlements(window: Window) -> Mapping[str, float]:
    """CPUs that each cgroup is entitled to, by path."""
    found: dict[str, float] = {}
    children = window.by_parent()
    todo = [("", float(window.host.cpus))]
    while todo:
        path, available = todo.pop()
        groups = children.get(path, [])
        given = shares(available, [_claim(group, window.host.cpus) for group in groups])
        for group, cpus in zip(groups, given, strict=True):
            found[group.path] = cpus
            todo.append((group.path, cpus))
    return found


def _claim(group: Group, cpus: int) -> Claim:
    cpu = group.cpu
    if cpu is None:
        return Claim(weight=100, used=0.0, hungry=False, most=float(cpus))
    most = min(
        float(cpus), cpu.quota if cpu.quota is not None else float(cpus), float(cpu.allowed or cpus),
        float(group.tasks or cpus),
    )  # fmt: skip
    hungry = cpu.usage >= _ACTIVE and waiting(cpu.pressure) >= _HUNGRY
    return Claim(weight=cpu.weight, used=cpu.usage, hungry=hungry, most=max(most, cpu.usage))
