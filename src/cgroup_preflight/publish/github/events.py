"""What each event of GitHub Actions is about: the commit and the pull request that get the result. Pure.

Sources: GitHub docs, "Events that trigger workflows" (GITHUB_SHA and GITHUB_REF of each event) and "Webhook events and
payloads". GITHUB_SHA is what actions/checkout takes by default, which is not always the commit that an event is about.
docs/publishing.md has the table.
"""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass

from cgroup_preflight.publish.answers import dig, id_of, sha_of

_MERGE_REF = re.compile(r"refs/pull/([1-9][0-9]{0,9})/(?:merge|head)", re.ASCII)


class Checkout(enum.StrEnum):
    """What actions/checkout takes by default, as seen from the commit that gets the result."""

    SAME = "that commit"
    MERGE = "the merge of that commit into the base branch"
    MERGE_REF = "the last merge commit of the pull request, whose head may be an older one"
    OTHER = "the default or the base branch, which is another commit"
    ARTIFACT = "nothing; the reports come from the other run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The commit and the pull request of one event.

    `head` gets the check run; it is empty if only the API knows the head of `pull`. `pull` gets the comment; `no_pull`
    says why there is none. `checkout` is what a workflow tests unless it chooses another commit.
    """

    head: str
    pull: int | None
    checkout: Checkout
    no_pull: str = ""


def subject(name: str, event: Mapping[str, object], *, sha: str, ref: str) -> Subject:
    """The subject of event `name`; `sha` and `ref` are GITHUB_SHA and GITHUB_REF."""
    own = Subject(head=sha, pull=None, checkout=Checkout.SAME,
                  no_pull=f"the event {name or 'of this run'} belongs to no pull request")  # fmt: skip
    if name == "merge_group":
        return Subject(head=sha_of(dig(event, "merge_group", "head_sha")) or sha, pull=None, checkout=Checkout.SAME,
                       no_pull=own.no_pull)  # fmt: skip
    if name == "workflow_run":
        untested = dig(event, "workflow_run", "event") == "pull_request_target"
        return Subject(head=sha_of(dig(event, "workflow_run", "head_sha")), pull=None,
                       checkout=Checkout.OTHER if untested else Checkout.ARTIFACT)  # fmt: skip
    if name == "issue_comment":
        pull = id_of(dig(event, "issue", "number")) if dig(event, "issue", "pull_request") else None
        return Subject(head="", pull=pull, checkout=Checkout.OTHER) if pull else own
    checkout = _OF_PULL_REQUESTS.get(name)
    return own if checkout is None else _of_pull(event, ref, checkout, own)


_OF_PULL_REQUESTS = {
    "pull_request": Checkout.MERGE, "pull_request_target": Checkout.OTHER,
    "pull_request_review": Checkout.MERGE_REF, "pull_request_review_comment": Checkout.MERGE_REF,
}  # fmt: skip


def _of_pull(event: Mapping[str, object], ref: str, checkout: Checkout, own: Subject) -> Subject:
    if checkout is Checkout.MERGE and dig(event, "pull_request", "merged") is True:
        # GITHUB_SHA and GITHUB_REF are those of the base branch then.
        return Subject(head=own.head, pull=None, checkout=Checkout.SAME, no_pull="the pull request is merged")
    of_ref = _MERGE_REF.fullmatch(ref)
    pull = id_of(dig(event, "pull_request", "number")) or id_of(event.get("number")) or (of_ref and int(of_ref[1]))
    return (
        Subject(head=sha_of(dig(event, "pull_request", "head", "sha")), pull=pull, checkout=checkout) if pull else own
    )
