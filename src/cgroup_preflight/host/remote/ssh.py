"""Lines through the system's own `ssh`: its configuration, its keys and agent, its jump hosts; never a password of ours.

One connection carries all lines of a host (ControlMaster), and stays for a minute, so that the next command finds it. What
this starts gets no terminal, asks nobody, and forwards nothing.
"""

import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Sequence

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.remote.bridge import BRIDGE
from cgroup_preflight.host.remote.line import Line, LineError
from cgroup_preflight.host.remote.shell import quoted

#: A user and a name as ssh takes them: never an option, and nothing that a shell would read.
_NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}@)?[A-Za-z0-9_:][A-Za-z0-9_.:%-]{0,254}")
_CONNECT_SECONDS, _PERSIST_SECONDS, _PAUSE = 30, 60, 0.005
_OPTIONS = (
    "BatchMode=yes", f"ConnectTimeout={_CONNECT_SECONDS}", "ServerAliveInterval=10", "ServerAliveCountMax=3",
    "LogLevel=ERROR", "RequestTTY=no", "ForwardAgent=no", "ForwardX11=no", "ClearAllForwardings=yes",
    "PermitLocalCommand=no", "RemoteCommand=none", "EscapeChar=none", "KbdInteractiveAuthentication=no",
)  # fmt: skip
#: What ssh, its agent and a user's ProxyCommand need; no token of a CI job.
_KEEP = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "SSH_AUTH_SOCK", "SSH_AGENT_PID", "KRB5CCNAME", "XDG_RUNTIME_DIR", "TMPDIR",
)  # fmt: skip
#: A Unix socket's path, without the suffix that ssh adds while it makes one (unix(7), ssh's muxserver_listen).
_SOCKET_MAX = 107 - 18
_REMEDY = Remedy(title="log in once by hand, with the same options", commands=(("ssh", "-o", "BatchMode=yes", "HOST"),))


def host_name(text: str) -> str:
    """The `[USER@]NAME` of a host. Raises UsageError for what is none."""
    if not _NAME.fullmatch(text):
        raise UsageError("not the name of a host, as [USER@]NAME", where="--host",
                         remedy=Remedy(title="use a name of your ssh configuration"))  # fmt: skip
    return text


