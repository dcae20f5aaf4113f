"""Environments of CI jobs, and reports on disk, for tests."""

import json
from pathlib import Path
from typing import Any

from cgroup_preflight.core.report import Finding, Report, Status
from cgroup_preflight.report import codec
from tests.contract.forge import github as gh
from tests.contract.forge import gitlab as gl
from tests.unit.report.samples import finding, report

PASS = report(finding(Status.PASS))
FAIL = report(finding(Status.FAIL), finding(Status.PASS, code="CGP101", name="hierarchy", subject="hierarchy"))


def write_report(path: Path, made: Report = FAIL) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(codec.render(made))
    return str(path)


def pull_event(*, head: str = "org/demo", sha: str = gh.SHA) -> dict[str, Any]:
    return {
        "number": 7,
        "pull_request": {
            "number": 7,
            "head": {"sha": sha, "repo": {"full_name": head}},
            "base": {"repo": {"full_name": "org/demo"}},
        },
    }


def github_env(forge: gh.GitHub, folder: Path, *, event: dict[str, Any] | None = None, **more: str) -> dict[str, str]:
    """The variables of a job; files below `folder`."""
    event_file = folder / "event.json"
    event_file.write_text(json.dumps(event or pull_event()))
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_REPOSITORY": "org/demo",
        "GITHUB_EVENT_NAME": "pull_request",
        "GITHUB_EVENT_PATH": str(event_file),
        "GITHUB_API_URL": forge.api_url,
        "GITHUB_GRAPHQL_URL": f"{forge.url}/api/graphql",
        "GITHUB_SERVER_URL": "https://github.example",
        "GITHUB_RUN_ID": "100",
        "GITHUB_RUN_ATTEMPT": "1",
        "GITHUB_SHA": "f" * 40,
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "GITHUB_OUTPUT": str(folder / "output"),
        "GITHUB_TOKEN": gh.TOKEN,
        "GITHUB_WORKSPACE": str(folder),
    } | more


def gitlab_env(forge: gl.GitLab, folder: Path, **more: str) -> dict[str, str]:
    """The variables of a job in a merge request pipeline."""
    return {
        "GITLAB_CI": "true",
        "CI_SERVER_URL": forge.server_url,
        "CI_API_V4_URL": forge.api_url,
        "CI_PROJECT_ID": "42",
        "CI_MERGE_REQUEST_PROJECT_ID": "42",
        "CI_MERGE_REQUEST_IID": "5",
        "CI_COMMIT_SHA": gl.SHA,
        "CI_PIPELINE_ID": "1000",
        "CI_JOB_ID": "5000",
        "CI_JOB_TOKEN": gl.JOB_TOKEN,
        "CI_PROJECT_DIR": str(folder),
        "CI_JOB_URL": "https://gitlab.example/group/demo/-/jobs/5000",
        "CGROUP_PREFLIGHT_GITLAB_TOKEN": gl.TOKEN,
    } | more


def fleet(count: int, findings: int) -> list[Report]:
    """Reports of `count` hosts with `findings` each, of which every tenth host fails in its own way."""
    made = []
    for number in range(count):
        items: list[Finding] = [
            finding(
                Status.PASS, code=f"CGP1{index:02d}", name=f"check-{index}", subject="host", remedies=(), evidence={}
            )
            for index in range(findings - 1)
        ]
        bad = number % 10 == 0
        items.append(finding(Status.FAIL if bad else Status.PASS, subject=f"service-{number % 30}"))
        made.append(report(*items, services=()))
    return made
