"""The commit that is checked out, read from the files of git; no program is started and no config of git is read.

A program of the workspace, or git itself with a hostile `.git/config`, would run with the job's token.
"""

import os
import re
from pathlib import Path

from cgroup_preflight.host.files import open_regular
from cgroup_preflight.publish.answers import sha_of

_REF = re.compile(r"refs/[A-Za-z0-9._/@+#=-]{1,250}", re.ASCII)
_SMALL, _PACKED = 4096, 16 << 20


def named_and_found(commit: str, root: str) -> tuple[str, str]:
    """The commit that the caller names as the tested one, and the one that is checked out; each empty if unknown.

    `commit` is a commit id, `checkout` for what is checked out below `root`, or `event` if the reports come from other
    jobs, so that a checkout here tells nothing.
    """
    return sha_of(commit), head_commit(".", root) if commit == "checkout" else ""


def head_commit(folder: str, root: str) -> str:
    """The commit that HEAD names in the checkout around `folder`, at most up to `root`; empty if unknown.

    If `folder` is outside `root`, the checkout of `root` counts. Source: gitrepository-layout(5).
    """
    for place in _places(folder, root):
        git = place / ".git"
        if not os.path.lexists(git):
            continue
        link = _read(git).removeprefix("gitdir:") if git.is_file() else ""
        folder_of_git = place / link.strip() if link else git
        return _resolved(folder_of_git)
    return ""


def _places(folder: str, root: str) -> list[Path]:
    if not root:
        return []
    inner, outer = Path(os.path.realpath(folder)), Path(os.path.realpath(root))
    if not inner.is_relative_to(outer):
        return [outer]
    return [place for place in (inner, *inner.parents) if place.is_relative_to(outer)]


def _resolved(git: Path) -> str:
    head = _read(git / "HEAD")
    if sha_of(head):
        return head
    ref = head.removeprefix("ref:").strip()
    if not _REF.fullmatch(ref) or ".." in ref:
        return ""
    # The refs of a linked worktree are in the folder of the main one.
    common = _read(git / "commondir")
    shared = git / common if common else git
    return sha_of(_read(shared / ref) or _packed(shared, ref))


def _packed(git: Path, ref: str) -> str:
    for line in _read(git / "packed-refs", _PACKED).splitlines():
        commit, _, name = line.partition(" ")
        if name == ref:
            return commit
    return ""


def _read(path: Path, limit: int = _SMALL) -> str:
    """The text of a small file without the white space around it; empty if it cannot be read."""
    try:
        with open_regular(os.fspath(path), follow=True) as file:
            return file.read(limit).decode("ascii", "replace").strip()
    except (OSError, ValueError):
        return ""
