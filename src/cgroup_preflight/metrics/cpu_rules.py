"""Why a cgroup waited for CPUs: its own quota (C1), a quota above (C2), a neighbour (C3), neither (C4), or a machine
that is itself a guest (C5). Pure.

A quota's throttling shows only in `cpu.stat` of the level that has it; what the levels below suffer from it shows in
their `cpu.stat.local` (Linux 6.7) and in their pressure (cgroup-v2.rst).
"""

from collections.abc import Iterator, Mapping

from cgroup_preflight.core import codes
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.metrics import proposals
from cgroup_preflight.metrics.diagnosis import Confidence, Diagnosis, at_most, cpus, grade, limited, percent
from cgroup_preflight.metrics.entitlement import entitlements
from cgroup_preflight.metrics.window import Cpu, Group, Series, Window, name_of, waiting

#: A cgroup that waits at least this share of the time is a victim.
WAITING = 0.10
#: Less throttling than this share of the periods, or fewer periods, is noise.
_RATIO, _PERIODS = 0.05, 10
#: Throttling is the cause where it explains this share of the waiting, and surely so from the second on.
_EXPLAINS, _EXPLAINS_WELL = 0.3, 0.6
#: Below this, a cgroup takes no part in what its level is throttled for.
_INHERITED = 0.02
_BUSY = 0.95
_FULL = 0.9
_STEAL = 0.05
#: A neighbour is named from this much more CPU time than the victim's on, and from this share of all CPUs on.
_MORE, _LARGE = 1.25, 0.10
#: C4 needs this much waiting, and that the cgroup would have used its entitlement without it.
_AT_LEAST, _FAR_BELOW, _STARVED = 0.95, 0.75, 0.25
#: The share of the parts of the time in which the same must be true for high confidence.
_STEADY = 0.7
_FEWER = Remedy(title="or run fewer threads at once: GOMAXPROCS, or a smaller pool of workers",
                why="threads that run in parallel use up the quota early in each period, and then all of them stop")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Victim:
    """One leaf cgroup, what it waited, and what it is entitled to; `waited` is None without pressure files."""

    series: Series
    path: str
    cpu: Cpu
    waited: float | None
    entitled: float
    most: float

    @property
    def wanted(self) -> float:
        """CPUs that it would have used without waiting, at least if one of its tasks always had work."""
        return min(self.most, self.cpu.usage / max(1 - (self.waited or 0.0), 0.05))


def cpu_diagnoses(series: Series, victims: frozenset[str]) -> tuple[Diagnosis, ...]:
    """One answer at most for each of these cgroups, and one for the host where it is itself a guest."""
    stolen = tuple(_steal(series))
    entitled = entitlements(series.whole)
    found: list[Diagnosis] = []
    for group in series.whole.leaves():
        if group.path in victims and group.cpu is not None:
            found += [*_judged(_victim(series, group, group.cpu, entitled))][:1]
    if stolen:
        found = [limited(item, Confidence.MEDIUM) if item.rule in ("C3", "C4") else item for item in found]
    stopped = tuple(item.victim for item in found if item.rule in ("C1", "C2"))
    return (*stolen, *found, *_levels(series, victims, stopped))


def _victim(series: Series, group: Group, cpu: Cpu, entitled: Mapping[str, float]) -> _Victim:
    count = series.whole.host.cpus
    return _Victim(
        series=series, path=group.path, cpu=cpu, waited=cpu.pressure.waiting if cpu.pressure else None,
        entitled=entitled.get(group.path, 0.0), most=float(min(count, cpu.allowed or count, group.tasks or count)),
    )  # fmt: skip


def _judged(victim: _Victim) -> Iterator[Diagnosis]:
    if victim.waited is not None and victim.waited < WAITING:
        return
    yield from _throttled(victim)
    if victim.waited is not None:
        yield from _crowded(victim, victim.waited)


def _strength(cpu: Cpu) -> float:
    """The share of the time in which a quota can have stopped somebody, at most: 0 for noise."""
    if cpu.quota is None or cpu.ratio < _RATIO or cpu.periods < _PERIODS:
        return 0.0
    return min(cpu.ratio, cpu.throttled_cpus)