class SshLines:
    """As `Lines`, to one host; `config` is a configuration file in place of the user's."""

    def __init__(self, name: str, folder: str, *, config: str = "", program: str = "ssh") -> None:
        self.name = host_name(name)
        self._words = (program, *(("-F", config) if config else ()), "-T",
                       *(word for option in _OPTIONS for word in ("-o", option)))  # fmt: skip
        digest = hashlib.sha256(f"{name}\0{_version(config)}".encode()).hexdigest()[:24]
        self._socket = os.path.join(folder, digest) if folder else ""
        self._processes = list[subprocess.Popen[bytes]]()
        self._lock, self._abandoned = threading.Lock(), False

    def shell(self) -> Line:
        """As `Lines.shell`."""
        return self._line(("sh",))

    def files(self) -> Line:
        """As `Lines.files`: the host's own subsystem."""
        return self._line(("sftp",), subsystem=True)

    def bridge(self) -> Line:
        """As `Lines.bridge`."""
        return self._line((quoted(BRIDGE),))

    def dial(self, host: str, port: int) -> Line:
        """A line to a port that the host can reach (ssh -W)."""
        return self._line((), options=("-W", f"[{host}]:{port}"))

    def connection(self, host: str, port: int) -> socket.socket:
        """A connection of the host to a port that it can reach (ssh -W); it ends at once where nobody listens. Raises OSError."""
        here, there = socket.socketpair()
        with there:
            self._start(self._argv((), options=("-W", f"[{host}]:{port}")), carries=there.fileno())
        return here

    def channel(self, script: str) -> "subprocess.Popen[bytes]":
        """As `Lines.channel`."""
        return self._start(self._argv((quoted(("exec", "sh", "-c", script)),)))

    def abandon(self) -> None:
        """Ends every ssh of this host, so that whoever waits for one stops waiting; for another thread than that one.

        From now on, none starts.
        """
        with self._lock:
            self._abandoned = True
        for process in self._processes:
            if process.poll() is None:
                process.terminate()

    def _argv(self, command: Sequence[str], *, subsystem: bool = False, options: Sequence[str] = ()) -> tuple[str, ...]:
        shared: tuple[str, ...] = ("-o", "ControlMaster=no", "-o", "ControlPath=none")
        if self._socket:
            shared = ("-o", "ControlMaster=auto", "-o", f"ControlPersist={_PERSIST_SECONDS}",
                      "-o", f"ControlPath={self._socket}")  # fmt: skip
        return (*self._words, *shared, *options, *(("-s",) if subsystem else ()), "--", self.name, *command)

    def _line(self, command: Sequence[str], *, subsystem: bool = False, options: Sequence[str] = ()) -> Line:
        process = self._start(self._argv(command, subsystem=subsystem, options=options))
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        handles = [os.dup(pipe.fileno()) for pipe in (process.stdout, process.stdin, process.stderr)]
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()
        line = Line(handles[0], handles[1], errors=handles[2], where=self.name, end=lambda: _end(process))
        if self._socket and not self._connected(process):
            # A second ssh would fail in the same way, and after the same time.
            reason = line.fail(line.complaint() or "ssh did not connect in time")
            line.close()
            raise reason
        return line

    def _connected(self, process: "subprocess.Popen[bytes]") -> bool:
        """Waits until the connection can be shared, so that the next line does not log in again."""
        until = time.monotonic() + _CONNECT_SECONDS + 5
        while not _answers(self._socket):
            if process.poll() is not None or time.monotonic() > until:
                return False
            time.sleep(_PAUSE)
        return True

    def _start(self, argv: Sequence[str], *, carries: int = -1) -> "subprocess.Popen[bytes]":
        """A process of ssh with pipes, or with a descriptor that it `carries` in both directions."""
        pipe, errors = (carries, subprocess.DEVNULL) if carries >= 0 else (subprocess.PIPE, subprocess.PIPE)
        kept = {name: os.environ[name] for name in _KEEP if name in os.environ}
        environment = {"PATH": "/usr/bin:/bin", **kept, "LC_ALL": "C.UTF-8"}
        program = shutil.which(argv[0], path=environment["PATH"])
        if program is None:
            raise LineError(
                "there is no program ssh here", where=self.name, remedy=Remedy(title="install OpenSSH's client")
            )
        try:
            with self._lock:
                if self._abandoned:
                    raise LineError("the command is ending", where=self.name, remedy=_REMEDY)
                process = subprocess.Popen(
                    (program, *argv[1:]), stdin=pipe, stdout=pipe, stderr=errors,
                    env=environment, start_new_session=True,
                )  # fmt: skip
                # One that has ended is waited for here: a service may be asked thousands of times whether it is ready.
                self._processes = [*(one for one in self._processes if one.poll() is None), process]
            return process
        except OSError as error:
            raise LineError(f"ssh does not start: {error.strerror}", where=self.name, remedy=_REMEDY) from None


def control_folder() -> str:
    """The private folder for the sockets of connections; empty where there is none that is safe and short enough."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    user = os.geteuid()
    for folder in ([f"{runtime}/cgroup-preflight-ssh"] if os.path.isabs(runtime) else []) + [f"/tmp/cgpf-ssh-{user}"]:  # noqa: S108
        with contextlib.suppress(OSError):
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)
            found = os.lstat(folder)
            private = stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & 0o077
            if private and len(os.fsencode(folder)) + 25 <= _SOCKET_MAX:
                return folder
    return ""


def _version(config: str) -> str:
    """What tells one configuration from another: the same name can be another host in another file, or after a change."""
    path = os.path.abspath(config or os.path.expanduser("~/.ssh/config"))
    try:
        found = os.stat(path)
    except OSError:
        return path
    return f"{path}\0{found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns}"


def _answers(path: str) -> bool:
    """Whether a connection that can be shared listens there."""
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(path)
        except OSError:
            return False
    return True


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Its pipes are closed, so it ends by itself; if not, it is killed with what it started."""
    try:
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5.0)
