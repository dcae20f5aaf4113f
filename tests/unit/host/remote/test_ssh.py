"""How ssh is called: never with a question, an option in place of a name, or a socket that others can reach."""

import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.host.remote import ssh
from cgroup_preflight.host.remote.line import LineError
from cgroup_preflight.host.remote.ssh import SshLines, control_folder, host_name


@pytest.mark.parametrize("name", ["web1", "me@web-1.example.org", "10.0.0.1", "::1", "fe80::1%eth0", "a_b", "x.y@h"])
def test_names_of_hosts(name):
    assert host_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "-w", "-oX=y", "me@-w", "a b", "a\n", "@a", "a@", "a/b", "a;b", "a,b", "$a", "é", "a" * 400]
)
def test_what_is_no_name_of_a_host(name):
    with pytest.raises(UsageError, match="not the name of a host"):
        host_name(name)


@pytest.fixture
def runtime(monkeypatch) -> Iterator[Path]:
    # A short path, because that of a Unix socket has 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="cgpf") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)


def test_the_folder_of_sockets_is_for_this_user_only(runtime):
    found = control_folder()
    assert found == f"{runtime}/cgroup-preflight-ssh"
    assert os.stat(found).st_mode & 0o777 == 0o700
    assert control_folder() == found


@pytest.mark.parametrize("kind", ["open", "link", "file"])
def test_a_folder_that_somebody_else_could_have_made_is_not_used(runtime, kind, tmp_path):
    place = runtime / "cgroup-preflight-ssh"
    if kind == "open":
        place.mkdir(mode=0o700)
        place.chmod(0o770)
    elif kind == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        place.symlink_to(tmp_path / "elsewhere")
    else:
        place.touch()
    assert control_folder() != str(place)


def test_a_path_that_is_too_long_for_a_socket_is_not_used(runtime, monkeypatch):
    monkeypatch.setattr(ssh, "_SOCKET_MAX", 10)
    assert control_folder() == ""


FAKE = """\
#!/bin/sh
printf '%s\\n' "$*" >> {log}
case "$*" in
*slow*) sleep 60;;
*fails*) echo 'kex_exchange_identification: Connection reset by peer' >&2; exit 255;;
esac
env > {log}.env
echo out
cat
"""


@pytest.fixture
def log(tmp_path, monkeypatch) -> Path:
    (tmp_path / "ssh").write_text(FAKE.format(log=tmp_path / "log"))
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "log"


def soon() -> float:
    return time.monotonic() + 20


@pytest.mark.starts_processes
def test_each_line_is_one_ssh_with_its_words_apart(log, monkeypatch):
    monkeypatch.setenv("CI_JOB_TOKEN", "secret")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/agent")
    lines = SshLines("me@web1", "", config="/my config")
    for make in (lines.shell, lines.files, lines.bridge, lambda: lines.dial("127.0.0.1", 80)):
        opened = make()
        opened.allow(100)
        assert opened.receive(soon()) == b"out\n"
        opened.close()
    said = [call.split(" -T ")[1] for call in log.read_text().splitlines()]
    assert [call.partition("ControlPath=none ")[2] for call in said] == [
        "-- me@web1 sh", "-s -- me@web1 sftp",
        "-- me@web1 systemd-stdio-bridge --bus-path=unix:path=/run/systemd/private", "-W [127.0.0.1]:80 -- me@web1",
    ]  # fmt: skip
    for option in (
        "BatchMode=yes",
        "RequestTTY=no",
        "ForwardAgent=no",
        "ClearAllForwardings=yes",
        "PermitLocalCommand=no",
    ):
        assert f"-o {option}" in said[0]
    environment = Path(f"{log}.env").read_text()
    assert "secret" not in environment
    assert "SSH_AUTH_SOCK=/agent" in environment


@pytest.mark.starts_processes
def test_a_connection_that_fails_is_not_tried_twice(log, runtime):
    lines = SshLines("fails", control_folder())
    with pytest.raises(LineError, match="Connection reset by peer"):
        lines.shell()
    assert len(log.read_text().splitlines()) == 1


@pytest.mark.starts_processes
def test_a_connection_that_can_be_shared_is_shared(log, runtime):
    lines = SshLines("web1", control_folder())
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(lines._socket)
        server.listen()
        opened = lines.shell()
        opened.allow(100)
        assert opened.receive(soon()) == b"out\n"
        opened.close()
    assert f"ControlMaster=auto -o ControlPersist=60 -o ControlPath={lines._socket}" in log.read_text()


@pytest.mark.starts_processes
def test_every_ssh_of_a_host_can_be_ended_at_once(log):
    lines = SshLines("slow", "")
    opened = lines.shell()
    opened.allow(100)
    lines.abandon()
    with pytest.raises(LineError):
        opened.receive(soon())
    opened.close()


def test_without_ssh_there_is_a_reason(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LineError, match="no program ssh"):
        SshLines("web1", "").shell()


@pytest.mark.starts_processes
def test_after_the_end_of_all_none_starts(log):
    lines = SshLines("web1", "")
    lines.abandon()
    with pytest.raises(LineError, match="the command is ending"):
        lines.shell()
    assert not log.exists()


@pytest.mark.starts_processes
def test_connections_that_ended_leave_no_process(log):
    lines = SshLines("web1", "")
    for _ in range(5):
        lines.connection("127.0.0.1", 80).close()
        until = soon()
        while any(process.poll() is None for process in lines._processes) and time.monotonic() < until:
            time.sleep(0.01)
    assert len(lines._processes) == 1


def test_a_connection_is_shared_only_with_the_same_configuration(tmp_path, monkeypatch):
    """The same name of a host can be another host in another file, or in the same one later."""
    places, found = (tmp_path / "a", tmp_path / "b"), set()
    for place in places:
        place.mkdir()
        (place / "ssh.conf").write_text("Host web1\nHostName 10.0.0.1\n")
        monkeypatch.chdir(place)
        found.add(SshLines("web1", "/run/x", config="ssh.conf")._socket)
    assert SshLines("web1", "/run/x", config=f"{places[1]}/ssh.conf")._socket in found
    (places[1] / "ssh.conf").write_text("Host web1\nHostName 10.0.0.22\n")
    found.add(SshLines("web1", "/run/x", config="ssh.conf")._socket)
    monkeypatch.setenv("HOME", str(tmp_path))
    found.add(SshLines("web1", "/run/x")._socket)
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text("Host web1\nHostName 10.0.0.3\n")
    found.add(SshLines("web1", "/run/x")._socket)
    assert len(found) == 5
