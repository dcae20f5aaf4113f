"""One comment for all runs of a pull or merge request: found again, updated in place, never doubled.

The same for both forges. Legs of a matrix that write at the same time converge: each keeps the others' sections,
looks again after a pause that is longer than anybody's way from reading to writing, and mends what was overwritten.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from cgroup_preflight.core.report import Verdict
from cgroup_preflight.publish.clock import Clock
from cgroup_preflight.publish.comment_state import LINE_MAX, RunId, State, decode, encode, fitted, join
from cgroup_preflight.publish.http import ForgeError
from cgroup_preflight.publish.receipt import Delivery, Outcome
from cgroup_preflight.report.escape import plain
from cgroup_preflight.report.merge import Leg

#: Rounds of looking and writing; a leg among hundreds may have to mend several times.
ROUNDS = 12
#: Pause before a leg looks whether its section is still there, seconds.
SETTLE = 3.0
_FOOT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One comment of the forge."""

    id: int
    body: str
    author: str
    url: str = ""


class Board(Protocol):
    """Where comments stand; every method may raise ForgeError."""

    def entries(self) -> list[Entry]:
        """All comments, on all pages."""

    def is_me(self, author: str) -> bool:
        """Whether the token writes as `author`."""

    def head(self) -> str:
        """The commit that the request is at now; empty where that cannot be known."""

    def create(self, body: str) -> Entry:
        """A new comment."""

    def update(self, entry: Entry, body: str) -> Entry:
        """Another body for an old one."""

    def delete(self, entry: Entry) -> None:
        """One comment less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The visible text, the verdict in it, and whether it is worth a new comment."""

    text: str
    verdict: Verdict
    worth_creating: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sticky:
    """What `job` of `run` writes.

    `leg` is set where a leg publishes for itself; `draft` makes the text of legs and a byte limit.
    """

    channel: str
    key: str
    run: RunId
    sha: str
    job: str
    draft: Callable[[tuple[Leg, ...], int], Draft]
    limit: int
    leg: Leg | None = None


Found = tuple[Entry, State]


def publish(board: Board, sticky: Sticky, clock: Clock, *, settle: float = SETTLE) -> Outcome:
    """Brings the comment up to date. Raises ForgeError where the forge refuses."""
    wrote: Entry | None = None
    gone = False
    for _ in range(ROUNDS):
        try:
            own = _own(board, sticky.key)
        except ForgeError as error:
            if wrote is None:
                raise
            return _not_seen_again(sticky, wrote, error)
        if wrote is not None and not own:
            # A list may lag behind what was written a moment ago: what is not in it yet is not made twice.
            if sticky.leg is None:
                return _done(sticky, wrote, wrote)
            clock.sleep(settle)
            continue
        draft, body = _body(own, sticky, wrote)
        if refused := _refuse(own, sticky, draft.verdict):
            return refused
        if not own and not draft.worth_creating:
            return Outcome(channel=sticky.channel, delivery=Delivery.SKIPPED,
                           detail="all is well, and there is no earlier comment to bring up to date")  # fmt: skip
        if _is_there(own, draft.text, sticky):
            return _done(sticky, wrote, own[0][0])
        if refusal := _moved_on(board, sticky):
            return Outcome(channel=sticky.channel, delivery=Delivery.SKIPPED, detail=refusal)
        try:
            created = not own
            wrote = board.create(body) if created else board.update(own[0][0], body)
            for entry, _state in own[1:]:
                _remove(board, entry)
        except ForgeError as error:
            # A comment that somebody removed meanwhile is made anew, once; a lost answer is looked for.
            if not error.ambiguous and (gone or not own or error.status != 404):
                raise
            gone = gone or not error.ambiguous
            clock.sleep(min(1.0, settle))
            continue
        if sticky.leg is None and not created:
            return _done(sticky, wrote, wrote)
        # Two runs can both find nothing and make one each: look once more, and the later one goes.
        pause = settle if sticky.leg is not None else min(1.0, settle)
        clock.sleep(pause * random.uniform(1.0, 1.5))  # noqa: S311 - spreads writers, protects nothing
    return Outcome(channel=sticky.channel, delivery=Delivery.DEGRADED, url=wrote.url if wrote else "",
                   detail=f"written, but other jobs kept writing to it through {ROUNDS} rounds",
                   hint="publish once, after all legs: publish a.json b.json ...")  # fmt: skip


