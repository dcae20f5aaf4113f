"""What the tests of the real clients share."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(
    argv: list[str], folder: Path, environment: dict[str, str], timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout,
                          check=False, stdin=subprocess.DEVNULL)  # fmt: skip


def clean_environment(home: Path) -> dict[str, str]:
    """Ours without any CI variable of the machine that the tests run on."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GITHUB_", "GITLAB_", "CI_", "RUNNER_", "ACTIONS_", "CGROUP_PREFLIGHT_"))
        and name != "CI"
    }
    return kept | {"XDG_CACHE_HOME": str(home / "cache"), "HOME": str(home), "NO_COLOR": "1"}


def commit(folder: Path, tag: str = "") -> None:
    """Both clients want to see a repository."""

    def git(*words: str) -> None:
        subprocess.run(
            ["git", "-c", "user.email=a@example", "-c", "user.name=a", "-c", "commit.gpgsign=false", *words],
            cwd=folder,
            check=True,
            capture_output=True,
        )

    git("init", "--quiet", "--initial-branch=topic")
    git("remote", "add", "origin", "https://forge.example/org/demo.git")
    git("add", "--all", "--force")
    git("commit", "--quiet", "--message=x")
    if tag:
        git("tag", tag)
