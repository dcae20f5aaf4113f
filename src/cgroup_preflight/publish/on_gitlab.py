"""The ladder on GitLab: report files for the merge request's widgets, which need no token; then a note, with one.

No commit status is ever written: from inside a job it can turn a failed merge request pipeline green
(GitLab docs, "External commit statuses"). The job's own status is the status.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cgroup_preflight.publish import comment
from cgroup_preflight.publish import receipt as receipts
from cgroup_preflight.publish.clock import Clock, Outside
from cgroup_preflight.publish.gitlab.job import GitlabJob
from cgroup_preflight.publish.http import ForgeError, Transport
from cgroup_preflight.publish.options import Load, Wishes, drafter
from cgroup_preflight.publish.receipt import Delivery, Outcome, Receipt, with_receipt
from cgroup_preflight.publish.secret import Secret
from cgroup_preflight.report import codec, codequality, junit
from cgroup_preflight.report import comment as comment_body
from cgroup_preflight.report.merge import Merged

if TYPE_CHECKING:
    import gitlab

FOLDER = "cgroup-preflight-reports"


def report_files(merged: Merged, links: dict[str, str]) -> dict[str, str]:
    """Every file that GitLab's `artifacts:reports` reads, and the report itself."""
    return {
        "junit.xml": junit.render(merged.report),
        "codequality.json": codequality.render(merged.report),
        "annotations.json": codequality.annotations(merged, links),
        "preflight.env": codequality.dotenv(merged),
        "report.md": comment_body.render(merged, limit=200_000),
        **merged_file(merged),
    }


def merged_file(merged: Merged, outcomes: Iterable[Outcome] = ()) -> dict[str, str]:
    """The report itself, with the receipt as far as it is known."""
    return {"merged.json": codec.render(with_receipt(merged.report, outcomes))}


def publish(job: GitlabJob, load: Load, wishes: Wishes, receipt: Receipt, outside: Outside) -> None:
    """The note; the files were written before."""
    if wishes.comment == "never":
        return
    token = job.token or job.job_token or (Secret("dry-run") if wishes.dry_run else None)
    if token is None:
        receipt.add(Outcome(channel="note", delivery=Delivery.SKIPPED, detail="no token; the widgets carry the result",
                            hint=receipts.GITLAB_TOKEN))  # fmt: skip
        return
    with_job_token = job.token is None
    receipt.attempt_all(
        {"note": lambda seconds: _note(job, load, wishes, token, outside, seconds)},
        seconds=wishes.deadline, clock=outside.clock, hint=lambda error, _name: receipts.gitlab(error, with_job_token=with_job_token),
    )  # fmt: skip


def _note(job: GitlabJob, load: Load, wishes: Wishes, token: Secret, outside: Outside, seconds: float) -> Outcome:
    from cgroup_preflight.publish.gitlab import comments  # the client library is slow to import

    client = comments.connect(job, token, _transport(job, wishes, outside, seconds), ca_file=wishes.ca_file)
    try:
        return _write(client, job, load, wishes, outside.clock)
    except ForgeError as error:
        if token is not job.token and error.status in (401, 403, 404):
            # A probe, not a failure: what CI_JOB_TOKEN may do grows from version to version.
            return Outcome(channel="note", delivery=Delivery.SKIPPED, status=error.status, hint=receipts.GITLAB_TOKEN,
                           detail="CI_JOB_TOKEN may not do this here; the widgets carry the result")  # fmt: skip
        raise


def _transport(job: GitlabJob, wishes: Wishes, outside: Outside, seconds: float) -> Transport:
    if wishes.dry_run:
        from cgroup_preflight.publish.dry_run import DryRun

        return DryRun(job.server_url, say=outside.say)
    return Transport(job.server_url, deadline=outside.clock.monotonic() + seconds, clock=outside.clock)


def _write(client: "gitlab.Gitlab", job: GitlabJob, load: Load, wishes: Wishes, clock: Clock) -> Outcome:
    from cgroup_preflight.publish.gitlab.comments import BODY_MAX, GitlabBoard, find_request

    found = (job.project, job.iid) if job.iid is not None else find_request(client, job)
    if found is None:
        return Outcome(channel="note", delivery=Delivery.SKIPPED, detail="no open merge request is at this commit")
    leg = next(iter(load.legs)) if wishes.leg else None
    return comment.publish(GitlabBoard(client, *found), comment.Sticky(
        channel="note", key=wishes.key, run=job.run, sha=job.sha, job=job.job_name, draft=drafter(load, wishes.comment), limit=BODY_MAX,
        leg=leg,
    ), clock, settle=wishes.settle)  # fmt: skip
