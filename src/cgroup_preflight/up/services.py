"""The services of one `up`: starts them, sees them end, starts them again, and stops them."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from cgroup_preflight.core.reading import value_or
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass, replace
from cgroup_preflight.engines.base import Engine, Launch, Phase, UnitState
from cgroup_preflight.engines.hold import wait_until
from cgroup_preflight.engines.service_run import ServiceRun
from cgroup_preflight.engines.session import Session
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.host.delegating import DelegatingClock
from cgroup_preflight.host.door import Clock, Door
from cgroup_preflight.up.death import cause_of, is_failure
from cgroup_preflight.up.oom import counts_above, reached
from cgroup_preflight.up.pauses import Pauses
from cgroup_preflight.up.table import Row, rates

if TYPE_CHECKING:
    from cgroup_preflight.plan.model import ServicePlan

_END_SECONDS = 30.0
Say = Callable[[str, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One service and how it is started."""

    service: "ServicePlan"
    launch: Launch


class PumpingClock(DelegatingClock):
    """The time of another clock; `pump` is called whenever somebody waits, and waits are short."""

    _STEP = 0.1

    def __init__(self, clock: Clock, pump: Callable[[], None]) -> None:
        super().__init__(clock)
        self._pump = pump

    def sleep(self, seconds: float) -> None:
        """Waits, and pumps before and while it waits."""
        end = self.monotonic() + seconds
        while True:
            self._pump()
            left = end - self.monotonic()
            if left <= 0:
                return
            self._clock.sleep(min(left, self._STEP))