def _throttled(victim: _Victim) -> Iterator[Diagnosis]:
    """C1 or C2: the quota that explains more of the waiting."""
    own = _strength(victim.cpu)
    above = max(
        ((_inherited(victim, group.cpu), group) for group in victim.series.whole.above(victim.path) if group.cpu),
        key=lambda item: item[0], default=(0.0, None),
    )  # fmt: skip
    strength = max(own, above[0])
    explained = min(strength / victim.waited, 1.0) if victim.waited else 1.0
    if strength < (WAITING if victim.waited is None else _EXPLAINS * WAITING) or explained < _EXPLAINS:
        return
    if own >= above[0]:
        yield _own_quota(victim, explained)
    elif above[1] is not None and above[1].cpu is not None:
        yield _quota_above(victim, above[1].path, above[1].cpu, explained)


def _inherited(victim: _Victim, level: Cpu) -> float:
    """How much a level's throttling can have stopped the victim."""
    if victim.cpu.usage < _INHERITED * max(level.usage, 0.01):
        return 0.0
    if victim.cpu.local_cpus is None:
        return _strength(level)
    inherited = victim.cpu.local_cpus - victim.cpu.throttled_cpus
    return min(_strength(level), inherited) if inherited >= _INHERITED else 0.0


def _steady(series: Series, path: str, least: float = _RATIO) -> bool:
    """Whether a cgroup was throttled by its own quota most of the time."""
    cpus_of = [group.cpu for part in series.parts if (group := part.groups.get(path)) and group.cpu]
    return bool(cpus_of) and sum(cpu.ratio >= least for cpu in cpus_of) >= _STEADY * len(cpus_of)


def _own_quota(victim: _Victim, explained: float) -> Diagnosis:
    cpu = victim.cpu
    confidence = grade(explained >= _EXPLAINS_WELL, _steady(victim.series, victim.path))
    if victim.waited is None:
        confidence = at_most(confidence, Confidence.MEDIUM)
    waited = "" if victim.waited is None else f", and tasks waited for a CPU in {percent(victim.waited)} of the time"
    return Diagnosis(
        code=codes.OWN_QUOTA, rule="C1", victim=victim.path, cause=victim.path, confidence=confidence,
        message=f"throttled by its own CPUQuota={proposals.quota(cpu.quota or 0)} in {percent(cpu.ratio)} of the "
                f"periods: it used {cpus(cpu.usage)}{waited}",
        evidence=_evidence(victim),
        remedies=(*_raised(victim.series.whole, victim.path, cpu, victim.most), _FEWER),
    )  # fmt: skip


def _raised(window: Window, path: str, cpu: Cpu, most: float) -> Iterator[Remedy]:
    """A quota that would have been enough for a level, if its CPUs and the levels above have room for one."""
    wanted = min(cpu.usage + cpu.throttled_cpus, most)
    above = [group.cpu.quota for group in window.above(path) if group.cpu and group.cpu.quota is not None]
    roof = min(above, default=float("inf"))
    # The kernel hands a quota out in slices, and what a CPU has left of one is lost: exactly enough is too little.
    enough = proposals.with_margin(wanted, roof)
    if enough <= (cpu.quota or 0) * 1.02:
        return
    short = f"; it could use {cpus(wanted)}, but a slice above has less" if wanted > roof * _MORE else ""
    yield proposals.set_property(
        path, f"CPUQuota={proposals.quota(enough)}",
        f"it used {cpus(cpu.usage)}, and {cpus(cpu.throttled_cpus)} more had work while the quota was used up{short}",
    )  # fmt: skip


def _quota_above(victim: _Victim, level: str, cpu: Cpu, explained: float) -> Diagnosis:
    series, sure = victim.series, victim.cpu.local_cpus is not None
    user = max(
        (group for group in series.whole.by_parent().get(level, []) if group.cpu),
        key=lambda group: group.cpu.usage if group.cpu else 0, default=None,
    )  # fmt: skip
    confidence = grade(explained >= _EXPLAINS_WELL, sure or victim.waited is not None, _steady(series, level))
    if victim.waited is None:
        confidence = at_most(confidence, Confidence.MEDIUM)
    most = float(series.whole.host.cpus)
    share = user.cpu.usage / cpu.usage if user and user.cpu and cpu.usage else 0.0
    other = user is not None and not f"{victim.path}/".startswith(f"{user.path}/") and share > 0.5
    who = f"; {name_of(user.path)} used {percent(share)} of it" if other and user else ""
    remedies = [*_raised(series.whole, level, cpu, most)]
    if other and user and user.cpu:
        rest = max((cpu.quota or 0) - 2 * victim.cpu.usage, 0.05)
        remedies.append(proposals.set_property(
            user.path, f"CPUQuota={proposals.quota(rest)}", f"the rest of {name_of(level)} is then for the others"))  # fmt: skip
    return Diagnosis(
        code=codes.QUOTA_ABOVE, rule="C2", victim=victim.path, cause=level, confidence=confidence,
        message=f"throttled by CPUQuota={proposals.quota(cpu.quota or 0)} of {name_of(level)} above it, which was used up in "
                f"{percent(cpu.ratio)} of the periods{who}; its own cpu.stat does not show that",
        evidence={**_evidence(victim), "level_quota_cpus": cpu.quota, "level_throttled_ratio": round(cpu.ratio, 3),
                  "level_usage_cpus": round(cpu.usage, 3)},
        remedies=tuple(remedies),
    )  # fmt: skip


