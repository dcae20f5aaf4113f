"""One smoke run from plan to findings; the only function of this room that the command line calls."""

import io
import os
import resource
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial

from cgroup_preflight.checks.numbers import host_numbers
from cgroup_preflight.config.model import Config, ReadyKind
from cgroup_preflight.core.reading import value_or
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass, replace
from cgroup_preflight.core.report import Finding, ServiceResult
from cgroup_preflight.engines import ready, run_scope
from cgroup_preflight.engines.base import GATE_SECONDS, Engine, Launch
from cgroup_preflight.engines.choice import EngineChoice
from cgroup_preflight.engines.devices import devices_of
from cgroup_preflight.engines.fair_time import SLOWEST
from cgroup_preflight.engines.make import make_engine
from cgroup_preflight.engines.service_run import ServiceRun
from cgroup_preflight.engines.session import local_door
from cgroup_preflight.engines.stopping import PAUSE
from cgroup_preflight.engines.systemd import bus_environment
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.host.door import Door
from cgroup_preflight.host.facts import Facts
from cgroup_preflight.plan.build import only, scoped
from cgroup_preflight.plan.expect import HostNumbers, expectations
from cgroup_preflight.plan.model import Plan, ServicePlan
from cgroup_preflight.plan.unit_syntax import setting_pairs
from cgroup_preflight.smoke.counters import counted_findings
from cgroup_preflight.smoke.evidence import ServiceEvidence
from cgroup_preflight.smoke.findings import service_findings, service_result
from cgroup_preflight.smoke.go_findings import differs, proof_findings, target_of
from cgroup_preflight.smoke.go_trace import Trace, started_traces
from cgroup_preflight.smoke.load import plan_load
from cgroup_preflight.smoke.load_measure import LoadPlace, weigh
from cgroup_preflight.smoke.margins import margin_findings
from cgroup_preflight.smoke.outside import outside_findings
from cgroup_preflight.smoke.own_units import create_files, create_users, own_unit_findings, refuse_on_host
from cgroup_preflight.smoke.payloads import MovedPayloads, ServicePayloads
from cgroup_preflight.smoke.policy import OOMD, judge, policies, unheard
from cgroup_preflight.smoke.probe_findings import probe_findings
from cgroup_preflight.smoke.probe_plan import Capacity, Probe, plan_probes, probe_units, top_slice
from cgroup_preflight.smoke.probes import Probes
from cgroup_preflight.smoke.recommended import excused
from cgroup_preflight.smoke.required import required_findings
from cgroup_preflight.smoke.services import Expected, Proof, Services

if TYPE_CHECKING:
    from cgroup_preflight.smoke.elsewhere import Carried, Elsewhere

Say = Callable[[str], None]
#: The longest that one service makes another one wait, on a busy machine.
_TURN_SECONDS = 10.0
_FILES = 16384


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeResult:
    """What a smoke run found; `processes_started` counts the commands of this tool."""

    findings: tuple[Finding, ...]
    services: tuple[ServiceResult, ...]
    processes_started: int


def smoke(
    config: Config, shipped: Plan, facts: Facts, choice: EngineChoice, names: tuple[str, ...], say: Say,
    *, inside: bool = False, door: Door | None = None, carried: "Carried | None" = None,
) -> SmokeResult:  # fmt: skip
    """Runs the services of a plan (or those in `names`) and a probe for each distinct limit, on this machine.

    Raises HostError when the service manager does not answer; everything started is stopped in any case. `inside` a
    guest, which ends with the run, nothing is removed, and the output of services stays in files. On the machine behind
    `door`, with the files `carried` there: `facts` and `choice` are its own. A guest behind `door` has all files already.
    """
    _allow_files()
    uid = value_or(facts.uid, 0)
    door = door or local_door(bus_environment(choice, uid))
    numbers = replace(host_numbers(facts), devices=devices_of(shipped, door.files))
    engine = make_engine(choice, facts, door, numbers)
    ready.prepare(item.smoke.ready for item in config.services)
    wanted = [item for item in config.services if not names or item.name in names]
    if inside:
        create_users(door, wanted)
        create_files(door, wanted)
    else:
        refuse_on_host(wanted, config.path, root=choice.name == "systemd" and not choice.sudo)
    return prove(
        config, only(shipped, names), facts, engine, door, say, user=_run_as(facts, choice, door), inside=inside,
        before_start=partial(_drop_caches, door) if inside else lambda: None,
        moves=inside and choice.name == "systemd" and not choice.sudo and not door.host,
        elsewhere=_elsewhere(choice, facts, carried),
    )  # fmt: skip


