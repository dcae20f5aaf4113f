"""The ladder on GitHub: files, log commands, summary and outputs first, since they need no token; then the API."""

from collections import Counter
from typing import TYPE_CHECKING

from cgroup_preflight.core.report import NO_PASS, Verdict
from cgroup_preflight.publish import comment, files
from cgroup_preflight.publish import receipt as receipts
from cgroup_preflight.publish.clock import Clock, Outside
from cgroup_preflight.publish.github.job import GithubJob
from cgroup_preflight.publish.http import ForgeError, Transport, Trouble
from cgroup_preflight.publish.options import Load, Wishes, drafter
from cgroup_preflight.publish.receipt import Delivery, Outcome, Receipt, Waiting, lines, undelivered
from cgroup_preflight.publish.secret import Secret
from cgroup_preflight.report import annotations
from cgroup_preflight.report import comment as comment_body
from cgroup_preflight.report import markdown as markdown_format
from cgroup_preflight.report.annotations import batches
from cgroup_preflight.report.escape import pre

if TYPE_CHECKING:
    from cgroup_preflight.publish.github.api import GithubApi

#: `neutral` would count as passed where the check is required, so unverified is not that unless allowed.
_CONCLUSIONS = {Verdict.PASS: "success", Verdict.FAIL: "failure", Verdict.UNVERIFIED: "action_required"}


def publish(job: GithubJob, load: Load, wishes: Wishes, receipt: Receipt, outside: Outside) -> None:
    """Everything that GitHub offers."""
    names = [name for name, wanted in (("check run", wishes.check), ("comment", wishes.comment != "never")) if wanted]
    hindrance = _hindrance(job, wishes) if names else ""
    placed = bool(hindrance) or not wishes.check
    shown = ""
    if not wishes.dry_run:
        shown = _log(job, load, outside, placed=placed)
        receipt.add(Outcome(channel="log commands", delivery=Delivery.DELIVERED,
                            detail=f"{len(shown.splitlines())} lines"))  # fmt: skip
        _summary(job, load, receipt)
        _outputs(job, {"verdict": load.merged.verdict.value, "findings": str(_wrong(load))}, receipt)
    if hindrance:
        for name in names:
            receipt.add(Outcome(channel=name, delivery=Delivery.SKIPPED, detail=hindrance,
                                hint=receipts.RECIPE if job.read_only else ""))  # fmt: skip
    elif names:
        _api(job, load, wishes, receipt, outside)
    if not wishes.dry_run:
        _afterwords(job, load, outside, receipt, shown="" if placed else shown)
        _aftermath(job, receipt)


def _hindrance(job: GithubJob, wishes: Wishes) -> str:
    """Why the API is not worth a request; empty where it is."""
    if job.read_only:
        return f"{job.read_only}: its token may only read"
    if job.token is None and not wishes.dry_run:
        return "no token: hand over ${{ github.token }} (the input token, or GITHUB_TOKEN)"
    return ""


def _wrong(load: Load) -> int:
    return sum(item.status in NO_PASS for item in load.merged.report.findings)


def _log(job: GithubJob, load: Load, outside: Outside, *, placed: bool) -> str:
    """Annotations stand at their lines unless a check run puts them there: twice on one line would be noise."""
    # One of the ten notices of a step is kept for what there is to say about the token.
    taken = {"notice": 1} if job.read_only or job.doubtful else {}
    text = _notice(job.read_only) if job.read_only else ""
    text += annotations.render(load.merged.report, placed=placed, taken=taken)
    _say(text, outside)
    return text


def _say(text: str, outside: Outside) -> None:
    for line in text.splitlines():
        outside.say(line)


def _notice(reason: str) -> str:
    said = f"{reason}: its token may only read, so the result is in the job summary; {receipts.RECIPE}"
    return annotations.command("notice", said, title="cgroup-preflight")


def _afterwords(job: GithubJob, load: Load, outside: Outside, receipt: Receipt, *, shown: str) -> None:
    """What only the answers tell: that the token may only read, and that no check run shows the lines after all."""
    refused = [item for item in receipt.outcomes if item.delivery is Delivery.SKIPPED and item.status == 403]
    if refused:
        _say(_notice(job.doubtful), outside)
    checks = [item for item in receipt.outcomes if item.channel.startswith("check run")]
    if shown and any(item.delivery is Delivery.FAILED or item in refused for item in checks):
        taken = annotations.kinds(shown) + Counter({"notice": len(refused[:1])})
        _say(annotations.render(load.merged.report, taken=taken), outside)


def _summary(job: GithubJob, load: Load, receipt: Receipt) -> None:
    room = files.summary_room(job.summary_file) if job.summary_file else 0
    if room < files.SUMMARY_MIN:
        why = "the summary of this step is full" if job.summary_file else "GITHUB_STEP_SUMMARY is not set"
        receipt.add(Outcome(channel="summary", delivery=Delivery.SKIPPED, detail=why))
        return
    receipt.add(files.append_summary(job.summary_file, comment_body.render(load.merged, limit=room)))


def _outputs(job: GithubJob, values: dict[str, str], receipt: Receipt) -> None:
    if job.output_file:
        receipt.add(files.append_outputs(job.output_file, values))


