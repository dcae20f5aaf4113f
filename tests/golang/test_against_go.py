"""Our reader against `go version -m`, byte for byte, and against pygobuildinfo, on real binaries."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pygobuildinfo  # type: ignore[import-untyped]
import pytest
from ci.toolchains import TESTED

from cgroup_preflight.golang.buildinfo import BuildInfo, Module, NotGoError, read
from cgroup_preflight.golang.executable import FileKind, fit, identify
from tests.golang.conftest import Sample, sample_of_go_1_17

Compile = Callable[[str, Sample, Path], Path]

C_COMPILER = {"CGO_ENABLED": "1"}
EVERYWHERE = {
    "plain": Sample(),
    "trimpath": Sample(flags=["-trimpath"]),
    "stripped": Sample(flags=["-ldflags=-s -w"]),
    "ldflags": Sample(flags=['-ldflags=-X "main.version=a b" -buildid=']),
    "cgo": Sample(environment=C_COMPILER),
    "pie": Sample(flags=["-buildmode=pie"]),
    "pie-stripped": Sample(flags=["-buildmode=pie", "-ldflags=-s -w"]),
    "no-vcs": Sample(source="clean", flags=["-buildvcs=false"]),
    "clean": Sample(source="clean"),
    "dirty": Sample(source="dirty"),
    "tags": Sample(flags=["-tags=one,two", "-gcflags=-l -N"]),
    "loose": Sample(source="loose", flags=["-mod="], package="main.go"),
    "gopath": Sample(source="loose", environment={"GO111MODULE": "off", "GOFLAGS": ""}, package="main.go"),
    "deps": Sample(source="deps"),
    "race": Sample(flags=["-race"], environment=C_COMPILER),
    "external": Sample(flags=["-ldflags=-linkmode=external"], environment=C_COMPILER),
    "c-shared": Sample(source="shared", flags=["-buildmode=c-shared"], environment=C_COMPILER),
    **{
        name: Sample(environment=dict(zip(("GOOS", "GOARCH"), name.split("-"), strict=True)))
        for name in ("linux-arm64", "linux-386", "linux-s390x", "windows-amd64", "darwin-arm64")
    },
}
#: The other ports with one of the three formats: the format depends on the port, hardly on the version.
PORTS = (
    *("linux-arm", "linux-loong64", "linux-mips", "linux-mipsle", "linux-mips64", "linux-mips64le"),
    *("linux-ppc64", "linux-ppc64le", "linux-riscv64", "windows-386", "windows-arm64", "darwin-amd64"),
    *("freebsd-amd64", "openbsd-arm64", "netbsd-arm", "illumos-amd64"),
)
#: What `uname -m` says where those programs run.
UNAME = {
    "386": "i686",
    "amd64": "x86_64",
    "arm": "armv7l",
    "arm64": "aarch64",
    "loong64": "loongarch64",
}


def needs_c_compiler(sample: Sample) -> None:
    """Skip where the build needs a C compiler and there is none; such a sample is in no promise of ours."""
    if sample.environment == C_COMPILER and sample.flags and shutil.which("gcc") is None:
        pytest.skip("needs gcc")


def expected(go: Path, binary: Path) -> bytes:
    done = subprocess.run([str(go), "version", "-m", str(binary)], capture_output=True, check=True)
    return done.stdout


def rendered(binary: Path, *, name: Path | None = None) -> bytes:
    return read(binary).render(str(name or binary)).encode("utf-8", "surrogateescape")


def as_oracle(info: BuildInfo) -> dict[str, Any]:
    """Build info in the shape of pygobuildinfo, which is Go's own JSON: empty values are left out."""
    raw = {
        "GoVersion": info.go_version,
        "Path": info.path,
        "Main": _module(info.main),
        "Deps": [_module(dep) for dep in info.deps],
        "Settings": [_some({"Key": key, "Value": value}) for key, value in info.settings],
    }
    return {key: value for key, value in raw.items() if value or key == "Main"}


