"""A copy of the agent: a real child, which prints, raises, ends and is killed as a program of its own would."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cgroup_preflight.guest.inside import copies

#: Started in a Python of its own: the tests' has threads, which a copy would not have.
_RUN = """
import os, sys
from cgroup_preflight.guest.inside import copies
place = copies.Child(streams=(0, 1, 2), folder="FOLDER", environment={"ONLY": "this"})
copy = copies.start(lambda: CALL, place, lambda: os.write(1, b"entered "))
os.waitid(os.P_PID, copy.pid, os.WEXITED | os.WNOWAIT)
print("status", copy.poll())
"""


def run(call: str, folder: str = "/") -> tuple[str, str]:
    text = _RUN.replace("CALL", call).replace("FOLDER", folder)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout, done.stderr


pytestmark = pytest.mark.starts_processes


@pytest.mark.parametrize(
    ("call", "out", "err"),
    [
        ("print('said') or 7", "entered said\nstatus 7\n", ""),
        ("sys.exit(3)", "entered status 3\n", ""),
        ("sys.exit('words')", "entered status 1\n", ""),
        ("1 / 0", "entered status 1\n", "ZeroDivisionError"),
        ("os.kill(os.getpid(), 9)", "entered status -9\n", ""),
        ("print(dict(os.environ), os.getcwd(), os.getsid(0) == os.getpid()) or 0",
         "entered {'ONLY': 'this'} / True\nstatus 0\n", ""),
        ("print(sorted(os.listdir('/proc/self/fd'))) or 0", "entered ['0', '1', '2', '3']\nstatus 0\n", ""),
    ],
)  # fmt: skip
def test_it_ends_as_a_program_of_its_own_would(call: str, out: str, err: str) -> None:
    found = run(call)
    assert found[0] == out
    assert err in found[1]


def test_it_is_signalled_until_it_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        copy = copies.Copy(process.pid)
        assert copy.poll() is None
        copy.send_signal(signal.SIGTERM)
        handle = os.pidfd_open(process.pid)
        assert select.select([handle], [], [], 60)[0]
        os.close(handle)
        assert (copy.poll(), copy.poll()) == (-signal.SIGTERM, -signal.SIGTERM)
        monkeypatch.setattr(os, "kill", None)
        copy.send_signal(signal.SIGTERM)
        process.returncode = 0  # the test has waited for it already


def package(folder: Path, main: str) -> str:
    """A package in place of this tool, whose `main` has these lines."""
    place = folder / "cgroup_preflight" / "cli"
    place.mkdir(parents=True)
    (place.parent / "__init__.py").write_text("")
    (place / "__init__.py").write_text(f"import sys\ndef main(words):\n    {main}\n")
    return str(folder)


def test_the_tool_is_the_one_in_the_folder_and_not_the_agents_own(tmp_path: Path) -> None:
    folder = package(tmp_path, "print(words, sys.argv); return 5")
    call = f"copies.tool(['run', '--x'], [{folder!r}])"
    assert run(call) == ("entered ['run', '--x'] ['cgroup-preflight', 'run', '--x']\nstatus 5\n", "")


def test_no_module_is_taken_from_the_folder_of_the_project(tmp_path: Path) -> None:
    """Python started with -c looks in the current folder first, where the project's files are."""
    (tmp_path / "colorsys.py").write_text("print('of the project')\n")
    folder = package(tmp_path / "tool", "import colorsys; print(colorsys.__file__ != 'colorsys.py'); return 0")
    assert run(f"copies.tool([], [{folder!r}])", str(tmp_path)) == ("entered True\nstatus 0\n", "")
