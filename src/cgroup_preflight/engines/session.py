"""Services from start to stop: starts them, waits until they are ready, stops them. Proves nothing."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from cgroup_preflight.config.model import WITH_PORT, ReadyKind
from cgroup_preflight.core.records import replace
from cgroup_preflight.core.unit_values import TELLING
from cgroup_preflight.engines.base import Engine, Phase, UnitState
from cgroup_preflight.engines.fair_time import FairTime
from cgroup_preflight.engines.hold import gate_process, open_gate, wait_until
from cgroup_preflight.engines.listeners import Listeners
from cgroup_preflight.engines.output import UNREAD_MAX
from cgroup_preflight.engines.ready import LocalNetwork, LogWatch, Readiness, matches
from cgroup_preflight.engines.service_run import ServiceRun
from cgroup_preflight.engines.stopping import KILL_SECONDS, PAUSE, Stopper
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.host.command import LiveRunner
from cgroup_preflight.host.door import Door
from cgroup_preflight.host.local import LocalClock, LocalFiles, LocalProcesses
from cgroup_preflight.host.manager_line import LocalManager

_GATE_SECONDS = 20.0
#: What each service adds to the time in which all of them must be at their gates.
_EACH_SECONDS = 1.0
#: So many services start, or stop, at the same time: their time-outs must not depend on how many others there are.
_AT_ONCE = 8
#: After these seconds the next one starts all the same: a service may wait for one that starts later.
_TURN_SECONDS = 2.0
_POLL_MAX = 0.2
#: The last look into the journal for a ready line, before the time is over.
_JOURNAL_LAST = 0.5
_JOURNAL_LINES = 1000
_READY_PAUSE = 0.05
#: How often the files that services write to are looked at, in seconds.
_OUTPUT_PAUSE = 0.1
_OUTPUT_SHARE = 20
#: The same after a look that gave something back: a service that writes a gigabyte a second is quicker than the disk is large.
_FLOOD_SHARE = 1
#: Children of a program that has ended get this long to end.
_CHILDREN_SECONDS = 1.0
#: systemd gets this long to say which process is the main one of a unit whose main process has ended.
_NEXT_SECONDS = 5.0
#: A busy service gets this long to answer once more.
_AGAIN_SECONDS = 5.0
_ADDRESSED = (*WITH_PORT, ReadyKind.UNIX)
#: Whoever is asked works for each answer, the service or systemd: after a failure it has this share of the time that it has
#: started for, and at most so many seconds, in peace. So the answer that counts comes later by the same share at most.
_PEACE_SHARE = 0.1
_PEACE_MAX = 2.0
#: Why a service is not ready that ended before it was.
ENDED_FIRST = "it ended before it was ready"


def local_door(environment: Mapping[str, str]) -> Door:
    """The machine that this program runs on; its programs get `environment` in addition to the usual variables."""
    return Door(
        files=LocalFiles(), processes=LocalProcesses(), programs=LiveRunner(environment), clock=LocalClock(),
        network=LocalNetwork(), manager=LocalManager(),
    )  # fmt: skip


class Session:
    """The services of one session, driven step by step in the order of the methods. Each may raise HostError."""

    def __init__(self, engine: Engine, observer: Observer, door: Door) -> None:
        self._engine = engine
        self._observer = observer
        self._door = door
        self._clock = door.clock
        self._listeners = Listeners(door.files, observer)
        self._output_due = 0.0

    def start(self, runs: Iterable[ServiceRun]) -> list[ServiceRun]:
        """Starts services at the same time; those that now run, or wait at their gate."""
        free = []
        for run in runs:
            test = run.service.smoke.ready
            if test.kind in _ADDRESSED and self._door.network.listens(test):
                holder = self._listeners.holder(test) or "another program"
                run.readiness = Readiness(ok=False, seconds=0.0, why=f"{holder} already answers", blocked=True)
            else:
                free.append(run)
        refused = self._engine.start(run.launch for run in free)
        for run in free:
            run.refused = refused.get(run.service.unit, "")
        return [run for run in free if not run.refused]

    def wait_for_gates(self, runs: Sequence[ServiceRun]) -> None:
        """Waits until each service has a cgroup and its program has not begun; opens the log of those that need it."""
        self._poll(runs, lambda run: run.state.has_begun, _GATE_SECONDS + _EACH_SECONDS * len(runs))
        for run in runs:
            run.cgroup = run.state.cgroup
            run.invocation = run.state.invocation
            if run.launch.own is not None and not run.cgroup:
                run.unmet = self._engine.unmet(run.service.unit)
            if run.service.smoke.ready.kind is ReadyKind.LOG:
                run.watch = LogWatch(self._door.files, run.launch.output, run.service.smoke.ready.target)

    def bring_up(self, runs: Sequence[ServiceRun]) -> None:
        """Starts the programs, a few at a time; returns when each is ready, has ended, or its start_timeout is over.

        The clock of a service starts when its own gate opens, and runs slower while others take its CPU time.
        """
        todo, waiting = list(runs), list[ServiceRun]()
        fair = FairTime(self._door.files, self._clock)
        while todo or waiting:
            room = self._room(run.released_at for run in waiting)
            if todo and room:
                self._open_gates(todo[:room])
                _count_time(waiting, fair)
                waiting += todo[:room]
                todo = todo[room:]
            self._note_exits(waiting)
            _count_time(waiting, fair)
            for run in waiting:
                # To ask about one service can take a process: whoever samples while this clock sleeps does it in between.
                self._clock.sleep(0)
                self._try_ready(run)
            self._bound_output(runs)
            waiting = [run for run in waiting if run.readiness is None]
            if waiting and not (todo and self._room(run.released_at for run in waiting)):
                handles = [run.handle for run in waiting if run.alive]
                has_more = any(run.watch is not None and run.watch.has_more for run in waiting)
                self._door.processes.wait(handles, 0.0 if has_more else _READY_PAUSE)

    def _room(self, begun: Iterable[float]) -> int:
        """How many more services may start or stop now; `begun` is when the others did."""
        now = self._clock.monotonic()
        return max(_AT_ONCE - sum(now - moment < _TURN_SECONDS for moment in begun), 0)

    def _open_gates(self, runs: Sequence[ServiceRun]) -> None:
        """Starts programs, and takes a handle of each main process."""
        bare = [run for run in runs if run.state.phase is Phase.AT_GATE and not run.state.gate_pid]
        if bare:
            self._engine.open_gates([run.service.unit for run in bare])
        for run in runs:
            gate = run.state.gate_pid
            if run.state.phase is Phase.AT_GATE and gate:
                # systemd names the process before it is in its cgroup, and before it has become the `sleep`.
                wait_until(self._clock, lambda run=run, gate=gate: self._is_gate(run, gate), _GATE_SECONDS)  # type: ignore[misc]
                open_gate(self._engine, self._door.processes, self._observer, run.service.unit, run.cgroup, gate)
            run.released_at = self._clock.monotonic()
        longest = max((run.service.smoke.start_timeout for run in runs), default=0.0)
        self._poll(runs, lambda run: run.state.main_pid != 0 or run.state.has_ended or run.state.is_active, longest)
        for run in runs:
            run.pid = self._main(run)
            handle = self._door.processes.open(run.pid) if run.pid else None
            run.handle = -1 if handle is None else handle
            # With PrivatePIDs= systemd starts one process that makes the main one, and ends.
            run.alive = handle is not None or (run.pid != 0 and self._has_other_main(run))
            if not run.alive:
                run.ended_at = self._clock.monotonic()

    def run_for_duration(self, runs: Sequence[ServiceRun]) -> None:
        """Waits until each ready service has run for its duration; not for those that end earlier."""
        lasting = [run for run in runs if run.is_ready and not run.is_job]
        end = max((run.ready_at + run.service.smoke.duration for run in lasting), default=0.0)
        while (left := end - self._clock.monotonic()) > 0:
            handles = [run.handle for run in runs if run.alive]
            if not handles:
                break
            writes = any(run.output for run in runs)
            self._door.processes.wait(handles, min(left, _OUTPUT_PAUSE) if writes else left)
            self._bound_output(runs)
            self._note_exits(runs)
        for run in runs:
            self.still_runs(run)

    def still_runs(self, run: ServiceRun) -> bool:
        """Whether its main process runs now; one that ends before it is stopped, and is no job, has ended early."""
        self._note_exits([run])
        run.ended_early = not run.alive and not run.is_job
        return run.alive

    def count_left(self, runs: Iterable[ServiceRun]) -> None:
        """Counts what still runs of services whose main process has ended with success; its children may end, too."""
        # One that ended before a handle of it could be opened counts, too.
        over = [run for run in runs if not run.alive and run.cgroup]
        self._poll(over, lambda run: run.state.has_ended, _GATE_SECONDS)
        ended = [run for run in over if run.state.phase is Phase.ENDED]

        def none_left() -> bool:
            for run in ended:
                run.left = len(self._observer.processes(run.cgroup) - {run.state.gate_pid})
            return not any(run.left for run in ended)

        wait_until(self._clock, none_left, _CHILDREN_SECONDS)

    def check_again(self, runs: Sequence[ServiceRun]) -> None:
        """Asks once more whoever answered when it became ready: a program can hang and stay alive."""
        asked = [run for run in runs if run.alive and run.is_ready and run.service.smoke.ready.kind in _ADDRESSED]
        for run in asked:
            run.silent = "not asked yet"
        silent = [run for run in asked if not self._still_answers(run)]
        # All get the same time, after the first look at all of them: no service waits for the silent ones before it.
        wait_until(
            self._clock, lambda: not [run for run in silent if not self._still_answers(run)], _AGAIN_SECONDS,
            pause_max=_PEACE_MAX,
        )  # fmt: skip
        for run in asked:
            if run.readiness is not None and run.doubt and not run.silent:
                run.readiness = replace(run.readiness, doubt=run.doubt)

    def stop(self, runs: Sequence[ServiceRun]) -> None:
        """Stops services, a few at a time; kills those that outlast their stop_timeout.

        Their states are the last ones then.
        """
        for _ in self.stopping(runs):
            self._clock.sleep(PAUSE)

    def stopping(self, runs: Sequence[ServiceRun], others: Callable[[], int] = lambda: 0) -> Iterator[None]:
        """As `stop`; each `yield` gives others their turn, who wait meanwhile. `others`: see `Stopper`."""
        for run in runs:
            self._freeze(run, frozen=False)
        stopper = Stopper(self._engine, self._observer, self._door, self._room, self._note_exits, others)
        yield from stopper.stop(runs)
        for run in runs:
            # The result can change while the phase does not, because systemd learns of an OOM kill late.
            run.state = UnitState()
        self._poll(runs, lambda run: run.state.is_at_end, KILL_SECONDS)

    def close(self, run: ServiceRun) -> None:
        """Gives back what the session holds of a service."""
        if run.handle >= 0:
            self._door.processes.close(run.handle)
            run.handle = -1
        run.watch = None

    def _poll(self, runs: Iterable[ServiceRun], done: Callable[[ServiceRun], bool], seconds: float) -> None:
        """Asks the engine about units until each is `done`, at growing intervals: it has no file to wait on."""
        deadline, pause, todo = self._clock.monotonic() + seconds, 0.01, list(runs)
        while todo:
            known = {run.service.unit: run.state for run in todo}
            # The whole state of a unit takes long to ask: so when it has changed, at the longest pause, and at the end.
            asked = self._clock.monotonic()
            whole = pause == _POLL_MAX or asked > deadline
            states = self._engine.states(known) if whole else self._engine.changed(known)
            for run in todo:
                run.state = states.get(run.service.unit, UnitState() if whole else run.state)
            todo = [run for run in todo if not done(run)]
            # What was asked before the deadline can be old by the time of the answer.
            if not todo or asked > deadline:
                return
            # With many units an answer takes long: asking never takes more than a third of the time.
            self._clock.sleep(max(pause, 2 * (self._clock.monotonic() - asked)))
            pause = min(pause * 2, _POLL_MAX)

    def _bound_output(self, runs: Sequence[ServiceRun]) -> None:
        """Keeps the files of output small; one whose ready line is still searched for waits while much is unread."""
        now = self._clock.monotonic()
        if now < self._output_due:
            return
        outputs = [run.launch.output for run in runs if run.output is not None]
        freed = sum(run.output.freed for run in runs if run.output is not None)
        self._door.files.prefetch((), statuses=outputs)
        for run in runs:
            if run.output is not None:
                watch = run.watch if run.readiness is None else None
                read = watch.offset if watch is not None and not watch.found else None
                unread = run.output.free(self._door.files, read)
                self._freeze(run, frozen=unread > UNREAD_MAX)
        self._door.files.forget()
        is_quiet = freed == sum(run.output.freed for run in runs if run.output is not None)
        # Of another machine a look takes long.
        self._output_due = now + (_OUTPUT_SHARE if is_quiet else _FLOOD_SHARE) * (self._clock.monotonic() - now)

    def _freeze(self, run: ServiceRun, *, frozen: bool) -> None:
        if run.frozen is not frozen and run.cgroup:
            run.frozen = frozen
            self._engine.write_attribute(self._observer.path(run.cgroup, "cgroup.freeze"), "1" if frozen else "0")

    def _note_exits(self, runs: Iterable[ServiceRun]) -> None:
        alive = {run.handle: run for run in runs if run.alive}
        for handle in self._door.processes.wait(list(alive), 0) if alive else ():
            run = alive[handle]
            run.alive = self._has_other_main(run)
            if not run.alive:
                run.ended_at = self._clock.monotonic()

    def _main(self, run: ServiceRun) -> int:
        """Its main process, 0 for none. Of a service that forked, systemd may not know which of its processes that is."""
        first = min(self._observer.processes(run.cgroup), default=0) if run.state.is_active else 0
        return run.state.main_pid or first

    def _has_other_main(self, run: ServiceRun) -> bool:
        """Whether another process is the main one now.

        It is another command of ExecStart=, as Type=oneshot has several, or the one that the service named before its own
        ended (MAINPID= of sd_notify(3), PIDFile= of systemd.service(5)).
        """
        if run.launch.own is None and run.launch.type not in TELLING:
            return False
        self._poll([run], lambda run: self._main(run) not in (0, run.pid) or run.state.has_ended, _NEXT_SECONDS)
        pid = 0 if run.state.has_ended else self._main(run)
        handle = self._door.processes.open(pid) if pid else None
        if handle is None:
            return False
        if run.handle >= 0:
            self._door.processes.close(run.handle)
        run.handle, run.pid = handle, pid
        return True

    def _try_ready(self, run: ServiceRun) -> None:
        seconds = self._clock.monotonic() - run.released_at
        is_late = run.waited > run.service.smoke.start_timeout
        if run.alive and not is_late and seconds < run.ask_after:
            return
        answer = self._answer(run)
        now = self._clock.monotonic()
        run.ask_after = _next_ask(run, now - run.released_at)
        if answer == "":
            run.ready_stat = self._observer.cpu_stat(run.cgroup)
            run.readiness, run.ready_at = Readiness(ok=True, seconds=seconds, doubt=run.doubt), now
        elif not run.alive:
            run.readiness = Readiness(ok=False, seconds=seconds, why=ENDED_FIRST)
        elif is_late:
            run.readiness = Readiness(ok=False, seconds=seconds, why=f"{answer}{self._elsewhere(run)}")

    def _answer(self, run: ServiceRun) -> str:
        """Empty when ready, else what is missing."""
        test = run.service.smoke.ready
        if test.kind is ReadyKind.EXIT:
            return "" if not run.alive else "it is still running"
        if test.kind is ReadyKind.LOG and run.watch is not None:
            return self._log_answer(run, run.watch)
        if not run.alive:
            return "it ended"
        if test.kind is ReadyKind.NOTIFY:
            state = self._engine.states([run.service.unit]).get(run.service.unit, UnitState())
            return "" if state.is_active else f"it has not told systemd that it is ready ({state.word})"
        if test.kind in (ReadyKind.HTTP, ReadyKind.GRPC) and (failure := self._door.network.ask(test)):
            return f"{failure} at {test.target}"
        if test.kind in (ReadyKind.TCP, ReadyKind.UNIX) and not self._door.network.listens(test):
            # A program that accepts no connection answers only until its queue is full.
            return run.intruder or f"no program listens at {test.target}"
        if test.kind is ReadyKind.STARTED and self._observer.is_manager(run.pid):
            return "systemd has not executed its program yet"
        return self._other_program(run) if test.kind in _ADDRESSED else ""

    def _other_program(self, run: ServiceRun) -> str:
        """Empty where the service itself listens at its address, or where that cannot be told."""
        found = self._listeners.answerer(run.service.smoke.ready, run.cgroup)
        run.doubt = found.doubt
        if found.other:
            run.intruder = f"another program listens at {run.service.smoke.ready.target}: {found.other}"
        return run.intruder if found.other else ""

    def _elsewhere(self, run: ServiceRun) -> str:
        """Where a service listens that is not ready at its address."""
        if run.service.smoke.ready.kind not in _ADDRESSED or not run.cgroup:
            return ""
        found = self._listeners.addresses(run.cgroup)
        return f"; the service listens at {', '.join(found[:3])}" if found else "; the service listens at no address"

    def _log_answer(self, run: ServiceRun, output: LogWatch) -> str:
        test = run.service.smoke.ready
        output.read()
        if output.found or self._is_in_journal(run):
            return ""
        if output.too_slow:
            return f"matching {test.target!r} against its log takes too long"
        return f"no line of its log matches {test.target!r}"

    def _is_in_journal(self, run: ServiceRun) -> bool:
        """Whether the line went to the journal or to syslog instead of the output, which goes to a file.

        Asked seldom, because each time is a program.
        """
        waited, last = self._clock.monotonic() - run.released_at, run.service.smoke.start_timeout - _JOURNAL_LAST
        if run.journal_after == math.inf or waited < min(run.journal_after, last):
            return False
        run.journal_after = waited * 1.5 if waited < last else math.inf
        return matches(run.service.smoke.ready.target, self._engine.log(run.invocation, _JOURNAL_LINES))

    def _still_answers(self, run: ServiceRun) -> bool:
        if run.silent:
            run.silent = self._answer(run)
        return not run.silent

    def _is_gate(self, run: ServiceRun, gate: int) -> bool:
        """Whether this process is the gate of the service, or has ended."""
        return gate_process(self._observer, run.cgroup) == gate or not self._observer.comm(gate)


def _next_ask(run: ServiceRun, seconds: float) -> float:
    """When to ask again, in seconds after the start; a log is read without asking anybody."""
    asks = run.service.smoke.ready.kind in (*_ADDRESSED, ReadyKind.NOTIFY)
    return seconds + min(seconds * _PEACE_SHARE, _PEACE_MAX) if asks else 0.0


def _count_time(waiting: Sequence[ServiceRun], fair: FairTime) -> None:
    """Charges the time since the last call to the services that are not ready yet."""
    seconds = fair.passed(len(waiting))
    for run in waiting:
        run.waited += seconds
