"""One program in a cgroup, without a service manager: a small shell goes into the cgroup, waits at a gate, and becomes it.

So the program is inside its cgroup from its first instruction, and the limits can be read before that. If this tool
dies, the gate never opens and the shell ends.
"""

import os
import pwd
import resource
import subprocess
from collections.abc import Mapping
from contextlib import suppress

from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.engines.base import Exit, How, Launch

if TYPE_CHECKING:
    from typing import IO

#: The file of the gate is its input. `exec` keeps the process, so its number is that of the program, too.
_SCRIPT = 'echo $$ >"$1" || exit 219; input=$2; shift 2; read -r word || exit 219; exec "$@" <"$input"'
_PREFIX = ("/bin/sh", "-c", _SCRIPT, "cgroup-preflight-gate")
#: systemd's own status for a program that did not come into its cgroup (systemd.exec(5), EXIT_CGROUP).
NOT_INSIDE = 219
#: What systemd gives a service by default (systemd.exec(5), LimitNOFILE).
_OPEN_FILES = 1024
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment(launch: Launch, invocation: str, files: Mapping[str, str]) -> dict[str, str]:
    """The variables of a program: few of this job's own, those of the launch, and those of EnvironmentFile= over them."""
    user = pwd.getpwuid(os.getuid()) if _has_entry() else None
    own = {"PATH": _PATH, "LANG": "C.UTF-8", "INVOCATION_ID": invocation}
    if user is not None:
        own |= {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name, "SHELL": user.pw_shell}
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        own["XDG_RUNTIME_DIR"] = runtime
    return {**own, **dict(launch.env), **files}


def _has_entry() -> bool:
    try:
        return bool(pwd.getpwuid(os.getuid()))
    except KeyError:
        return False


class Program:
    """A program that was started for a launch, or waits at its gate; `invocation` is in its environment."""

    def __init__(self, launch: Launch, cgroup: str, procs: str, variables: Mapping[str, str]) -> None:
        """Raises OSError where the shell, the output file or the folder cannot be opened."""
        self.launch, self.cgroup = launch, cgroup
        self.invocation = variables["INVOCATION_ID"]
        #: Whether it was told to stop.
        self.stopping = False
        output: IO[bytes] | int = open(launch.output, "ab") if launch.output else subprocess.DEVNULL  # noqa: SIM115
        read, self._gate = os.pipe2(os.O_CLOEXEC)
        try:
            self._process = subprocess.Popen(
                (*_PREFIX, procs, launch.input or os.devnull, *launch.command), stdin=read, stdout=output, stderr=output,
                env=dict(variables), cwd=folder_of(launch), start_new_session=True,
            )  # fmt: skip
        except OSError:
            self._close_gate()
            raise
        finally:
            os.close(read)
            if not isinstance(output, int):
                output.close()
        self.pid = self._process.pid
        self._limit_files()

    def open_gate(self) -> None:
        """Lets the program begin; a second call does nothing."""
        if self._gate >= 0:
            with suppress(BrokenPipeError):
                os.write(self._gate, b"go\n")
            self._close_gate()

    def abandon(self) -> None:
        """Ends the shell where its gate is still closed."""
        if self._gate >= 0:
            self._close_gate()

    def _close_gate(self) -> None:
        os.close(self._gate)
        self._gate = -1

    @property
    def has_begun(self) -> bool:
        """Whether the program itself runs, and not the shell before it; also once it has ended."""
        if self._gate >= 0:
            return False
        if self._process.poll() is not None:
            return True
        try:
            with open(f"/proc/{self.pid}/cmdline", "rb") as file:
                words = file.read(4096)
        except OSError:
            return True
        # In the middle of execve(2) a process has no command line.
        return words != b"" and not words.startswith(b"\0".join(word.encode() for word in _PREFIX) + b"\0")

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        return Exit(how=How.EXITED if code >= 0 else How.KILLED, status=abs(code))

    def reap(self, seconds: float) -> None:
        """Waits for its end, so that no zombie stays."""
        self.abandon()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=seconds)

    def _limit_files(self) -> None:
        """The open files that LimitNOFILE gives, else systemd's default, because this tool has raised its own limit."""
        text = dict(self.launch.settings).get("LimitNOFILE", "")
        with suppress(OSError, ValueError):
            most = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)[1]
            soft, _, hard = text.partition(":")
            highest = _number(hard or soft, most) if text else most
            # systemd takes the nearest limit that it is allowed to set (setrlimit_closest).
            allowed = highest if os.geteuid() == 0 or most == resource.RLIM_INFINITY else min(highest, most)
            wanted = _number(soft, most) if text else min(_OPEN_FILES, allowed)
            resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (min(wanted, allowed), allowed))


def _number(text: str, unlimited: int) -> int:
    return unlimited if text == "infinity" else int(text)


def folder_of(launch: Launch) -> str:
    """The folder that the program starts in (WorkingDirectory=, where a - allows that it is absent)."""
    text = dict(launch.settings).get("WorkingDirectory", "")
    path = os.path.expanduser(text.removeprefix("-")) if text else launch.folder
    return "/" if text.startswith("-") and not os.path.isdir(path) else path
