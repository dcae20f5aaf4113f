"""The proof for all services of a plan, which run at the same time: what the kernel holds before, while and after."""

import signal
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

from cgroup_preflight.core.reading import Known, Missing, value_or
from cgroup_preflight.core.records import TYPE_CHECKING, replace
from cgroup_preflight.core.slack import memory_slack
from cgroup_preflight.engines.base import Engine
from cgroup_preflight.engines.service_run import ServiceRun
from cgroup_preflight.engines.session import Session
from cgroup_preflight.host.cgroup import Counters, Effective, Observer
from cgroup_preflight.plan.expect import Expectation
from cgroup_preflight.smoke.evidence import Hold, ServiceEvidence, Stay
from cgroup_preflight.smoke.exit_codes import NOT_EXECUTED
from cgroup_preflight.smoke.go_view import GoProgram, GoView, look, program_of
from cgroup_preflight.smoke.limits import LimitReading, nowhere, read_limits
from cgroup_preflight.smoke.new_units import can_be_root
from cgroup_preflight.smoke.outside import Outside, Stray
from cgroup_preflight.smoke.started import Shown, started
from cgroup_preflight.smoke.unlimited import unlimited
from cgroup_preflight.smoke.watch import Watch

if TYPE_CHECKING:
    from cgroup_preflight.host.door import Door

_LOG_LINES = 20
_LOG_BYTES = 64 << 10
_SAID_LINES = 1000
#: So long nobody looks at what services write.
_READ_SECONDS = 0.2
Say = Callable[[str], None]
#: Expectations by unit, outermost slice first.
Expected = tuple[tuple[str, tuple[Expectation, ...]], ...]


class Proof:
    """What was seen of one service so far; `escaped` are handles of processes that left its cgroup."""

    def __init__(self, run: ServiceRun, expected: Expected) -> None:
        self.run = run
        self.expected = expected
        self.limits: tuple[LimitReading, ...] = ()
        self.stay: Stay | None = None
        #: Its program, read while it ran.
        self.program: GoProgram | None = None
        self.go: GoView | None = None
        self.started: tuple[Shown, ...] = ()
        #: Of one that has ended, before the unit is stopped: systemd may remove an empty cgroup at any time.
        self.counted: Counters | None = None
        #: While it ran: a killed service has no cgroup in the end.
        self.effective: Effective | None = None
        self.covered: tuple[str, ...] = ()
        self.hold: tuple[Hold, ...] = ()
        self.escaped: list[int] = []


