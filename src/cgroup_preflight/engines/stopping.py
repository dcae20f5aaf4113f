"""Stops services, a few at a time. The time of each begins when its program got SIGTERM, which can be much later than
when the manager was asked: on a busy machine it starts ExecStop first, and has others to stop.
"""

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence

from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.engines.base import Engine, Phase, UnitState
from cgroup_preflight.engines.fair_time import FairTime
from cgroup_preflight.engines.hold import gate_process, open_gate
from cgroup_preflight.engines.service_run import ServiceRun

if TYPE_CHECKING:
    from cgroup_preflight.host.cgroup import Observer
    from cgroup_preflight.host.door import Door

#: A service that was killed gets this long to end.
KILL_SECONDS = 10.0
#: How often a stop is looked at; seconds.
PAUSE = 0.02
#: The manager is asked whether a program got its signal: each question can cost a process, so less and less often.
_LOOK_FIRST, _LOOK_MAX = 0.1, 2.0
#: After so long a stop counts as begun, should the manager never get there.
_SIGNAL_SECONDS = 120.0
#: Phases of a unit whose program got its signal, or needs none.
_SIGNALLED = (Phase.ENDED, Phase.STOPPING, Phase.AFTER_END, Phase.OVER)
#: Phases of one that runs ExecStop=; a short answer does not tell which of them it is.
_AT_STOP = (Phase.ENDED, Phase.BEFORE_SIGNAL)
#: Of the processes that outlast a stop, so many are named.
_SHOWN = 3
#: systemd.kill(5): SIGTERM goes to the main process alone. Once that has ended, systemd kills the others, or leaves them.
_MIXED, _PROCESS = "mixed", "process"


class Stop:
    """The stop of one service: seconds of its own time since its signal, and when to ask for the signal next."""

    def __init__(self, run: ServiceRun, now: float) -> None:
        self.run, self.asked = run, now
        #: When its signal was noticed, None before; then its own time begins.
        self.signalled: float | None = None
        self.seconds = 0.0
        self.pause = _LOOK_FIRST
        self.look_at = now + self.pause


