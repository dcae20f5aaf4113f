"""Ends a run whose tool was killed: systemd would do that by RuntimeMaxSec, and here nobody else can.

A shell waits for the end of a pipe that only this tool has open, and then writes to cgroup.kill of the run; before kernel
5.14 it kills process by process.
"""

import os
import subprocess

_SCRIPT = (
    'read -r word && exit; [ -e "$1" ] && echo 1 >"$1" && exit;'
    ' find "${1%/*}" -name cgroup.procs -exec cat {} + | xargs -r kill -KILL'
)
_SECONDS = 5.0


class Keeper:
    """The shell for one run; `file` is the path of cgroup.kill of its cgroup."""

    def __init__(self, file: str) -> None:
        """Raises OSError."""
        read, self._pipe = os.pipe2(os.O_CLOEXEC)
        try:
            # A session of its own: Ctrl-C must not end it before the tool.
            self._process = subprocess.Popen(
                ("/bin/sh", "-c", _SCRIPT, "cgroup-preflight-keeper", file), stdin=read, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, env={"PATH": "/usr/bin:/bin"}, start_new_session=True,
            )  # fmt: skip
        except OSError:
            os.close(self._pipe)
            raise
        finally:
            os.close(read)

    def end(self) -> None:
        """Ends the shell, which then does nothing."""
        try:
            os.write(self._pipe, b"over\n")
        except BrokenPipeError:
            pass
        finally:
            os.close(self._pipe)
        try:
            self._process.wait(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=_SECONDS)
