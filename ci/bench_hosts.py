"""Measure `check --host` on loopback against `check`, with a real sshd and a connection that is open already."""

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ci.side_by_side import PAIRS, timed

#: The goal of `check --host` with a warm connection, as a multiple of `check`.
GOAL = 3.0
SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")
#: The number of the shell: bash reads ~/.bashrc of a login only where it is less than two, and a user's file may do anything.
CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/key.pub
StrictModes no
UsePAM no
PidFile none
SetEnv SHLVL=5
Subsystem sftp {server}
"""
CLIENT = """\
Host bench
HostName 127.0.0.1
Port {port}
IdentityFile {folder}/key
IdentitiesOnly yes
StrictHostKeyChecking no
UserKnownHostsFile {folder}/known
"""


def main() -> None:
    """Print the medians of both, and the median of their ratios, with and without a warm connection."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    server = next((path for path in SERVERS if os.path.exists(path)), "")
    if sshd is None or not server:
        print("check --host: there is no sshd here (openssh-server)")
        return
    with tempfile.TemporaryDirectory(prefix="cgpf") as name, _served(sshd, server, Path(name)):
        _measure(Path(name))


@contextmanager
def _served(sshd: str, server: str, folder: Path) -> Iterator[None]:
    for key in ("host", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    with socket.create_server(("127.0.0.1", 0)) as line:
        port = line.getsockname()[1]
    (folder / "sshd_config").write_text(CONFIG.format(port=port, folder=folder, server=server))
    (folder / "ssh_config").write_text(CLIENT.format(port=port, folder=folder))
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)
    with subprocess.Popen([sshd, "-D", "-q", "-f", str(folder / "sshd_config")]) as process:
        try:
            yield
        finally:
            process.terminate()


def _measure(folder: Path) -> None:
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder)}
    here = (sys.executable, "-m", "cgroup_preflight", "check", "--exit-zero", "--format", "json")
    there = (*here, "--ssh-config", str(folder / "ssh_config"), "--host", "bench")

    def run(words: tuple[str, ...]) -> float:
        return timed(lambda: subprocess.run(words, env=environment, cwd=folder, capture_output=True, check=True))

    until = time.monotonic() + 20
    while subprocess.run(["ssh", "-F", str(folder / "ssh_config"), "bench", "true"], check=False).returncode:
        if time.monotonic() > until:
            raise TimeoutError("sshd does not answer")
        time.sleep(0.1)
    cold = run(there)
    pairs = [(run(here), run(there)) for _ in range(PAIRS + 1)][1:]
    ratios = [far / near for near, far in pairs]
    near, far = (statistics.median(pair[place] for pair in pairs) * 1000 for place in (0, 1))
    print(
        f"check {near:.0f} ms, check --host on loopback {far:.0f} ms, ratio {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} .. {max(ratios):.2f}; goal {GOAL:g}); the first one, which logs in, {cold * 1000:.0f} ms"
    )
    sockets = [path for path in folder.rglob("*") if path.is_socket()]
    for path in sockets:
        subprocess.run(["ssh", "-O", "exit", "-o", f"ControlPath={path}", "bench"], capture_output=True, check=False)


if __name__ == "__main__":
    main()
