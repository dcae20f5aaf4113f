"""A process for each of several machines: what it prints comes back, and an end lets it take down its run."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cgroup_preflight.smoke.apart import Apart

pytestmark = [pytest.mark.starts_processes, pytest.mark.timeout(60)]


def test_what_the_command_prints_and_says(tmp_path):
    out, err = Apart({}).run(("--version",))
    assert out.startswith(b"cgroup-preflight ")
    assert err == b""
    out, err = Apart({}).run(("smoke", "--config", f"{tmp_path}/none.toml"))
    assert out == b""
    assert b"none.toml" in err


def test_all_end_when_one_of_the_callers_does():
    apart, ended = Apart({}), []
    thread = threading.Thread(target=lambda: ended.append(apart.run(("exporter", "--listen", "127.0.0.1:0"))))
    thread.start()
    time.sleep(0.2)
    apart.end()
    thread.join(30)
    assert ended


def test_none_begins_after_the_end(tmp_path):
    apart = Apart({})
    apart.end()
    assert apart.run(("snapshot", "-o", f"{tmp_path}/recorded")) == (b"", b"")
    assert not (tmp_path / "recorded").exists()


_PARENT = """
import sys, threading
from cgroup_preflight.smoke.apart import Apart
apart = Apart({"PYTHONPATH": ":".join(sys.path)})
threads = [threading.Thread(target=apart.run, args=(("check", "--host", f"web{number}"),)) for number in range(2)]
for thread in threads:
    thread.start()
print("started", flush=True)
for thread in threads:
    thread.join()
"""


def _children(pid: int) -> list[int]:
    found = list[int]()
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _wait(condition, seconds: float = 30.0) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return bool(condition())


@pytest.mark.parametrize("at_work", [True, False])
def test_none_stays_after_kill_9_of_who_started_them(at_work, tmp_path):
    """At work, each with an ssh that it waits for, and while they still start."""
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\nexec sleep 300\n")
    ssh.chmod(0o700)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with subprocess.Popen((sys.executable, "-c", _PARENT), stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout.readline() == b"started\n"
        assert _wait(lambda: len(_children(parent.pid)) == 2)
        children = _children(parent.pid)
        if at_work:
            assert _wait(lambda: all(map(_children, children)))
        family = [*children, *(each for pid in children for each in _children(pid))]
        parent.send_signal(signal.SIGKILL)
    assert _wait(lambda: not any(map(_runs, family)))


def test_the_folder_of_the_project_has_no_modules_for_them(tmp_path, monkeypatch):
    """A pull request could bring them."""
    for name in ("ctypes.py", "signal.py", "cgroup_preflight.py"):
        (tmp_path / name).write_text("raise SystemExit('hostile')")
    monkeypatch.chdir(tmp_path)
    out, err = Apart({}).run(("--version",))
    assert out.startswith(b"cgroup-preflight "), err
