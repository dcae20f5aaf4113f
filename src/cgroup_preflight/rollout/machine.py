"""The states of a rollout, as a pure function of the records of its journal.

    BEGUN -> step -> CHANGING -> verified -> WATCHING -> judged -> READY -> step ... -> SOAKING -> judged -> PROMOTABLE
          -> promote -> PROMOTING -> promoted -> DONE
    judged inconclusive: PAUSED -> watch -> WATCHING or SOAKING again
    from every state that is no end: rollback -> RESTORING -> restored -> ROLLED_BACK, or stuck -> STUCK

Each change of the host has a record before it (the intent) and one after it (it was read back). After a crash the last
record says what may have happened; every act can be done again.
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cgroup_preflight.core.records import dataclass, replace
from cgroup_preflight.rollout.judge import Verdict

Record = Mapping[str, Any]


class Phase(enum.StrEnum):
    """Where a rollout is. READY: a stage was judged good, or nothing was changed yet."""

    READY = "ready"
    CHANGING = "changing"
    WATCHING = "watching"
    SOAKING = "soaking"
    PAUSED = "paused"
    CONDEMNED = "condemned"
    PROMOTABLE = "promotable"
    PROMOTING = "promoting"
    RESTORING = "restoring"
    STUCK = "stuck"
    ROLLED_BACK = "rolled back"
    DONE = "done"


#: Nothing is left to do. STUCK is no end: `resume` and `abort` try again.
ENDS = (Phase.ROLLED_BACK, Phase.DONE)


class Act(enum.Enum):
    """What comes next."""

    STEP = "step"
    WATCH = "watch"
    WAIT = "wait"
    ROLL_BACK = "roll back"
    RESTORE = "restore"
    PROMOTE = "promote"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """`stage` is the number of the last stage that was begun, -1 for none, of `stages`. `soak`: what is judged is the soak.

    `reason` says why the rollout was paused or taken back. `left` are `UNIT PROPERTY` that somebody else has changed.
    """

    phase: Phase
    stage: int
    stages: int
    soak: bool = False
    reason: str = ""
    left: tuple[str, ...] = ()

    @property
    def is_last(self) -> bool:
        """Whether the stage has the final values."""
        return self.stage == self.stages - 1


class OutOfOrderError(ValueError):
    """A record that cannot follow the state: the journal is not one of this machine."""


def begin(record: Record) -> State:
    """The state after the first record. Raises OutOfOrderError."""
    if record.get("kind") != "begin":
        raise OutOfOrderError("it does not begin with `begin`")
    return State(phase=Phase.READY, stage=-1, stages=len(record["stages"]))


def advance(state: State, record: Record) -> State:
    """The state after one more record. Raises OutOfOrderError."""
    kind = record["kind"]
    if kind in ("note", "sample"):
        return state
    rule = _RULES.get(kind)
    after = rule(state, record) if rule is not None else None
    if after is None:
        raise OutOfOrderError(f"{kind!r} cannot follow the state {state.phase.value!r}")
    return after


def next_act(state: State) -> Act:
    """What to do in a state, also after a crash: then the act may have been done already, in part or whole."""
    return _ACTS[state.phase]


_ACTS = {
    Phase.READY: Act.STEP, Phase.CHANGING: Act.STEP, Phase.WATCHING: Act.WATCH, Phase.SOAKING: Act.WATCH,
    Phase.PAUSED: Act.WAIT, Phase.CONDEMNED: Act.ROLL_BACK, Phase.PROMOTABLE: Act.PROMOTE, Phase.PROMOTING: Act.PROMOTE,
    Phase.RESTORING: Act.RESTORE, Phase.STUCK: Act.ROLL_BACK, Phase.ROLLED_BACK: Act.NOTHING, Phase.DONE: Act.NOTHING,
}  # fmt: skip


def _step(state: State, record: Record) -> State | None:
    number = record["stage"]
    is_next = state.phase is Phase.READY and number == state.stage + 1 < state.stages
    is_again = state.phase is Phase.CHANGING and number == state.stage
    return replace(state, phase=Phase.CHANGING, stage=number) if is_next or is_again else None


def _verified(state: State, record: Record) -> State | None:
    fits = state.phase is Phase.CHANGING and record["stage"] == state.stage
    return replace(state, phase=Phase.WATCHING) if fits else None


def _judged(state: State, record: Record) -> State | None:
    if state.phase not in (Phase.WATCHING, Phase.SOAKING) or record["stage"] != state.stage:
        return None
    verdict = Verdict[record["verdict"].upper()]
    reason = "; ".join(record.get("reasons", ()))
    if verdict is Verdict.INCONCLUSIVE:
        return replace(state, phase=Phase.PAUSED, reason=reason)
    if verdict is not Verdict.SUCCESS:
        return replace(state, phase=Phase.CONDEMNED, reason=reason)
    if state.phase is Phase.SOAKING:
        return replace(state, phase=Phase.PROMOTABLE, reason="")
    return replace(state, phase=Phase.SOAKING if state.is_last else Phase.READY, soak=state.is_last, reason="")


def _watch(state: State, _record: Record) -> State | None:
    after = Phase.SOAKING if state.soak else Phase.WATCHING
    return replace(state, phase=after) if state.phase is Phase.PAUSED else None


def _promote(state: State, _record: Record) -> State | None:
    return replace(state, phase=Phase.PROMOTING) if state.phase in (Phase.PROMOTABLE, Phase.PROMOTING) else None


def _promoted(state: State, _record: Record) -> State | None:
    return replace(state, phase=Phase.DONE) if state.phase is Phase.PROMOTING else None


def _rollback(state: State, record: Record) -> State | None:
    if state.phase in ENDS:
        return None
    left = tuple(dict.fromkeys((*state.left, *record.get("left", ()))))
    return replace(state, phase=Phase.RESTORING, reason=record["reason"], left=left)


def _restored(state: State, _record: Record) -> State | None:
    return replace(state, phase=Phase.ROLLED_BACK) if state.phase is Phase.RESTORING else None


def _stuck(state: State, record: Record) -> State | None:
    return replace(state, phase=Phase.STUCK, reason=record["reason"]) if state.phase is Phase.RESTORING else None


_RULES: dict[str, Callable[[State, Record], State | None]] = {
    "step": _step, "verified": _verified, "judged": _judged, "watch": _watch, "promote": _promote, "promoted": _promoted,
    "rollback": _rollback, "restored": _restored, "stuck": _stuck,
}  # fmt: skip


def paused_at(records: Sequence[Record]) -> float:
    """Since when a rollout that is paused has no verdict, in seconds of the wall clock; an earlier pause is over."""
    since = 0.0
    for record in reversed(records):
        if record["kind"] == "judged" and record["verdict"] == "inconclusive":
            since = record["at"]
        elif record["kind"] != "watch":
            break
    return since
