"""What a journal says, as findings of a report. Pure."""

import time
from collections.abc import Iterator, Sequence

from cgroup_preflight.core import codes
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.rollout.apply import Mismatch
from cgroup_preflight.rollout.base import UnitPlan
from cgroup_preflight.rollout.judge import Judgement
from cgroup_preflight.rollout.limits import shown
from cgroup_preflight.rollout.machine import ENDS, Phase, Record, State

_RESUME = Remedy(
    title="go on, or take it back",
    commands=(("cgroup-preflight", "rollout", "resume"), ("cgroup-preflight", "rollout", "abort")),
)


def findings_of(
    state: State, records: Sequence[Record], *, wanted: bool = False, by_timer: bool = False
) -> tuple[Finding, ...]:
    """The steps with their numbers, then how it ended.

    `wanted`: to take it back is what the user asked. `by_timer`: the manager's timer has restored the old values.
    """
    return (
        *_steps(state, records),
        *_left(state),
        *_notes(records),
        _end(state, records, wanted=wanted, by_timer=by_timer),
    )


def present(
    state: State, units: Sequence[UnitPlan], not_old: Sequence[Mismatch], not_new: Sequence[Mismatch]
) -> Iterator[Finding]:
    """What is in force now, whatever the journal says; the values that do not read back as the old and as the new ones."""
    others = {item.name: item.actual for item in not_old}
    news = {item.name: item.actual for item in not_new}
    for unit in units:
        for name, new in unit.new.items():
            old, key = unit.old[name], f"{unit.unit} {name}"
            if state.phase in ENDS:
                wrong = (news if state.phase is Phase.DONE else others).get(key)
                if wrong is not None and key not in state.left:
                    ended = shown(name, new if state.phase is Phase.DONE else old)
                    yield codes.ROLLOUT_CONFLICT.finding(
                        Status.WARN, unit.unit, f"{name} is {wrong} now, and the rollout ended with {ended}"
                    )
            elif new != old or key in others:
                yield _between(unit.unit, name, (shown(name, old), others.get(key)), (shown(name, new), news.get(key)))


def _between(unit: str, name: str, old: tuple[str, str | None], new: tuple[str, str | None]) -> Finding:
    """One value of a rollout that has not ended: its old and new text, each with what the host has instead, None for itself."""
    if old[1] is None:
        return codes.ROLLOUT_UNFINISHED.finding(Status.PASS, unit, f"{name} is {old[0]} now, the old value")
    now, what = (new[0], "the new value") if new[1] is None else (old[1], f"between {old[0]} (old) and {new[0]} (new)")
    return codes.ROLLOUT_UNFINISHED.finding(Status.WARN, unit, f"{name} is {now} now, {what}", _RESUME)


def _steps(state: State, records: Sequence[Record]) -> Iterator[Finding]:
    share, soak = "", False
    for record in records:
        if record["kind"] == "step":
            share = f"step {record['stage'] + 1} of {state.stages}"
            soak = False
        if record["kind"] == "judged":
            what = f"{share}, soak" if soak else share
            numbers = ", ".join(
                f"{name.replace('_', ' ')} {value:g}" for name, value in record["numbers"].items() if name != "seconds"
            )
            reasons = "; ".join(map(str, record["reasons"]))
            good = record["verdict"] == "success"
            yield codes.ROLLOUT.finding(
                Status.PASS if good else Status.WARN, what, f"{record['verdict']}: {reasons or numbers or 'no numbers'}",
                evidence={name: value for name, value in record["numbers"].items() if isinstance(value, int | float)},
            )  # fmt: skip
            soak = soak or (good and record["stage"] == state.stages - 1)


def _left(state: State) -> Iterator[Finding]:
    for name in state.left:
        unit, _, setting = name.partition(" ")
        yield codes.ROLLOUT_CONFLICT.finding(
            Status.FAIL, unit, f"somebody else changed {setting} during the rollout: their value stays",
            Remedy(title="ask who did, then run the rollout again", commands=(("systemctl", "show", "-p", "DropInPaths", unit),)),
        )  # fmt: skip