def _module(module: Module | None) -> dict[str, Any]:
    if module is None:
        return {}
    named = {"Path": module.path, "Version": module.version, "Sum": module.sum}
    return _some({**named, "Replace": module.replace and _module(module.replace)})


def _some(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value}


@pytest.mark.parametrize("version", TESTED)
@pytest.mark.parametrize("name", EVERYWHERE)
def test_every_variant_of_every_toolchain(
    version: str, name: str, compile_sample: Compile, newest: Path, tmp_path: Path
) -> None:
    sample = EVERYWHERE[name]
    needs_c_compiler(sample)
    binary = compile_sample(version, sample, tmp_path / "app")
    assert rendered(binary) == expected(newest, binary)
    assert as_oracle(read(binary)) == pygobuildinfo.get_go_build_info(str(binary))


@pytest.mark.parametrize("port", PORTS)
def test_every_port(port: str, compile_sample: Compile, newest: Path, tmp_path: Path) -> None:
    system, arch = port.split("-")
    sample = Sample(environment={"GOOS": system, "GOARCH": arch})
    binary = compile_sample(TESTED[-1], sample, tmp_path / "app")
    assert rendered(binary) == expected(newest, binary)
    kind = {"windows": FileKind.PE, "darwin": FileKind.MACHO}.get(system, FileKind.ELF)
    executable = identify(binary)
    assert executable.kind is kind
    if system == "linux":
        assert executable.machine is not None
        assert executable.machine.goarch == arch
        assert fit(executable, UNAME.get(arch, arch)).ok is not False


@pytest.mark.parametrize("version", TESTED)
@pytest.mark.parametrize("name", ["plain", "pie", "stripped", "linux-386", "linux-s390x"])
def test_headers_removed_or_section_renamed(version: str, name: str, compile_sample: Compile, tmp_path: Path) -> None:
    binary = compile_sample(version, EVERYWHERE[name], tmp_path / "app")
    before = rendered(binary)
    data = bytearray(binary.read_bytes())
    renamed = tmp_path / "renamed"
    assert data.count(b"\0.go.buildinfo\0") == 1
    renamed.write_bytes(data.replace(b"\0.go.buildinfo\0", b"\0.no.buildinfo\0"))
    assert rendered(renamed, name=binary) == before
    # e_shoff, then e_shentsize, e_shnum and e_shstrndx
    wide = data[4] == 2
    data[40:48] = bytes(8) if wide else data[40:48]
    data[32:36] = data[32:36] if wide else bytes(4)
    data[58:64] = bytes(6) if wide else data[58:64]
    data[46:52] = data[46:52] if wide else bytes(6)
    bare = tmp_path / "bare"
    bare.write_bytes(data)
    assert rendered(bare, name=binary) == before


@pytest.mark.parametrize("version", TESTED)
@pytest.mark.skipif(shutil.which("strip") is None, reason="needs binutils")
def test_stripped_by_binutils(version: str, compile_sample: Compile, newest: Path, tmp_path: Path) -> None:
    binary = compile_sample(version, EVERYWHERE["plain"], tmp_path / "app")
    subprocess.run(["strip", "-s", str(binary)], check=True)
    assert rendered(binary) == expected(newest, binary)
    subprocess.run(["objcopy", "-R", ".go.buildinfo", str(binary)], check=True)
    with pytest.raises(NotGoError, match="no Go build info"):
        read(binary)


@pytest.mark.parametrize("version", TESTED)
def test_go_itself(version: str, cache: Path, newest: Path) -> None:
    """The go tool holds the magic twice: only the first one is its own build info."""
    go = cache / "toolchains" / version / "go" / "bin" / "go"
    assert rendered(go) == expected(newest, go)


def test_the_sample_of_go_1_17(newest: Path, tmp_path: Path) -> None:
    binary = tmp_path / "go117"
    binary.write_bytes(sample_of_go_1_17(newest))
    assert rendered(binary) == expected(newest, binary)
    assert read(binary).go_version.startswith("go1.17")
