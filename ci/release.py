"""Make a release, and upload nothing: `nox -s release -- VERSION`.

It writes the version and the changelog's section, commits both, builds and checks the packages, and tags the commit as
vVERSION and as the moving tag of the major version, which the Action and the template are used by. At the end it prints
the commands that publish all of it.
"""

import datetime as dt
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", re.ASCII)
_OPEN = "## Unreleased\n"
_TIMEOUT = 600


class ReleaseError(Exception):
    """Why no release was made; nothing is tagged then."""


def major_tag(version: str) -> str:
    """Return the moving tag: v1 for 1.4.2. Raises ReleaseError for a version that is not semantic."""
    found = _VERSION.fullmatch(version)
    if found is None:
        raise ReleaseError(f"{version!r} is not a version such as 1.4.2")
    return f"v{found[1]}"


def closed_changelog(text: str, version: str, day: dt.date) -> str:
    """Return the changelog with what was unreleased as the section of `version`. Raises ReleaseError for an empty one."""
    if not notes_of(text, "Unreleased"):
        raise ReleaseError("CHANGELOG.md has nothing below ## Unreleased")
    if re.search(rf"^## {re.escape(version)}\b", text, re.MULTILINE):
        raise ReleaseError(f"CHANGELOG.md has a section of {version} already")
    return text.replace(_OPEN, f"{_OPEN}\n## {version} ({day.isoformat()})\n", 1)


def notes_of(text: str, version: str) -> str:
    """Return the text of one section of the changelog, which is the text of the release; empty without one."""
    found = re.search(rf"^## {re.escape(version)}(?: \([\d-]+\))?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


def release(version: str, root: Path, day: dt.date, *, tags: Sequence[str], build: Sequence[Sequence[str]]) -> str:
    """Make the release in `root`, and return what to do next. Raises ReleaseError.

    `tags` exist already. `build` are the commands that build and check the packages; where one fails, nothing is tagged,
    and the commit is the last one: `git reset --hard HEAD~1` takes it back.
    """
    moving = major_tag(version)
    if f"v{version}" in tags:
        raise ReleaseError(f"the tag v{version} exists already")
    if _git(root, "status", "--porcelain"):
        raise ReleaseError("the checkout has changes; commit them first")
    changelog, package = root / "CHANGELOG.md", root / "src" / "cgroup_preflight" / "__init__.py"
    text = closed_changelog(changelog.read_text(encoding="utf-8"), version, day)
    source = package.read_text(encoding="utf-8")
    versioned = re.sub(r'^__version__ = ".*"$', f'__version__ = "{version}"', source, count=1, flags=re.MULTILINE)
    changelog.write_text(text, encoding="utf-8")
    package.write_text(versioned, encoding="utf-8")
    _git(root, "commit", "--quiet", "--message", f"Release {version}", "--", str(changelog), str(package))
    for argv in build:
        if subprocess.run(argv, cwd=root, timeout=_TIMEOUT, check=False).returncode != 0:
            raise ReleaseError(f"{' '.join(argv)} failed; nothing was tagged: correct it, or git reset --hard HEAD~1")
    notes = root / "dist" / "release-notes.md"
    notes.parent.mkdir(exist_ok=True)
    notes.write_text(notes_of(text, version) + "\n", encoding="utf-8")
    # With `#` as the sign of a comment, git would drop the headings.
    _git(root, "tag", "--annotate", f"v{version}", "--cleanup=whitespace", "--file", str(notes))
    _git(root, "tag", "--force", moving)
    return (
        f"v{version} and {moving} are tagged, and dist/ has the packages and release-notes.md. Nothing was uploaded.\n"
        "To publish:\n"
        f"    git push origin HEAD v{version}\n"
        f"    git push --force origin {moving}\n"
        "    twine upload dist/*.whl dist/*.tar.gz\n"
        "    and a release on GitHub or GitLab, with the text of dist/release-notes.md\n"
    )


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    if done.returncode != 0:
        raise ReleaseError(f"git {words[0]} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def main(words: list[str]) -> int:
    """Make the release of the version that is given."""
    if len(words) != 1:
        sys.stderr.write("usage: nox -s release -- VERSION\n")
        return 2
    for old in (ROOT / "dist").glob("cgroup_preflight-*"):
        old.unlink()
    build = (
        (sys.executable, "-m", "build", "--outdir", "dist", "."),
        ("twine", "check", "--strict", *(f"dist/cgroup_preflight-{words[0]}{end}" for end in ("-py3-none-any.whl", ".tar.gz"))),
        ("check-wheel-contents", f"dist/cgroup_preflight-{words[0]}-py3-none-any.whl"),
        (sys.executable, "-m", "ci.address"),
    )  # fmt: skip
    try:
        tags = _git(ROOT, "tag").splitlines()
        sys.stdout.write(release(words[0], ROOT, dt.datetime.now(dt.UTC).date(), tags=tags, build=build))
    except ReleaseError as error:
        sys.stderr.write(f"no release: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
