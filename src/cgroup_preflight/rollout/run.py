"""Runs a rollout from the state that its journal has to an end: wholly new, or wholly old.

Each act is announced in the journal before, and can be done again after a crash. The timer of the manager runs from before
the first change until after the last one; what watches renews it.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress

from cgroup_preflight.config.model import Rollout
from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.rollout.apply import POLL, VERIFY_SECONDS, Hands, Mismatch, Where, looks, restored
from cgroup_preflight.rollout.base import Clock, Watcher
from cgroup_preflight.rollout.journal import Journal, JournalError
from cgroup_preflight.rollout.judge import Judgement, Verdict, Window, judge
from cgroup_preflight.rollout.limits import Limits
from cgroup_preflight.rollout.machine import ENDS, Act, Phase, State, next_act, paused_at
from cgroup_preflight.rollout.memory import is_ready
from cgroup_preflight.rollout.outcome import sample_line
from cgroup_preflight.rollout.owners import is_another_boot, is_lasting, ours, strange, theirs
from cgroup_preflight.rollout.stages import Stage

#: How often OOM kills are looked for.
_KILL_POLL = 0.1
#: How often a restoration is tried before the rollout is stuck, and seconds after a try without an answer.
_RESTORES, _RESTORE_PAUSE = 3, 5.0


class Runner:
    """One rollout; `say` gets a line about each thing that happens, `hook` runs a command and returns why it failed.

    `stop` says whether somebody at another terminal wants it taken back.
    """

    def __init__(
        self, hands: Hands, journal: Journal, stages: Sequence[Stage], baseline: Sequence[Window], config: Rollout, *,
        watcher: Watcher, clock: Clock, hook: Callable[[str, State, Stage | None], str], say: Callable[[str], None],
        stop: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self._hands, self._journal, self._stages, self._baseline = hands, journal, tuple(stages), tuple(baseline)
        self._config, self._stop = config, stop
        self._watcher, self._clock, self._hook, self._say = watcher, clock, hook, say
        self._renewed = clock.monotonic()
        #: When the present pause began by the wall clock, and when this process saw it first.
        self._pause = (0.0, 0.0)

    @property
    def state(self) -> State:
        """Where the rollout is."""
        return self._journal.state

    def run(self) -> State:
        """Goes on to the end. Raises HostError where the journal cannot be written; then the old values are back."""
        try:
            self._begin_or_end()
            if self.state.phase not in (*ENDS, Phase.STUCK, Phase.RESTORING):
                # Before the first change: a service that fails at once must not look as if it had been so before.
                self._try(self._watcher.begin)
            while self.state.phase not in (*ENDS, Phase.STUCK):
                self._try(self._next)
        except JournalError as error:
            self._restore_unwritten(error)
        return self.state

    def _next(self) -> None:
        acts = {
            Act.STEP: self._step, Act.WATCH: self._watch, Act.WAIT: self._wait, Act.ROLL_BACK: lambda: self._roll_back(self.state.reason),
            Act.RESTORE: self._restore, Act.PROMOTE: self._promote,
        }  # fmt: skip
        if not self._is_over():
            acts[next_act(self.state)]()

    def _try(self, act: Callable[[], None]) -> None:
        """One act. What the manager does not answer is taken back at once; the timer does that where this cannot."""
        try:
            act()
        except JournalError:
            raise
        except HostError as error:
            if self.state.phase in (*ENDS, Phase.RESTORING):
                raise
            self._roll_back(f"{error.message} ({error.where})")

    def abort(self, reason: str) -> State:
        """Takes the rollout back now."""
        try:
            if self.state.phase not in ENDS:
                self._roll_back(reason)
                self._arm_if_possible()
                self._restore()
        except JournalError as error:
            self._restore_unwritten(error)
        return self.state

    def _begin_or_end(self) -> None:
        """As `_begin`. A rollout that has changed nothing and gets no timer is over: another one may have been quicker."""
        try:
            self._begin()
        except JournalError:
            raise
        except HostError as error:
            if self.state.stage >= 0 or self.state.phase is not Phase.READY:
                raise
            self._roll_back(f"nothing was changed: {error.message} ({error.where})")
            with suppress(HostError):
                self._hands.disarm()
            self._add("restored", by="tool", left=[])

    def _begin(self) -> None:
        """What to do first after a crash or a start of the host."""
        if self.state.phase in ENDS:
            return
        if self.state.phase is Phase.STUCK:
            self._roll_back(self.state.reason)
        if self._hands.was_restored():
            return
        if self.state.phase is Phase.RESTORING:
            self._arm_if_possible()
        elif is_another_boot(self._hands, self._journal.records) and self.state.phase is not Phase.PROMOTING:
            # What was set at run time is gone.
            self._roll_back("the host was started again, and with that the old values came back")
        else:
            self._arm()

    def _arm(self) -> None:
        self._hands.arm(self.state.left, persistent=is_lasting(self._journal.records))
        self._renewed = self._clock.monotonic()

    def _arm_if_possible(self) -> None:
        """Before a restoration, which must take place even if nothing would repeat it: on a full disk, for example."""
        with suppress(HostError):
            self._arm()

    def _renew(self) -> None:
        if self._clock.monotonic() - self._renewed >= self._config.restore_after / 4:
            self._hands.manager.renew()
            self._renewed = self._clock.monotonic()

    def _is_over(self) -> bool:
        """Whether the timer, somebody at another terminal or an OOM kill has ended the rollout; then the rollback has begun."""
        if self.state.phase in (*ENDS, Phase.RESTORING):
            return False
        if self._hands.was_restored():
            why = "the manager's timer restored the old values: this tool gave no sign of life in time"
        else:
            why = "rollout abort" if self._stop() else "; ".join(self._watcher.kills())
        if why:
            self._roll_back(why)
        return bool(why)

    def _add(self, kind: str, **fields: object) -> State:
        return self._journal.add(kind, self._clock.wall(), **fields)

    # --- acts

    def _step(self) -> None:
        number = self.state.stage if self.state.phase is Phase.CHANGING else self.state.stage + 1
        stage = self._stages[number]
        # After a crash the present values can be those of another stage.
        before = self._hands.values()
        self._arm()
        if not self._make_ready(stage, before):
            return
        self._add("step", stage=number, share=stage.share, slices=list(stage.slices), squeeze=stage.squeeze)
        self._say(
            f"step {number + 1} of {len(self._stages)}: {stage.share / 100:g}% of the way"
            + (", memory first" if stage.squeeze else "")
        )
        why = self._run_hook("before", stage)
        if not why and (self._is_over() or self._was_taken(self._hands.values())):
            return
        why = why or self._hands.step(before, stage.values)
        if why:
            self._roll_back(why)
            return
        if self._verify(stage.values):
            why = self._run_hook("after", stage)
            if why:
                self._roll_back(why)
            else:
                self._add("verified", stage=number, effective=self._hands.effective())

    def _was_taken(self, now: Limits) -> bool:
        """Whether somebody else has changed a value (`now`) or its persistent drop-in; then the rollback has begun."""
        taken = strange(now, ours(self._hands, self._stages))
        if self.state.phase is not Phase.PROMOTING:
            taken |= {*self._hands.taken()}
        if taken:
            self._roll_back(f"somebody else changed {', '.join(sorted(taken))}", sorted(taken))
        return bool(taken)

    def _theirs(self) -> list[str]:
        return theirs(self._hands, self._stages, self.state, self._journal.records)

    def _run_hook(self, when: str, stage: Stage) -> str:
        why = self._hook(when, self.state, stage)
        # A hook may take half of the time after which the timer restores the old values.
        self._hands.manager.renew()
        self._renewed = self._clock.monotonic()
        return why

    def _make_ready(self, stage: Stage, before: Limits) -> bool:
        """Waits until the memory in use is below every MemoryMax that goes down; False where the rollback has begun."""
        until = self._clock.monotonic() + self._config.deadline
        while True:
            over = [
                unit for unit, values in stage.values.items()
                if values.get("MemoryMax") != before[unit].get("MemoryMax")
                and not is_ready(self._hands.used(unit) or 0, values.get("MemoryMax"))
            ]  # fmt: skip
            if not over:
                return True
            alarms = self._watcher.alarms()
            if alarms or self._clock.monotonic() > until:
                self._roll_back("; ".join(alarms) or f"{over[0]} still uses more than 95% of the new MemoryMax")
                return False
            if self._is_over():
                return False
            self._renew()
            self._clock.sleep(2 * POLL)

    def _verify(self, values: Limits) -> bool:
        """Whether the values read back in all ways; if not, the rollback has begun."""
        for is_last in looks(self._clock, VERIFY_SECONDS):
            found = self._hands.read_back(values, held=True)
            if not found:
                break
            alarms = self._watcher.alarms()
            if alarms or is_last:
                self._roll_back("; ".join(alarms)) if alarms else self._disagree(found)
                return False
        until = self._clock.monotonic() + self._config.deadline
        while usage := self._hands.over_usage(values):
            alarms = self._watcher.alarms()
            if alarms or self._clock.monotonic() > until:
                self._roll_back("; ".join(alarms) or str(usage[0]))
                return False
            if self._is_over():
                return False
            self._renew()
            self._clock.sleep(POLL)
        return True

    def _disagree(self, found: Sequence[Mismatch]) -> None:
        """Takes back, except what somebody else has changed."""
        theirs = [
            item for item in found
            if item.where is Where.MANAGER and strange({item.unit: {item.setting: item.number}}, ours(self._hands, self._stages))
        ]  # fmt: skip
        self._roll_back("; ".join(map(str, found))[:2000], [item.name for item in theirs])

    def _watch(self) -> None:
        """Settles, then samples until the time of the step is over, or something must be taken back at once."""
        limits, stage = self._config.thresholds, self._stages[self.state.stage]
        seconds = self._config.soak if self.state.phase is Phase.SOAKING else self._config.interval
        self._watcher.begin()
        if not self._pass(0.0 if self.state.phase is Phase.SOAKING else self._config.settle, stage):
            return
        self._watcher.begin()
        windows: list[Window] = []
        part = max(seconds / max(limits.samples_min, round(seconds / 10)), 1.0)
        end = self._clock.monotonic() + seconds
        while self._clock.monotonic() < end or len(windows) < limits.samples_min:
            if not self._pass(part, stage):
                return
            windows.append(self._watcher.window())
            found = judge(windows, self._baseline, limits)
            self._say(sample_line(found, max(end - self._clock.monotonic(), 0.0)))
            if found.verdict is Verdict.FAILED:
                break
        self._judged(judge(windows, self._baseline, limits))

    def _judged(self, found: Judgement) -> None:
        self._add("judged", stage=self.state.stage, verdict=found.verdict.word, reasons=list(found.reasons),
                  numbers=dict(found.numbers), samples=found.samples)  # fmt: skip
        self._say(f"{found.verdict.word}" + (f": {'; '.join(found.reasons)}" if found.reasons else ""))

    def _pass(self, seconds: float, stage: Stage) -> bool:
        """Lets time pass, looking for what cannot wait; False where the rollback has begun."""
        end = self._clock.monotonic() + seconds
        while True:
            alarms = self._watcher.alarms()
            if alarms:
                self._roll_back("; ".join(alarms))
                return False
            if self._is_over():
                return False
            drift = self._hands.read_back(stage.values, held=True)
            if drift:
                # A change of the manager and one in the kernel's file are a moment apart.
                self._clock.sleep(POLL)
                drift = self._hands.read_back(stage.values, held=True)
            if drift:
                self._disagree(drift)
                return False
            # These were just read; to ask the manager again would only delay the look for OOM kills.
            if self._was_taken(stage.values):
                return False
            self._renew()
            left = end - self._clock.monotonic()
            if left <= 0:
                return True
            self._rest(min(left, 2 * POLL))

    def _rest(self, seconds: float) -> None:
        """Waits, at most until an OOM kill."""
        end = self._clock.monotonic() + seconds
        while not self._watcher.kills() and (left := end - self._clock.monotonic()) > 0:
            self._clock.sleep(min(left, _KILL_POLL))

    def _wait(self) -> None:
        """A pause: more samples, until the deadline."""
        since, now = paused_at(self._journal.records), self._clock.monotonic()
        if since != self._pause[0]:
            self._pause = (since, now)
        # The wall clock also counts while no tool runs; it can be set back.
        if max(self._clock.wall() - since, now - self._pause[1]) >= self._config.deadline:
            self._roll_back(f"no verdict within {self._config.deadline:g}s: {self.state.reason}")
        else:
            self._add("watch")

    def _roll_back(self, reason: str, left: Sequence[str] = ()) -> None:
        self._add("rollback", reason=reason[:4000] or "unknown", left=list(left))
        self._say(f"taking it back: {reason}")

    def _restore(self) -> None:
        """Restores and verifies; the timer stays until that is done."""
        theirs = self._theirs()
        if theirs:
            self._add("rollback", reason=self.state.reason, left=theirs)
        left = self.state.left
        by = "timer" if self._hands.was_restored() else "tool"
        if left and by == "tool":
            # The timer does not know of what somebody else has changed, and may run where this cannot restore the rest.
            with suppress(HostError):
                self._hands.release(left)
            self._arm_if_possible()
        for _ in range(_RESTORES):
            try:
                why = restored(self._hands, self._clock, left)
                if not why:
                    self._hands.disarm()
            except HostError as error:
                why = f"{error.message} ({error.where})"
                self._clock.sleep(_RESTORE_PAUSE)
            if not why:
                self._add("restored", by=by, left=list(left))
                self._hands.clean()
                rest = f", except {', '.join(left)}, which somebody else has changed" if left else ""
                self._say(f"the old values are back{rest}")
                why = self._hook("back", self.state, None)
                if why:
                    self._add("note", text=why[:2000])
                    self._say(why)
                return
        self._add("stuck", reason=why)
        self._say(f"the old values could not be restored: {why}")

    def _promote(self) -> None:
        if self._was_taken(self._hands.values()):
            return
        self._add("promote")
        self._arm()
        why = self._hands.promote()
        for is_last in () if why else looks(self._clock, VERIFY_SECONDS):
            self._renew()
            found = (*self._hands.read_back(self._hands.new, held=False), *self._hands.over_usage(self._hands.new))
            missing = self._hands.unpromoted()
            if not found and not missing:
                # Before the record: a timer that still runs would restore the old values behind it.
                self._hands.disarm()
                # It may have begun before, and got to the values or only to the files.
                found = self._hands.read_back(self._hands.new, held=False)
                if not (self._hands.was_restored() or found or self._hands.unpromoted()):
                    self._add("promoted")
                    self._hands.clean()
                    self._say("done: the new values are persistent")
                    return
                break
            if is_last:
                why = "; ".join([*map(str, found), *missing])
                break
        self._roll_back(why or "the manager's timer restored the old values meanwhile")

    def _restore_unwritten(self, error: JournalError) -> None:
        """Where nothing can be written down, nothing new may be in force."""
        if self.state.phase in ENDS:
            raise error
        why = restored(self._hands, self._clock, (*self.state.left, *self._theirs()))
        if not why:
            self._hands.disarm()
            failed = self._hook("back", self.state, None)
        raise HostError(
            f"{error.message}; " + (f"and the old values could not be restored: {why}" if why else
                                    "; ".join(["the old values are back", *([failed] if failed else [])])),
            where=error.where, remedy=Remedy(title="free space, then run: cgroup-preflight rollout abort"),
        ) from error  # fmt: skip
