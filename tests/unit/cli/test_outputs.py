"""Where the output of each command goes, and what is said when it cannot go there: never a defect, never a wrong status."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cgroup_preflight.cli import guard, options
from tests.unit.cli.calling import environment
from tests.unit.publish.jobs import PASS, write_report

pytestmark = pytest.mark.starts_processes

_CONFIG = '[project]\nname = "demo"\n[slices.api]\nMemoryMax = "1G"\n'
_COMMANDS = {
    "check": ["check"], "slices": ["slices"], "validate": ["validate"], "schema": ["schema"], "snapshot": ["snapshot"],
    "explain": ["explain"], "help": ["--help"], "version": ["--version"], "inject": ["inject", "--emit", "nfpm"],
    "inspect": ["inspect", "program"], "publish": ["publish", "report.json", "--format", "text"],
}  # fmt: skip
#: The same commands with a file for their output.
_TO_FILE = {
    "check": ["check", "--format", "json={}"], "validate": ["validate", "--format", "junit={}"],
    "schema": ["schema", "--output", "{}"], "snapshot": ["snapshot", "--output", "{}"],
    "inspect": ["inspect", "program", "--format", "json={}"], "publish": ["publish", "report.json", "--format", "sarif={}"],
    "receipt": ["publish", "report.json", "--receipt", "{}"], "output": ["check", "--format", "text", "--output", "{}"],
}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "cgroup-preflight.toml").write_text(_CONFIG)
    (tmp_path / "program").write_bytes(Path(os.path.realpath("/bin/true")).read_bytes())
    write_report(tmp_path / "report.json", PASS)
    return tmp_path


def _call(project: Path, words: list[str], redirection: str) -> tuple[int, str]:
    """Exit status and stderr of a call with the shell's redirection."""
    shell = ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "cgroup_preflight", *words]
    done = subprocess.run(shell, cwd=project, env=environment(project), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          stdout=subprocess.DEVNULL, timeout=60, check=False)  # fmt: skip
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
@pytest.mark.parametrize("words", _COMMANDS.values(), ids=_COMMANDS)
def test_a_stdout_that_takes_nothing_is_an_error(project: Path, words: list[str], redirection: str) -> None:
    status, said = _call(project, words, redirection)
    assert status == 2, said
    assert "stdout: cannot write: " in said
    assert "defect" not in said


@pytest.mark.parametrize("words", _TO_FILE.values(), ids=_TO_FILE)
def test_a_device_that_is_full_is_an_error(project: Path, words: list[str]) -> None:
    for path in ("/dev/full", "full"):
        if path == "full" and not os.path.islink(project / "full"):
            (project / "full").symlink_to("/dev/full")
        status, said = _call(project, [word.format(path) for word in words], "")
        assert status == 2, said
        assert f"{path}: cannot write: No space left on device" in said
    assert os.path.islink(project / "full")


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/dev/fd/77", "link"])
def test_a_closed_descriptor_is_an_error_and_no_other_file_gets_the_output(project: Path, name: str) -> None:
    """With stdout closed, the next file that is opened would get its number, and the report."""
    (project / "link").symlink_to("/dev/stdout")
    status, said = _call(project, ["check", "--format", f"json={name}", "--format", "text=other"], ">&-")
    assert (status, "Bad file descriptor" in said or "it is closed" in said) == (2, True), said
    assert os.path.islink(project / "link")
    assert "schema_version" not in (project / "cgroup-preflight.toml").read_text()


@pytest.mark.parametrize(
    "words", [["check"], ["check", "--format", "json=/dev/stdout"], ["check", "--format", "json=/dev/fd/1"]]
)
def test_a_reader_that_goes_early_changes_no_status(project: Path, words: list[str]) -> None:
    usual, _ = _call(project, ["check"], "")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "cgroup_preflight", *words], cwd=project, env=environment(project),
                          stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False)  # fmt: skip
    os.close(writer)
    assert (done.returncode, b"defect" in done.stderr) == (usual, False), done.stderr


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_a_stderr_that_takes_nothing_changes_no_status(project: Path, redirection: str) -> None:
    for words in (["publish", "report.json"], ["nonsense"], ["validate"]):
        usual, _ = _call(project, words, "2>/dev/null")
        assert _call(project, words, redirection)[0] == usual


def test_a_defect_is_one_also_where_its_details_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import tempfile

    def act() -> int:
        raise KeyError("x")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    assert guard.guarded(act) == 4
    assert "cannot be written to the temporary folder" in capsys.readouterr().err
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert guard.guarded(act) == 4
    assert "add this file to a bug report" in capsys.readouterr().err


def test_bytes_of_a_guest_go_through_as_they_are(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    options.write_stdout(b"\xff\x00text")
    options.write_stderr(b"\xfe")
    assert capfdbinary.readouterr() == (b"\xff\x00text", b"\xfe")
