"""From what a forge refused to the very line that mends it: pure."""

import re

from cgroup_preflight.publish.forge_error import ForgeError, Trouble
from cgroup_preflight.publish.outcome import Delivery, Outcome
from cgroup_preflight.report.annotations import no_command
from cgroup_preflight.report.escape import clip, plain

#: `checks=write` or `issues=write; pull_requests=write` (either of both), as GitHub names what it would accept.
_ACCEPTED = re.compile(r"([a-z_]{1,40})=(read|write)", re.ASCII)
#: What each channel needs where the answer does not say it.
_GITHUB_NEEDS = {"check": "checks: write", "comment": "pull-requests: write"}
GITLAB_TOKEN = (
    "create a project access token with the scope api and the role Reporter or above, and store it as the masked CI/CD "  # noqa: S105
    "variable CGROUP_PREFLIGHT_GITLAB_TOKEN"
)
RECIPE = "to publish such runs use the workflow_run recipe, docs/workflow-run.md"


def failed(channel: str, error: ForgeError, hint: str) -> Outcome:
    """The receipt of a channel that a forge stopped."""
    return Outcome(channel=channel, delivery=Delivery.FAILED, detail=_detail(error), hint=hint, status=error.status)


def _detail(error: ForgeError) -> str:
    """What happened, with the beginning of an answer that was no API's; one line without control characters."""
    said = ""
    if error.trouble in (Trouble.CONTENT, Trouble.SERVER, Trouble.STATUS) and error.answer.excerpt:
        kind = clip(error.answer.header("content-type").partition(";")[0], 40) or "no type"
        said = f", answered with {kind}: {clip(error.answer.excerpt, 160)}"
    unsure = "; it may have been done all the same" if error.ambiguous else ""
    return no_command(plain(f"{error.method} {clip(error.path, 120)}: {error.trouble.value}{unsure}{said}"))


def github(error: ForgeError, channel: str) -> str:
    """The line to add to a workflow, or what else helps; empty where nothing is known to."""
    if error.status == 401:
        return "the token is not valid (any more); hand over ${{ github.token }}"
    if error.status in (403, 404) and error.trouble is Trouble.STATUS:
        return f"add to the job:  permissions: {{ {_permission(error, channel)} }}"
    return _general(error, "GITHUB_API_URL")


def _permission(error: ForgeError, channel: str) -> str:
    accepted = _ACCEPTED.findall(error.answer.header("x-accepted-github-permissions"))
    known = _GITHUB_NEEDS.get(channel.split(" ", maxsplit=1)[0], "")
    named = [f"{name.replace('_', '-')}: {right}" for name, right in accepted]
    # Of several that would do, the one that this tool documents is the least.
    return known if known in named or not named else named[0]


def gitlab(error: ForgeError, *, with_job_token: bool) -> str:
    """The token and scope to use, or what else helps; empty where nothing is known to."""
    if with_job_token and error.status in (401, 403, 404):
        return GITLAB_TOKEN
    if error.status == 401:
        return f"the token is not valid (any more); {GITLAB_TOKEN}"
    if error.status in (403, 404) and error.trouble is Trouble.STATUS:
        scope = "it lacks the scope api; " if "insufficient_scope" in error.answer.excerpt else ""
        return f"the token may not write notes here; {scope}{GITLAB_TOKEN}"
    return _general(error, "CI_SERVER_URL")


def _general(error: ForgeError, variable: str) -> str:
    ways = {
        Trouble.LIMIT: "the forge limits requests; publish once for all legs: publish a.json b.json ...",
        Trouble.TLS: "name the CA's certificate in CGROUP_PREFLIGHT_CA_FILE",
        Trouble.CA_FILE: "name a file in PEM format that is there: CGROUP_PREFLIGHT_CA_FILE, CI_SERVER_TLS_CA_FILE "
                         "or REQUESTS_CA_BUNDLE",
        Trouble.MOVED: f"set {variable} to the address it redirects to (https, no gateway in between)",
        Trouble.CONTENT: f"is there a proxy or a log-in page between this job and {variable}?",
        Trouble.UNREACHABLE: f"is {variable} reachable from this job? Proxies: HTTPS_PROXY, NO_PROXY",
    }  # fmt: skip
    return ways.get(error.trouble, "")
