"""The complete jobs of docs/gitlab.md and docs/github.md that keep the guest's image in the cache, run twice.

`nox -s clients -- -k guest`: the first run of each builds an image, so CI leaves them out.
"""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.clients.helpers import ROOT, clean_environment, commit, run
from tests.contract.forge import gitlab as gl

CONFIG = """
[project]
name = "demo"

[services.worker]
binary = "dist/worker"
MemoryMax = "64M"
TasksMax = 32

[services.worker.smoke]
ready = "log:worker ready"
duration = "500ms"
"""


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """A project with one Go service."""
    if shutil.which("linux.uml") is None or shutil.which("go") is None:
        pytest.skip("needs linux.uml and Go (nox installs Go): a guest cannot be started here")
    folder = tmp_path / "demo"
    (folder / "cmd" / "worker").mkdir(parents=True)
    shutil.copy(ROOT / "examples" / "shop" / "worker" / "main.go", folder / "cmd" / "worker")
    (folder / "go.mod").write_text("module example.com/demo\n\ngo 1.21\n")
    (folder / "cgroup-preflight.toml").write_text(CONFIG)
    (folder / ".gitignore").write_text(".gitlab-ci-local/\ndist/\n.cache/\n")
    return folder


def test_the_complete_job_of_gitlab_builds_the_image_of_the_guest_once(
    demo: Path, gitlab_ci_local: list[str], wheel: Path, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "gitlab.md").read_text("utf-8")
    (job,) = [block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "stages: [build, test]" in block]
    shutil.copy(ROOT / ".gitlab-ci-template.yml", demo)
    # The client includes the file of a project through its server, which is none here; and no version is released yet.
    job, count = re.subn(r"project: org/cgroup-preflight\n    ref: v1\n    file: ", "local: ", job)
    assert count == 1
    job = job.replace("    inputs:\n", f"    inputs:\n      package: {json.dumps(str(wheel))}\n")
    # The client keeps caches of isolated jobs only, and their CI_PROJECT_DIR is not where they run (4.60.1).
    job = job.replace("$CI_PROJECT_DIR", str(demo / ".gitlab-ci-local" / "builds" / "cgroup-preflight"))
    (demo / ".gitlab-ci.yml").write_text(job)
    commit(demo)
    variables = {"CI_PIPELINE_SOURCE": "merge_request_event", "CI_MERGE_REQUEST_IID": "5", "CI_COMMIT_SHA": gl.SHA}
    argv = [*gitlab_ci_local, "--force-shell-executor", "--shell-isolation"]
    for name, value in variables.items():
        argv += ["--variable", f"{name}={value}"]
    environment = clean_environment(tmp_path)
    texts = []
    for _ in range(2):
        done = run(argv, demo, environment, timeout=600)
        texts.append(done.stdout + done.stderr)
        assert done.returncode == 0, texts[-1]
        assert "in force" in texts[-1]
    assert [" imported cache " in text for text in texts] == [False, True]
    assert ["building the debian-12 guest" in text for text in texts] == [True, False], texts
