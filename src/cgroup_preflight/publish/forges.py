"""Where results are published: GitHub, GitLab or nowhere, chosen by the environment; and all channels in order."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Origin, Remedy
from cgroup_preflight.publish import files
from cgroup_preflight.publish.clock import Outside
from cgroup_preflight.publish.github import job as github_job
from cgroup_preflight.publish.gitlab import job as gitlab_job
from cgroup_preflight.publish.options import Options, Results
from cgroup_preflight.publish.origin import LegId
from cgroup_preflight.publish.receipt import Delivery, Receipt
from cgroup_preflight.publish.secret import Secret, secret


class Forge(Protocol):
    """A place where results are published, seen from the job that publishes."""

    @property
    def root(self) -> str:
        """The folder of the repository on this machine; empty if unknown."""

    def origin(self, leg: LegId) -> Origin:
        """The origin of a report that this job publishes for `leg`."""

    @property
    def reads_commands(self) -> bool:
        """Whether lines of the job's log can be commands."""

    @property
    def report_folder(self) -> str:
        """The folder for report files by default; empty: none are written."""

    @property
    def links(self) -> Mapping[str, str]:
        """Addresses by name for the report files."""

    def publish(self, results: Results, options: Options, receipt: Receipt, outside: Outside) -> None:
        """Runs every channel and adds its outcome to `receipt`; raises nothing for an answer of the server."""


def secrets_of(environ: Mapping[str, str]) -> tuple[Secret, ...]:
    """Every token in the environment; they are removed from all texts that are written."""
    names = (*github_job.SECRETS, *gitlab_job.SECRETS)
    return tuple(found for name in names if (found := secret(environ.get(name, ""))))


def detect(environ: Mapping[str, str], provider: str = "auto", *, commit: str = "checkout") -> Forge | None:
    """The forge named `provider` (github, gitlab, none), or with auto the one whose variables are set.

    `commit` says which commit was tested, as in `checkout.named_and_found`.

    Raises UsageError if both are set, or if the environment is incomplete.
    """
    if provider == "auto":
        marks = {"github": "GITHUB_ACTIONS", "gitlab": "GITLAB_CI"}
        found = [name for name, mark in marks.items() if environ.get(mark) == "true"]
        if len(found) > 1:
            raise UsageError("the environment looks like GitHub and like GitLab", where="--provider",
                             remedy=Remedy(title="choose one: --provider github or --provider gitlab"))  # fmt: skip
        provider = found[0] if found else "none"
    if provider == "github":
        from cgroup_preflight.publish.github.forge import GithubForge

        return GithubForge(job=github_job.read_job(environ, commit))
    if provider == "gitlab":
        from cgroup_preflight.publish.gitlab.forge import GitlabForge

        return GitlabForge(job=gitlab_job.read_job(environ, commit))
    return None


def publish(
    forge: Forge | None, results: Results, options: Options, outside: Outside, *, hide: Callable[[str], str] = str
) -> Receipt:
    """Runs every channel, those without a request first. `hide` removes tokens from a text."""
    receipt = Receipt(hide)
    if options.dry_run:
        outside = replace(outside, clock=replace(outside.clock, sleep=_no_sleep))
    folder = "" if options.dry_run else options.files or (forge.report_folder if forge else "")
    if folder:
        links = forge.links if forge else {}
        receipt.run("report files", lambda: files.write_files(folder, files.report_files(results.merged, links)))
    if forge:
        forge.publish(results, options, receipt, outside)
    if folder and receipt.outcomes[0].delivery is Delivery.DELIVERED:
        # Again, now with the whole receipt; if the job is stopped before this, the first version stays.
        files.write_files(folder, files.merged_file(results.merged, receipt.outcomes))
    return receipt


def _no_sleep(_seconds: float) -> None:
    """A dry run waits for nobody."""
