"""What fixes an error of GitHub's API: pure."""

import re

from cgroup_preflight.publish.http import ForgeError, Trouble
from cgroup_preflight.publish.receipt import general_hint

#: The fix for runs whose token may only read.
WORKFLOW_RUN = "to publish the results of such runs, use a second workflow: docs/workflow-run.md"
#: `checks=write`, or `issues=write; pull_requests=write` (one of them is enough), as GitHub names what it accepts.
_ACCEPTED = re.compile(r"([a-z_]{1,40})=(read|write)", re.ASCII)
#: What a channel needs if the answer does not say it, by the first word of its name.
_NEEDS = {"check": "checks: write", "comment": "pull-requests: write"}


def hint(error: ForgeError, channel: str) -> str:
    """The line to add to the workflow, or another fix; empty if none is known."""
    if error.status == 401:
        return "the token is not valid or has expired; pass ${{ github.token }}"
    if error.status in (403, 404) and error.trouble is Trouble.STATUS:
        return f"add to the job:  permissions: {{ {_permission(error, channel)} }}"
    return general_hint(error, server="GitHub", address="GITHUB_API_URL")


def _permission(error: ForgeError, channel: str) -> str:
    accepted = _ACCEPTED.findall(error.answer.header("x-accepted-github-permissions"))
    named = [f"{name.replace('_', '-')}: {right}" for name, right in accepted]
    documented = _NEEDS.get(channel.split(" ", maxsplit=1)[0], "")
    # If GitHub accepts several, the documented one gives the fewest rights.
    return documented if documented in named or not named else named[0]
