"""Runs all services of a plan at the same time, each held before and after so that nothing is missed."""

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from cgroup_preflight.config.model import ReadyKind
from cgroup_preflight.core.reading import Known
from cgroup_preflight.core.records import replace
from cgroup_preflight.engines import command_lines
from cgroup_preflight.engines.hold import holder, let_go, wait_until
from cgroup_preflight.engines.ready import LogWatch, listens, try_http
from cgroup_preflight.engines.systemd import Manager
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.host.fs import LiveFs
from cgroup_preflight.plan.expect import Expectation, agrees
from cgroup_preflight.plan.model import ServicePlan
from cgroup_preflight.smoke.evidence import Ready, ServiceEvidence, Stay
from cgroup_preflight.smoke.go_view import GoView, look
from cgroup_preflight.smoke.limits import LimitReading, nowhere, read_limits

_HELD_SECONDS = 20.0
_POLL_MAX = 0.2
_LOG_LINES = 20
_LOG_BYTES = 64 << 10
_KILL_SECONDS = 10.0
#: A busy service gets this long to answer once more.
_AGAIN_SECONDS = 5.0
_ADDRESSED = (ReadyKind.HTTP, ReadyKind.TCP)
Say = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class Run:
    """One service while it runs; becomes a frozen `ServiceEvidence` at the end.

    `output` is the file that its output goes to, empty for the journal; `follower` prints the journal meanwhile.
    """

    service: ServicePlan
    expected: tuple[tuple[str, tuple[Expectation, ...]], ...]
    output: str = ""
    refused: str = ""
    cgroup: str = ""
    invocation: str = ""
    pidfd: int = -1
    pid: int = 0
    alive: bool = False
    blocked: bool = False
    limits: tuple[LimitReading, ...] = ()
    ready: Ready | None = None
    ready_at: float = 0.0
    watch: LogWatch | None = None
    follower: "subprocess.Popen[bytes] | None" = None
    stay: Stay | None = None
    go: GoView | None = None
    ended_early: bool = False
    silent: str = ""
    killed: bool = False
    escaped: list[int] = field(default_factory=list)
    released_at: float = 0.0
    ended_at: float = 0.0
    show: dict[str, str] = field(default_factory=dict)


