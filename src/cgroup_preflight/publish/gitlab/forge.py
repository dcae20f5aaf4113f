"""Publishing on GitLab: report files for the widgets of the merge request, which need no token; then a note.

No commit status is written: from inside a job it can turn a failed merge request pipeline green (GitLab docs,
"External commit statuses"). The job's own status is the status.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cgroup_preflight.core.report import Origin
from cgroup_preflight.publish import comment
from cgroup_preflight.publish.clock import Outside
from cgroup_preflight.publish.gitlab import hints
from cgroup_preflight.publish.gitlab.job import GitlabJob
from cgroup_preflight.publish.http import ForgeError, Transport
from cgroup_preflight.publish.options import Options, Results, drafter
from cgroup_preflight.publish.origin import LegId, origin_of
from cgroup_preflight.publish.receipt import Delivery, Outcome, Receipt
from cgroup_preflight.publish.secret import Secret

if TYPE_CHECKING:
    import gitlab

_NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class GitlabForge:
    """GitLab, seen from one job."""

    job: GitlabJob
    reads_commands: bool = False
    report_folder: str = "cgroup-preflight-reports"

    @property
    def root(self) -> str:
        """The project's folder."""
        return self.job.project_dir

    def origin(self, leg: LegId) -> Origin:
        """The origin of a report that this job publishes for `leg`."""
        return _origin(self.job, leg)

    @property
    def links(self) -> Mapping[str, str]:
        """Addresses for the page of the job."""
        found = {"job": self.job.job_url, "pipeline": self.job.pipeline_url}
        return {name: url for name, url in found.items() if url}

    def publish(self, results: Results, options: Options, receipt: Receipt, outside: Outside) -> None:
        """Writes the note; the report files are already written."""
        if options.comment == "never":
            return
        if self.job.obstacle:
            receipt.add(Outcome(channel=_NOTE, delivery=Delivery.FAILED, detail=self.job.obstacle, hint=hints.COMMIT))
            return
        token = self.job.token or self.job.job_token or (Secret("dry-run") if options.dry_run else None)
        if token is None:
            receipt.add(Outcome(channel=_NOTE, delivery=Delivery.SKIPPED, hint=hints.PROJECT_TOKEN,
                                detail="no token; the widgets show the result"))  # fmt: skip
            return

        def write(seconds: float) -> Outcome:
            return _note(self.job, results, options, token, outside, seconds)

        receipt.run_timed({_NOTE: write}, seconds=options.deadline, clock=outside.clock, hint=hints.hint)


def _origin(job: GitlabJob, leg: LegId) -> Origin:
    """The name of a job has the values of its matrix."""
    matrix = leg.matrix or job.job_name
    index, total = leg.index or job.index, leg.total or job.total
    return origin_of(job.id, replace(leg, matrix=matrix, name=leg.name or job.job_name, index=index, total=total))


def _note(
    job: GitlabJob, results: Results, options: Options, token: Secret, outside: Outside, seconds: float
) -> Outcome:
    from cgroup_preflight.publish.gitlab import notes  # the client library is slow to import

    client = notes.connect(job, token, _transport(job, options, outside, seconds), ca_file=options.ca_file)
    try:
        return _write(client, job, results, options, outside)
    except ForgeError as error:
        if token is job.token or error.status not in (401, 403, 404):
            raise
        # No failure: what CI_JOB_TOKEN may do depends on the version of GitLab, so it is tried.
        return Outcome(channel=_NOTE, delivery=Delivery.SKIPPED, status=error.status, hint=hints.PROJECT_TOKEN,
                       detail="CI_JOB_TOKEN may not write notes here; the widgets show the result")  # fmt: skip


def _transport(job: GitlabJob, options: Options, outside: Outside, seconds: float) -> Transport:
    if options.dry_run:
        from cgroup_preflight.publish.dry_run import DryRun

        return DryRun(job.server_url, say=outside.say)
    return Transport(job.server_url, deadline=outside.clock.monotonic() + seconds, clock=outside.clock)


def _write(client: "gitlab.Gitlab", job: GitlabJob, results: Results, options: Options, outside: Outside) -> Outcome:
    from cgroup_preflight.publish.gitlab.notes import BODY_MAX, GitlabNotes, find_request

    found = (job.project, job.iid) if job.iid is not None else find_request(client, job)
    if found is None:
        return Outcome(
            channel=_NOTE, delivery=Delivery.SKIPPED, detail="no open merge request has this commit as its head"
        )
    origin = _origin(job, options.leg)
    return comment.publish(GitlabNotes(client, *found, job.server_url), comment.CommentSpec(
        channel=_NOTE, key=options.key, run=job.run, sha=job.sha, limit=BODY_MAX,
        draft=drafter(results, options.comment), leg=results.as_leg(origin), covers=results.covers(origin),
    ), outside.clock, settle=options.settle)  # fmt: skip
