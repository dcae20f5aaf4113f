"""One comment for all runs of a pull or merge request: found again, updated in place, never doubled.

Legs of a matrix that write at the same time end with the same comment: each leg keeps the sections of the others,
looks again after a pause that is longer than the time from reading to writing, and restores what was overwritten.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from cgroup_preflight.core.report import Verdict
from cgroup_preflight.publish.clock import RequestClock
from cgroup_preflight.publish.comment_state import LINE_MAX, RunId, State, decode, encode, fitted, join
from cgroup_preflight.publish.http import ForgeError
from cgroup_preflight.publish.receipt import Delivery, Outcome
from cgroup_preflight.report.escape import plain
from cgroup_preflight.report.merge import Leg

#: Most rounds of reading and writing; one leg among hundreds may have to write several times.
_ROUNDS = 12
#: Longest pause before a second look if no leg publishes by itself, seconds.
_SHORT_PAUSE = 1.0
#: Bytes of the comment for the line with the commit, and for a hidden line without legs.
_FOOT = 200
_LINE_WITHOUT_LEGS = 1000
#: The fix if jobs of one run overwrite each other.
OWN_KEY = "give each job its own --key, or merge the reports: cgroup-preflight publish a.json b.json ..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Comment:
    """One comment as the server returns it."""

    id: int
    body: str
    author: str
    url: str = ""


class Comments(Protocol):
    """The comments of one pull or merge request; every method may raise ForgeError."""

    def read_all(self) -> list[Comment]:
        """All comments, from all pages."""

    def is_own(self, author: str) -> bool:
        """Whether our token writes as `author`."""

    def head(self) -> str:
        """The newest commit of the pull or merge request; empty if unknown."""

    def create(self, body: str) -> Comment:
        """Creates a comment."""

    def update(self, comment: Comment, body: str) -> Comment:
        """Replaces the body of a comment."""

    def delete(self, comment: Comment) -> None:
        """Deletes a comment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The visible text, its verdict, and whether it is worth a new comment."""

    text: str
    verdict: Verdict
    worth_creating: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CommentSpec:
    """What `job` of `run` writes about commit `sha`.

    `draft` makes the text from legs and a limit in bytes; `leg` is set if a leg publishes by itself.
    """

    channel: str
    key: str
    run: RunId
    sha: str
    job: str
    draft: Callable[[tuple[Leg, ...], int], Draft]
    limit: int
    leg: Leg | None = None


_Own = tuple[Comment, State]


def publish(comments: Comments, spec: CommentSpec, clock: RequestClock, *, settle: float) -> Outcome:
    """Creates or updates the comment; `settle` is the pause of a leg in seconds. Raises ForgeError."""
    wrote: Comment | None = None
    recreated = False
    for _ in range(_ROUNDS):
        try:
            own = _own(comments, spec.key)
        except ForgeError as error:
            if wrote is None:
                raise
            return _written_unchecked(spec, wrote, error)
        if wrote is not None and not own:
            # The list can lag behind a write: a comment that is not in it yet must not be created twice.
            if spec.leg is None:
                return _done(spec, wrote, wrote)
            clock.sleep(settle)
            continue
        draft, body = _body(own, spec, wrote)
        if outcome := _reason_not_to_write(comments, own, spec, draft, wrote):
            return outcome
        try:
            created = not own
            wrote = comments.create(body) if created else comments.update(own[0][0], body)
            for comment, _state in own[1:]:
                _delete(comments, comment)
        except ForgeError as error:
            # After a lost answer the comment is looked for; one that was deleted meanwhile is created again, once.
            if not error.ambiguous and (recreated or not own or error.status != 404):
                raise
            recreated = recreated or not error.ambiguous
            clock.sleep(min(_SHORT_PAUSE, settle))
            continue
        if spec.leg is None and not created:
            return _done(spec, wrote, wrote)
        # Two runs that find no comment create one each: look once more, and delete the newer one.
        pause = settle if spec.leg is not None else min(_SHORT_PAUSE, settle)
        clock.sleep(pause * random.uniform(1.0, 1.5))  # noqa: S311 - spreads writers, protects nothing
    return Outcome(channel=spec.channel, delivery=Delivery.DEGRADED, url=wrote.url if wrote else "",
                   detail=f"written, but other jobs wrote to the same comment in each of {_ROUNDS} rounds",
                   hint="publish once, after all legs: cgroup-preflight publish a.json b.json ...")  # fmt: skip


def _own(comments: Comments, key: str) -> list[_Own]:
    """Our comments, the oldest first: with our mark and by our author, because anybody can copy the mark."""
    marked = [(comment, state) for comment in comments.read_all() if (state := decode(comment.body, key))]
    own = [(comment, state) for comment, state in marked if comments.is_own(comment.author)]
    return sorted(own, key=lambda item: item[0].id)


def _reason_not_to_write(
    comments: Comments, own: Sequence[_Own], spec: CommentSpec, draft: Draft, wrote: Comment | None
) -> Outcome | None:
    """The outcome of a round that has nothing to write; None if it has."""
    if outranked := _outranked(own, spec, draft.verdict):
        return outranked
    if not own and not draft.worth_creating:
        return Outcome(channel=spec.channel, delivery=Delivery.SKIPPED,
                       detail="the result is a pass, and there is no earlier comment to update")  # fmt: skip
    if _shows(own, draft.text, spec):
        return _done(spec, wrote, own[0][0])
    head = _newer_head(comments, spec)
    if head:
        return Outcome(channel=spec.channel, delivery=Delivery.SKIPPED,
                       detail=f"the branch is now at {head[:12]}; this result is for {spec.sha[:12]}")  # fmt: skip
    return None


def _outranked(own: Sequence[_Own], spec: CommentSpec, verdict: Verdict) -> Outcome | None:
    """The outcome if there is a newer or worse result. Legs of one run share the comment, whatever their attempts."""
    for _, state in own:
        same_run = state.run.run == spec.run.run
        if (same_run and spec.leg is not None) or not state.outlasts(spec.run, spec.job, verdict):
            continue
        skipped = Outcome(channel=spec.channel, delivery=Delivery.SKIPPED)
        if same_run and state.job != spec.job:
            detail = f"another job of this run ({plain(state.job)}) has reported {state.verdict.value}"
            return replace(skipped, detail=detail, hint=OWN_KEY)
        return replace(skipped, detail=f"run {state.run.run}, newer than this run ({spec.run.run}), has reported")
    return None


def _shows(own: Sequence[_Own], text: str, spec: CommentSpec) -> bool:
    """Whether our only comment shows `text` and, for a leg, stores its result."""
    if len(own) != 1 or (spec.leg is not None and not _stores(own, spec)):
        return False
    return own[0][0].body.replace("\r\n", "\n").startswith(text)


def _newer_head(comments: Comments, spec: CommentSpec) -> str:
    """The commit of the branch if it is another one; empty if it is ours or unknown."""
    if not spec.sha:
        return ""
    try:
        head = comments.head()
    except ForgeError:
        return ""  # the comment matters more than this check
    return "" if head == spec.sha else head


def _body(own: Sequence[_Own], spec: CommentSpec, wrote: Comment | None) -> tuple[Draft, str]:
    """The draft, and the whole body with the hidden line."""
    legs = _legs(own, spec, wrote)
    state = fitted(State(key=spec.key, run=spec.run, sha=spec.sha, job=spec.job, legs=legs))
    # The text is made from what is stored, not from all that this leg knows: otherwise no two legs would agree on it.
    draft = spec.draft(state.legs, spec.limit - (LINE_MAX if legs else _LINE_WITHOUT_LEGS) - _FOOT)
    at = f"<sub>Last change at <code>{spec.sha[:12]}</code>.</sub>\n" if spec.sha else ""
    return draft, f"{draft.text}\n{at}\n{encode(replace(state, verdict=draft.verdict))}"


def _legs(own: Sequence[_Own], spec: CommentSpec, wrote: Comment | None) -> tuple[Leg, ...]:
    """The stored sections of this run with ours, which replaces an older one of the same name in the first round."""
    if spec.leg is None:
        return ()
    stored = [state.legs for _, state in own if state.run.run == spec.run.run]
    add_ours = wrote is None or not _stores(own, spec)
    return join([*stored, [spec.leg]] if add_ours else stored)


def _stores(own: Sequence[_Own], spec: CommentSpec) -> bool:
    """Whether the oldest of our comments, written in this run, stores our leg's section."""
    if spec.leg is None or not own or own[0][1].run.run != spec.run.run:
        return False
    return any((item.name, item.attempt) == (spec.leg.name, spec.leg.attempt) for item in own[0][1].legs)


def _done(spec: CommentSpec, wrote: Comment | None, comment: Comment) -> Outcome:
    if wrote is None:
        return Outcome(channel=spec.channel, delivery=Delivery.UNCHANGED, url=comment.url,
                       detail="already shows this result")  # fmt: skip
    return Outcome(channel=spec.channel, delivery=Delivery.DELIVERED, detail="up to date", url=comment.url or wrote.url)


def _written_unchecked(spec: CommentSpec, wrote: Comment, error: ForgeError) -> Outcome:
    """The comment was written, but it is unknown whether another writer changed it at the same time."""
    delivery = Delivery.DELIVERED if spec.leg is None else Delivery.DEGRADED
    return Outcome(channel=spec.channel, delivery=delivery, url=wrote.url, status=error.status,
                   detail=f"written, but reading it again failed: {error.trouble.value}")  # fmt: skip


def _delete(comments: Comments, comment: Comment) -> None:
    try:
        comments.delete(comment)
    except ForgeError as error:
        if error.status != 404:  # another leg has deleted it
            raise
