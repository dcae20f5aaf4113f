"""The codes of the receipt, as rows of the reference: code, name, worst, what, why, remedy, sources. Text only."""

_COMMANDS = "https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands"
_CHECKS = "https://docs.github.com/en/rest/checks/runs"
_COMMENTS = "https://docs.github.com/en/rest/issues/comments"
_REPORTS = "https://docs.gitlab.com/ci/yaml/artifacts_reports/"
_NOTES = "https://docs.gitlab.com/api/notes/"
_JOB_TOKEN = "https://docs.gitlab.com/ci/jobs/ci_job_token/"  # noqa: S105 - an address

Row = tuple[str, str, str, str, str, str, tuple[str, ...]]
PUBLISH_ROWS: tuple[Row, ...] = (
    ("CGP601", "publish-files", "warning", "The report files were written.",
     "GitLab's widgets and every later job read them; they need no token.", "Name a folder that the job may write.",
     (_REPORTS,)),
    ("CGP602", "publish-log", "warning", "The findings went to the job's log as workflow commands.",
     "GitHub makes annotations of them without any token: ten of a kind and step.", "See the job summary for the rest.",
     (_COMMANDS,)),
    ("CGP603", "publish-summary", "warning", "The result is in the job summary.",
     "It is shown for forks, too, and needs no token.", "Run it in a step of its own if the summary is full.",
     (_COMMANDS,)),
    ("CGP604", "publish-outputs", "warning", "Verdict and addresses are outputs of the step.",
     "Later steps decide by them.", "Look whether GITHUB_OUTPUT can be written.", (_COMMANDS,)),
    ("CGP605", "publish-check-run", "warning", "A check run with annotations is on the head commit.",
     "It shows each finding at the line of the config that causes it.", "Give the job checks: write.", (_CHECKS,)),
    ("CGP606", "publish-comment", "warning", "The pull request's comment is up to date.",
     "One comment is read; one for each push is not.", "Give the job pull-requests: write.", (_COMMENTS,)),
    ("CGP607", "publish-note", "warning", "The merge request's note is up to date.",
     "CI_JOB_TOKEN may not write notes on most versions; the widgets carry the result without it.",
     "Hand over a project access token with the scope api in CGROUP_PREFLIGHT_GITLAB_TOKEN.", (_NOTES, _JOB_TOKEN)),
    ("CGP608", "runner-reported", "error", "Every runner of a fleet has a report.",
     "A host that nobody could ask is not a host that passed.", "Reach the host and install cgroup-preflight there.",
     ("https://docs.ansible.com/ansible/latest/reference_appendices/faq.html",)),
)  # fmt: skip
