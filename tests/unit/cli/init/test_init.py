"""`cgroup-preflight init` as a command."""

from pathlib import Path

import pytest

from cgroup_preflight.cli import init
from cgroup_preflight.config import load
from cgroup_preflight.core.errors import UsageError

MAIN = (
    'package main\nimport "net/http"\nfunc main() { http.Handle("/healthz", x); http.ListenAndServe(":8080", nil) }\n'
)
HOSTILE = [
    'a"b',
    "a\nb",
    "a\\b",
    "]\n[evil]",
    "\u202egnp",
    "#x",
    "a'b",
    "a b",
    "-rf",
    "%i",
    "x" * 200,
    "\x1b[31m",
    "é",
    "{x}",
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shop"
    (folder / "cmd/api").mkdir(parents=True)
    (folder / "go.mod").write_text("module example.com/shop\n")
    (folder / "cmd/api/main.go").write_text(MAIN)
    monkeypatch.chdir(folder)
    return folder


def test_it_writes_what_loads_and_says_what_comes_next(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init.main([]) == 0
    config = load.load(here / "cgroup-preflight.toml")
    assert (config.project, [item.name for item in config.services]) == ("shop", ["api"])
    assert config.services[0].smoke.ready.target == "http://127.0.0.1:8080/healthz"
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "wrote cgroup-preflight.toml",
        "  api                  cmd/api -> dist/api (not built yet), slice api",
        "next:",
        "  CGO_ENABLED=0 go build -o dist/api ./cmd/api",
        "  cgroup-preflight run",
    ]
    assert sorted(path.name for path in here.iterdir()) == ["cgroup-preflight.toml", "cmd", "go.mod"]


def test_it_names_the_unit_files_of_the_project(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "deploy files").mkdir()
    (here / "deploy files/api.service").write_text("[Service]\nExecStart=/usr/bin/api\n")
    assert init.main([]) == 0
    line = "  unit files: deploy files/api.service; to test the services with them: "
    call = "cgroup-preflight init --force --from-units 'deploy files'"
    assert line + call in capsys.readouterr().err.splitlines()
    assert init.main(["--force", "--from-units", "deploy files"]) == 0
    assert load.load(here / "cgroup-preflight.toml").services[0].unit == "deploy files/api.service"


@pytest.mark.parametrize("dangling", [False, True])
def test_it_overwrites_only_when_told(here: Path, dangling: bool) -> None:
    path = here / "cgroup-preflight.toml"
    if dangling:
        path.symlink_to("nowhere")
    else:
        path.write_text("mine")
    with pytest.raises(UsageError, match="was not changed") as caught:
        init.main([])
    assert caught.value.exit_status == 2
    assert dangling or path.read_text() == "mine"
    assert init.main(["--force"]) == 0
    assert load.load(path).project == "shop"
    assert path.is_symlink() is dangling, "a link is written through"


def test_paths_are_relative_to_the_file(here: Path) -> None:
    (here / "deploy").mkdir()
    assert init.main(["--output", "deploy/x.toml"]) == 0
    config = load.load(here / "deploy/x.toml")
    assert config.services[0].binary == "../dist/api"


def test_a_folder_that_is_not_there(here: Path) -> None:
    with pytest.raises(UsageError, match="cannot write"):
        init.main(["--output", "absent/x.toml"])


def test_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert init.main([]) == 0
    assert load.load(tmp_path / "cgroup-preflight.toml").services == ()
    assert "edit cgroup-preflight.toml" in capsys.readouterr().err


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    folder = tmp_path / name / "svc" / name
    folder.mkdir(parents=True)
    (folder / "main.go").write_text(MAIN)
    (folder / "go.mod").write_text(f"module {name}\n")
    monkeypatch.chdir(tmp_path / name)
    assert init.main([]) == 0
    config = load.load(tmp_path / name / "cgroup-preflight.toml")
    assert len(config.services) == 1
    shown = capsys.readouterr().err
    assert not {char for char in shown if ord(char) < 32 and char != "\n"}
    assert "\u202e" not in shown + (tmp_path / name / "cgroup-preflight.toml").read_text("utf-8")
