"""`up` on this machine with the services in the built-in guest: lines while it runs, ports of loopback, nothing left."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from ci.build_go import default_cache, go_environment

from tests.lab.configs import config, service, toml

pytestmark = pytest.mark.timeout(420)
_SOURCE = Path(__file__).parents[2] / "src"
_TALKS = '#!/bin/sh\necho "up $NAME"\nexec sleep 300\n'
#: Listens at a port that its `ready` does not name.
_HIDDEN = """#!/usr/bin/python3
import socket, sys
lines = [socket.create_server(("127.0.0.1", int(port))) for port in sys.argv[1:]]
print("up", flush=True)
while True:
    lines[0].accept()[0].sendall(b"hidden")
"""
_GO = """package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "version 1") })
	fmt.Println("starts")
	fmt.Println(http.ListenAndServe(os.Args[1], nil))
}
"""


class Up:
    """`up --engine guest` in a folder of this machine; its stream goes to a file."""

    def __init__(self, folder: Path, *args: str) -> None:
        self._out, self.state = folder / "out", folder / "state"
        temporary = folder / "temporary"
        temporary.mkdir(exist_ok=True)
        paths = os.pathsep.join([str(_SOURCE), *filter(None, [os.environ.get("PYTHONPATH")])])
        env = {**go_environment(default_cache()), "PYTHONPATH": paths, "XDG_STATE_HOME": str(self.state)}
        argv = [sys.executable, "-m", "cgroup_preflight", "up", "--engine=guest", *args]
        with self._out.open("wb") as out:
            self._process = subprocess.Popen(
                argv, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    @property
    def text(self) -> str:
        return self._out.read_text()

    def wait_for(self, *patterns: str, seconds: float = 180) -> None:
        """Waits until the stream has all of these."""
        for pattern in patterns:
            self.until(lambda pattern=pattern: re.search(pattern, self.text, re.MULTILINE), pattern, seconds)  # type: ignore[misc]

    def until(self, done: Callable[[], object], what: str, seconds: float = 180) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            assert self._process.poll() is None, self.text
            assert time.monotonic() < deadline, f"no {what} in:\n{self.text}"
            time.sleep(0.1)

    def end(self) -> tuple[int, list[str]]:
        """Its exit status and its lines, after Ctrl-C as a terminal sends it; nothing of the guest may be left."""
        os.killpg(self._process.pid, signal.SIGINT)
        status = self._process.wait(120)
        # Keeper and machine were its children, in sessions of their own.
        assert not [line for line in _processes() if str(self._out.parent) in line], _processes()
        return status, self.text.splitlines()


def _processes() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().decode(errors="replace").replace("\0", " "))
        except OSError:
            continue
    return found


def free_port() -> int:
    """A port of this machine at which nobody listens."""
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return int(line.getsockname()[1])


def _get(port: int) -> str:
    """What the service in the guest answers; empty while it does not."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
            return str(answer.read().decode())
    except (OSError, urllib.error.URLError):
        return ""


