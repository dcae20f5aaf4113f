"""The door to a guest without an agent: standard programs of this machine play those of the guest."""

import os
import shutil
import socket
import subprocess

import pytest

from cgroup_preflight.core.reading import Known
from cgroup_preflight.engines.ready import LocalNetwork
from cgroup_preflight.guest import lines as module
from cgroup_preflight.guest.line import Line
from cgroup_preflight.guest.lines import FILE_SERVER, GuestLines
from cgroup_preflight.guest.spec import GuestEngine, GuestSpec
from cgroup_preflight.host.remote.line import LineError
from cgroup_preflight.host.remote.machine import door_of

pytestmark = pytest.mark.starts_processes


class Played:
    """As `BareGuest`: a program at a line is one of this machine, whose end is a socket."""

    def __init__(self, engine):
        self.spec = GuestSpec(engine=engine)
        self.opened = []

    def open_line(self, argv):
        here, there = socket.socketpair()
        with there:
            process = subprocess.Popen(argv, stdin=there, stdout=there, stderr=subprocess.DEVNULL)
        self.opened.append((here, process))
        return Line(here, seconds=10)

    def close(self):
        for here, process in self.opened:
            here.close()
            process.kill()
            process.wait()


@pytest.fixture(params=GuestEngine)
def guest(request, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PLACE", str(tmp_path / "text-{}"))
    made = Played(request.param)
    yield made
    made.close()


@pytest.mark.parametrize("server", ["", FILE_SERVER])
def test_files_and_commands_of_the_guest(guest, tmp_path, server):
    if server and not os.path.exists(server):
        pytest.skip("no sftp-server here")
    door, asker = door_of(GuestLines(guest, server), LocalNetwork())
    data = os.urandom(9000)
    door.files.write(str(tmp_path / "it's"), data, 0o640)
    assert (tmp_path / "it's").read_bytes() == data
    assert door.files.data(str(tmp_path / "it's")) == Known(value=data, source=str(tmp_path / "it's"))
    assert "it's" in door.files.names(str(tmp_path)).value
    done = door.programs.run(("sh", "-c", "echo out; echo err >&2; exit 3", "x" * 4000))
    assert (done.value.stdout, done.value.stderr.strip(), done.value.returncode) == ("out\n", "err", 3)
    assert door.host == "guest"
    asker.close()


def test_connections_are_made_there(guest):
    if shutil.which("bash") is None:
        pytest.skip("no bash here")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = GuestLines(guest).connection("127.0.0.1", listener.getsockname()[1])
        there, _ = listener.accept()
        with line, there:
            line.sendall(b"hello")
            assert there.recv(9) == b"hello"
            there.sendall(b"back")
            line.settimeout(10)
            assert line.recv(9) == b"back"


def test_there_is_no_channel(guest):
    with pytest.raises(LineError, match="no channel"):
        GuestLines(guest).channel("true")