def _levels(series: Series, victims: frozenset[str], stopped: tuple[str, ...]) -> Iterator[Diagnosis]:
    """C1 of inner levels whose quota stops somebody, where nobody below is a victim of a quota already."""
    leaves = {group.path for group in series.whole.leaves()}
    for path, group in series.whole.groups.items():
        named = any(victim.startswith(f"{path}/") for victim in stopped)
        if path in victims and path not in leaves and not named and group.cpu is not None:
            victim = _victim(series, group, group.cpu, {})
            strength = _strength(group.cpu)
            if strength >= WAITING and (victim.waited is None or victim.waited >= WAITING):
                yield _own_quota(victim, min(strength / victim.waited, 1.0) if victim.waited else 1.0)


def fills_its_cpus(cpu: Cpu, count: int) -> bool:
    """Whether a cgroup uses all the CPUs that it may run on, of so many: then its own threads wait for each other."""
    return cpu.usage >= _FULL * (cpu.allowed or count)


def _crowded(victim: _Victim, waited: float) -> Iterator[Diagnosis]:
    """C3 or C4, where no quota explains the waiting and the host is busy."""
    busy = victim.series.whole.host.busy
    if busy is None or busy < _BUSY or not victim.entitled or fills_its_cpus(victim.cpu, victim.series.whole.host.cpus):
        return
    if victim.cpu.usage >= _AT_LEAST * victim.entitled:
        yield from _neighbour(victim, waited)
    elif victim.cpu.usage < _FAR_BELOW * victim.entitled <= _FAR_BELOW * victim.wanted and waited >= _STARVED:
        yield _below_entitlement(victim, waited)


def _neighbour(victim: _Victim, waited: float) -> Iterator[Diagnosis]:
    """C3: the neighbour, at any level of the path, that used most more than the victim's side of that level."""
    window = victim.series.whole
    sides = [window.groups[victim.path], *window.above(victim.path)]
    pairs = [
        (group.cpu.usage - side.cpu.usage, side, group)
        for side in sides if side.cpu
        for group in window.siblings(side.path)
        if group.cpu and group.cpu.usage > _MORE * side.cpu.usage and _meet(victim.cpu, group.cpu)
    ]  # fmt: skip
    excess, side, other = max(pairs, key=lambda pair: pair[0], default=(0.0, None, None))
    if side is None or other is None or side.cpu is None or other.cpu is None or excess < _LARGE * window.host.cpus:
        return
    parts = [part for part in victim.series.parts if victim.path in part.groups]
    steady = sum((part.host.busy or 0) >= _BUSY and _waited(part, victim.path) >= WAITING for part in parts)
    confidence = grade(other.cpu.weight > side.cpu.weight, steady >= _STEADY * max(len(parts), 1),
                       excess >= 2 * _LARGE * window.host.cpus)  # fmt: skip
    if not (side.cpu.divided and other.cpu.divided):
        confidence = at_most(confidence, Confidence.LOW)  # no weight counts there
    yield Diagnosis(
        code=codes.CPU_NEIGHBOUR, rule="C3", victim=victim.path, cause=other.path, confidence=confidence,
        message=f"waited for a CPU in {percent(waited)} of the time on a busy host: its weight entitles it to "
                f"{cpus(victim.entitled)}, and {name_of(other.path)} (CPUWeight={other.cpu.weight} against "
                f"{side.cpu.weight} of {name_of(side.path)}) used {cpus(other.cpu.usage)}",
        evidence={**_evidence(victim), "neighbour_usage_cpus": round(other.cpu.usage, 3),
                  "neighbour_weight": other.cpu.weight, "weight": side.cpu.weight},
        remedies=tuple(_more_weight(victim, side.path, side.cpu, other.path, other.cpu)),
    )  # fmt: skip


