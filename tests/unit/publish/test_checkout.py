"""The commit that is checked out, read from the files of git: real repositories, and files that a hostile one could have."""

import os
import shutil
import subprocess

import pytest

from cgroup_preflight.publish.checkout import head_commit, named_and_found

pytestmark = pytest.mark.starts_processes  # git
A, B = "a" * 40, "b" * 40


@pytest.fixture
def repository(tmp_path):
    """A repository with one commit, and what git says about its HEAD."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    place = tmp_path / "work"
    _git(tmp_path, "init", "--quiet", "--initial-branch=main", str(place))
    _git(place, "commit", "--quiet", "--allow-empty", "--message=x")
    return place


def _git(folder, *words):
    config = ["-c", "user.name=a", "-c", "user.email=a@example", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *config, *words], cwd=folder, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout.strip()


def _head(place):
    return _git(place, "rev-parse", "HEAD")


@pytest.mark.parametrize("change", [
    (), ("checkout", "--quiet", "--detach"), ("pack-refs", "--all"), ("checkout", "--quiet", "-b", "feature/x+y@1"),
])  # fmt: skip
def test_real_repositories(repository, change):
    if change:
        _git(repository, *change)
    (repository / "deep" / "er").mkdir(parents=True)
    for folder in (repository, repository / "deep" / "er"):
        assert head_commit(str(folder), str(repository)) == _head(repository)


def test_a_linked_worktree(repository, tmp_path):
    _git(repository, "worktree", "add", "--quiet", "-b", "topic", str(tmp_path / "linked"))
    _git(tmp_path / "linked", "commit", "--quiet", "--allow-empty", "--message=y")
    assert head_commit(str(tmp_path / "linked"), str(tmp_path)) == _head(tmp_path / "linked") != _head(repository)


def test_the_innermost_checkout_counts(repository):
    _git(repository, "init", "--quiet", "--initial-branch=main", "inner")
    _git(repository / "inner", "commit", "--quiet", "--allow-empty", "--message=z")
    assert head_commit(str(repository / "inner"), str(repository)) == _head(repository / "inner") != _head(repository)


def test_nothing_above_the_root_counts(repository, tmp_path):
    (repository / "sub").mkdir()
    assert head_commit(str(repository / "sub"), str(repository / "sub")) == ""
    # A folder outside the root: the checkout of the root counts.
    assert head_commit(str(tmp_path), str(repository)) == _head(repository)
    assert head_commit(str(repository), "") == ""


def test_what_the_caller_says(repository, monkeypatch):
    monkeypatch.chdir(repository)
    assert named_and_found("checkout", str(repository)) == ("", _head(repository))
    assert named_and_found("event", str(repository)) == ("", "")
    assert named_and_found(A, str(repository)) == (A, "")


def _made(folder, head, **files):
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_bytes(head)
    for name, text in files.items():
        path = folder / ".git" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return head_commit(str(folder), str(folder))


@pytest.mark.parametrize(("head", "commit"), [
    (f"{A}\n".encode(), A), (f"{B * 2}"[:64].encode(), B + "b" * 24), (A.encode() + b"\n" + B.encode(), ""),
    (A.upper().encode(), ""), (A[:39].encode(), ""), (b"", ""), (b"\xff\xfe" * 20, ""), (b"ref: refs/heads/main", A),
    (b"ref: refs/heads/../../../elsewhere", ""), (b"ref: /etc/hostname", ""), (b"ref: refs/heads/.invalid", ""),
    (b"ref: HEAD", ""), (b"x" * 5000, ""),
])  # fmt: skip
def test_contents_of_head(tmp_path, head, commit):
    (tmp_path / "elsewhere").write_text(B)
    assert _made(tmp_path, head, refs__heads__main=A) == commit


def test_refs_that_are_no_commit(tmp_path):
    assert _made(tmp_path, b"ref: refs/heads/main", refs__heads__main="ref: refs/heads/other") == ""


@pytest.mark.parametrize(
    "packed", ["", f"# pack-refs\n{B} refs/heads/main2\n", "x refs/heads/main\n", f"{B}refs/heads/main"]
)
def test_packed_refs_without_the_ref(tmp_path, packed):
    assert _made(tmp_path, b"ref: refs/heads/main", **{"packed-refs": packed}) == ""


def test_files_that_would_block_or_lead_away(tmp_path):
    (tmp_path / ".git").mkdir()
    os.mkfifo(tmp_path / ".git" / "HEAD")
    assert head_commit(str(tmp_path), str(tmp_path)) == ""
    os.unlink(tmp_path / ".git" / "HEAD")
    os.symlink("/dev/zero", tmp_path / ".git" / "HEAD")
    assert head_commit(str(tmp_path), str(tmp_path)) == ""


@pytest.mark.parametrize("text", ["gitdir: ", "gitdir: /absent", "gitdir: .git", "x", ""])
def test_a_git_file_that_leads_nowhere(tmp_path, text):
    (tmp_path / ".git").write_text(text)
    assert head_commit(str(tmp_path), str(tmp_path)) == ""
