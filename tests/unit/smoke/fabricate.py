"""Evidence of smoke runs that never happened: a service that passed, to be changed in one thing at a time."""

import errno

from cgroup_preflight.core.reading import Known, Missing, Reading, Why
from cgroup_preflight.engines.base import UnitState
from cgroup_preflight.engines.ready import Readiness
from cgroup_preflight.engines.shown import unit_state
from cgroup_preflight.host.cgroup import Counters, Effective
from cgroup_preflight.plan.build import build_plan, scoped
from cgroup_preflight.plan.expect import HostNumbers, expectations
from cgroup_preflight.plan.model import Plan
from cgroup_preflight.smoke.evidence import ServiceEvidence, Stay
from cgroup_preflight.smoke.limits import LimitReading
from tests.unit.core.making import config_of

SCOPE = "cgpf0123456789ab"
NUMBERS = HostNumbers(page_size=4096, memory_bytes=4 << 30, tasks_max=32768)
TEXT = """\
[slices.api]
MemoryMax = "256M"
[services.web]
binary = "dist/web"
slice = "api"
CPUQuota = "50%"
MemoryMax = "64M"
MemorySwapMax = 0
TasksMax = 64
CPUWeight = 80
IOWeight = 60
[services.web.smoke]
ready = "http://127.0.0.1:8080/healthz"
stop_timeout = "3s"
"""
SLICE = f"/{SCOPE}.slice/{SCOPE}-api.slice"
CGROUP = f"{SLICE}/{SCOPE}-web.service"
ABSENT = Missing(source="/sys/fs/cgroup/x", why=Why.ABSENT, errno=errno.ENOENT)
DENIED = Missing(source="/sys/fs/cgroup/x", why=Why.DENIED, errno=errno.EACCES)


def known(value: object) -> Known:
    """A reading of the kernel."""
    return Known(value=value, source="/sys/fs/cgroup/x")


def state(result: str = "success", code: str = "1", status: str = "0") -> UnitState:
    """What systemd says of a unit at the gate after its end."""
    words = {"Result": result, "ExecMainCode": code, "ExecMainStatus": status}
    return unit_state({"ActiveState": "deactivating", "SubState": "stop-post", **words})


def plan(text: str = TEXT) -> Plan:
    """The plan of a config, below the slice of a run."""
    return scoped(build_plan(config_of(text)), SCOPE)


def limits(text: str = TEXT, *, enabled: bool = True, **actual: "Reading[str] | str") -> tuple[LimitReading, ...]:
    """Every limit of the service as asked for; `memory_max="max"` says what the kernel holds instead."""
    made = plan(text)
    (service,) = made.services
    found = []
    for unit, cgroup, settings in (
        *((item.unit, SLICE, item.settings) for item in made.slices),
        (service.unit, CGROUP, service.settings),
    ):
        for item in expectations(settings, NUMBERS):
            text = f"default {item.text}" if item.attribute == "io.weight" else item.text
            value = actual.get(item.attribute.replace(".", "_"), text) if unit == service.unit else text
            found.append(
                LimitReading(
                    unit=unit,
                    file=f"{cgroup.lstrip('/')}/{item.attribute}",
                    expected=item,
                    actual=value if isinstance(value, Known | Missing) else known(value + "\n"),
                    enabled=enabled,
                )
            )
    return tuple(found)


def counters(
    *,
    events: "dict[str, int] | Missing | None" = None,
    peak: "int | Missing | None" = 20 << 20,
    cpu: "dict[str, int] | Missing | None" = None,
    pids: "dict[str, int] | None" = None,
) -> Counters:
    """What the kernel counted for the unit."""

    def reading(value, default):
        return value if isinstance(value, Missing) else known(default if value is None else value)

    return Counters(
        cgroup=CGROUP,
        cpu_stat=reading(cpu, {"usage_usec": 1_500_000, "nr_periods": 50, "nr_throttled": 5, "throttled_usec": 90_000}),
        memory_events=reading(events, {"low": 0, "high": 0, "max": 0, "oom": 0, "oom_kill": 0, "oom_group_kill": 0}),
        memory_peak=peak if isinstance(peak, Missing) else known(peak),
        memory_current=known(peak if isinstance(peak, int) else 0),
        pids_events=known(pids or {"max": 0}),
        pressure={},
    )


def effective(
    memory: int | None = 64 << 20,
    memory_at: str = CGROUP,
    cpus: float | None = 0.5,
    cpus_at: str = CGROUP,
    tasks: int | None = 64,
    tasks_at: str = CGROUP,
) -> Effective:
    """The tightest limits over the chain."""
    return Effective(
        memory_bytes=memory, memory_at=memory_at, cpus=cpus, cpus_at=cpus_at, tasks=tasks, tasks_at=tasks_at
    )


def stay(cgroup: "Reading[str] | str" = CGROUP, strays: tuple[tuple[int, str], ...] = (), processes: int = 3) -> Stay:
    """Where the processes were."""
    return Stay(
        main_cgroup=known(cgroup) if isinstance(cgroup, str) else cgroup,
        strays=strays,
        processes=processes,
        allowed_cpus="0-3",
    )


def evidence(text: str = TEXT, **changes: object) -> ServiceEvidence:
    """A service that passed, but for `changes`."""
    (service,) = plan(text).services
    values: dict[str, object] = {
        "service": service,
        "engine": "systemd",
        "cgroup": CGROUP,
        "limits": limits(text),
        "effective": effective(),
        "ready": Readiness(ok=True, seconds=0.2),
        "stay": stay(),
        "counters": counters(),
        "state": state(),
        "duration_seconds": 5.2,
    }
    return ServiceEvidence(**{**values, **changes})
