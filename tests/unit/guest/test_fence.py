"""The fence, put up round real processes: what it leaves open and what it keeps shut."""

import json
import os
import struct
import subprocess
import sys

import pytest

from cgroup_preflight.guest import fence

pytestmark = pytest.mark.starts_processes

_TRY = """
import json, os, socket, sys
from cgroup_preflight.guest import fence
rules, steps = json.loads(sys.argv[1]), json.loads(sys.argv[2])
said = fence.put_up(**rules)
def attempt(step):
    kind, path = step
    try:
        if kind == "read": open(path, "rb").read(1)
        elif kind == "write": open(path, "ab").write(b"x")
        elif kind == "list": os.listdir(path)
        elif kind == "make": os.mkdir(path)
        elif kind == "run": return os.spawnv(os.P_WAIT, path, [path]) == 0
        elif kind == "connect": socket.create_connection(("127.0.0.1", int(path)), 2).close()
        elif kind == "send": socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", int(path)))
        elif kind == "signal": os.kill(int(path), 0)
    except OSError:
        return False
    return True
print(json.dumps([said, [attempt(step) for step in steps]]))
"""


@pytest.fixture
def fenced():
    """Whether each step works in a process behind a fence, and what is said of the fence."""

    def run(steps, **rules):
        wanted = {"programs": ["/usr", "/lib", "/lib64", "/bin", *sys.path], "readable": [], "writable": [],
                  "network": False, **rules}  # fmt: skip
        done = subprocess.run([sys.executable, "-c", _TRY, json.dumps(wanted), json.dumps(steps)], capture_output=True,
                              env={"PYTHONPATH": os.pathsep.join(sys.path)}, timeout=30, check=True)  # fmt: skip
        return json.loads(done.stdout)

    return run


needs_landlock = pytest.mark.skipif(fence.version() == 0, reason="this kernel has no landlock, and the fence says so")


@needs_landlock
def test_files_are_shut_but_for_those_named(fenced, tmp_path):
    secret, handed, own = tmp_path / "secret", tmp_path / "handed", tmp_path / "own"
    secret.write_text("x")
    handed.write_text("x")
    own.mkdir()
    steps = [
        ("read", str(secret)), ("write", str(secret)), ("list", str(tmp_path)), ("make", str(tmp_path / "new")),
        ("read", str(own / ".." / "secret")), ("write", str(handed)), ("read", "/proc/1/environ"),
        ("signal", str(os.getpid())),
    ]  # fmt: skip
    said, worked = fenced(steps, readable=[str(handed)], writable=[str(own)])
    assert worked[:-1] == [False] * (len(steps) - 1)
    assert worked[-1] is (fence.version() < 6)
    assert f"landlock {fence.version()}" in said
    assert secret.read_text() == "x"


@needs_landlock
def test_what_is_named_stays_open(fenced, tmp_path):
    handed, own = tmp_path / "handed", tmp_path / "own"
    handed.write_text("x")
    own.mkdir()
    steps = [("read", str(handed)), ("make", str(own / "new")), ("write", str(own / "file")), ("run", "/bin/true")]
    _, worked = fenced(steps, readable=[str(handed)], writable=[str(own), str(tmp_path / "not there")])
    assert worked == [True] * len(steps)


def test_there_is_no_network_unless_it_is_asked_for(fenced):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        said, worked = fenced([("connect", port), ("send", port)])
        if "a network of its own" in said:
            assert worked == [False, False]
        elif fence.version() >= 4:
            assert worked[0] is False
        said, worked = fenced([("connect", port)], network=True)
        assert (worked, "the network of the job" in said) == ([True], True)


@pytest.mark.parametrize("network", [True, False])
@pytest.mark.parametrize(
    ("version", "rights", "words"),
    [(1, 13, 1), (2, 14, 1), (3, 15, 1), (4, 15, 2), (5, 16, 2), (6, 16, 3), (7, 16, 3), (12, 16, 3)],
)
def test_each_version_of_landlock_gets_what_it_knows(version, rights, words, network):
    """linux/landlock.h: file rights, then TCP since version 4, then abstract sockets and signals since 6."""
    found, wanted = fence._ruleset(version, network=network)
    assert found == 2**rights - 1
    assert struct.unpack(f"={len(wanted) // 8}Q", wanted) == (found, 0 if network else 3, 3)[:words]