def _meet(mine: Cpu, theirs: Cpu) -> bool:
    """Whether two cgroups may run on the same CPU."""
    return mine.cpuset is None or theirs.cpuset is None or not mine.cpuset.isdisjoint(theirs.cpuset)


def _more_weight(victim: _Victim, side: str, mine: Cpu, other: str, theirs: Cpu) -> Iterator[Remedy]:
    window = victim.series.whole
    available = mine.usage + theirs.usage
    weight = proposals.weight(victim.wanted, available, theirs.weight, theirs.weight)
    if weight > mine.weight:
        gets = available * weight / (weight + theirs.weight)
        yield proposals.set_property(
            side, f"CPUWeight={weight}", f"next to {name_of(other)} that is {cpus(gets)} instead of {cpus(mine.usage)}")  # fmt: skip
    rest = max(window.host.cpus - victim.wanted, 0.5 * theirs.usage)
    if rest < theirs.usage:
        yield proposals.set_property(
            other, f"CPUQuota={proposals.quota(rest)}", "a quota limits it even while nobody else wants the CPUs")  # fmt: skip


def _below_entitlement(victim: _Victim, waited: float) -> Diagnosis:
    """C4: no neighbour is blamed for it, because the weights do not explain it."""
    scheduler = victim.series.whole.host.other_scheduler
    reason = f": the scheduler {scheduler} (sched_ext) need not follow cpu.weight" if scheduler else ""
    return Diagnosis(
        code=codes.BELOW_ENTITLEMENT, rule="C4", victim=victim.path, cause="",
        confidence=Confidence.MEDIUM if scheduler else Confidence.LOW,
        message=f"waited for a CPU in {percent(waited)} of the time and used {cpus(victim.cpu.usage)}, less than the "
                f"{cpus(victim.entitled)} that its weight entitles it to{reason}",
        evidence={**_evidence(victim), "cpu_controller": victim.cpu.divided},
        remedies=(*_divide(victim), Remedy(
            title="look for CPU affinity (taskset -pc PID), for real-time tasks (ps -eo cls,rtprio,comm) and for nested weights",
            why="weights alone do not explain it, so no neighbour is blamed"),),
    )  # fmt: skip


def _divide(victim: _Victim) -> Iterator[Remedy]:
    if not victim.cpu.divided:
        yield proposals.set_property(
            victim.path,
            "CPUWeight=100",
            "the cpu controller is not enabled for it: its threads and those of its siblings compete as equals",
        )


def _steal(series: Series) -> Iterator[Diagnosis]:
    """C5: the hypervisor ran other machines on the CPUs of this one."""
    steal = series.whole.host.steal
    if steal is None or steal < _STEAL:
        return
    steady = sum((part.host.steal or 0) >= _STEAL for part in series.parts) >= _STEADY * max(len(series.parts), 1)
    yield Diagnosis(
        code=codes.STEAL, rule="C5", victim="", cause="", confidence=grade(steady, steal >= 2 * _STEAL),
        message=f"the hypervisor took {percent(steal)} of the CPU time of this machine for others",
        evidence={"steal": round(steal, 3)},
        remedies=(Remedy(title="move to a host that is less loaded, or reserve CPUs for this machine",
                         why="nothing inside this machine can change that"),),
    )  # fmt: skip


def _waited(part: Window, path: str) -> float:
    group = part.groups.get(path)
    return waiting(group.cpu.pressure) if group and group.cpu else 0.0


def _evidence(victim: _Victim) -> dict[str, str | int | float | bool | None]:
    cpu = victim.cpu
    found: dict[str, str | int | float | bool | None] = {
        "usage_cpus": round(cpu.usage, 3),
        "quota_cpus": cpu.quota,
        "throttled_ratio": round(cpu.ratio, 3),
        "throttled_cpus": round(cpu.throttled_cpus, 3),
        "local_throttled_cpus": None if cpu.local_cpus is None else round(cpu.local_cpus, 3),
        "cpu_waiting": None if victim.waited is None else round(victim.waited, 3),
        "entitled_cpus": round(victim.entitled, 3),
        "host_busy": None if victim.series.whole.host.busy is None else round(victim.series.whole.host.busy, 3),
    }
    return found