class Services:
    """The services of one run; `slice_cgroups` by unit."""

    def __init__(
        self, engine: Engine, observer: Observer, slice_cgroups: Mapping[str, str], say: Say, door: "Door",
        *, inside: bool = False,
    ) -> None:  # fmt: skip
        self._engine = engine
        self._observer = observer
        self._slices = slice_cgroups
        self._say = say
        self._door = door
        self._machine = (door.processes.count_cpus(), value_or(door.files.page_size(), 4096))
        #: Processes outside of the run that no unit of it is known for, and units that were made meanwhile: those by
        #: services, and others with their commands.
        self.strangers: list[Stray] = []
        self.units: tuple[str, ...] = ()
        self.unclaimed: Mapping[str, str] = {}
        self._outside = Outside(engine, observer, door, inside=inside)
        self._watch = Watch(observer, door, self._outside.look)
        self._session = Session(engine, observer, self._watch.door)
        #: What each slice counted when the last service in it had ended, by unit.
        self._counted: dict[str, Counters] = {}

    def over(self, unit: str) -> bool:
        """Whether all services in a slice have ended: what happens there from now on is none of theirs."""
        return unit in self._counted

    def run_all(
        self,
        proofs: Sequence[Proof],
        meanwhile: Callable[[Callable[[], None]], None] | None = None,
        others: Callable[[], int] = lambda: 0,
    ) -> Generator[None, None, tuple[ServiceEvidence, ...]]:
        """Runs all services and reads the kernel's files before, while and after. Raises HostError.

        `meanwhile` is called once all are ready, with a function to call often: it takes a sample when one is due. Each
        `yield`, while the services stop, gives others their turn, who wait meanwhile; `others` says how many of their
        processes want a CPU.
        """
        session = self._session
        root = self._engine.name == "systemd" and any(can_be_root(proof.run) for proof in proofs)
        self._outside.begin({proof.run.service.unit: proof.run.service.binary for proof in proofs}, root=root)
        runs = session.start([proof.run for proof in proofs])
        started = [proof for proof in proofs if proof.run in runs]
        try:
            session.wait_for_gates(runs)
            self._outside.belongs(
                {run.invocation: run.service.unit for run in runs if run.invocation},
                {run.cgroup: run.service.unit for run in runs if run.cgroup},
                self._slices.values(),
            )
            self._watch.begin(self._limited(started))
            for proof in started:
                proof.limits = self._read_limits(proof)
            self._say("waiting until the services are ready")
            session.bring_up(runs)
            ready, began = self._cpu_stats(started), self._door.clock.monotonic()
            self._say("running the services under their limits")
            if meanwhile is not None:
                # Services run for some time now, and their machine has nothing else to do.
                meanwhile(lambda: self._watch.door.clock.sleep(0))
                self._read_programs(started)
            session.run_for_duration(runs)
            self._note_hold(started, ready, began)
            session.count_left(runs)
            session.check_again(runs)
            children = self._observer.children()
            for proof in started:
                self._read_again(proof)
                if session.still_runs(proof.run):
                    self._read_alive(proof, children)
            self._say("stopping the services")
            yield from self._stopping(runs, others)
            self._watch.sample()
            self._outside.finish(lambda: {run.service.unit: self._said(run) for run in runs})
            self._find_left(started)
            self._note_strays(started)
            sharing = Counter(unit for proof in started for unit in proof.run.service.slices)
            return tuple(self._evidence(proof, sharing) for proof in proofs)
        finally:
            self._watch.end()
            for proof in proofs:
                self._close(proof)
            self._kill(self._outside.handles)

    def _read_programs(self, proofs: Iterable[Proof]) -> None:
        """The Go programs of the services, as many as can be read soon."""
        clock = self._watch.door.clock
        end = clock.monotonic() + _READ_SECONDS
        for proof in proofs:
            if proof.run.alive and proof.run.is_ready and proof.run.service.go is not None and clock.monotonic() < end:
                proof.program = program_of(self._door, proof.run.pid)
                clock.sleep(0)

    def _stopping(self, runs: Sequence[ServiceRun], others: Callable[[], int]) -> Iterator[None]:
        clock = self._watch.door.clock
        for _ in self._session.stopping(runs, others):
            # This clock samples, whoever waits.
            clock.sleep(0)
            running = {unit for run in runs if not run.stopped for unit in run.service.slices}
            self._count_slices(self._slices.keys() - running)
            yield
        self._count_slices(self._slices)

    def _count_slices(self, units: Iterable[str]) -> None:
        for unit in units:
            if unit not in self._counted:
                self._counted[unit] = self._observer.counters(self._slices[unit])

    def _limited(self, proofs: Iterable[Proof]) -> dict[str, tuple[str, ...]]:
        """By cgroup, the files that have a limit of the plan."""
        return {
            cgroup: tuple(item.attribute for item in expected)
            for proof in proofs
            for unit, expected in proof.expected
            if (cgroup := self._cgroup(proof, unit))
        }

    def _cgroup(self, proof: Proof, unit: str) -> str:
        return proof.run.cgroup if unit == proof.run.service.unit else self._slices.get(unit, "")

    def _read_limits(self, proof: Proof) -> tuple[LimitReading, ...]:
        found: list[LimitReading] = []
        for unit, expected in proof.expected:
            cgroup = self._cgroup(proof, unit)
            found.extend(read_limits(self._observer, unit, cgroup, expected) if cgroup else nowhere(unit, expected))
        return tuple(found)

    def _cpu_stats(self, proofs: Sequence[Proof]) -> dict[str, Mapping[str, int]]:
        """`cpu.stat` of the cgroups of services and of their slices, by cgroup."""
        cgroups = {cgroup for proof in proofs for cgroup in self._chain(proof)}
        return {cgroup: self._observer.cpu_stat(cgroup) for cgroup in cgroups}

    def _chain(self, proof: Proof) -> tuple[str, ...]:
        """The cgroup of a service and those of the slices above it, the innermost first."""
        slices = (self._slices.get(unit, "") for unit in reversed(proof.run.service.slices))
        return tuple(cgroup for cgroup in (proof.run.cgroup, *slices) if cgroup)

    def _note_hold(self, proofs: Sequence[Proof], ready: Mapping[str, Mapping[str, int]], began: float) -> None:
        """What the CPU quotas did after the start: a start may be throttled, work may not."""
        lasting = [proof for proof in proofs if proof.run.is_ready and proof.run.alive]
        now, end = self._cpu_stats(lasting), self._door.clock.monotonic()
        for proof in lasting:
            # A slice is shared, so its periods count from when all its services have started.
            before = {**ready, proof.run.cgroup: proof.run.ready_stat}
            proof.hold = tuple(
                Hold(
                    cgroup=cgroup, before=before.get(cgroup, {}), after=now[cgroup],
                    seconds=end - (proof.run.ready_at if cgroup == proof.run.cgroup else began),
                )
                for cgroup in self._chain(proof)
            )  # fmt: skip

    def _read_again(self, proof: Proof) -> None:
        """Limits a second time, now that the program has run, also of one that has ended: its gate keeps the cgroup."""
        if not self._observer.exists(proof.run.cgroup):
            return
        proof.effective = self._observer.effective(proof.run.cgroup)
        proof.covered = tuple(filter(self._observer.is_covered, self._chain(proof)))
        if not proof.run.alive:
            proof.counted = self._observer.counters(proof.run.cgroup)
        # A limit that was not in force before the program's first instruction is a fail, even if it is in force now.
        pairs, slack = zip(proof.limits, self._read_limits(proof), strict=True), memory_slack(*self._machine)
        proof.limits = tuple(late if early.in_force(slack) else early for early, late in pairs)

    def _read_alive(self, proof: Proof, children: Mapping[int, Sequence[int]]) -> None:
        """Where the processes of a service are while it runs."""
        run = proof.run
        inside = self._observer.processes(run.cgroup)
        strays = []
        for pid, reading in self._observer.descendants(run.pid, children).items():
            where = reading.value if isinstance(reading, Known) else ""
            # A child whose cgroup cannot be read has ended, or may be anywhere.
            if not _within(where, run.cgroup) and (where or self._observer.comm(pid)):
                strays.append((pid, where or "an unknown cgroup"))
                self._keep_handle(proof, pid, where)
        main_cgroup = self._observer.cgroup_of(run.pid)
        if isinstance(main_cgroup, Missing) and not self._session.still_runs(run):
            return
        proof.stay = Stay(
            main_cgroup=main_cgroup, strays=tuple(strays), processes=len(inside),
            allowed_cpus=self._observer.allowed_cpus(run.pid), memory=self._observer.memory_parts(run.cgroup),
            unlimited=unlimited(self._door.files, inside),
        )  # fmt: skip
        proof.started = started(self._door.files, run.pid, run.service)
        proof.go = look(self._door, self._observer, run.pid, run.cgroup, run.service.smoke.ready, proof.program)

    def _keep_handle(self, proof: Proof, pid: int, cgroup: str) -> None:
        """Keeps a handle of a process that left the unit: systemd ends only what is in the unit's cgroup."""
        handle = self._door.processes.open(pid)
        if handle is None:
            return
        # Only now is it certain that the handle is of this process.
        if self._observer.is_in(pid, cgroup):
            proof.escaped.append(handle)
        else:
            self._door.processes.close(handle)

    def _find_left(self, proofs: Sequence[Proof]) -> None:
        """What a stopped service left outside its cgroup, its parents gone: the invocation id tells whose it is."""
        by_invocation = {proof.run.invocation: proof for proof in proofs if proof.run.invocation}
        if not by_invocation:
            return
        for pid, invocation in self._observer.invoked(by_invocation).items():
            proof, reading = by_invocation[invocation], self._observer.cgroup_of(pid)
            run = proof.run
            if not isinstance(reading, Known) or _within(reading.value, run.cgroup):
                continue
            self._keep_handle(proof, pid, reading.value)
            _add_stray(proof, pid, reading.value, self._observer.command(pid))

    def _note_strays(self, proofs: Sequence[Proof]) -> None:
        """Those that were found outside at any moment of the run; of one service, all are its own."""
        by_unit = {proof.run.service.unit: proof for proof in proofs}
        for stray in self._outside.strays:
            proof = proofs[0] if len(proofs) == 1 else by_unit.get(stray.unit)
            if proof is not None:
                _add_stray(proof, stray.pid, stray.cgroup, stray.command)
            else:
                self.strangers.append(stray)
        self.units = tuple(sorted(self._outside.units))
        self.unclaimed = self._outside.unclaimed

    def _evidence(self, proof: Proof, sharing: Mapping[str, int]) -> ServiceEvidence:
        """All of one service; `sharing` is how many services of the run each slice has."""
        run, now = proof.run, self._door.clock.monotonic()
        counters = self._observer.counters(run.cgroup) if run.cgroup else None
        effective = self._observer.effective(run.cgroup) if run.cgroup else None
        if counters and isinstance(counters.cpu_stat, Missing):
            counters, effective = proof.counted or run.counted or counters, proof.effective or effective
        return ServiceEvidence(
            service=run.service, engine=self._engine.name, refused=run.refused, unmet=run.unmet, absent=self._absent(run), cgroup=run.cgroup,
            limits=proof.limits, effective=effective,
            ready=run.readiness, stay=proof.stay, started=proof.started, go=proof.go, ended_early=run.ended_early,
            covered=proof.covered, silent=run.silent, killed=run.killed, outlasting=run.outlasting,
            stopping=run.stopping, left=run.left,
            counters=counters,
            slices=tuple(self._counted[unit] for unit in run.service.slices),
            sharing={self._slices[unit]: count for unit, count in sharing.items() if unit in self._slices},
            hold=proof.hold, state=run.state,
            watched=tuple(self._watch.seen(self._cgroup(proof, unit)) for unit, _ in proof.expected if run.cgroup),
            cpus=self._machine[0], page_size=self._machine[1],
            log=self._last_lines(run),
            duration_seconds=(run.ended_at or now) - run.released_at if run.released_at else 0.0,
        )  # fmt: skip

    def _last_lines(self, run: ServiceRun) -> tuple[str, ...]:
        """The end of its log; of a service that failed also what went past its output to syslog or the journal."""
        if not run.launch.output:
            return self._engine.log(run.invocation, _LOG_LINES)
        failed = run.ended_early or not run.is_ready
        sent = self._engine.log(run.invocation, _LOG_LINES // 2, run.pid) if failed and run.invocation else ()
        return (*self._tail(run.launch.output)[-_LOG_LINES:], *sent)[-_LOG_LINES:]

    def _said(self, run: ServiceRun) -> str:
        """The end of its output, more than a report has of it."""
        lines = self._tail(run.launch.output) if run.launch.output else self._engine.log(run.invocation, _SAID_LINES)
        return "\n".join(lines)

    def _tail(self, path: str) -> tuple[str, ...]:
        """The end of a file that a service wrote, without the incomplete first line of a long one."""
        status = self._door.files.status(path)
        begin = max(status.value.size - _LOG_BYTES, 0) if isinstance(status, Known) else 0
        text = value_or(self._door.files.tail(path, begin, _LOG_BYTES), b"").decode("utf-8", "replace")
        lines = text.splitlines()
        return tuple(lines[1 if begin else 0 :])

    def _absent(self, run: ServiceRun) -> str:
        """The program of a unit that systemd could not execute, where there is no such file."""
        ended, source = run.state.exit, run.service.source
        if ended is None or ended.status != NOT_EXECUTED or source is None:
            return ""
        return "" if value_or(self._door.files.exists(source.program), True) else source.program

    def _close(self, proof: Proof) -> None:
        self._session.close(proof.run)
        self._kill(proof.escaped)

    def _kill(self, handles: list[int]) -> None:
        for handle in handles:
            try:
                self._door.processes.signal(handle, signal.SIGKILL)
            except PermissionError:
                continue
            finally:
                self._door.processes.close(handle)
        handles.clear()


def _add_stray(proof: Proof, pid: int, cgroup: str, command: str) -> None:
    run = proof.run
    stay = proof.stay or Stay(
        main_cgroup=Known(value=run.cgroup, source=run.service.unit), strays=(), processes=0, allowed_cpus=""
    )
    kept = tuple(item for item in stay.strays if item[0] != pid)
    proof.stay = replace(stay, strays=(*kept, (pid, f"{cgroup} ({command})")))


def _within(path: str, cgroup: str) -> bool:
    return path == cgroup or path.startswith(f"{cgroup}/")
