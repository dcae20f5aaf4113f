"""`inspect`: the JSON of the contract, the text, limits of the command line, binaries of a config, exit statuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from cgroup_preflight.cli import main
from tests.unit.golang.binaries import Part, elf, framed, inline_blob

TEXT = (
    b"path\texample.com/app/cmd/app\nmod\texample.com/app\tv1.2.3\th1:main=\n"
    b"dep\texample.com/one\tv0.1.0\th1:one=\n"
    b"dep\texample.com/two\tv0.2.0\n=>\t./two\t(devel)\t\nbuild\tCGO_ENABLED=0\nbuild\tvcs.revision=abc\n"
)


def program(folder: Path, name: str = "app", version: bytes = b"go1.25.5", more: bytes = b"", machine: int = 62) -> str:
    path = folder / name
    blob = inline_blob(version, framed(TEXT + more))
    path.write_bytes(elf(machine=machine, sections=[Part(data=blob, name=".go.buildinfo")]))
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def inspect(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["inspect", *words])
    said = capsys.readouterr()
    return int(status), said.out, said.err


def as_json(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    binaries: list[dict[str, Any]] = json.loads(inspect(capsys, "--format=json", *words)[1])["binaries"]
    return binaries


def test_the_json_of_the_contract(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = program(here)
    (item,) = as_json(capsys, "--cpu=2.5", "--memory=512M", "--cpus=8", path)
    assert list(item) == ["path", "go_version", "main_package", "main", "deps", "settings", "runtime", "findings"]
    assert item["path"] == path
    assert item["go_version"] == "go1.25.5"
    assert item["main_package"] == "example.com/app/cmd/app"
    assert item["main"] == {"path": "example.com/app", "version": "v1.2.3", "sum": "h1:main=", "replace": None}
    assert item["deps"] == [
        {"path": "example.com/one", "version": "v0.1.0", "sum": "h1:one=", "replace": None},
        {"path": "example.com/two", "version": "v0.2.0", "sum": "",
         "replace": {"path": "./two", "version": "(devel)", "sum": "", "replace": None}},
    ]  # fmt: skip
    assert item["settings"] == {"CGO_ENABLED": "0", "vcs.revision": "abc"}
    why = item["runtime"].pop("why")
    assert item["runtime"] == {"gomaxprocs": 3, "gomemlimit_bytes": None, "follows_cpu_max": True}
    assert "rounded up" in " ".join(why)
    found = {finding["code"]: finding["status"] for finding in item["findings"]}
    assert found["CGP405"] == "warn"
    assert all(set(finding) >= {"code", "message", "remedies", "location"} for finding in item["findings"])


def test_many_binaries_in_one_call_in_their_order(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "script").write_text("#!/bin/sh\n", "utf-8")
    paths = [program(here, "b", b"go1.21.1"), str(here / "script"), program(here, "a")]
    seen = as_json(capsys, "--cpus=8", "--cpu=3", *paths)
    assert [item["path"] for item in seen] == paths
    assert [item["runtime"]["gomaxprocs"] if item["runtime"] else None for item in seen] == [8, None, 3]
    assert seen[1]["go_version"] is None
    assert (seen[1]["main"], seen[1]["deps"], seen[1]["settings"]) == (None, [], {})
    assert seen[1]["main_package"] is None


def test_a_program_built_without_modules_has_neither_package_nor_module(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = here / "old"
    path.write_bytes(elf(sections=[Part(data=inline_blob(b"go1.25.5", framed(b"")), name=".go.buildinfo")]))
    (item,) = as_json(capsys, str(path))
    assert (item["go_version"], item["main_package"], item["main"], item["deps"]) == ("go1.25.5", None, None, [])


def test_text_says_what_and_why(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text, _ = inspect(capsys, "--cpu=150%", "--cpus=8", program(here))
    assert status == 0
    assert "go1.25.5, example.com/app v1.2.3" in text
    assert "GOMAXPROCS 2, memory limit none, follows changes of cpu.max" in text
    assert "2 modules" in text
    assert "dep       example.com/one v0.1.0" in inspect(capsys, "--verbose", program(here))[1]


def test_texts_of_the_file_are_made_harmless(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = inspect(capsys, "--verbose", program(here, version=b"go1.25.5\x1b[31m", more=b"build\tX=\x07\n"))[1]
    assert "\x1b" not in text
    assert "\x07" not in text


def test_scripts_and_other_programs_are_said_to_be_that(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "script").write_text("#!/bin/sh\n", "utf-8")
    status, text, _ = inspect(capsys, "script")
    assert (status, "is a script" in text) == (0, True)
    (here / "other").write_bytes(elf())
    assert "Go did not build it" in inspect(capsys, "other")[1]


def test_a_packed_program_is_unverified(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "packed").write_bytes(elf() + b"UPX!")
    status, text, _ = inspect(capsys, "packed")
    assert (status, "packed by UPX" in text) == (3, True)
    assert inspect(capsys, "--allow-unverified", "packed")[0] == 0


def test_a_program_for_another_machine_fails(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text, _ = inspect(capsys, program(here, machine=22))
    assert (status, "CGP401" in text) == (1, True)
    assert inspect(capsys, "--exit-zero", program(here, machine=22))[0] == 0


def test_the_machine_it_is_for_may_be_another(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = here / "arm"
    blob = inline_blob(b"go1.27.3", framed(TEXT))
    loader = Part(data=b"/nowhere/ld-linux-aarch64.so.1\0", kind=3)
    path.write_bytes(elf(machine=183, segments=[loader], sections=[Part(data=blob, name=".go.buildinfo")]))
    assert inspect(capsys, "--machine=aarch64", "arm")[:1] == (0,)
    status, text, _ = inspect(capsys, "--machine=x86_64", "arm")
    assert (status, "GOARCH=arm64" in text) == (1, True)


@pytest.mark.parametrize(
    "words",
    [
        ["nothing"],
        [],
        ["--cpu=0", "app"],
        ["--cpu=-1", "app"],
        ["--cpu=x", "app"],
        ["--cpu=1e3", "app"],
        ["--cpu=0%", "app"],
        ["--memory=512MB", "app"],
        ["--memory=0", "app"],
        ["--cpus=0", "app"],
        ["--format=sarif", "app"],
    ],
)
def test_a_wrong_call_is_2_and_says_what_works(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    program(here)
    status, text, message = inspect(capsys, *words)
    assert (status, text) == (2, "")
    assert "next: " in message


def test_without_limits_of_the_call_the_config_counts(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program(here)
    (here / "cgroup-preflight.toml").write_text(
        '[project]\nname = "p"\n[slices.s]\nCPUQuota = "300%"\n[services.one]\nbinary = "app"\nslice = "s"\n'
        '[services.two]\nbinary = "app"\nMemoryMax = "512M"\n',
        "utf-8",
    )
    text = inspect(capsys, "--cpus=8")[1]
    assert [line.split(":")[0] for line in text.splitlines() if "go1.25.5, " in line] == ["one (app)", "two (app)"]
    one, two = as_json(capsys, "--cpus=8")
    assert (one["runtime"]["gomaxprocs"], two["runtime"]["gomemlimit_bytes"]) == (3, 512 * 2**20 * 9 // 10)
    (cured,) = [finding for finding in one["findings"] if finding["code"] == "CGP402"]
    assert (cured["status"], cured["location"]) == ("pass", {"file": "cgroup-preflight.toml", "line": 4})
    assert [item["runtime"]["gomaxprocs"] for item in as_json(capsys, "--cpus=8", "./app")] == [3, 8]
    assert [item["runtime"]["gomaxprocs"] for item in as_json(capsys, "--cpus=8", "--cpu=2", "app")] == [2]


def test_output_goes_to_a_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text, _ = inspect(capsys, "--format=json=out.json", program(here))
    assert status == 0
    assert "go1.25.5" in text
    assert json.loads((here / "out.json").read_text("utf-8"))["binaries"][0]["go_version"] == "go1.25.5"
