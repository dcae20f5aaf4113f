"""The job's log: findings as workflow commands, of which GitHub makes annotations. They need no token."""

from collections import Counter
from collections.abc import Callable

from cgroup_preflight.core.report import Report
from cgroup_preflight.publish.github.hints import WORKFLOW_RUN
from cgroup_preflight.publish.github.job import GithubJob
from cgroup_preflight.publish.receipt import Delivery, Outcome
from cgroup_preflight.report import annotations

_CHANNEL = "log commands"


def write(job: GithubJob, report: Report, say: Callable[[str], None], *, placed: bool) -> tuple[Outcome, str]:
    """Prints the annotations, and returns them.

    With `placed` they stand at the lines of the config; a check run does that too, and once is enough.
    """
    # GitHub shows ten notices of a step; one of them is reserved for the notice about the token.
    taken = {"notice": 1} if job.read_only or job.doubtful else {}
    text = _read_only(job.read_only) if job.read_only else ""
    text += annotations.render(report, placed=placed, taken=taken)
    _say_lines(text, say)
    return Outcome(channel=_CHANNEL, delivery=Delivery.DELIVERED, detail=f"{len(text.splitlines())} lines"), text


def write_refused(
    job: GithubJob, report: Report, say: Callable[[str], None], outcomes: list[Outcome], *, shown: str
) -> None:
    """Prints what only the answers of the API tell.

    That is a token that may only read, and, after `shown` without places, the lines of the config if no check run
    shows them.
    """
    refused = [item for item in outcomes if item.delivery is Delivery.SKIPPED and item.status == 403]
    if refused:
        _say_lines(_read_only(job.doubtful), say)
    checks = [item for item in outcomes if item.channel.startswith("check run")]
    if shown and any(item.delivery is Delivery.FAILED or item in refused for item in checks):
        taken = annotations.kinds(shown) + Counter({"notice": len(refused[:1])})
        _say_lines(annotations.render(report, taken=taken), say)


def _read_only(reason: str) -> str:
    said = f"{reason}: its token may only read, so the result is in the job summary; {WORKFLOW_RUN}"
    return annotations.command("notice", said, title="cgroup-preflight")


def _say_lines(text: str, say: Callable[[str], None]) -> None:
    for line in text.splitlines():
        say(line)
