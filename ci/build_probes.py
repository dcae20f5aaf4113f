"""Build the test program `probe` with every tested toolchain, for the lab.

    python ci/build_probes.py --out DIR

writes DIR/probe-VERSION with the go line of that version and, from Go 1.25 on, DIR/probe-VERSION-off with the go line
1.24, with which the runtime does not read its CPU quota.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # started as a file: make `ci` importable
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ci.build_go import GoBuildError, build, default_cache
from ci.toolchains import TESTED, toolchain

SOURCE = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "go" / "probe"
#: The first release whose runtime reads its CPU quota.
_AWARE = 25
_OLD_LINE = "1.24"


def build_probes(out: Path, cache: Path) -> list[Path]:
    """The probes of all tested versions. Raises GoBuildError."""
    built = []
    for version in TESTED:
        go = toolchain(version, cache)
        major, minor = version.split(".")[:2]
        built.append(build(SOURCE, out / f"probe-{version}", cache=cache, go=go, go_line=f"{major}.{minor}"))
        if int(minor) >= _AWARE:
            built.append(build(SOURCE, out / f"probe-{version}-off", cache=cache, go=go, go_line=_OLD_LINE))
    return built


def main(argv: Sequence[str] | None = None) -> int:
    """Print the path of every probe; exit status 0, or 1 with a message on stderr."""
    parser = argparse.ArgumentParser(description="Build the probe with every tested Go toolchain.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the binaries")
    parser.add_argument("--cache", type=Path, default=default_cache(), metavar="DIR", help="Go's cache")
    args = parser.parse_args(argv)
    try:
        for path in build_probes(args.out, args.cache):
            print(path)
    except GoBuildError as error:
        print(f"build_probes: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
