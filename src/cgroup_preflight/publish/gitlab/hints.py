"""What fixes an error of GitLab's API: pure."""

from cgroup_preflight.publish.http import ForgeError, Trouble
from cgroup_preflight.publish.receipt import general_hint

#: The fix if no token may write notes.
PROJECT_TOKEN = (
    "create a project access token with the scope api and the role Reporter or above, and store it as the masked CI/CD "  # noqa: S105
    "variable CGROUP_PREFLIGHT_GITLAB_TOKEN"
)
#: The fix if another commit was tested.
COMMIT = "check out CI_COMMIT_SHA, or name the commit that was tested: --commit SHA"


def hint(error: ForgeError, _channel: str) -> str:
    """The token and the scope to use, or another fix; empty if none is known."""
    if error.status == 401:
        return f"the token is not valid or has expired; {PROJECT_TOKEN}"
    if error.status in (403, 404) and error.trouble is Trouble.STATUS:
        scope = "it lacks the scope api; " if "insufficient_scope" in error.answer.excerpt else ""
        return f"the token may not write notes here; {scope}{PROJECT_TOKEN}"
    return general_hint(error, server="GitLab", address="CI_SERVER_URL")
