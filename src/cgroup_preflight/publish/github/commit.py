"""The commit that gets the result, and whether it is the one that was tested.

A workflow tests what it has checked out. `issue_comment` and `pull_request_target` check out the default or the base
branch, so a pass there says nothing about the pull request. A result goes to the head of a pull request only if the head
was tested, or a merge of it into the base branch, which is what GitHub checks out for `pull_request`.
"""

from dataclasses import dataclass

from cgroup_preflight.publish.answers import dig, sha_of
from cgroup_preflight.publish.github.api import GithubApi
from cgroup_preflight.publish.github.events import Checkout
from cgroup_preflight.publish.github.job import GithubJob
from cgroup_preflight.publish.http import ForgeError, Trouble

#: The fix if another commit was tested.
HINT = (
    "check out the commit that gets the result (actions/checkout with ref:), or name the commit that was tested: input "
    "commit of the Action, --commit SHA; for a merge commit the job needs contents: read"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """The commit `sha` gets the result, unless `obstacle` says why not; both are empty if the event names no commit."""

    sha: str
    obstacle: str = ""


def aim(api: GithubApi, job: GithubJob) -> Aim:
    """Where the result of `job` belongs. Raises ForgeError."""
    tested = job.stated or job.found
    if job.checkout is Checkout.SAME:
        sha = job.stated or job.sha
        return Aim(sha=sha, obstacle="" if tested in ("", sha) else _other(tested, sha))
    head = job.sha or (_head(api, job.pull) if job.pull else "")
    if not tested and job.checkout is Checkout.OTHER:
        return Aim(sha=head, obstacle="it is unknown which commit was tested: there is no checkout here, and "
                                      f"the event {job.event} checks out another one")  # fmt: skip
    if not tested and job.checkout is Checkout.MERGE_REF:
        tested = job.default_sha
    if not head or tested in ("", head) or (job.checkout is Checkout.MERGE and tested == job.default_sha):
        return Aim(sha=head)
    return Aim(sha=head, obstacle="" if _merges(api, tested, head) else _other(tested, head))


def _other(tested: str, sha: str) -> str:
    return f"commit {tested[:12]} was tested, but the result would be shown for {sha[:12] or 'an unknown commit'}"


def _head(api: GithubApi, pull: int) -> str:
    return sha_of(dig(api.one("GET", f"/pulls/{pull}"), "head", "sha"))


def _merges(api: GithubApi, commit: str, head: str) -> bool:
    """Whether `commit` merges `head` into another branch: its second parent, as in the merges that GitHub makes."""
    try:
        parents = api.one("GET", f"/git/commits/{commit}").get("parents")
    except ForgeError as error:
        if error.trouble is Trouble.STATUS and error.status in (403, 404, 409, 422):
            return False  # the commit is not on the server, or the token may not read it
        raise
    shas = [dig(parent, "sha") for parent in parents] if isinstance(parents, list) else []
    return len(shas) == 2 and shas[1] == head
