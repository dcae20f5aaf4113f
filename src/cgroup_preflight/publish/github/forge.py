"""Publishing on GitHub: log commands, job summary and outputs, which need no token; then check run and comment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cgroup_preflight.core.report import NO_PASS, Origin, Verdict
from cgroup_preflight.publish import comment
from cgroup_preflight.publish.clock import Outside
from cgroup_preflight.publish.github import hints, job_files, log
from cgroup_preflight.publish.github.job import GithubJob
from cgroup_preflight.publish.http import ForgeError, Transport, Trouble
from cgroup_preflight.publish.options import Options, Results, drafter
from cgroup_preflight.publish.origin import LegId, artifact_name, origin_of, unique_name
from cgroup_preflight.publish.receipt import Delivery, Outcome, Receipt, TimedChannel, lines, undelivered
from cgroup_preflight.publish.secret import Secret
from cgroup_preflight.report import comment as comment_body
from cgroup_preflight.report import markdown as markdown_format
from cgroup_preflight.report.annotations import batches
from cgroup_preflight.report.escape import pre

if TYPE_CHECKING:
    from cgroup_preflight.publish.github.api import GithubApi
    from cgroup_preflight.publish.github.commit import Aim

_CHECK_RUN, _COMMENT = "check run", "comment"
#: A required check counts `neutral` as passed, so unverified is `neutral` only if the caller allows it.
_CONCLUSIONS = {Verdict.PASS: "success", Verdict.FAIL: "failure", Verdict.UNVERIFIED: "action_required"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GithubForge:
    """GitHub, seen from one job."""

    job: GithubJob
    reads_commands: bool = True
    report_folder: str = ""

    @property
    def root(self) -> str:
        """The workspace."""
        return self.job.workspace

    def origin(self, leg: LegId) -> Origin:
        """The origin of a report that this job publishes for `leg`."""
        return origin_of(self.job.id, leg)

    @property
    def links(self) -> Mapping[str, str]:
        """Nothing on GitHub reads links from a file."""
        return {}

    def publish(self, results: Results, options: Options, receipt: Receipt, outside: Outside) -> None:
        """Runs every channel."""
        publication = _Publication(job=self.job, results=results, options=options, receipt=receipt, outside=outside)
        obstacle = publication.obstacle()
        if options.dry_run:
            publication.call_api(obstacle)
            return
        # A check run shows the annotations at the lines of the config; without one the log does.
        placed = bool(obstacle) or not options.check
        outcome, shown = log.write(self.job, results.merged.report, outside.say, placed=placed)
        receipt.add(outcome)
        publication.write_summary()
        publication.write_outputs()
        publication.call_api(obstacle)
        shown = "" if placed else shown
        log.write_refused(self.job, results.merged.report, outside.say, receipt.outcomes, shown=shown)
        publication.write_addresses()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Publication:
    """What all channels of one call work on."""

    job: GithubJob
    results: Results
    options: Options
    receipt: Receipt
    outside: Outside

    def obstacle(self) -> str:
        """Why no request to the API can succeed; empty if one can."""
        if self.job.read_only:
            return f"{self.job.read_only}: its token may only read"
        if self.job.token is None and not self.options.dry_run:
            return "no token: pass ${{ github.token }} (input token, or GITHUB_TOKEN)"
        return ""

    def write_summary(self) -> None:
        path = self.job.summary_file
        room = job_files.summary_room(path) if path else 0
        if room < job_files.SUMMARY_MIN:
            why = "the summary of this step is full" if path else "GITHUB_STEP_SUMMARY is not set"
            self.receipt.add(Outcome(channel="summary", delivery=Delivery.SKIPPED, detail=why))
            return
        self.receipt.add(job_files.append_summary(path, comment_body.render(self.results.merged, limit=room)))

    def write_outputs(self) -> None:
        found = self.results.merged.report.findings
        wrong = sum(item.status in NO_PASS for item in found)
        artifact = artifact_name(origin_of(self.job.id, self.options.leg))
        values = {"verdict": self.results.merged.verdict.value, "findings": str(wrong), "artifact": artifact}
        self._append_outputs(values)

    def _append_outputs(self, values: dict[str, str]) -> None:
        if self.job.output_file:
            self.receipt.add(job_files.append_outputs(self.job.output_file, values))

    def write_addresses(self) -> None:
        """The addresses as outputs; and, in the summary, what was not delivered and why."""
        urls = {f"{item.channel.split(' ')[0]}-url": item.url for item in self.receipt.outcomes if item.url}
        if urls:
            self._append_outputs(urls)
        missing, path = undelivered(self.receipt.outcomes), self.job.summary_file
        if missing and path and job_files.summary_room(path) > job_files.SUMMARY_MIN:
            text = pre("\n".join(lines(missing)), 4000)
            job_files.append_summary(path, f"<details><summary>Not delivered</summary>\n{text}\n</details>")

    def call_api(self, obstacle: str) -> None:
        """Check run and comment, or why there are none."""
        channels: dict[str, TimedChannel] = {}
        if self.options.check:
            channels[_CHECK_RUN] = self._check_run
        if self.options.comment != "never":
            channels[_COMMENT] = self._comment
        if not obstacle:
            tolerant = {name: self._tolerant(name, channel) for name, channel in channels.items()}
            seconds, clock = self.options.deadline, self.outside.clock
            self.receipt.run_timed(tolerant, seconds=seconds, clock=clock, hint=hints.hint)
            return
        hint = hints.WORKFLOW_RUN if self.job.read_only else ""
        for name in channels:
            self.receipt.add(Outcome(channel=name, delivery=Delivery.SKIPPED, detail=obstacle, hint=hint))

    def _tolerant(self, name: str, channel: TimedChannel) -> TimedChannel:
        """The channel; if it was in doubt whether the token may write, a refusal is no failure."""

        def run(seconds: float) -> Outcome:
            try:
                return channel(seconds)
            except ForgeError as error:
                if not self.job.doubtful or error.status != 403 or error.trouble is not Trouble.STATUS:
                    raise
                return Outcome(channel=name, delivery=Delivery.SKIPPED, status=403, hint=hints.hint(error, name),
                               detail=f"{self.job.doubtful}: its token may only read")  # fmt: skip

        return run

    def _connect(self, seconds: float) -> "GithubApi":
        from cgroup_preflight.publish.github.api import GithubApi  # the client library is slow to import

        return GithubApi(
            base_url=self.job.api_url, graphql_url=self.job.graphql_url, repo=self.job.repo,
            token=self.job.token or Secret("dry-run"), transport=self._transport(seconds), ca_file=self.options.ca_file,
        )  # fmt: skip

    def _transport(self, seconds: float) -> Transport:
        if self.options.dry_run:
            from cgroup_preflight.publish.dry_run import DryRun

            return DryRun(self.job.api_url, say=self.outside.say)
        deadline = self.outside.clock.monotonic() + seconds
        return Transport(self.job.api_url, deadline=deadline, clock=self.outside.clock, reads=(self.job.graphql_url,))

    def _aim(self, api: "GithubApi") -> "Aim":
        from cgroup_preflight.publish.github import commit

        if self.options.dry_run:  # no server says which commit is the head
            return commit.Aim(sha=self.job.stated or self.job.sha or self.job.found)
        return commit.aim(api, self.job)

    def _check_run(self, seconds: float) -> Outcome:
        api = self._connect(seconds)
        from cgroup_preflight.publish.github import check_run

        aim = self._aim(api)
        if aim.obstacle:
            return _refused(_CHECK_RUN, aim)
        if not aim.sha:
            return Outcome(channel=_CHECK_RUN, delivery=Delivery.SKIPPED, detail="the event names no commit")
        merged, options = self.results.merged, self.options
        allowed = merged.verdict is Verdict.UNVERIFIED and options.allow_unverified
        key = "" if options.key == "default" else f" {options.key}"
        leg = unique_name(self.job.id, options.leg)
        return check_run.publish(api, check_run.CheckRun(
            name=f"cgroup-preflight{key}{f' ({leg})' if leg else ''}", key=options.key,
            origin=origin_of(self.job.id, options.leg), sha=aim.sha,
            conclusion="neutral" if allowed else _CONCLUSIONS[merged.verdict], title=comment_body.title(merged)[:250],
            summary=comment_body.render(merged, limit=check_run.SUMMARY_MAX), batches=batches(merged.report),
            details_url=self.job.run_url, server=self.job.server_url,
        ), self.outside.clock)  # fmt: skip

    def _comment(self, seconds: float) -> Outcome:
        api = self._connect(seconds)
        from cgroup_preflight.publish.github.comments import GithubComments, pull_of_run

        job, options = self.job, self.options
        origin = origin_of(job.id, options.leg)
        number = pull_of_run(api, job, options.claimed) if job.event == "workflow_run" else job.pull
        if number is None:
            return Outcome(channel=_COMMENT, delivery=Delivery.SKIPPED, detail=self._no_pull())
        aim = self._aim(api)
        if aim.obstacle:
            return _refused(_COMMENT, aim)
        return comment.publish(GithubComments(api, number, job.server_url), comment.CommentSpec(
            channel=_COMMENT, key=options.key, run=job.run, sha=aim.sha, limit=markdown_format.LIMIT,
            draft=drafter(self.results, options.comment), leg=self.results.as_leg(origin),
            covers=self.results.covers(origin),
        ), self.outside.clock, settle=options.settle)  # fmt: skip

    def _no_pull(self) -> str:
        if self.job.event != "workflow_run":
            return self.job.no_pull
        commit = f"{self.job.sha[:12]}, the commit of the run"
        if self.options.claimed is not None:
            return f"the head of pull request {self.options.claimed} is not {commit}"
        return f"no open pull request has the head {commit}"


def _refused(channel: str, aim: "Aim") -> Outcome:
    """A result of another commit: shown in the log and the summary only, never as that of the pull request."""
    from cgroup_preflight.publish.github.commit import HINT

    return Outcome(channel=channel, delivery=Delivery.FAILED, detail=aim.obstacle, hint=HINT)