def _done(sticky: Sticky, wrote: Entry | None, entry: Entry) -> Outcome:
    if wrote is None:
        return Outcome(channel=sticky.channel, delivery=Delivery.UNCHANGED, url=entry.url,
                       detail="says the same already")  # fmt: skip
    return Outcome(channel=sticky.channel, delivery=Delivery.DELIVERED, detail="up to date", url=entry.url or wrote.url)


def _not_seen_again(sticky: Sticky, wrote: Entry, error: ForgeError) -> Outcome:
    """It is there; only whether a rival wrote at the same time is not known."""
    delivery = Delivery.DELIVERED if sticky.leg is None else Delivery.DEGRADED
    return Outcome(channel=sticky.channel, delivery=delivery, url=wrote.url, status=error.status,
                   detail=f"written, but not looked at again: {error.trouble.value}")  # fmt: skip


def _own(board: Board, key: str) -> list[Found]:
    """Our comments, the oldest first: marked with our key and written by us, since anybody can quote a mark."""
    marked = [(entry, state) for entry in board.entries() if (state := decode(entry.body, key))]
    return sorted(((entry, state) for entry, state in marked if board.is_me(entry.author)), key=lambda item: item[0].id)


def _refuse(own: Sequence[Found], sticky: Sticky, verdict: Verdict) -> Outcome | None:
    """Why this job may not write, if it may not. Legs of one run are no rivals, whatever their attempts."""
    for _, state in own:
        rival = state.run.run == sticky.run.run
        if (rival and sticky.leg is not None) or not state.outlasts(sticky.run, sticky.job, verdict):
            continue
        if rival and state.job != sticky.job:
            return Outcome(channel=sticky.channel, delivery=Delivery.SKIPPED,
                           detail=f"another job of this run ({plain(state.job)}) has reported {state.verdict.value}",
                           hint="give each job a key of its own, or merge their reports: publish a.json b.json ...")  # fmt: skip
        began = f"run {state.run.run}, which began later than this one ({sticky.run.run}), has reported"
        return Outcome(channel=sticky.channel, delivery=Delivery.SKIPPED, detail=began)
    return None


def _moved_on(board: Board, sticky: Sticky) -> str:
    if not sticky.sha:
        return ""
    try:
        head = board.head()
    except ForgeError:
        return ""  # not worth losing the comment for
    if head in ("", sticky.sha):
        return ""
    return f"the branch is at {head[:12]} by now, and this is about {sticky.sha[:12]}"


def _body(own: Sequence[Found], sticky: Sticky, wrote: Entry | None) -> tuple[Draft, str]:
    """The draft with the visible text, and the whole body."""
    legs = _legs(own, sticky, wrote)
    state = fitted(State(key=sticky.key, run=sticky.run, sha=sticky.sha, job=sticky.job, legs=legs))
    # The text is made of what is stored, not of what this leg knows of itself: else no two legs would agree on it.
    draft = sticky.draft(state.legs, sticky.limit - (LINE_MAX if legs else 1000) - _FOOT)
    at = f"<sub>Last change at <code>{sticky.sha[:12]}</code>.</sub>\n" if sticky.sha else ""
    return draft, f"{draft.text}\n{at}\n{encode(replace(state, verdict=draft.verdict))}"


def _legs(own: Sequence[Found], sticky: Sticky, wrote: Entry | None) -> tuple[Leg, ...]:
    """The sections of this run as stored, with ours: in its first round it replaces an older one of the same name."""
    if sticky.leg is None:
        return ()
    stored = [state.legs for _, state in own if state.run.run == sticky.run.run]
    ours = wrote is None or not _holds(own, sticky)
    return join([*stored, [sticky.leg]] if ours else stored)


def _holds(own: Sequence[Found], sticky: Sticky) -> bool:
    """Whether our section is in the oldest of our comments, written in this run."""
    leg, (_, state) = sticky.leg, own[0] if own else (None, None)
    if leg is None or state is None or state.run.run != sticky.run.run:
        return False
    return any(item.name == leg.name and item.attempt == leg.attempt for item in state.legs)


def _is_there(own: Sequence[Found], text: str, sticky: Sticky) -> bool:
    """Whether the oldest of ours shows `text` and is the only one; for a leg also, whether its result is stored."""
    if len(own) != 1 or (sticky.leg is not None and not _holds(own, sticky)):
        return False
    return own[0][0].body.replace("\r\n", "\n").startswith(text)


def _remove(board: Board, entry: Entry) -> None:
    try:
        board.delete(entry)
    except ForgeError as error:
        if error.status != 404:  # another leg was faster
            raise