class Stopper:
    """Stops the services of one session; `room` says how many more may stop, by when the others were asked to.

    `others` says how many processes of this tool want a CPU meanwhile.
    """

    def __init__(
        self, engine: Engine, observer: "Observer", door: "Door", room: Callable[[Iterable[float]], int],
        note_exits: Callable[[Sequence[ServiceRun]], None], others: Callable[[], int] = lambda: 0,
    ) -> None:  # fmt: skip
        self._engine, self._observer, self._door, self._clock = engine, observer, door, door.clock
        self._room, self._note_exits, self._others = room, note_exits, others

    def stop(self, runs: Sequence[ServiceRun]) -> Iterator[None]:
        """Ends when each has ended, or was killed and outlasted that, too; each `yield` gives others their turn."""
        todo, stopping = list(runs), list[Stop]()
        fair = FairTime(self._door.files, self._clock)
        while todo or stopping:
            looked = self._clock.monotonic()
            batch = todo[: self._room(stop.asked for stop in stopping)]
            if batch:
                self._ask(batch)
                stopping += [Stop(run, self._clock.monotonic()) for run in batch]
                todo = todo[len(batch) :]
            self._note_exits(runs)
            self._observer.prefetch_members(stop.run.cgroup for stop in stopping)
            self._find_end_gates(stop.run for stop in stopping)
            seconds = fair.passed(len(stopping) + self._others())
            self._note_signals(stopping)
            for stop in stopping:
                self._end_others(stop.run)
            for stop in stopping:
                stop.run.stopped = not self._is_stopping(stop, seconds)
            stopping = [stop for stop in stopping if not stop.run.stopped]
            self._observer.forget()
            if stopping and not (todo and self._room(stop.asked for stop in stopping)):
                # On an emulated CPU a look takes long, and the services need that CPU to end.
                now = self._clock.monotonic()
                due = now + max(PAUSE, 2 * (now - looked))
                while self._clock.monotonic() < due:
                    yield

    def _ask(self, runs: Sequence[ServiceRun]) -> None:
        self._engine.stop([run.service.unit for run in runs])
        for run in runs:
            gate = run.state.gate_pid
            if run.state.phase is Phase.ENDED and gate:
                open_gate(self._engine, self._door.processes, self._observer, run.service.unit, run.cgroup, gate)

    def _note_signals(self, stopping: Iterable[Stop]) -> None:
        """Asks the manager about those that may have had no signal yet."""
        now = self._clock.monotonic()
        due = {stop.run.service.unit: stop for stop in stopping if stop.signalled is None and now >= stop.look_at}
        phases = self._engine.phases(due) if due else {}
        for unit, stop in due.items():
            phase = phases.get(unit, Phase.OVER)
            after = self._clock.monotonic()
            if phase in _AT_STOP and stop.run.alive and not stop.run.state.main_pid:
                self._open_stop(stop.run)
            elif phase in _SIGNALLED or now - stop.asked > _SIGNAL_SECONDS:
                stop.signalled = after
            stop.pause = min(stop.pause * 2, _LOOK_MAX)
            stop.look_at = after + stop.pause

    def _open_stop(self, run: ServiceRun) -> None:
        """Lets a stop go on: without a main process that it knows, systemd starts the gate for one that ended by itself."""
        state = self._engine.states([run.service.unit]).get(run.service.unit, UnitState())
        if state.phase is Phase.ENDED and state.gate_pid:
            open_gate(self._engine, self._door.processes, self._observer, run.service.unit, run.cgroup, state.gate_pid)

    def _is_stopping(self, stop: Stop, seconds: float) -> bool:
        """Whether a service has not ended yet; kills it when its time is over."""
        run = stop.run
        if self._is_at_end(run):
            return False
        if stop.signalled is None:
            return True
        # An answer can be late by more than a service may take: what passed before the signal is not its own time.
        stop.seconds += min(seconds, self._clock.monotonic() - stop.signalled)
        late = stop.seconds - run.service.smoke.stop_timeout
        if late > 0 and not run.killed and (pids := self._still_running(run)):
            run.killed, run.outlasting = True, tuple(self._observer.command(pid) for pid in sorted(pids)[:_SHOWN])
            # Some kernels kill whatever is started in the cgroup after that, so that nothing keeps it to be read later.
            run.counted = self._observer.counters(run.cgroup)
            self._engine.kill([run.service.unit])
        return late <= KILL_SECONDS

    def _end_others(self, run: ServiceRun) -> None:
        """Ends what outlives a main process that systemd ends alone.

        They would wait for the gate after its end. Without it systemd kills them at once, or lets them run on for good.
        """
        mode = run.launch.own.kill_mode if run.launch.own is not None else ""
        if mode not in (_MIXED, _PROCESS) or run.alive or run.end_gate > 0:
            return
        inside = self._observer.processes(run.cgroup)
        state = self._engine.states([run.service.unit]).get(run.service.unit, UnitState()) if len(inside) > 1 else None
        # Until the gate begins, ExecStopPost= of the unit may need them.
        if state is None or state.gate_pid not in inside or self._observer.comm(state.gate_pid) != "sleep":
            return
        others = sorted(inside - {state.gate_pid})
        if mode == _PROCESS and not run.outlasting:
            run.outlasting = tuple(self._observer.command(pid) for pid in others[:_SHOWN])
        for pid in others:
            self._kill(run, pid)

    def _kill(self, run: ServiceRun, pid: int) -> None:
        handle = self._door.processes.open(pid)
        if handle is None:
            return
        try:
            # The number could belong to another process meanwhile; the handle cannot.
            if self._observer.is_within(pid, run.cgroup):
                self._door.processes.signal(handle, signal.SIGKILL)
        except PermissionError:
            run.counted = self._observer.counters(run.cgroup)
            self._engine.kill([run.service.unit])
        finally:
            self._door.processes.close(handle)

    def _is_at_end(self, run: ServiceRun) -> bool:
        """Whether only the gate after the end is left of a service, or its cgroup alone."""
        if not run.cgroup or run.end_gate > 0 or not self._observer.exists(run.cgroup):
            return True
        return self._engine.keeps_cgroups and not self._observer.processes(run.cgroup)

    def _still_running(self, run: ServiceRun) -> frozenset[int]:
        """The processes of a service that have not ended; on a busy machine only the gate after its end may be late.

        systemd starts that gate as soon as the main process has ended, also while its children still run.
        """
        state = self._engine.states([run.service.unit]).get(run.service.unit, UnitState())
        run.stopping = state.mark
        return self._observer.processes(run.cgroup) - {state.gate_pid} if state.phase is not Phase.OVER else frozenset()

    def _find_end_gates(self, runs: Iterable[ServiceRun]) -> None:
        """Asks the engine about each process that looks like a gate, once: a program can call a child `sleep`, too."""
        found = {
            run.service.unit: (run, pid)
            for run in runs
            if run.cgroup and not run.end_gate
            and (pid := gate_process(self._observer, run.cgroup, other_than=run.pid)) not in {0, *run.no_gates}
        }  # fmt: skip
        states = self._engine.states(found) if found else {}
        for unit, (run, pid) in found.items():
            state = states.get(unit, UnitState())
            if state.phase is Phase.OVER or (state.phase is Phase.AFTER_END and state.gate_pid == pid):
                run.end_gate = pid
            else:
                run.no_gates.add(pid)
