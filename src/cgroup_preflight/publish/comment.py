"""One comment for all jobs of a pull or merge request: found again, updated in place, never doubled.

Jobs that write at the same time end with the same comment: each job keeps the results of the others, looks again after
a pause that is longer than the time from reading to writing, and restores what was overwritten. The comment is about one
commit; the results of other commits are dropped.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from cgroup_preflight.core.report import Origin, Verdict
from cgroup_preflight.publish.clock import RequestClock
from cgroup_preflight.publish.comment_state import EARLIER, LINE_MAX, RunId, State, decode, encode, fitted
from cgroup_preflight.publish.http import ForgeError
from cgroup_preflight.publish.legs import Key, join, key_of
from cgroup_preflight.publish.receipt import Delivery, Outcome
from cgroup_preflight.report.merge import Leg

#: Most rounds of reading and writing; one leg among hundreds may have to write several times.
_ROUNDS = 12
#: Rounds in which a list may lack the comment that was written.
_LAG = 3
#: Longest pause after a request that failed, seconds.
_SHORT_PAUSE = 1.0
#: Bytes of the comment for the line with the commit.
_FOOT = 200
#: What to do if jobs of one run overwrite each other.
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
    """What a job of `run` writes about commit `sha`.

    `leg` is the result of the job, with its origin, and `covers` the legs whose reports it collected. `draft` makes the
    text from the legs that count (none for a job that is alone), the number of legs that did not fit, and a limit in
    bytes.
    """

    channel: str
    key: str
    run: RunId
    sha: str
    draft: Callable[[tuple[Leg, ...], int, int], Draft]
    limit: int
    leg: Leg
    covers: frozenset[Key] = frozenset()

    @property
    def origin(self) -> Origin:
        """The origin of the job's result."""
        assert self.leg.report.origin is not None
        return self.leg.report.origin

    @property
    def alone(self) -> bool:
        """Whether no other leg of this job writes the comment."""
        return self.origin.total <= 1 and self.origin.name == self.origin.job


_Own = tuple[Comment, State]


def publish(comments: Comments, spec: CommentSpec, clock: RequestClock, *, settle: float) -> Outcome:
    """Creates or updates the comment; `settle` is the pause before it is read again, in seconds. Raises ForgeError."""
    wrote: Comment | None = None
    recreated, lag = False, 0
    for _ in range(_ROUNDS):
        try:
            own = _own(comments, spec.key)
        except ForgeError as error:
            if wrote is None:
                raise
            return _written_unchecked(spec, wrote, f"reading it again failed: {error.trouble.value}", error.status)
        if wrote is not None and not own:
            # The list can lag behind a write: a comment that is not in it yet must not be created twice.
            lag += 1
            if lag >= _LAG:
                return _written_unchecked(spec, wrote, "the list of comments does not show it")
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
        # Other jobs may have read the comment before this one wrote it, and write it after it.
        clock.sleep(settle * random.uniform(1.0, 1.5))  # noqa: S311 - spreads writers, protects nothing
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
    if outranked := _outranked(own, spec):
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


def _outranked(own: Sequence[_Own], spec: CommentSpec) -> Outcome | None:
    """The outcome if there is a newer result: of another commit, or of this leg."""
    run = spec.run.run
    newer = [state.run.run for _, state in own if not _is_current(state, spec) and 0 < run < state.run.run]
    newer += [
        origin.run for leg in _known(own, spec)
        if (origin := leg.report.origin) and origin.group == spec.origin.group and 0 < run < origin.run
    ]  # fmt: skip
    skipped = Outcome(channel=spec.channel, delivery=Delivery.SKIPPED)
    if newer:
        return replace(skipped, detail=f"run {max(newer)}, newer than this run ({run}), has reported")
    if not any(leg.report.origin and key_of(leg.report.origin) == key_of(spec.origin) for leg in _legs(own, spec)):
        return replace(skipped, detail="a later attempt of this job has reported")
    return None


def _is_current(state: State, spec: CommentSpec) -> bool:
    """Whether a state is about our commit or from our run, so that its legs count."""
    return bool(spec.sha and state.sha == spec.sha) or bool(spec.run.run and state.run.run == spec.run.run)


