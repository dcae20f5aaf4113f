"""What the tests of the real clients share."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(
    argv: list[str], folder: Path, environment: dict[str, str], timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout,
                          check=False, stdin=subprocess.DEVNULL)  # fmt: skip


def example() -> tuple[dict[str, str], dict[str, Path]]:
    """Files and folders of a project that has examples/shop in it; skips where its services cannot be tried."""
    shop = ROOT / "examples" / "shop"
    if shutil.which("linux.uml") is None or not (shop / "dist" / "user-api").is_file():
        pytest.skip("needs linux.uml and a built examples/shop (nox builds it): a guest cannot be started here")
    return {"shop/cgroup-preflight.toml": (shop / "cgroup-preflight.toml").read_text()}, {"shop/dist": shop / "dist"}


def image_cache() -> str:
    """Where this machine keeps the guest's images: one takes minutes to build."""
    return os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")


#: A config for hosts of `played_host.py`.
PLAYED_CONFIG = """
[project]
name = "fleet"
[rollout]
steps = ["50%", "100%"]
[rollout.slices.a]
CPUQuota = "100%"
"""


def played_inventory(folder: Path, scenarios: dict[str, str]) -> str:
    """An inventory of hosts on this machine whose service managers are played, each with a folder of its own."""
    lines = []
    local = json.dumps(["env", f"PYTHONPATH={ROOT}/src", sys.executable, "-m", "cgroup_preflight"])
    for name, scenario in scenarios.items():
        state = folder / name
        state.mkdir(mode=0o700, parents=True)
        (state / "scenario").write_text(scenario)
        program = [
            "env",
            f"PYTHONPATH={ROOT}/src:{ROOT}",
            sys.executable,
            "-m",
            "tests.clients.played_host",
            str(state),
        ]
        # Values in a section [all:vars] would be text, and no lists.
        lines.append(f"{name} rollout_command='{json.dumps(program)}' rollout_state={state} rollout_become=False "
                     f"rollout_local_command='{local}' rollout_config_on_host={state}/cgroup-preflight.toml")  # fmt: skip
    return "\n".join([
        *lines, "[all:vars]", "ansible_connection=local", f"ansible_python_interpreter={sys.executable}", "",
    ])  # fmt: skip


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
