"""`python3 ci/bootstrap.py`: an old Python says what to do, and nothing is installed where nox works already."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from ci import bootstrap

pytestmark = pytest.mark.starts_processes


def test_an_old_python_can_read_it():
    ast.parse(Path(bootstrap.__file__).read_text("utf-8"), feature_version=(3, 7))


def test_an_old_python_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr(bootstrap, "OLDEST", (99, 0))
    assert bootstrap.main(["-s", "tests"]) == 2
    said = capsys.readouterr().err
    assert "this needs Python 99.0 or later" in said
    assert "uvx --python 3.13 nox -s tests" in said


@pytest.fixture
def checkout(tmp_path):
    """A checkout whose nox is played by a module that prints its words and its folder."""
    (tmp_path / "ci").mkdir()
    (tmp_path / "ci" / "bootstrap.py").write_bytes(Path(bootstrap.__file__).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(tmp_path / ".nox/bootstrap")], check=True, timeout=120
    )
    (packages,) = (tmp_path / ".nox/bootstrap/lib").glob("python*/site-packages")
    (packages / "nox.py").write_text(
        "if __name__ == '__main__':\n    import os, sys\n    print(sys.argv[1:], os.getcwd())\n    sys.exit(7)\n"
    )
    return tmp_path


def test_the_words_and_the_status_are_those_of_nox_in_the_checkout(checkout, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    done = subprocess.run(
        [sys.executable, str(checkout / "ci/bootstrap.py"), "-s", "tests", "--", "-k", "a b"], cwd=elsewhere,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout == f"['-s', 'tests', '--', '-k', 'a b'] {checkout}\n"
