"""From windows to findings: every rule, then what no rule explains, then what this host cannot show. Pure."""

from collections.abc import Iterator, Sequence

from cgroup_preflight.core import codes
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.metrics.cpu_rules import cpu_diagnoses, fills_its_cpus
from cgroup_preflight.metrics.diagnosis import Confidence, Diagnosis, finding_of, limited, percent
from cgroup_preflight.metrics.go_delays import GoDelays
from cgroup_preflight.metrics.go_rules import go_diagnoses
from cgroup_preflight.metrics.io_rules import io_diagnoses
from cgroup_preflight.metrics.memory_rules import memory_diagnoses
from cgroup_preflight.metrics.window import Group, Pressure, Series, below, name_of

#: A cgroup that waits longer than this without a rule that explains it is reported.
_UNEXPLAINED = 0.25
#: Shorter than this, no answer is sure: ten periods of a quota are a second.
_SHORT = 3.0
_BUSY = 0.95
_TINY = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was found: the diagnoses for programs, and the findings for a report."""

    diagnoses: tuple[Diagnosis, ...]
    findings: tuple[Finding, ...]


def judge(series: Series, tops: Sequence[str] = (), delays: Sequence[GoDelays] = ()) -> Answer:
    """Judges all cgroups at and below `tops`, or all for none; neighbours are looked for everywhere."""
    victims = frozenset(path for path in series.whole.groups if not tops or below(path, tops))
    found: list[Diagnosis] = [*cpu_diagnoses(series, victims)]
    found += go_diagnoses(series, found, delays)
    found += memory_diagnoses(series, victims)
    found += io_diagnoses(series, victims)
    if series.whole.seconds < _SHORT:
        found = [limited(item, Confidence.MEDIUM) for item in found]
    # Who is named as a cause waits for the same thing, and needs no answer of its own.
    unexplained = tuple(_unexplained(series, victims, {name for item in found for name in (item.victim, item.cause)}))
    judged = any(series.whole.groups[path].cpu for path in victims)
    clear = (_clear(series, victims),) if judged and not found and not unexplained else ()
    return Answer(
        diagnoses=tuple(found),
        findings=(*map(finding_of, found), *unexplained, *clear, *_blind(series, victims), *_notes(series)),
    )


def _clear(series: Series, victims: frozenset[str]) -> Finding:
    host = series.whole.host
    busy = "unknown" if host.busy is None else percent(host.busy)
    return codes.CONTENTION.finding(
        Status.PASS, "host",
        f"no contention: {len(victims)} cgroups in {series.whole.seconds:.1f} s, {len(series.parts) + 1} readings, CPUs {busy} busy",
        evidence={"cgroups": len(victims), "seconds": round(series.whole.seconds, 2),
                  "host_busy": None if host.busy is None else round(host.busy, 3)},
    )  # fmt: skip


def _unexplained(series: Series, victims: frozenset[str], named: set[str]) -> Iterator[Finding]:
    """No verdict, and what would be needed for one."""
    for group in series.whole.leaves():
        if group.path not in victims or group.path in named:
            continue
        for resource, pressure in _pressures(group):
            if pressure is not None and pressure.waiting >= _UNEXPLAINED and not _tiny(group, resource):
                why, need = _missing(series, group, resource)
                yield codes.CONTENTION.finding(
                    Status.UNVERIFIED, group.path.lstrip("/"),
                    f"no verdict: tasks waited for {resource} in {percent(pressure.waiting)} of the time, and {why}",
                    Remedy(title=need),
                    evidence={"rule": None, "cause": None, "confidence": None, f"{resource}_waiting": round(pressure.waiting, 3),
                              "host_busy": None if series.whole.host.busy is None else round(series.whole.host.busy, 3)},
                )  # fmt: skip


def _tiny(group: Group, resource: str) -> bool:
    """A cgroup that needs hardly any CPU time can wait often, but not for long."""
    return resource == "CPU" and (group.cpu is None or group.cpu.usage < _TINY)


def _pressures(group: Group) -> tuple[tuple[str, Pressure | None], ...]:
    return (
        ("CPU", group.cpu.pressure if group.cpu else None),
        ("memory", group.memory.pressure if group.memory else None),
        ("I/O", group.io.pressure if group.io else None),
    )


def _missing(series: Series, group: Group, resource: str) -> tuple[str, str]:
    """Why no rule names a cause, and what to do next."""
    host, cpu = series.whole.host, group.cpu
    if resource == "CPU" and cpu is not None and fills_its_cpus(cpu, host.cpus):
        return (
            f"it used all of the CPUs that it may run on ({cpu.allowed or host.cpus})",
            f"run fewer threads, or give it more CPUs: AllowedCPUs of {name_of(group.path)} or of a slice above it, or a larger host",
        )
    if resource == "CPU" and cpu is not None and host.busy is not None and host.busy >= _BUSY:
        return (
            "all CPUs are busy, but no neighbour has more than an equal share: nobody is to blame",
            "use a host with more CPUs, or run less at once; CPUWeight decides who waits",
        )
    if resource == "CPU":
        return (
            "no quota was used up, and the host had free CPUs",
            "look for CPU affinity (taskset -pc PID), or measure longer: --seconds 60",
        )
    if resource == "I/O":
        return (
            "no other cgroup has most of the traffic of its devices",
            "look at the device itself: iostat -x; enable IOAccounting for the slices so that io.stat counts all of them",
        )
    return ("no limit was reached, and the host is not short of memory", "measure longer: --seconds 60")


def _blind(series: Series, victims: frozenset[str]) -> Iterator[Finding]:
    """The rules that could not be judged here, and why."""
    if not series.pressure:
        yield codes.CONTENTION_BLIND.finding(
            Status.WARN, "host",
            "this kernel has no pressure files (PSI): C3, C4, M2, I1 and G3 were not judged, C1, C2 and G2 only from "
            "throttling, M1 only from kills",
            Remedy(title="boot with psi=1, if the kernel was built with CONFIG_PSI", needs_root=True, persistent=True),
        )  # fmt: skip
    if not series.local_stat and any(group.cpu and group.cpu.quota for group in series.whole.groups.values()):
        yield codes.CONTENTION_BLIND.finding(
            Status.WARN, "host",
            "this kernel has no cpu.stat.local: who suffers from a quota above (C2) is concluded from pressure alone",
            Remedy(title="use Linux 6.7 or later"),
        )  # fmt: skip
    if not any(series.whole.groups[path].cpu for path in victims):
        yield codes.CONTENTION_BLIND.finding(
            Status.UNVERIFIED, "host", "no cpu.stat of a cgroup could be read twice: nothing was judged",
            Remedy(title="run it as root, on a host with cgroup v2"),
        )  # fmt: skip


def _notes(series: Series) -> Iterator[Finding]:
    for note in series.notes:
        yield codes.CONTENTION_INPUT.finding(
            Status.WARN, "readings", note, Remedy(title="measure again if the answer matters"))  # fmt: skip