class Services:
    """The services of one run, driven step by step by `run_all`."""

    def __init__(self, manager: Manager, observer: Observer, slice_cgroups: Mapping[str, str], say: Say) -> None:
        self._manager = manager
        self._observer = observer
        self._slices = slice_cgroups
        self._say = say

    def run_all(self, runs: tuple[Run, ...], launches: dict[str, command_lines.Launch]) -> tuple[ServiceEvidence, ...]:
        """Start, read, let go, wait until ready, hold, read again, stop, count. Raises HostError."""
        for run in runs:
            test = run.service.smoke.ready
            run.blocked = test.kind in _ADDRESSED and listens(test)
        started = [run for run in runs if not run.blocked]
        refused = self._manager.start(launches[run.service.unit] for run in started)
        for run in started:
            run.refused = refused.get(run.service.unit, "")
        held = [run for run in started if not run.refused]
        try:
            self._wait_held(held)
            self._let_go(held)
            self._say("waiting for readiness")
            self._wait_ready(held)
            self._say("running under limits")
            self._hold(held)
            self._ask_again(held)
            self._read_alive(held)
            self._say("stopping")
            self._stop(held)
            return tuple(self._evidence(run) for run in runs)
        finally:
            for run in runs:
                self._close(run)

    def _poll(self, runs: Iterable[Run], done: Callable[[Run], bool], seconds: float) -> None:
        """Asks the manager about units until each is `done`, at growing intervals; it has no file to wait on."""
        deadline, pause, todo = time.monotonic() + seconds, 0.01, list(runs)
        while todo:
            known = {run.service.unit: run.show for run in todo}
            # All of a unit is dear to ask: when its state is another, now and then, and at the end.
            now_and_then = pause == _POLL_MAX or time.monotonic() > deadline
            shown = self._manager.show(known) if now_and_then else self._manager.show_changed(known)
            for run in todo:
                run.show = shown.get(run.service.unit, {} if now_and_then else run.show)
            todo = [run for run in todo if not done(run)]
            if not todo or time.monotonic() > deadline:
                return
            time.sleep(pause)
            pause = min(pause * 2, _POLL_MAX)

    def _wait_held(self, runs: list[Run]) -> None:
        self._poll(runs, lambda run: run.show.get("ControlPID", "0") != "0" or _over(run), _HELD_SECONDS)
        for run in runs:
            run.cgroup = run.show.get("ControlGroup", "")
            run.invocation = run.show.get("InvocationID", "")
            run.limits = self._read_limits(run)
            if run.service.smoke.ready.kind is ReadyKind.LOG:
                run.watch = LogWatch(self._open_log(run), run.service.smoke.ready.target)

    def _open_log(self, run: Run) -> int:
        if run.output:
            return os.open(run.output, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        run.follower = self._manager.follow(run.invocation)
        assert run.follower.stdout is not None
        return run.follower.stdout.fileno()

    def _read_limits(self, run: Run) -> tuple[LimitReading, ...]:
        found: list[LimitReading] = []
        for unit, expected in run.expected:
            cgroup = run.cgroup if unit == run.service.unit else self._slices.get(unit, "")
            found.extend(read_limits(self._observer, unit, cgroup, expected) if cgroup else nowhere(unit, expected))
        return tuple(found)

    def _let_go(self, runs: list[Run]) -> None:
        if not runs:
            return
        for run in runs:
            gate = int(run.show.get("ControlPID", "0") or 0)
            if gate:
                # The manager names the process before it is in its cgroup, and before it is the `sleep` that it will be.
                wait_until(lambda run=run, gate=gate: self._holds(run, gate), _HELD_SECONDS)  # type: ignore[misc]
                let_go(self._manager, self._observer, run.service.unit, run.cgroup, gate)
            run.released_at = time.monotonic()
        longest = max(run.service.smoke.start_timeout for run in runs)
        self._poll(runs, lambda run: run.show.get("MainPID", "0") != "0" or _ended(run), longest)
        for run in runs:
            run.pid = int(run.show.get("MainPID", "0") or 0)
            self._open(run)

    def _open(self, run: Run) -> None:
        """Holds on to the main process itself: a number could be given to another one."""
        try:
            run.pidfd = os.pidfd_open(run.pid) if run.pid else -1
        except ProcessLookupError:
            run.pidfd = -1
        run.alive = run.pidfd >= 0
        if not run.alive:
            run.ended_at = time.monotonic()

    def _note_exit(self, run: Run) -> None:
        if run.alive and _readable(run.pidfd):
            run.alive = False
            run.ended_at = time.monotonic()

    def _wait_ready(self, runs: list[Run]) -> None:
        waiting = list(runs)
        while waiting:
            for run in waiting:
                self._note_exit(run)
                self._try_ready(run)
            waiting = [run for run in waiting if run.ready is None]
            if waiting:
                handles = [run.pidfd for run in waiting if run.alive]
                handles += [run.watch.handle for run in waiting if run.watch is not None and run.watch.open]
                select.select(handles, [], [], 0.05)

    def _try_ready(self, run: Run) -> None:
        test, now = run.service.smoke.ready, time.monotonic()
        seconds = now - run.released_at
        answer = self._answer(run)
        if answer == "":
            run.ready, run.ready_at = Ready(ok=True, seconds=seconds), now
        elif not run.alive:
            run.ready = Ready(ok=False, seconds=seconds, why="it ended first")
        elif seconds > run.service.smoke.start_timeout:
            run.ready = Ready(ok=False, seconds=seconds, why=f"{test.kind} {test.target}: {answer}".strip())

    def _answer(self, run: Run) -> str:
        """Empty when ready, else what is missing."""
        test = run.service.smoke.ready
        if test.kind is ReadyKind.EXIT:
            return "" if not run.alive else "still running"
        if test.kind is ReadyKind.LOG and run.watch is not None:
            run.watch.read()
            slow = "the pattern takes too long on its log" if run.watch.too_slow else "no line of the log matched"
            return "" if run.watch.found else slow
        if not run.alive:
            return "ended"
        if test.kind is ReadyKind.HTTP:
            return try_http(test.target)
        if test.kind is ReadyKind.TCP:
            return "" if listens(test) else "nobody listens"
        return ""

    def _hold(self, runs: list[Run]) -> None:
        """Waits out the durations; an exit wakes it at once."""

        def until(run: Run) -> float:
            held = run.ready is not None and run.ready.ok and run.service.smoke.ready.kind is not ReadyKind.EXIT
            return run.ready_at + run.service.smoke.duration if held else 0.0

        end = max((until(run) for run in runs), default=0.0)
        while (left := end - time.monotonic()) > 0:
            handles = [run.pidfd for run in runs if run.alive]
            if not handles:
                break
            select.select(handles, [], [], left)
            for run in runs:
                self._note_exit(run)
        for run in runs:
            self._note_exit(run)
            is_job = run.service.smoke.ready.kind is ReadyKind.EXIT
            run.ended_early = not run.alive and not is_job

    def _ask_again(self, runs: list[Run]) -> None:
        """Whether what answered when it was ready still does: a program may hang and live on."""
        asked = [run for run in runs if run.alive and run.ready is not None and run.ready.ok]
        asked = [run for run in asked if run.service.smoke.ready.kind in _ADDRESSED]
        for run in asked:
            run.silent = "not asked yet"
        # All get the same time, so that the held ones do not wait for each silent one in turn.
        wait_until(lambda: not [run for run in asked if not self._still_answers(run)], _AGAIN_SECONDS)

    def _still_answers(self, run: Run) -> bool:
        if run.silent:
            run.silent = self._answer(run)
        return not run.silent

    def _read_alive(self, runs: list[Run]) -> None:
        """Limits a second time, now that the program has run, and where its processes are."""
        for run in runs:
            if not run.alive:
                continue
            # What was not in force before the program's first instruction stays a fail, whatever it is by now.
            pairs = zip(run.limits, self._read_limits(run), strict=True)
            run.limits = tuple(late if _in_force(early) else early for early, late in pairs)
            inside = self._observer.processes(run.cgroup)
            strays = []
            for pid, reading in self._observer.descendants(run.pid).items():
                where = reading.value if isinstance(reading, Known) else ""
                # A child whose cgroup cannot be read has ended, or is where nobody vouches for it.
                if not _within(where, run.cgroup) and (where or self._observer.comm(pid)):
                    strays.append((pid, where or "an unknown cgroup"))
                    self._keep_hold_of(run, pid, where)
            run.stay = Stay(
                main_cgroup=self._observer.cgroup_of(run.pid), strays=tuple(strays), processes=len(inside),
                allowed_cpus=self._observer.allowed_cpus(run.pid),
            )  # fmt: skip
            run.go = look(LiveFs(), self._observer, run.pid, run.cgroup, run.service.smoke.ready)

    def _keep_hold_of(self, run: Run, pid: int, cgroup: str) -> None:
        """Holds on to a process that left the unit: systemd stops what is in the cgroup and would leave it running."""
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        run.escaped.append(handle)
        if not self._observer.is_in(pid, cgroup):
            os.close(run.escaped.pop())

    def _stop(self, runs: list[Run]) -> None:
        units = [run.service.unit for run in runs]
        if not units:
            return
        self._manager.stop_units(units)
        asked = time.monotonic()
        for run in sorted(runs, key=lambda run: run.service.smoke.stop_timeout):
            left = asked + run.service.smoke.stop_timeout - time.monotonic()
            if not wait_until(lambda run=run: self._is_held(run, runs), left):  # type: ignore[misc]
                run.killed = True
                self._manager.kill_units([run.service.unit])
        for run in runs:
            wait_until(lambda run=run: self._is_held(run, runs), _KILL_SECONDS)  # type: ignore[misc]
        for run in runs:
            run.show = {}  # the result may be another by now, and the state the same: a kill for memory is noticed late
        self._poll(runs, lambda run: run.show.get("SubState") == "stop-post" or _over(run), _KILL_SECONDS)
        self._find_left(runs)

    def _find_left(self, runs: list[Run]) -> None:
        """What a stopped service left outside its cgroup, its parents gone: the invocation id tells whose it is."""
        by_invocation = {run.invocation: run for run in runs}
        for pid, invocation in self._observer.invoked(by_invocation).items():
            run, reading = by_invocation[invocation], self._observer.cgroup_of(pid)
            if not isinstance(reading, Known) or _within(reading.value, run.cgroup):
                continue
            self._keep_hold_of(run, pid, reading.value)
            stay = run.stay or Stay(
                main_cgroup=Known(value=run.cgroup, source=run.service.unit), strays=(), processes=0, allowed_cpus=""
            )
            if all(pid != known for known, _ in stay.strays):
                run.stay = replace(stay, strays=(*stay.strays, (pid, reading.value)))

    def _holds(self, run: Run, gate: int) -> bool:
        """Whether this process holds the service, or is gone."""
        return holder(self._observer, run.cgroup) == gate or not self._observer.comm(gate)

    def _is_held(self, run: Run, runs: Iterable[Run]) -> bool:
        """Whether only the hold after the end is left of a service; notes the exits of all `runs` meanwhile."""
        for one in runs:
            self._note_exit(one)
        if not run.cgroup:
            return True
        return holder(self._observer, run.cgroup, other_than=run.pid) > 0 or not self._observer.exists(run.cgroup)

    def _evidence(self, run: Run) -> ServiceEvidence:
        now = time.monotonic()
        counters = self._observer.counters(run.cgroup) if run.cgroup else None
        slices = tuple(self._observer.counters(self._slices[unit]) for unit in run.service.slices)
        blocked = Ready(ok=False, seconds=0.0, why="something else answers at this address already", blocked=True)
        return ServiceEvidence(
            service=run.service, engine=self._manager.engine, refused=run.refused, cgroup=run.cgroup,
            limits=run.limits, effective=self._observer.effective(run.cgroup) if run.cgroup else None,
            ready=blocked if run.blocked else run.ready, stay=run.stay, go=run.go, ended_early=run.ended_early,
            silent=run.silent, killed=run.killed, counters=counters, slices=slices, show=run.show,
            log=_tail(run.output) if run.output else self._manager.journal(run.invocation, _LOG_LINES),
            duration_seconds=(run.ended_at or now) - run.released_at if run.released_at else 0.0,
        )  # fmt: skip

    def _close(self, run: Run) -> None:
        if run.pidfd >= 0:
            os.close(run.pidfd)
            run.pidfd = -1
        for handle in run.escaped:
            _kill(handle)
            os.close(handle)
        run.escaped.clear()
        if run.follower is not None:
            self._manager.end_follow(run.follower)
        elif run.watch is not None:
            os.close(run.watch.handle)
        run.watch = run.follower = None


def _kill(handle: int) -> None:
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _readable(handle: int) -> bool:
    return bool(select.select([handle], [], [], 0)[0])


def _over(run: Run) -> bool:
    # With a job a unit is inactive because it has not begun yet.
    return run.show.get("ActiveState") in ("failed", "inactive", None) and run.show.get("Job", "") in ("", "0")


def _ended(run: Run) -> bool:
    return run.show.get("SubState") in ("stop-post", "stop-sigterm", "stop-sigkill", "final-sigterm") or _over(run)


def _in_force(reading: LimitReading) -> bool:
    return isinstance(reading.actual, Known) and agrees(reading.expected, reading.actual.value)


def _tail(path: str) -> tuple[str, ...]:
    """The last lines of a file that a service wrote; a torn first line of a long one is left out."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _LOG_BYTES, 0))
            lines = file.read(_LOG_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return ()
    return tuple(lines[1 if size > _LOG_BYTES else 0 :][-_LOG_LINES:])


def _within(path: str, cgroup: str) -> bool:
    return path == cgroup or path.startswith(f"{cgroup}/")