def prove(
    config: Config, shipped: Plan, facts: Facts, engine: Engine, door: Door, say: Say, *,
    user: tuple[int, int] | None = None, inside: bool = False, before_start: Callable[[], None] = lambda: None,
    moves: bool = False, elsewhere: "Elsewhere | None" = None,
) -> SmokeResult:  # fmt: skip
    """As `smoke`, with this engine on the machine behind this door; services run as `user` (uid, gid).

    `before_start` is called once, right before the first service starts. With `moves` the payloads of probes start while
    the services run, and are moved to where they push (`smoke.payloads`). `elsewhere`: the machine is another one.
    """
    run_name = run_scope.new_name()
    for left in run_scope.clean_leftovers(engine, door):
        say(f"removed what a crashed run left behind ({left})")
    with _folder(door, run_name, stays=inside) as folder, ExitStack() as stack:
        if elsewhere is not None:
            guarded = run_scope.Guarded(scope=run_name, folder=folder, unit_folder=engine.unit_folder)
            there = stack.enter_context(elsewhere.prepared(door, guarded, config, shipped, say))
            door, config, shipped = there.door, there.config, there.plan
        plan = scoped(shipped, run_name, in_place=inside)
        run = _Run(config=config, plan=plan, facts=facts, engine=engine, door=door, name=run_name, folder=folder,
                   user=user, inside=inside)  # fmt: skip
        result = _proved(run, say, before_start, moves=moves)
        if elsewhere is not None:
            result = replace(result, findings=elsewhere.judged(door, folder, result.findings))
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What one run is made of."""

    config: Config
    plan: Plan
    facts: Facts
    engine: Engine
    door: Door
    name: str
    folder: str
    user: tuple[int, int] | None
    inside: bool


def _proved(run: _Run, say: Say, before_start: Callable[[], None], *, moves: bool) -> SmokeResult:
    config, plan, facts, engine, door = run.config, run.plan, run.facts, run.engine, run.door
    inside, folder, mount = run.inside, run.folder, run.facts.mount_point
    observer = Observer(door.files, mount)
    numbers = replace(host_numbers(facts), devices=devices_of(plan, door.files))
    with run_scope.run_scope(engine, door, plan, run.name, mount, stays=inside) as scope:
        longest, journal = _longest(plan), _reads_log(engine, door, inside=inside)
        launches = {
            item.unit: _launch(item, config, run.user, _output(run, item, journal=journal), longest)
            for item in plan.services
        }
        proofs = [
            Proof(ServiceRun(item, launches[item.unit]), _expected(item, plan, numbers)) for item in plan.services
        ]
        before_start()
        say(f"starting {len(proofs)} service(s) with the {engine.name} engine")
        services = Services(engine, observer, scope.cgroups, say, door, inside=inside)
        capacity = _capacity(facts, door)
        probes, untried = plan_probes(plan, numbers, capacity)
        with _moved(MovedPayloads(engine, observer, door, run.name, folder) if moves else None) as moved:
            load, no_load = plan_load(run.name, plan, door.processes.cpus(), value_or(facts.online_cpus, frozenset()))
            later = load.hogs if load else ()
            meanwhile = partial(moved.begin, probe_units(run.name, probes), later) if moved else None
            payloads = moved or ServicePayloads(
                engine, door.files, scope.cgroups, folder, run.user, keeps_input=bool(door.host)
            )
            runner = Probes(engine, observer, door, scope.cgroups, payloads)
            stopped = _Stopped(run, launches, numbers)
            with closing(stopped.turns(services.run_all(proofs, meanwhile, lambda: runner.burning))) as turns:
                for _ in turns:
                    # Payloads that are units of the engine must not come while services stop.
                    if moved or services.over(f"{run.name}.slice"):
                        break
                    door.clock.sleep(PAUSE)
                # Services stop, and second runs wait, most of their time: probes of quotas can run meanwhile.
                pushed = runner.run_all(
                    run.name, probes, say, turns, capacity, stopped.peaks, partial(_may_begin, services, run.name)
                )
            seen = stopped.seen
            place = LoadPlace(payloads=payloads, engine=engine, observer=observer, door=door, slices=scope.cgroups)
            weighed = weigh(place, load, no_load, say, required="cpu" in config.require.controllers)
    findings = [*_of_services(config, plan, facts, door, seen, inside=inside)]
    findings += [*counted_findings(seen), *proof_findings(seen, stopped.traces, plan, target_of(facts, numbers))]
    findings += [*outside_findings(services.strangers, services.units, services.unclaimed)]
    findings += [*probe_findings(pushed, untried)]
    findings += [*weighed, *stopped.policed]
    return SmokeResult(
        findings=(*findings, *(() if inside else (run_scope.cleanup_finding(scope.rest),))),
        services=tuple(service_result(one) for one in seen),
        processes_started=door.programs.started,
    )


class _Stopped:
    """What is known of the services when all have stopped: `peaks` is the most memory that each had, in bytes, by unit."""

    def __init__(self, run: _Run, launches: Mapping[str, Launch], numbers: HostNumbers) -> None:
        self._run, self._launches, self._numbers = run, launches, numbers
        self.seen: tuple[ServiceEvidence, ...] = ()
        self.policed: tuple[Finding, ...] = ()
        self.peaks: dict[str, int] = {}
        self.traces: dict[str, Trace] = {}

    def turns(self, running: Generator[None, None, tuple[ServiceEvidence, ...]]) -> Generator[None, None, None]:
        """Runs the services, and Go programs a second time where that is needed; see `Services.run_all`. Raises HostError."""
        with closing(running):
            self.seen = yield from running
        self.policed = _policed(self._run.plan, self._run.engine, self._numbers)
        peaks = ((one.service.unit, value_or(one.counters.memory_peak, None)) for one in self.seen if one.counters)
        self.peaks |= {unit: peak for unit, peak in peaks if peak}
        again = {one.service.unit: self._launches[one.service.unit] for one in self.seen if _must_be_traced(one)}
        with started_traces(self._run.engine, self._run.door, again, self._run.name, self._run.folder) as finish:
            self.traces |= yield from finish


def _may_begin(services: Services, scope: str, probe: Probe) -> bool:
    """Whether the probe of a quota can run while services stop: those that share a slice with it have ended.

    A quota of a slice is for all of them, and its counts are theirs until then.
    """
    if probe.is_slice:
        return services.over(f"{scope}.slice")
    return services.over(top_slice(scope, probe.in_slice))


def _elsewhere(choice: EngineChoice, facts: Facts, carried: "Carried | None") -> "Elsewhere | None":
    if carried is None:
        return None
    from cgroup_preflight.smoke.elsewhere import Elsewhere  # a run on this machine needs none of it

    return Elsewhere(choice, value_or(facts.systemd_version, 0), carried)


def _of_services(
    config: Config, plan: Plan, facts: Facts, door: Door, seen: Sequence[ServiceEvidence], *, inside: bool
) -> Iterator[Finding]:  # fmt: skip
    """What the services showed, and what the config asks of them."""
    swap = value_or(facts.meminfo, {}).get("SwapTotal") != 0
    found = [item for one in seen for item in service_findings(one, required=config.require.controllers, swap=swap)]
    yield from excused(found, config.services, config.target.packages, door.files) if inside else found
    yield from required_findings(plan, config.require, value_or(facts.online_cpus, frozenset()))
    tried = {item.label for item in plan.services}
    yield from own_unit_findings(
        (item for item in config.services if item.name in tried), [item.name for item in config.slices]
    )
    yield from margin_findings(seen, config.policy, {item.name: item.policy for item in config.services})


@contextmanager
def _moved(payloads: MovedPayloads | None) -> Iterator[MovedPayloads | None]:
    try:
        yield payloads
    finally:
        if payloads is not None:
            payloads.close()


def _allow_files() -> None:
    """Each service takes a dozen descriptors; the usual soft limit of 1024 is for programs with select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _policed(plan: Plan, engine: Engine, numbers: HostNumbers) -> tuple[Finding, ...]:
    """What systemd took of the settings that the kernel has no file for."""
    wanted = policies(plan)
    if not wanted or not engine.has_journal:
        return unheard(wanted)
    names = {setting.property for _, _, setting in wanted}
    shown = engine.settings_of({unit for _, unit, _ in wanted}, names)
    oomd = engine.system_runs(OOMD) if any(name.startswith("ManagedOOM") for name in names) else True
    return judge(wanted, shown, numbers, oomd=oomd)


