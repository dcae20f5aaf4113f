"""Run nox on a machine that has Python and nothing else: `python3 ci/bootstrap.py -s preflight`.

nox is installed into `.nox/bootstrap` of this checkout, once. Where Python cannot make an environment (Debian and Ubuntu
keep that in a package of its own), root gets the package with apt, and everybody else is told its name. It needs only the
standard library, and Python 3.7 can read it, so that an old one says what to do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".nox" / "bootstrap"
NOX = "nox>=2024.4.15"
OLDEST = (3, 11)


def main(words: list[str]) -> int:
    """Run nox with `words`; return an exit status only where it cannot be run."""
    if sys.version_info < OLDEST:
        return _fail(
            f"this needs Python {_dotted(OLDEST)} or later, and this is {_dotted(sys.version_info[:2])}",
            "run it with a newer one, or with uv (https://docs.astral.sh/uv/): uvx --python 3.13 nox "
            + " ".join(words),
        )
    python = FOLDER / "bin" / "python"
    if not _works([str(python), "-c", "import nox"]):
        status = _make(python)
        if status:
            return status
    return _become([str(python), "-m", "nox", *words])


def _become(argv: list[str]) -> NoReturn:
    """Replace this process, so that Ctrl-C and signals reach nox alone."""
    sys.stdout.flush()
    os.chdir(ROOT)
    os.execv(argv[0], argv)  # noqa: S606 - no shell on purpose


def _make(python: Path) -> int:
    if not _works([sys.executable, "-c", "import ensurepip, venv"]):
        package = f"python{_dotted(sys.version_info[:2])}-venv"
        apt = ["apt-get", "install", "--yes", "--no-install-recommends", package]
        if shutil.which("apt-get") is None or os.geteuid() != 0:
            return _fail(
                "this Python cannot make an environment: it has no ensurepip",
                "install the package with it; on Debian and Ubuntu: sudo " + " ".join(apt),
            )
        sys.stdout.write(f"bootstrap: installing {package}, without which Python makes no environment\n")
        for argv in (["apt-get", "update", "-qq"], [*apt, "-qq"]):
            if subprocess.call(argv, stdout=subprocess.DEVNULL) != 0:
                return _fail(f"{' '.join(argv)} failed", "see above")
    sys.stdout.write(f"bootstrap: installing nox in {FOLDER}\n")
    sys.stdout.flush()
    steps = [
        [sys.executable, "-m", "venv", "--clear", str(FOLDER)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", NOX],
    ]
    for argv in steps:
        if subprocess.call(argv) != 0:
            return _fail(f"{' '.join(argv)} failed", "see above")
    return 0


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _works(argv: list[str]) -> bool:
    try:
        return subprocess.call(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def _fail(what: str, remedy: str) -> int:
    sys.stderr.write(f"bootstrap: {what}\n  next: {remedy}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
