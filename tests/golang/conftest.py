"""Go programs built by real toolchains; slow on the first run, then Go's cache serves them."""

import base64
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ci.build_go import default_cache, go_environment
from ci.toolchains import TESTED, toolchain

MAIN = 'package main\n\nvar version = "none"\n\nfunc main() { println("hello", version) }\n'
#: Says what GOMAXPROCS is, sets another one, and waits for the end of its input.
PROCS = """package main

import ("os"; "runtime")

func main() {
	println(runtime.GOMAXPROCS(5))
	os.Stdin.Read(make([]byte, 1))
}
"""
C_SHARED = 'package main\n\nimport "C"\n\n//export Answer\nfunc Answer() C.int { return 42 }\n\nfunc main() {}\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One way to build a program: the folder below the sources, flags and environment of `go build`."""

    source: str = "app"
    flags: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)
    package: str = "."


@pytest.fixture(scope="session")
def cache() -> Path:
    """Where toolchains and Go's build cache live between runs."""
    return Path(os.environ.get("CGROUP_PREFLIGHT_GO_CACHE") or default_cache())


@pytest.fixture(scope="session")
def newest(cache: Path) -> Path:
    """The `go` whose `go version -m` is the reference."""
    return toolchain(TESTED[-1], cache)


def sample_of_go_1_17(go: Path) -> bytes:
    """Go's own test data: a real binary with the pointer layout, in base64."""
    (encoded,) = (go.parent.parent / "src" / "debug" / "buildinfo" / "testdata" / "go117").glob("*.base64")
    return base64.b64decode(encoded.read_bytes())


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders with the source of every kind of program: app, deps, clean, dirty, loose, procs, shared."""
    root = tmp_path_factory.mktemp("sources")
    for name in ("app", "clean", "dirty"):
        _write(root / name, {"go.mod": "module example.com/app\n\ngo 1.21\n", "main.go": MAIN})
    _write(root / "procs", {"go.mod": "module example.com/procs\n\ngo 1.21\n", "main.go": PROCS})
    _write(root / "loose", {"main.go": MAIN})
    _write(root / "shared", {"go.mod": "module example.com/shared\n\ngo 1.21\n", "main.go": C_SHARED})
    _write(root / "deps", _deps())
    for name in ("clean", "dirty"):
        _commit(root / name)
    (root / "dirty" / "main.go").write_text(MAIN + "\n// changed\n", "utf-8")
    return root


def _deps() -> dict[str, str]:
    files = {
        "go.mod": "module example.com/deps\n\ngo 1.21\n\n"
        "require (\n\texample.com/one v1.2.3\n\texample.com/two/v2 v2.0.0\n)\n\n"
        "replace (\n\texample.com/one => ./one\n\texample.com/two/v2 => ./two\n)\n",
        "main.go": 'package main\n\nimport (\n\t"example.com/one"\n\t"example.com/two/v2"\n)\n\n'
        "func main() { println(one.Name, two.Name) }\n",
    }
    for name, module in (("one", "example.com/one"), ("two", "example.com/two/v2")):
        files[f"{name}/go.mod"] = f"module {module}\n\ngo 1.21\n"
        files[f"{name}/{name}.go"] = f'package {name}\n\nconst Name = "{name}"\n'
    return files


def _write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def _commit(folder: Path) -> None:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false")
    for command in (("init", "-q"), ("add", "."), (*identity, "commit", "-q", "-m", "start")):
        subprocess.run(["git", *command], cwd=folder, check=True)


@pytest.fixture(scope="session")
def compile_sample(cache: Path, sources: Path) -> Callable[[str, Sample, Path], Path]:
    """A function (toolchain version, sample, output file) -> output file."""

    def run(version: str, sample: Sample, output: Path) -> Path:
        argv = [str(toolchain(version, cache)), "build", *sample.flags, "-o", str(output), sample.package]
        environment = go_environment(cache.resolve(), sample.environment)
        folder = sources / sample.source
        done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return output

    return run