@contextmanager
def _folder(door: Door, run_name: str, *, stays: bool) -> Iterator[str]:
    """A private folder for the output of units; gone at the end, after a crash with the next run."""
    folder = door.files.private_folder(f"{run_name}-")
    try:
        yield folder
    finally:
        if not stays:
            door.files.remove_private(f"{run_name}-")


def _drop_caches(door: Door) -> None:
    """Empties the page cache of a guest, so that a service is charged for the pages of its program and its files.

    The kernel charges a page to the cgroup that touches it first; before, this tool read the programs
    (Documentation/admin-guide/cgroup-v2.rst, "Memory Ownership"; sysctl/vm.rst, drop_caches).
    """
    door.files.sync()
    door.files.write_attribute("/proc/sys/vm/drop_caches", "3")


def _expected(service: ServicePlan, plan: Plan, numbers: HostNumbers) -> Expected:
    """Expectations by unit: the slices above, outermost first, then the service."""
    chain = [(item.unit, expectations(item.settings, numbers)) for item in reversed(plan.above(service))]
    return (*chain, (service.unit, expectations(service.settings, numbers)))


def _run_as(facts: Facts, choice: EngineChoice, door: Door) -> tuple[int, int] | None:
    """Through sudo the programs run as the caller: a pull request gets no more rights than its job has."""
    if not choice.sudo:
        return None
    ids = value_or(door.files.pieces("/proc/self/status", ("Gid:",), "\n"), ())
    words = "".join(ids).split()
    uid = value_or(facts.uid, 0)
    return uid, int(words[2]) if len(words) > 2 else uid


