"""One address of the project: everything names the same, and one command changes it."""

import shutil
import subprocess
from pathlib import Path

import pytest
from ci import address

import cgroup_preflight
from cgroup_preflight.config.schema import schema as config_schema
from cgroup_preflight.report.schema import schema as report_schema

pytestmark = pytest.mark.starts_processes
ACME = "acme/cgroup-preflight"
NEW = f"https://git.example.org/{ACME}"


OTHER = "other/cgroup-preflight"
#: What names the project, and its folders that are none.
PARTS = ("README.md", "pyproject.toml", "src/cgroup_preflight/__init__.py", "docs/tutorial.md", "docs/gitlab.md",
         "docs/man/cgroup-preflight.1", "docs/pictures/note-pass.png", ".gitlab-ci-template.yml", "examples/rollout/gitlab-ci.yml")  # fmt: skip


@pytest.fixture
def copy(tmp_path):
    """Some of the files, in a repository of their own."""
    for name in PARTS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(address.ROOT / name, tmp_path / name)
    for words in (["init", "--quiet"], ["add", "."]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True, timeout=60)
    return tmp_path


def test_everything_names_one_address():
    assert address.wrong() == []
    assert address.address() == cgroup_preflight.ADDRESS


def test_schemas_have_their_address():
    assert config_schema()["$id"] == f"{cgroup_preflight.ADDRESS}/schema/config.json"
    assert report_schema()["$id"].startswith(f"{cgroup_preflight.ADDRESS}/schema/report-")


def test_another_address_is_one_command(copy):
    changed = address.change(NEW, copy)
    assert {"pyproject.toml", "README.md", "src/cgroup_preflight/__init__.py", "docs/tutorial.md"} <= set(changed)
    assert address.address(copy) == NEW
    assert address.wrong(copy) == []
    assert f'ADDRESS = "{NEW}"' in (copy / "src/cgroup_preflight/__init__.py").read_text()
    assert f"- uses: {ACME}@v1" in (copy / "README.md").read_text()
    assert "~/.cache/cgroup-preflight" in (copy / "docs/man/cgroup-preflight.1").read_text().replace(
        "\\(ti", "~"
    ).replace("\\-", "-")


@pytest.mark.parametrize(
    "line",
    [f"      - uses: {OTHER}@v1", f"  - project: {OTHER}", f"https://github.com/{OTHER}"],
    ids=["uses", "project", "url"],
)
def test_another_owner_is_named(copy, line):
    page = copy / "docs" / "tutorial.md"
    page.write_text(page.read_text() + f"\n{line}\n")
    (found,) = address.wrong(copy)
    assert found.startswith("docs/tutorial.md:")
    assert found.endswith(line.strip())


@pytest.mark.parametrize(
    "url", ["", "http://github.com/a/cgroup-preflight", "https://github.com/a", "https://github.com/a/b c", "a/b"]
)
def test_what_is_no_address_changes_nothing(url, copy):
    with pytest.raises(ValueError, match="is not an address"):
        address.change(url, copy)
    assert address.address(copy) == address.address(Path(address.ROOT))