def _api(job: GithubJob, load: Load, wishes: Wishes, receipt: Receipt, outside: Outside) -> None:
    channels: dict[str, Waiting] = {}
    if wishes.check:
        channels["check run"] = lambda seconds: _check(
            _connect(job, wishes, outside, seconds), job, load, wishes, outside.clock
        )
    if wishes.comment != "never":
        channels["comment"] = lambda seconds: _comment(
            _connect(job, wishes, outside, seconds), job, load, wishes, outside.clock
        )
    doubting = {name: _doubting(job, name, channel) for name, channel in channels.items()}
    receipt.attempt_all(doubting, seconds=wishes.deadline, clock=outside.clock, hint=receipts.github)


def _connect(job: GithubJob, wishes: Wishes, outside: Outside, seconds: float) -> "GithubApi":
    from cgroup_preflight.publish.github.api import GithubApi  # the client library is slow to import

    return GithubApi(
        base_url=job.api_url, graphql_url=job.graphql_url, repo=job.repo, token=job.token or Secret("dry-run"),
        transport=_transport(job, wishes, outside, seconds), ca_file=wishes.ca_file,
    )  # fmt: skip


def _transport(job: GithubJob, wishes: Wishes, outside: Outside, seconds: float) -> Transport:
    if wishes.dry_run:
        from cgroup_preflight.publish.dry_run import DryRun

        return DryRun(job.api_url, say=outside.say)
    deadline = outside.clock.monotonic() + seconds
    return Transport(job.api_url, deadline=deadline, clock=outside.clock, reads=(job.graphql_url,))


def _doubting(job: GithubJob, name: str, channel: Waiting) -> Waiting:
    """The channel; where a token was in doubt and may not do it after all, that is no failure."""

    def run(seconds: float) -> Outcome:
        try:
            return channel(seconds)
        except ForgeError as error:
            if not job.doubtful or error.status != 403 or error.trouble is not Trouble.STATUS:
                raise
            return Outcome(channel=name, delivery=Delivery.SKIPPED, status=403, hint=receipts.github(error, name),
                           detail=f"{job.doubtful}: its token may only read")  # fmt: skip

    return run


def _check(api: "GithubApi", job: GithubJob, load: Load, wishes: Wishes, clock: Clock) -> Outcome:
    from cgroup_preflight.publish.github import check_run

    if not job.sha:
        return Outcome(channel="check run", delivery=Delivery.SKIPPED, detail="the event names no commit")
    merged = load.merged
    allowed = merged.verdict is Verdict.UNVERIFIED and wishes.allow_unverified
    conclusion = "neutral" if allowed else _CONCLUSIONS[merged.verdict]
    key = "" if wishes.key == "default" else f" {wishes.key}"
    leg = f" ({wishes.leg[:100]})" if wishes.leg else ""
    return check_run.publish(api, check_run.CheckRun(
        name=f"cgroup-preflight{key}{leg}", key=wishes.key, run=job.run, job=job.name, sha=job.sha, conclusion=conclusion,
        title=comment_body.title(merged)[:250], summary=comment_body.render(merged, limit=check_run.SUMMARY_MAX),
        batches=batches(merged.report), details_url=job.run_url,
    ), clock)  # fmt: skip


def _comment(api: "GithubApi", job: GithubJob, load: Load, wishes: Wishes, clock: Clock) -> Outcome:
    from cgroup_preflight.publish.github.comments import GithubBoard, pull_of_run

    number = pull_of_run(api, job, wishes.claimed) if job.event == "workflow_run" else job.pull
    if number is None:
        return Outcome(channel="comment", delivery=Delivery.SKIPPED, detail=_no_pull(job, wishes))
    own_leg = next(iter(load.legs)) if wishes.leg else None
    return comment.publish(GithubBoard(api, number), comment.Sticky(
        channel="comment", key=wishes.key, run=job.run, sha=job.sha, job=job.name, draft=drafter(load, wishes.comment),
        limit=markdown_format.LIMIT, leg=own_leg,
    ), clock, settle=wishes.settle)  # fmt: skip


def _no_pull(job: GithubJob, wishes: Wishes) -> str:
    if job.event != "workflow_run":
        return f"the event {job.event or 'of this run'} is about no pull request"
    if wishes.claimed is not None:
        return f"pull request {wishes.claimed} is not at {job.sha[:12]}, the commit of the run"
    return f"no open pull request is at {job.sha[:12]}, the commit of the run"


def _aftermath(job: GithubJob, receipt: Receipt) -> None:
    """Addresses as outputs, and in the summary what did not arrive and why."""
    urls = {f"{item.channel.split(' ')[0]}-url": item.url for item in receipt.outcomes if item.url}
    if urls:
        _outputs(job, urls, receipt)
    missing = undelivered(receipt.outcomes)
    if missing and job.summary_file and files.summary_room(job.summary_file) > files.SUMMARY_MIN:
        text = "\n".join(lines(missing))
        folded = f"<details><summary>Not delivered</summary>\n{pre(text, 4000)}\n</details>"
        files.append_summary(job.summary_file, folded)
