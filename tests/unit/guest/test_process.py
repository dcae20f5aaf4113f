"""A guest as a process: played by a shell, so that its end can be watched without a kernel."""

import os
import subprocess
import sys
import time

import pytest

from cgroup_preflight.guest import process
from cgroup_preflight.guest.process import GuestProcess, make_folder

pytestmark = pytest.mark.starts_processes


@pytest.fixture
def played(tmp_path, monkeypatch):
    """Starts `sh -c SCRIPT` in place of an engine; its folder is below `tmp_path`."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    started = []

    def start(script):
        folder = make_folder()
        made = GuestProcess(
            [folder],
            lambda fds: ("sh", "-c", script, "guest", *map(str, fds)),
            environment={"PATH": os.environ["PATH"]},
        )
        started.append(made)
        made.begin()
        return made

    yield start
    for one in started:
        one.close()


def test_line_and_console(played, tmp_path):
    # The shell itself knows no descriptors of two digits.
    write = f"{sys.executable} -c 'import os,sys; os.write(int(sys.argv[1]), b\"hello\")' $1"
    guest = played(f'printf "\\033[1mone\\033[0m\\n\\ntwo\\n"; {write}; exec sleep 100')
    assert guest.line.recv(100) == b"hello"
    assert guest.console_tail(5) == ("one", "two")
    guest.close()
    assert list(tmp_path.iterdir()) == []


def test_panic_comes_before_its_stack_trace():
    text = "\n".join(["old", "a", "b", "[1.0] Kernel panic - not syncing: x", *("trace" for _ in range(30))])
    assert process._last_lines(text, 4) == ("a", "b", "[1.0] Kernel panic - not syncing: x", "trace")
    assert process._last_lines("a\n\nb\n", 1) == ("b",)


def test_end_of_the_guest_is_seen_and_its_console_is_kept(played):
    guest = played("echo died; exit 3")
    assert guest.line.recv(100) == b""
    assert guest.console_tail(5) == ("died",)


def test_daemons_of_the_guest_are_ended_too(played):
    guest = played('setsid sh -c "echo \\$\\$; exec sleep 100" & exec sleep 100')
    deadline = time.monotonic() + 5
    while not guest.console_tail(1) and time.monotonic() < deadline:
        time.sleep(0.02)
    pid = int(guest.console_tail(1)[0])
    guest.close()
    assert not os.path.exists(f"/proc/{pid}")


def test_program_that_cannot_start_is_told_on_the_console(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    guest = GuestProcess([make_folder()], lambda _: ("/no/engine",), environment={})
    guest.begin()
    assert guest.line.recv(1) == b""
    assert "/no/engine" in guest.console_tail(1)[0]
    guest.close()


def test_the_engine_waits_for_the_word(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = make_folder()
    guest = GuestProcess(
        [folder], lambda _: ("touch", str(folder / "started")), environment={"PATH": os.environ["PATH"]}
    )
    try:
        # The keeper has the guest's end of the line until the engine has it: it neither ends nor says anything.
        guest.line.settimeout(0.3)
        with pytest.raises(TimeoutError):
            guest.line.recv(1)
        assert not (folder / "started").exists()
        guest.begin()
        guest.line.settimeout(60)
        assert guest.line.recv(1) == b""
        assert (folder / "started").exists()
    finally:
        guest.close()
    assert list(tmp_path.iterdir()) == []


def test_one_that_is_closed_before_it_began_never_starts(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder, proof = make_folder(), tmp_path / "started"
    guest = GuestProcess([folder], lambda _: ("touch", str(proof)), environment={"PATH": os.environ["PATH"]})
    guest.close()
    assert guest._keeper.returncode == 0
    assert list(tmp_path.iterdir()) == []


_PARENT = """
import os, sys, time
from cgroup_preflight.guest import process
from cgroup_preflight.guest.process import GuestProcess, make_folder
guest = GuestProcess([make_folder()], lambda _: ("sh", "-c", "sleep 100 & echo $$; sleep 100"),
                     environment={"PATH": os.environ["PATH"]})
guest.begin()
while not guest.console_tail(1):
    time.sleep(0.02)
print(guest.console_tail(1)[0], flush=True)
time.sleep(100)
"""


def test_nothing_is_left_of_a_killed_parent(short_folder):
    environment = {**os.environ, "TMPDIR": str(short_folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, env=environment) as parent:
        pid = int(parent.stdout.readline())
        assert os.path.exists(f"/proc/{pid}")
        parent.kill()
    deadline = time.monotonic() + 5
    while (os.path.exists(f"/proc/{pid}") or list(short_folder.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{pid}")
    assert list(short_folder.iterdir()) == []
