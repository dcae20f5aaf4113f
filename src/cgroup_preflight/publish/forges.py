"""All rungs in order, for the forge that the environment tells; the receipt says what became of each."""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.publish import files, on_github, on_gitlab
from cgroup_preflight.publish.clock import Outside
from cgroup_preflight.publish.github.job import TOKENS as GITHUB_TOKENS
from cgroup_preflight.publish.github.job import GithubJob, github_job
from cgroup_preflight.publish.gitlab.job import TOKENS as GITLAB_TOKENS
from cgroup_preflight.publish.gitlab.job import GitlabJob, gitlab_job
from cgroup_preflight.publish.options import Load, Wishes
from cgroup_preflight.publish.receipt import Delivery, Receipt
from cgroup_preflight.publish.secret import Secret, secret

#: Every variable that may hold a token; what they hold is taken out of all that is written.
_SECRET_NAMES = (*GITHUB_TOKENS, *GITLAB_TOKENS, "CI_JOB_TOKEN", "ACTIONS_RUNTIME_TOKEN",
                 "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "CI_REGISTRY_PASSWORD")  # fmt: skip


class Provider(enum.StrEnum):
    """Where to publish."""

    GITHUB = "github"
    GITLAB = "gitlab"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The forge and the job on it; `root` is where the repository lies on this machine."""

    provider: Provider
    github: GithubJob | None = None
    gitlab: GitlabJob | None = None
    root: str = ""


def secrets_of(environ: Mapping[str, str]) -> tuple[Secret, ...]:
    """Every token in the environment."""
    return tuple(found for name in _SECRET_NAMES if (found := secret(environ.get(name, ""))))


def detect(environ: Mapping[str, str], wanted: str = "auto") -> Place:
    """The forge by name, or the one whose variables are there. Raises UsageError for two, or a broken environment."""
    on = [item for item, name in ((Provider.GITHUB, "GITHUB_ACTIONS"), (Provider.GITLAB, "GITLAB_CI"))
          if environ.get(name) == "true"]  # fmt: skip
    if wanted == "auto" and len(on) > 1:
        raise UsageError("this looks like GitHub and like GitLab", where="--provider",
                         remedy=Remedy(title="say which: --provider github or --provider gitlab"))  # fmt: skip
    provider = Provider(wanted) if wanted != "auto" else on[0] if on else Provider.NONE
    if provider is Provider.GITHUB:
        github = github_job(environ)
        return Place(provider=provider, github=github, root=github.workspace)
    if provider is Provider.GITLAB:
        gitlab = gitlab_job(environ)
        return Place(provider=provider, gitlab=gitlab, root=gitlab.project_dir)
    return Place(provider=provider)


def climb(place: Place, load: Load, wishes: Wishes, outside: Outside, *, hide: Callable[[str], str] = str) -> Receipt:
    """Every rung, the safest first; never raises for what a forge does. `hide` takes tokens out of a text."""
    receipt = Receipt(hide)
    if wishes.dry_run:  # nobody is waited for
        outside = replace(outside, clock=replace(outside.clock, sleep=lambda _seconds: None))
    folder = "" if wishes.dry_run else wishes.files or (on_gitlab.FOLDER if place.gitlab else "")
    if folder:
        links = _links(place.gitlab)
        receipt.attempt("report files", lambda: files.write_files(folder, on_gitlab.report_files(load.merged, links)))
    if place.github is not None:
        on_github.publish(place.github, load, wishes, receipt, outside)
    if place.gitlab is not None:
        on_gitlab.publish(place.gitlab, load, wishes, receipt, outside)
    if folder and receipt.outcomes[0].delivery is Delivery.DELIVERED:
        # Once more, with what became of the rungs after it; the first stands if this job is stopped meanwhile.
        files.write_files(folder, on_gitlab.merged_file(load.merged, receipt.outcomes))
    return receipt


def _links(job: GitlabJob | None) -> dict[str, str]:
    if job is None:
        return {}
    found = {"job": job.job_url, "pipeline": job.pipeline_url}
    return {name: url for name, url in found.items() if url}
