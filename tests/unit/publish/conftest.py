"""Forges on loopback, and a call of the command in a job's environment."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cgroup_preflight.cli import publish
from cgroup_preflight.publish.clock import RequestClock
from tests.contract.forge.github import GitHub
from tests.contract.forge.gitlab import GitLab

#: A second takes a twentieth of it; deadlines stay what they are.
QUICK = RequestClock(sleep=lambda seconds: time.sleep(seconds / 20))


@pytest.fixture
def github() -> Iterator[GitHub]:
    forge = GitHub()
    with forge.running():
        yield forge
    assert forge.problems == []


@pytest.fixture
def gitlab() -> Iterator[GitLab]:
    forge = GitLab()
    with forge.running():
        yield forge
    assert forge.problems == []


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """`call(environment, *words)`: the exit status of `publish WORDS` with nothing else in the environment of CI."""

    def run(environment: dict[str, str], *words: str) -> int:
        import os

        for name in list(os.environ):
            if name.startswith(("GITHUB_", "GITLAB_", "CI_", "CGROUP_PREFLIGHT_", "GH_")):
                monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        return int(publish.run(list(words), QUICK))

    return run
