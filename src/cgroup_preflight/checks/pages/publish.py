"""Pages of the receipt's codes (CGP6xx): which channels of GitHub and GitLab got the result."""

from cgroup_preflight.checks.page import Page
from cgroup_preflight.core import codes
from cgroup_preflight.core.codes import Code

_COMMANDS = "https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands"
_CHECKS = "https://docs.github.com/en/rest/checks/runs"
_COMMENTS = "https://docs.github.com/en/rest/issues/comments"
_REPORTS = "https://docs.gitlab.com/ci/yaml/artifacts_reports/"
_NOTES = "https://docs.gitlab.com/api/notes/"
_JOB_TOKEN = "https://docs.gitlab.com/ci/jobs/ci_job_token/"  # noqa: S105 - an address

PUBLISH_PAGES: dict[Code, Page] = {
    codes.PUBLISH_FILES: Page(
        what="Checks that the report files were written.",
        fails="The widgets of GitLab and later jobs have no report to read. They need no token, only the files.",
        fix="Name a folder that the job may write to.",
        about=("gitlab",),
        sources=(_REPORTS,),
    ),
    codes.PUBLISH_LOG: Page(
        what="Checks that the findings went to the job's log as workflow commands.",
        fails="GitHub shows some findings not as annotations; it takes ten of each level from one step.",
        fix="Read the rest in the job summary.",
        about=("annotations",),
        sources=(_COMMANDS,),
    ),
    codes.PUBLISH_SUMMARY: Page(
        what="Checks that the result is in the job summary.",
        fails="The summary of the step is full or cannot be written. It needs no token and works for forks too.",
        fix="Run the tool in a step of its own if the summary is full.",
        about=("github",),
        sources=(_COMMANDS,),
    ),
    codes.PUBLISH_OUTPUTS: Page(
        what="Checks that the verdict and the addresses are outputs of the step.",
        fails="Later steps that decide by the outputs see none.",
        fix="Check that the step can write to the file in GITHUB_OUTPUT.",
        about=("github",),
        sources=(_COMMANDS,),
    ),
    codes.PUBLISH_CHECK_RUN: Page(
        what="Checks that a check run with annotations is on the head commit.",
        fails="GitHub does not show the findings at the lines of the config that cause them.",
        fix="Give the job the permission checks: write.",
        about=("github", "annotations"),
        sources=(_CHECKS,),
    ),
    codes.PUBLISH_COMMENT: Page(
        what="Checks that the comment on the pull request is up to date.",
        fails="The pull request shows no result, or the one of an earlier push.",
        fix="Give the job the permission pull-requests: write.",
        about=("github",),
        sources=(_COMMENTS,),
    ),
    codes.PUBLISH_NOTE: Page(
        what="Checks that the note on the merge request is up to date.",
        fails="CI_JOB_TOKEN may not write notes in most versions of GitLab. The widgets show the result without it.",
        fix="Store a project access token with the scope api in CGROUP_PREFLIGHT_GITLAB_TOKEN.",
        about=("gitlab", "comment"),
        sources=(_NOTES, _JOB_TOKEN),
    ),
    codes.RUNNER_REPORTED: Page(
        what="Checks that every runner of a fleet, and every leg of a matrix, has a report.",
        fails="A host could not be reached, or a job ended before it made a report. It counts as unverified, never as passed.",
        fix="Make the host reachable and install cgroup-preflight on it. Look at the log of the job, then run it again.",
        about=("ansible", "fleet", "matrix"),
        sources=("https://docs.ansible.com/ansible/latest/reference_appendices/faq.html",),
    ),
}