class _One:
    """One service so far: its current run, and when it starts again (infinity: never by itself)."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.run: ServiceRun | None = None
        self.pauses = Pauses()
        self.again_at = float("inf")
        self.failed = False
        self.told = False
        #: Whether its end was shown, and its unit still has to be closed.
        self.over = False
        self.stat: Mapping[str, int] = {}
        self.ooms: Mapping[str, int] = {}
        self.stat_at = 0.0


class UpServices:
    """All services of one `up`. Methods may raise HostError.

    `say` gets a text and the name of a service, `pump` is called often. `restart`: one that failed starts again.
    """

    def __init__(
        self,
        engine: Engine,
        door: Door,
        mount: str,
        items: Sequence[Item],
        say: Say,
        pump: Callable[[], None],
        *,
        restart: bool,
    ) -> None:
        self._engine, self._say, self._pump, self._restart = engine, say, pump, restart
        self._all = {item.service.label: _One(item) for item in items}
        #: Whether services are being stopped, whose ends are no news.
        self._stopping = False
        self._clock = PumpingClock(door.clock, self._meanwhile)
        self._observer = Observer(door.files, mount)
        self._session = Session(engine, self._observer, replace(door, clock=self._clock))

    @property
    def running(self) -> bool:
        """Whether a service runs, or will be started again."""
        return any(one.run is not None or one.again_at < float("inf") for one in self._all.values())

    @property
    def failed(self) -> tuple[str, ...]:
        """The services whose last end was a failure."""
        return tuple(name for name, one in self._all.items() if one.failed)

    def start(self, names: Iterable[str]) -> None:
        """Starts services; returns when each is ready, has ended, or its start_timeout is over."""
        todo = [self._all[name] for name in names]
        runs = []
        for one in todo:
            one.run, one.again_at = ServiceRun(one.item.service, one.item.launch), float("inf")
            one.told = one.failed = one.over = False
            # The whole log stays: it is a file of the user's.
            one.run.output = None
            one.stat, one.stat_at = {}, self._clock.monotonic()
            runs.append(one.run)
        started = self._session.start(runs)
        for one in todo:
            if one.run is not None and one.run not in started:
                why = one.run.refused or (one.run.readiness.why if one.run.readiness else "")
                self._say(f"was not started: {why}", one.item.service.label)
                one.run, one.failed = None, True
        self._session.wait_for_gates(started)
        for one in todo:
            one.ooms = counts_above(self._observer, one.run.cgroup) if one.run is not None else {}
        self._session.bring_up(started)
        self._note_ready()

    def look(self) -> None:
        """Notices services that ended, and starts those whose pause is over."""
        self._note_ends()
        for one in self._all.values():
            if one.run is not None and one.over:
                self._session.stop([one.run])
                self._close(one.run)
                one.run = None
        now = self._clock.monotonic()
        due = [name for name, one in self._all.items() if one.again_at <= now]
        if due:
            self.start(due)

    def restart(self, names: Iterable[str]) -> None:
        """Stops services that run, and starts them."""
        names = tuple(names)
        self.stop(names)
        self.start(names)

    def stop(self, names: Iterable[str]) -> None:
        """Stops services, a few at a time; those that outlast their stop_timeout are killed."""
        some = [one for name in names if (one := self._all[name]).run is not None]
        runs = [one.run for one in some if one.run is not None]
        self._stopping = True
        try:
            if runs:
                self._session.stop(runs)
            for one in some:
                if one.run is not None and not one.over:
                    how = "killed, because it outlasted its stop_timeout" if one.run.killed else "stopped"
                    self._say(how, one.item.service.label)
                if one.run is not None:
                    self._close(one.run)
                    one.run = None
        finally:
            self._stopping = False

    def stop_all(self) -> None:
        """Stops every service."""
        for one in self._all.values():
            one.again_at = float("inf")
        self.stop(tuple(self._all))

    def wait(self, seconds: float) -> None:
        """Waits, while the stream goes on."""
        self._clock.sleep(seconds)

    def cgroups(self) -> dict[str, str]:
        """The cgroup of each service that runs."""
        runs = {name: one.run for name, one in self._all.items() if one.run is not None and not one.over}
        return {name: run.cgroup for name, run in runs.items() if run.cgroup}

    def rows(self) -> tuple[Row, ...]:
        """The table now; rates are those since the last call."""
        return tuple(self._row(name, one) for name, one in self._all.items())

    def _meanwhile(self) -> None:
        """What happens while somebody waits: also one service that starts for long hides no end of another."""
        self._note_ready()
        if not self._stopping:
            self._note_ends()

    def _note_ends(self) -> None:
        """Shows the ends of services; what closing a unit takes is for `look`, because another service may start now."""
        for name, one in self._all.items():
            run = one.run
            # Of one that starts, whoever starts it sees the end.
            if run is not None and run.readiness is not None and not one.over and not self._session.still_runs(run):
                # Not `phases`: only the whole state tells the gate after a good end from a service that is being stopped.
                state = self._state(run.service.unit)
                if state.phase in _HELD or self._clock.monotonic() > run.ended_at + _END_SECONDS:
                    self._ended(name, one, run, state)

    def _note_ready(self) -> None:
        for name, one in self._all.items():
            ready = one.run.readiness if one.run is not None else None
            if ready is not None and not one.told and one.run is not None and not ready.blocked:
                one.told = True
                self._say(f"ready after {ready.seconds:.1f} s" if ready.ok else f"not ready: {ready.why}", name)
        self._pump()

    def _ended(self, name: str, one: _One, run: ServiceRun, state: UnitState) -> None:
        # The gate after a good end is opened by what the session knows of the unit.
        run.state, one.over = state, True
        exists = bool(run.cgroup) and self._observer.exists(run.cgroup)
        counters = self._observer.counters(run.cgroup) if exists else None
        limit = reached(self._observer, run.cgroup, one.ooms) if exists else None
        one.failed = is_failure(state)
        text = cause_of(state, counters, limit)
        if self._restart and one.failed:
            pause = one.pauses.after(run.ended_at - run.released_at)
            one.again_at = self._clock.monotonic() + pause
            text += f"; starts again in {pause:g} s"
        self._say(text, name)

    def _state(self, unit: str) -> UnitState:
        return self._engine.states([unit]).get(unit, UnitState())

    def _close(self, run: ServiceRun) -> None:
        """Lets the engine forget the unit, so that the next one can have its name."""
        unit = run.service.unit
        self._session.close(run)
        self._engine.open_gates([unit])
        wait_until(self._clock, lambda: self._engine.phases([unit]).get(unit, Phase.OVER) is Phase.OVER, _END_SECONDS)
        self._engine.forget([unit])

    def _row(self, name: str, one: _One) -> Row:
        run = one.run
        if run is None or one.over or not run.cgroup:
            waits = one.again_at < float("inf")
            return Row(name=name, state="waits to start" if waits else "failed" if one.failed else "ended")
        now, stat = self._clock.monotonic(), self._observer.cpu_stat(run.cgroup)
        cpus, throttled = rates(one.stat, stat, now - one.stat_at)
        one.stat, one.stat_at = stat, now
        effective, counters = self._observer.effective(run.cgroup), self._observer.counters(run.cgroup)
        return Row(
            name=name, state="runs", cpus=cpus, quota=effective.cpus, throttled=throttled,
            memory=value_or(counters.memory_current, None), limit=effective.memory_bytes,
            ready="yes" if run.is_ready else "no",
        )  # fmt: skip


#: Phases in which the program has ended and its cgroup still exists.
_HELD = (Phase.ENDED, Phase.AFTER_END, Phase.OVER)