@pytest.fixture
def guest_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the folders of guests go, to see what is left of them; memory of guests as well."""
    folder = Path(f"/tmp/up-{os.getpid()}")
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("machine", ["uml", pytest.param("qemu", marks=pytest.mark.measured)])
def test_a_go_service_of_the_guest_is_reached_from_this_machine(
    tmp_path: Path, guest_folders: Path, machine: str
) -> None:
    port, programs = free_port(), Path(os.environ["CGPF_LAB_FIXTURES"])
    for name in ("server", "hog"):
        shutil.copy(programs / name, tmp_path / name)
    (tmp_path / "talks").write_text(_TALKS)
    (tmp_path / "talks").chmod(0o755)
    hidden, holder = free_port(), socket.create_server(("127.0.0.1", 0))
    taken = holder.getsockname()[1]
    (tmp_path / "hidden").write_text(_HIDDEN)
    (tmp_path / "hidden").chmod(0o755)
    (tmp_path / ".env").write_text("NAME='a \"b\" \\ c'\n")
    ready = f"http://127.0.0.1:{port}/healthz"
    (tmp_path / "cgroup-preflight.toml").write_text(toml(config(
        {
            "web": service("server", f"--port={port}", ready=ready, slice="api", MemoryMax="64M", CPUQuota="50%"),
            "greedy": service("hog", "-max=200", "-step=4", "-pause=5ms", slice="api", MemoryMax="48M"),
            "talks": service("talks", ready="log:up", slice="api"),
            "hidden": service("hidden", str(hidden), str(taken), ready="log:up", slice="api"),
        },
        {"api": {"MemoryMax": "300M"}}, target={"machine": machine},
    )))  # fmt: skip
    up = Up(tmp_path, "--table")
    up.wait_for("^web +[|] ready after", "^talks +[|] ready", "^greedy +[|] killed", "[|] web +runs +[0-9.]+/0.5")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics.json", timeout=20) as answer:
        assert b"/memory/classes/heap" in answer.read()
    up.wait_for(f"^up +[|] 127.0.0.1:{hidden} leads to hidden in the guest$",
                f"^up +[|] hidden listens at port {taken}, which is not forwarded: Address already in use$")  # fmt: skip
    holder.close()
    with socket.create_connection(("127.0.0.1", hidden), timeout=20) as line:
        assert line.recv(6) == b"hidden"
    # Several at once, and one that asks nothing and only connects.
    with socket.create_connection(("127.0.0.1", port), timeout=20):
        lines = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(5)]
        for line in lines:
            line.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert all(line.recv(12) == b"HTTP/1.1 200" for line in lines)
        for line in lines:
            line.close()
    status, said = up.end()
    assert status == 0, said
    assert any(
        line.startswith("greedy | killed by the kernel for memory: peak 48M, limit 48M of greedy.service")
        for line in said
    ), said
    assert 'talks  | up a "b" \\ c' in said
    assert said[-2:] == ["web    | stopped", "talks  | stopped"] or {"web    | stopped", "talks  | stopped"} <= set(
        said
    )
    logs = tmp_path / "state" / "cgroup-preflight" / "lab" / "logs"
    assert (logs / "talks.log").read_text() == 'up a "b" \\ c\n'
    assert list(guest_folders.iterdir()) == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_change_of_its_go_source_boots_the_guest_with_the_new_program(tmp_path: Path, guest_folders: Path) -> None:
    assert shutil.which("go"), "no Go: run `nox -s lab`, which installs it"
    port = free_port()
    (tmp_path / "go.mod").write_text("module web\n\ngo 1.21\n")
    (tmp_path / "main.go").write_text(_GO)
    (tmp_path / "cgroup-preflight.toml").write_text(toml(config({
        "web": service("dist/web", f"127.0.0.1:{port}", ready=f"http://127.0.0.1:{port}/", MemoryMax="64M",
                       build=["go", "build", "-trimpath", "-o", "dist/web", "."]),
    })))  # fmt: skip
    up = Up(tmp_path, "--watch")
    up.wait_for("^web +[|] ready after")
    assert _get(port) == "version 1"
    (tmp_path / "main.go").write_text(_GO.replace("version 1", "version 2").replace("fmt.Println", "fmt.Printl"))
    up.wait_for("the build of web failed: exit status 1; it runs on as it was", "undefined: fmt.Printl")
    assert _get(port) == "version 1"
    (tmp_path / "main.go").write_text(_GO.replace("version 1", "version 2"))
    up.wait_for("the guest boots again")
    up.until(lambda: _get(port) == "version 2", "version 2")
    status, said = up.end()
    assert status == 0, said
    assert list(guest_folders.iterdir()) == []


def test_a_port_that_is_taken_here_is_named_before_the_boot(tmp_path: Path) -> None:
    (tmp_path / "talks").write_text(_TALKS)
    (tmp_path / "talks").chmod(0o755)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        (tmp_path / "cgroup-preflight.toml").write_text(
            toml(config({"web": service("talks", ready=f"tcp://127.0.0.1:{port}")}))
        )
        done = subprocess.run(
            [sys.executable, "-m", "cgroup_preflight", "up", "--engine=guest"], cwd=tmp_path, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(_SOURCE), "XDG_STATE_HOME": str(tmp_path / "state")}, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert f"web cannot listen at 127.0.0.1:{port}: " in done.stderr, done.stderr
