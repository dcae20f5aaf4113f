"""The page of a code: what `explain` prints and docs/reference shows."""

from cgroup_preflight.core.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Sentences in plain English; `what` is tested, `fails` is what a failure means, `fix` is what to do then.

    `about` has words that find the page and are not in its text: properties, files, other names for the thing.
    `sources` are addresses of the documents that the rule comes from.
    """

    what: str
    fails: str
    fix: str
    sources: tuple[str, ...]
    about: tuple[str, ...] = ()
