"""A release: what it writes, commits and tags, in a repository of its own, and when it refuses."""

import datetime as dt
import subprocess
import sys

import pytest
from ci.release import ReleaseError, closed_changelog, major_tag, notes_of, release

pytestmark = pytest.mark.starts_processes
DAY = dt.date(2027, 1, 2)
CHANGELOG = "# Changelog\n\n## Unreleased\n\nNews.\n\n- `# a` line\n\n## 0.9.0 (2026-01-01)\n\nOld.\n"
IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@example.org")


def git(root, *words):
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


@pytest.fixture
def root(tmp_path):
    (tmp_path / "src" / "cgroup_preflight").mkdir(parents=True)
    (tmp_path / "src" / "cgroup_preflight" / "__init__.py").write_text(
        '"""x"""\n\n__version__ = "0.9.0"\nADDRESS = "y"\n'
    )
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    (tmp_path / ".gitignore").write_text("dist/\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "config", "user.name", "t")
    git(tmp_path, "config", "user.email", "t@example.org")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    return tmp_path


def make(root, version="1.0.0", code="pass"):
    return release(version, root, DAY, tags=git(root, "tag").splitlines(), build=[(sys.executable, "-c", code)])


def test_a_release_is_one_commit_with_two_tags_and_its_notes(root):
    said = make(root)
    assert git(root, "log", "--format=%s").splitlines() == ["Release 1.0.0", "first"]
    assert git(root, "rev-parse", "v1.0.0^{commit}") == git(root, "rev-parse", "v1") == git(root, "rev-parse", "HEAD")
    assert '__version__ = "1.0.0"\nADDRESS = "y"' in (root / "src/cgroup_preflight/__init__.py").read_text()
    assert git(root, "tag", "--list", "--format=%(contents)", "v1.0.0") == "News.\n\n- `# a` line"
    assert (root / "dist" / "release-notes.md").read_text() == "News.\n\n- `# a` line\n"
    assert "Nothing was uploaded" in said
    assert git(root, "status", "--porcelain") == ""


def test_the_moving_tag_moves_and_the_old_ones_stay(root):
    make(root)
    first = git(root, "rev-parse", "v1")
    changelog = (root / "CHANGELOG.md").read_text()
    (root / "CHANGELOG.md").write_text(changelog.replace("## Unreleased\n", "## Unreleased\n\nMore.\n"))
    git(root, "commit", "--quiet", "--all", "--message", "more")
    make(root, "1.0.1")
    assert git(root, "rev-parse", "v1") == git(root, "rev-parse", "HEAD") != first
    assert git(root, "rev-parse", "v1.0.0^{commit}") == first


@pytest.mark.parametrize(
    ("version", "code", "spoil", "says"),
    [
        ("1.0", "pass", None, "is not a version"),
        ("v1.0.0", "pass", None, "is not a version"),
        ("0.9.0", "pass", None, "a section of 0.9.0 already"),
        ("1.0.0", "raise SystemExit(1)", None, "nothing was tagged"),
        ("1.0.0", "pass", "changed", "the checkout has changes"),
        ("1.0.0", "pass", "tagged", "the tag v1.0.0 exists"),
        ("1.0.0", "pass", "nothing", "nothing below ## Unreleased"),
    ],
)
def test_no_release_and_no_tag(root, version, code, spoil, says):
    if spoil == "changed":
        (root / "CHANGELOG.md").write_text("x")
    elif spoil == "tagged":
        git(root, "tag", "v1.0.0")
    elif spoil == "nothing":
        (root / "CHANGELOG.md").write_text("## Unreleased\n\n## 0.9.0\n\nOld.\n")
        git(root, "commit", "--quiet", "--all", "--message", "none")
    tags = git(root, "tag")
    with pytest.raises(ReleaseError, match=says):
        make(root, version, code)
    assert git(root, "tag") == tags


def test_the_sections_of_a_changelog():
    made = closed_changelog(CHANGELOG, "1.0.0", DAY)
    assert made.startswith("# Changelog\n\n## Unreleased\n\n## 1.0.0 (2027-01-02)\n\nNews.\n")
    assert notes_of(made, "Unreleased") == ""
    assert notes_of(made, "1.0.0") == "News.\n\n- `# a` line"
    assert notes_of(made, "0.9.0") == "Old."
    assert notes_of(made, "0.9") == ""


@pytest.mark.parametrize(("version", "tag"), [("1.4.2", "v1"), ("0.1.0", "v0"), ("12.0.0", "v12")])
def test_the_moving_tag_is_that_of_the_major_version(version, tag):
    assert major_tag(version) == tag
