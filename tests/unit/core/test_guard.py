"""The guard of the unit tests itself: what it stops, and what it lets through."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest


def _refused(action):
    with pytest.raises(BaseException, match=r"mark the test|only loopback|may be written") as caught:
        action()
    assert type(caught.value).__name__ == "TouchedTheMachine"


def test_processes_are_refused():
    _refused(lambda: subprocess.run([sys.executable, "-c", ""], check=False))
    _refused(lambda: os.system("true"))
    _refused(os.fork)
    _refused(lambda: os.posix_spawn("/bin/true", ["true"], {}))


def test_network_is_refused():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        _refused(lambda: handle.connect(("192.0.2.1", 9)))
        _refused(lambda: handle.sendto(b"x", ("192.0.2.1", 9)))
    _refused(lambda: socket.getaddrinfo("example.com", 80))


def test_system_folders_are_refused():
    _refused(lambda: Path("/proc/self/comm").write_text("x"))
    _refused(lambda: os.open("/sys/fs/cgroup/cgroup.procs", os.O_WRONLY))


def test_loopback_and_own_files_are_allowed(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass
    (tmp_path / "x").write_text("y")
    with open("/proc/self/comm") as file:
        assert file.read()


@pytest.mark.starts_processes
def test_mark_allows_processes():
    assert subprocess.run([sys.executable, "-c", ""], check=False).returncode == 0
