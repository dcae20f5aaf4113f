"""`exporter --write-rules DIR`: all files of the package, and never over what a user has changed."""

import os
from pathlib import Path

import pytest

from cgroup_preflight.cli import main
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.metrics.rules_files import NAMES, shipped, write_rules

_PACKAGE = Path(__file__).parents[3] / "src" / "cgroup_preflight" / "metrics" / "rules"


def test_every_file_of_the_package_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "rules"
    written = write_rules(str(folder), force=False)
    assert written == tuple(str(folder / name) for name in NAMES)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in _PACKAGE.iterdir()
    }


def test_a_second_call_writes_nothing(tmp_path: Path) -> None:
    write_rules(str(tmp_path), force=False)
    before = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    assert write_rules(str(tmp_path), force=False) == ()
    assert {path.name: path.stat().st_ino for path in tmp_path.iterdir()} == before


def test_a_changed_file_stays_and_nothing_else_is_written(tmp_path: Path) -> None:
    (tmp_path / NAMES[1]).write_text("groups: []\n")
    (tmp_path / NAMES[3]).write_bytes(shipped(NAMES[3]) + b"\n# mine\n")
    with pytest.raises(UsageError) as caught:
        write_rules(str(tmp_path), force=False)
    for name in (NAMES[1], NAMES[3]):
        assert str(tmp_path / name) in str(caught.value)
    assert NAMES[0] not in str(caught.value)
    assert "--force" in caught.value.remedy.title
    assert sorted(os.listdir(tmp_path)) == sorted((NAMES[1], NAMES[3]))
    assert (tmp_path / NAMES[1]).read_text() == "groups: []\n"


def test_force_overwrites_a_changed_file(tmp_path: Path) -> None:
    write_rules(str(tmp_path), force=False)
    (tmp_path / NAMES[0]).write_text("groups: []\n")
    assert write_rules(str(tmp_path), force=True) == (str(tmp_path / NAMES[0]),)
    assert (tmp_path / NAMES[0]).read_bytes() == shipped(NAMES[0])


def test_a_link_is_replaced_only_with_force_and_never_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(shipped(NAMES[0]))
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / NAMES[0]).symlink_to(target)
    with pytest.raises(UsageError, match=NAMES[0]):
        write_rules(str(folder), force=False)
    target.write_text("of somebody else")
    write_rules(str(folder), force=True)
    assert target.read_text() == "of somebody else"
    assert not (folder / NAMES[0]).is_symlink()


@pytest.mark.parametrize("below", ["", "/sub"])
def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("x")
    folder = f"{tmp_path}/file{below}"
    with pytest.raises(UsageError, match="cannot make the folder") as caught:
        write_rules(folder, force=False)
    assert caught.value.where == folder


def test_a_folder_in_the_way_of_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / NAMES[2]).mkdir()
    with pytest.raises(UsageError, match=NAMES[2]):
        write_rules(str(tmp_path), force=False)
    with pytest.raises(UsageError, match="cannot write"):
        write_rules(str(tmp_path), force=True)


def test_the_command_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "rules")
    assert main(["exporter", "--write-rules", folder]) == 0
    assert capsys.readouterr().err.splitlines() == [f"wrote {folder}/{name}" for name in NAMES]
    assert main(["exporter", "--write-rules", folder]) == 0
    assert capsys.readouterr().err == "all files are up to date\n"
    Path(folder, NAMES[0]).write_text("groups: []\n")
    assert main(["exporter", "--write-rules", folder]) == 2
    assert f"not written: {folder}/{NAMES[0]} would be overwritten" in capsys.readouterr().err
    assert main(["exporter", "--write-rules", folder, "--force"]) == 0
    assert capsys.readouterr().err == f"wrote {folder}/{NAMES[0]}\n"