def _notes(records: Sequence[Record]) -> Iterator[Finding]:
    """What somebody must do by hand: a hook after the rollback that failed."""
    for record in records:
        if record["kind"] == "note":
            yield codes.ROLLOUT.finding(
                Status.WARN, str(records[0]["rollout"]), record["text"], Remedy(title="do by hand what the hook does")
            )


def _end(state: State, records: Sequence[Record], *, wanted: bool, by_timer: bool) -> Finding:
    name = str(records[0]["rollout"])
    seconds = records[-1]["at"] - records[0]["at"]
    evidence = {
        "phase": state.phase.value,
        "stage": state.stage + 1,
        "stages": state.stages,
        "seconds": round(seconds, 3),
    }
    if state.phase is Phase.DONE and wanted:
        # It ended while the other tool was told to take it back.
        return codes.ROLLOUT.finding(
            Status.FAIL, name, "too late to take it back: the new values are persistent",
            Remedy(title="put the old values into the config, and run `rollout apply`"), evidence=evidence,
        )  # fmt: skip
    if state.phase is Phase.DONE:
        return codes.ROLLOUT.finding(
            Status.PASS, name, f"the new values are persistent after {state.stages} steps", evidence=evidence
        )
    if state.phase is Phase.ROLLED_BACK:
        taken = next((item["at"] for item in reversed(records) if item["kind"] == "rollback"), records[-1]["at"])
        back = next((item["at"] for item in reversed(records) if item["kind"] == "restored"), taken)
        evidence["rollback_seconds"] = round(back - taken, 3)
        return codes.ROLLOUT_TAKEN_BACK.finding(
            Status.PASS if wanted else Status.FAIL, name, f"the old values are back: {state.reason}",
            Remedy(title="correct the target or the thresholds in [rollout], then run it again"), evidence=evidence,
        )  # fmt: skip
    if state.phase is Phase.STUCK:
        return codes.ROLLOUT_STUCK.finding(
            Status.FAIL, name, f"the host is between old and new: {state.reason}", _RESUME, evidence=evidence
        )
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(records[-1]["at"]))
    reason = f" ({state.reason})" if state.reason else ""
    if by_timer:
        reason += "; since then the manager's timer has restored the old values, and `rollout resume` reads them back"
    elif state.phase is Phase.PROMOTING:
        reason += ": some values can be persistent already; the manager's timer restores the old ones, also after a start of the host"
    return codes.ROLLOUT_UNFINISHED.finding(
        Status.UNVERIFIED, name, f"{state.phase.value} at step {state.stage + 1} of {state.stages} since {since}{reason}", _RESUME, evidence=evidence,
    )  # fmt: skip


def sample_line(found: Judgement, left: float) -> str:
    """For people who wait: the means until now, and the seconds that are left."""
    numbers = ", ".join(f"{name.replace('_', ' ')} {value:.1%}" for name, value in found.numbers.items()
                        if name in ("throttled", "cpu_waiting", "memory_stalled"))  # fmt: skip
    return f"sample {found.samples}: {numbers or 'no numbers'}; {left:.0f}s left"


def signal_words(state: State, restore_after: float) -> str:
    """What a user must know where a signal ended this tool in a state."""
    if state.phase in ENDS:
        return "ended by a signal; the rollout is over, and `cgroup-preflight rollout status` shows how it ended"
    if state.phase in (Phase.PROMOTING, Phase.RESTORING):
        # The timer is stopped just before the last record.
        return ("ended by a signal while the rollout was about to end: run `cgroup-preflight rollout resume`, because the timer of the "
                "service manager may be stopped already")  # fmt: skip
    return (
        f"ended by a signal; the service manager restores the old values within {restore_after:g}s, "
        "unless `cgroup-preflight rollout resume` goes on before"
    )
