"""Write ci/action-requirements.txt: the dependencies of pyproject.toml that the Action needs, with versions and hashes."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "ci" / "action-requirements.txt"
#: For GitLab only.
LEFT_OUT = ("python-gitlab", "requests-toolbelt")
HEAD = """\
# What action.yml installs: the dependencies of pyproject.toml without those for GitLab, for every Python from 3.11.
# Made by `nox -s lock`; a test compares it with pyproject.toml.
"""


def main() -> int:
    """Exit status 0; uv's own where it cannot resolve."""
    argv = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes",
            "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]  # fmt: skip
    for name in LEFT_OUT:
        argv += ["--no-emit-package", name]
    done = subprocess.run([*argv, "pyproject.toml"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 0:
        TARGET.write_text(HEAD + done.stdout, "utf-8")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
