"""The lines that docs/publishing.md offers for a noxfile of one's own, run as they stand there, and interrupted."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.clients.helpers import ROOT, clean_environment, run

_ADDRESS = "git+https://github.com/org/cgroup-preflight"
#: A command that needs two seconds after Ctrl-C, as services do that have to be stopped.
_SLOW_END = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
try:
    pathlib.Path("began").touch()
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(2)
    pathlib.Path("cleaned").touch()
"""


def _lines():
    page = (ROOT / "docs" / "publishing.md").read_text("utf-8")
    (lines,) = re.findall(r"## nox, in three lines\n\n((?:    .*\n)+)", page)
    return "".join(line[4:] for line in lines.splitlines(keepends=True))


def test_the_lines_for_users(tmp_path, wheel):
    lines = _lines()
    assert lines.count(_ADDRESS) == 1
    # The address is an example; the wheel is that of this tree.
    (tmp_path / "noxfile.py").write_text(f"import nox\n\n{lines.replace(_ADDRESS, 'cgroup-preflight')}")
    environment = clean_environment(tmp_path) | {
        "PIP_FIND_LINKS": f"{wheel.parent} {os.environ.get('PIP_FIND_LINKS', '')}",
        "NOX_DEFAULT_VENV_BACKEND": "venv",
    }
    done = run([sys.executable, "-m", "nox", "-s", "preflight", "--", "--help"], tmp_path, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "usage: cgroup-preflight run" in done.stdout


@pytest.mark.parametrize("given", [True, False])
def test_ctrl_c_leaves_the_command_time_to_clean_up(tmp_path, given):
    """Both ways: with the two spans of the docs, and without them, when nox kills the command."""
    spans = ", ".join(re.findall(r"\w+_timeout=\d+", _lines()))
    assert spans.count("=") == 2
    (tmp_path / "slow.py").write_text(_SLOW_END)
    (tmp_path / "noxfile.py").write_text(
        "import nox\n\n@nox.session(venv_backend='none')\ndef preflight(session):\n"
        f"    session.run({sys.executable!r}, 'slow.py', external=True, {spans if given else ''})\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "nox", "-s", "preflight"], cwd=tmp_path, env=clean_environment(tmp_path),
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "began").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert (tmp_path / "cleaned").exists() is given