def _longest(plan: Plan) -> float:
    """Seconds that all services together may take: each one, and its gates, waits for the slowest and for its turn."""
    # On a crowded machine the time of a start and of a stop runs slower.
    spans = [
        (item.smoke.start_timeout * SLOWEST, item.smoke.duration, item.smoke.stop_timeout * SLOWEST)
        for item in plan.services
    ]
    return float(sum(max(column) for column in zip(*spans, strict=True)) + _TURN_SECONDS * len(spans))


def _launch(
    service: ServicePlan, config: Config, user: tuple[int, int] | None, output: str, longest: float
) -> Launch:  # fmt: skip
    smoke_settings = service.smoke
    return Launch(
        unit=service.unit, slice=service.slices[-1], description=f"cgroup-preflight: {config.project} {service.label}",
        command=(service.binary, *smoke_settings.args), settings=setting_pairs(service.settings),
        env=smoke_settings.env, folder=config.folder, uid=user[0] if user else None, gid=user[1] if user else None,
        start_timeout=max(smoke_settings.start_timeout, 30.0), stop_timeout=smoke_settings.stop_timeout,
        runtime_max=longest + 120.0, hold_before=longest + GATE_SECONDS, hold_after=longest + GATE_SECONDS,
        output=output, own=service.run_unit, type=_type(service),
    )  # fmt: skip


def _output(run: _Run, service: ServicePlan, *, journal: bool) -> str:
    """The file that a service writes to, empty where it writes to the `journal`. Raises HostError.

    A ready line is searched for in a file: the journal drops its oldest lines, read or not, when many come.
    """
    if journal and service.smoke.ready.kind is not ReadyKind.LOG:
        return ""
    path = os.path.join(run.folder, service.label)
    if run.user is not None:
        # systemd would make it for root, and then its blocks could not be given back.
        run.door.files.upload(io.BytesIO(), path, 0o600)
    return path


def _type(service: ServicePlan) -> str:
    own = {item.property: item.text for item in service.own_settings}.get("Type")
    return own or ("notify" if service.smoke.ready.kind is ReadyKind.NOTIFY else "exec")


def _must_be_traced(seen: ServiceEvidence) -> bool:
    """A Go program that became ready and stays, and whose choice of GOMAXPROCS is not seen or is not the expected one.

    A job that ends by itself must not do its work twice.
    """
    return (
        seen.go is not None
        and seen.service.run_unit is None
        and seen.ready is not None
        and seen.ready.ok
        and seen.service.smoke.ready.kind is not ReadyKind.EXIT
        and differs(seen.go, seen.service)
    )


def _capacity(facts: Facts, door: Door) -> Capacity:
    meminfo = value_or(facts.meminfo, {})
    return Capacity(
        cpus=len(door.processes.cpus()), available_bytes=meminfo.get("MemAvailable", 0),
        swap_bytes=meminfo.get("SwapFree", 0), may_swap=meminfo.get("SwapTotal") != 0,
    )  # fmt: skip


def _reads_log(engine: Engine, door: Door, *, inside: bool) -> bool:
    """Whether the output of services is read from the journal."""
    # Of another machine, a file can be read with the other files of a look.
    return not inside and not door.host and engine.has_journal and (not engine.user or _reads_journal(door))


def _reads_journal(door: Door) -> bool:
    """Whether an ordinary user can read the journal here: one file of it is enough to tell."""
    files = door.files
    for top in ("/var/log/journal", "/run/log/journal"):
        # journald keeps its files in a folder named by the machine's id (systemd-journald.service(8)).
        for folder in (f"{top}/{name}" for name in value_or(files.names(top), ())):
            names = value_or(files.names(folder), ())
            if any(files.readable(f"{folder}/{name}") for name in names if name.endswith(".journal")):
                return True
    return False
