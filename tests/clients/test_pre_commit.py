"""`.pre-commit-hooks.yaml` under the real pre-commit: a repository that uses the hook, with a mistake and without."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.helpers import ROOT, clean_environment, run

CONFIG = '[project]\nname = "demo"\n[slices.api]\nMemoryMax = "{}"\n'


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-c", "user.email=a@example", "-c", "user.name=a", "-c", "commit.gpgsign=false", *words],
                          cwd=folder, check=True, capture_output=True, text=True)  # fmt: skip
    return done.stdout.strip()


@pytest.fixture(scope="module")
def hooks(tmp_path_factory) -> tuple[Path, str]:
    """A repository with what pre-commit installs, and its commit."""
    folder = tmp_path_factory.mktemp("hooks")
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".pre-commit-hooks.yaml"):
        shutil.copy(ROOT / name, folder / name)
    # What the wheel has besides the package.
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("pictures", "reference"))
    _git(folder, "init", "--quiet")
    _git(folder, "add", "--all", "--force")
    _git(folder, "commit", "--quiet", "--message=x")
    return folder, _git(folder, "rev-parse", "HEAD")


def test_the_hook_stops_a_commit_with_a_mistake_and_no_other(tmp_path, hooks):
    source, commit = hooks
    project = tmp_path / "project"
    project.mkdir()
    _git(project, "init", "--quiet")
    lines = ["repos:", f"  - repo: {source}", f"    rev: {commit}", "    hooks: [{id: cgroup-preflight}]", ""]
    (project / ".pre-commit-config.yaml").write_text("\n".join(lines))
    (project / "notes.txt").write_text("nothing to look at\n")
    environment = clean_environment(tmp_path) | {"PRE_COMMIT_HOME": str(tmp_path / "pre-commit")}

    def outcome() -> tuple[int, str]:
        _git(project, "add", "--all")
        done = run([sys.executable, "-m", "pre_commit", "run"], project, environment)
        return done.returncode, done.stdout + done.stderr

    status, text = outcome()
    assert (status, "no files to check" in text) == (0, True), text
    (project / "cgroup-preflight.toml").write_text(CONFIG.format("512MB"))
    status, text = outcome()
    assert status == 1, text
    assert "cgroup-preflight.toml:4" in text
    assert "512MB" in text
    (project / "cgroup-preflight.toml").write_text(CONFIG.format("512M"))
    status, text = outcome()
    assert status == 0, text
    assert "Passed" in text
