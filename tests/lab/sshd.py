"""A guest that is reached by a real ssh: sshd in it, its port carried to this machine's loopback over the guest's channel."""

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from cgroup_preflight.guest.relay import Forward, Listeners, Relay
from cgroup_preflight.guest.session import Guest, input_path

PACKAGES = ("openssh-server",)
#: Names in the configuration of ssh, and whose they are; `runner` may use sudo.
USERS = {"root-host": "root", "sudo-host": "runner", "user-host": "tester"}
_SSHD = "PermitRootLogin prohibit-password\nPasswordAuthentication no\nUsePAM yes\nMaxSessions 100\nMaxStartups 100\n"


def set_up(guest: Guest, folder: Path) -> Path:
    """Starts sshd; the configuration for ssh, which knows the hosts of USERS. `folder` gets keys."""
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=60)
    port = _free_port()
    guest.write_file("/etc/ssh/sshd_config.d/lab.conf", f"Port {port}\n{_SSHD}".encode())
    for user in USERS.values():
        home = "/root" if user == "root" else f"/home/{user}"
        guest.write_file(f"{home}/.ssh/authorized_keys", (folder / "key.pub").read_bytes(), mode=0o600)
        script = f"chown -R {user} {home}/.ssh; chmod 700 {home}/.ssh; usermod -p '*' {user}"
        assert guest.run(["sh", "-c", script]).returncode == 0
    done = guest.run(["sh", "-c", "ssh-keygen -A; systemctl restart ssh.service"], timeout=180)
    assert done.returncode == 0, done
    config = folder / "ssh_config"
    config.write_text("".join(
        f"Host {name}\n HostName 127.0.0.1\n Port {port}\n User {user}\n" for name, user in USERS.items()
    ) + f"Host *\n IdentityFile {key}\n IdentitiesOnly yes\n StrictHostKeyChecking no\n UserKnownHostsFile {folder}/known\n")  # fmt: skip
    (folder / "port").write_text(str(port))
    return config


@contextmanager
def carried(guest: Guest, folder: Path) -> Iterator[None]:
    """While it lasts, ssh reaches the guest, and nothing else can be asked of the guest's agent."""
    port = int((folder / "port").read_text())
    job = guest.spawn_tool(
        ["exporter", "--listen", "127.0.0.1:9898"], folders=[str(input_path("src"))], cwd="/", env={}, piped=True
    )
    wake, waker = os.pipe()
    over = threading.Event()
    listeners = Listeners([Forward(host="127.0.0.1", port=port)])
    with closing(listeners), closing(Relay(guest, job, listeners, lambda _: None)) as relay:

        def carry() -> None:
            while not over.is_set():
                assert relay.turn(wake)

        thread = threading.Thread(target=carry, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            os.write(waker, b"x")
            thread.join(30)
    os.close(wake)
    os.close(waker)
    guest.signal(job, 9)
    guest.wait(job)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as line:
        port: int = line.getsockname()[1]
        return port