def _shows(own: Sequence[_Own], text: str, spec: CommentSpec) -> bool:
    """Whether our only comment shows `text`, and stores our result as far as others need it."""
    if len(own) != 1:
        return False
    comment, state = own[0]
    if not comment.body.replace("\r\n", "\n").startswith(text):
        return False
    if _stores(own, spec):
        return True
    if not spec.alone:
        return False
    if _is_current(state, spec):
        return any(leg.report.origin and leg.report.origin.id == spec.origin.id for leg in state.legs)
    # The same result about an earlier commit: other jobs drop it, and that hides nothing if it is a pass.
    return spec.leg.report.verdict is Verdict.PASS and len(state.legs) <= 1


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
    stored = wrote is not None and _stores(own, spec)
    legs = _legs(own, spec, add_ours=not stored)
    run = max([spec.run, *(state.run for _, state in own if _is_current(state, spec))])
    left_out = max((state.left_out for _, state in own if _is_current(state, spec)), default=0)
    state = fitted(State(key=spec.key, run=run, sha=spec.sha, job=spec.origin.job, legs=legs, left_out=left_out))
    # The text is made from what is stored, not from all that this leg knows: otherwise no two legs would agree on it.
    several = len(legs) > 1 or spec.origin.total > 1
    line = LINE_MAX if several else min(LINE_MAX, len(encode(state)) + 100)
    draft = spec.draft(state.legs if several else (), state.left_out, spec.limit - line - _FOOT)
    at = f"<sub>Last change at <code>{spec.sha[:12]}</code>.</sub>\n" if spec.sha else ""
    return draft, f"{draft.text}\n{at}\n{encode(replace(state, verdict=draft.verdict))}"


def _known(own: Sequence[_Own], spec: CommentSpec) -> list[Leg]:
    """The stored legs that count; what an earlier version of this tool wrote counts in its own run only."""
    found = [leg for _, state in own if _is_current(state, spec) for leg in state.legs]
    origins = ((leg, leg.report.origin) for leg in found if leg.report.origin)
    return [
        leg for leg, origin in origins if not _is_replaced(origin, spec.origin) and not _is_covered(origin, spec.covers)
    ]


def _is_replaced(old: Origin, new: Origin) -> bool:
    """Whether the result of an earlier version of this tool is that of our job, or of another run."""
    if not old.id.startswith(EARLIER):
        return False
    return old.run != new.run or old.name in (new.name[:100], new.job[:100])


def _is_covered(old: Origin, covers: frozenset[Key]) -> bool:
    """Whether our result has this one in it, or a later attempt of the same leg."""
    later = (old.run, old.attempt)
    return key_of(old) in covers or any(key[0] == old.id and key[1:3] > later for key in covers)


def _legs(own: Sequence[_Own], spec: CommentSpec, *, add_ours: bool = True) -> tuple[Leg, ...]:
    """The legs that count, with ours, which replaces an older one of the same identity."""
    return join([*_known(own, spec), *([spec.leg] if add_ours else ())])


def _stores(own: Sequence[_Own], spec: CommentSpec) -> bool:
    """Whether the oldest of our comments stores our result."""
    if not own or not _is_current(own[0][1], spec):
        return False
    if own[0][1].left_out:
        return True  # it may be one of those that do not fit
    stored = (leg.report.origin for leg in own[0][1].legs)
    return any(origin is not None and key_of(origin) == key_of(spec.origin) for origin in stored)


def _done(spec: CommentSpec, wrote: Comment | None, comment: Comment) -> Outcome:
    if wrote is None:
        return Outcome(channel=spec.channel, delivery=Delivery.UNCHANGED, url=comment.url,
                       detail="already shows this result")  # fmt: skip
    return Outcome(channel=spec.channel, delivery=Delivery.DELIVERED, detail="up to date", url=comment.url or wrote.url)


def _written_unchecked(spec: CommentSpec, wrote: Comment, why: str, status: int | None = None) -> Outcome:
    """The comment was written, but it is unknown whether another writer changed it at the same time."""
    delivery = Delivery.DELIVERED if spec.alone else Delivery.DEGRADED
    return Outcome(channel=spec.channel, delivery=delivery, url=wrote.url, status=status, detail=f"written, but {why}")


def _delete(comments: Comments, comment: Comment) -> None:
    try:
        comments.delete(comment)
    except ForgeError as error:
        if error.status != 404:  # another leg has deleted it
            raise
