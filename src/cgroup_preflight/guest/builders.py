"""Runs a command that builds something in the cache, so that nothing of it stays where we are killed."""

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from cgroup_preflight.guest import tools

#: What downloads packages; an ordinary user also needs `newuidmap`.
PROGRAMS = ("mmdebstrap", "tar", "unshare", tools.KEYRING)
#: If we are killed, all processes of a build end with their namespace, and all their files are in our folder or on a
#: mount of their own. Root in a container cannot make one: there, the tools end by SIGTERM.
_NAMESPACE = ("--mount", "--propagation", "private", "--pid", "--fork", "--kill-child")


def call(
    argv: Sequence[str], work: Path, *, timeout: float, doing: str, lock: int,
    say: Callable[[str], None] = lambda _: None,
) -> None:  # fmt: skip
    """Runs `argv` in the folder `work`, which has the folder `tmp`, as root of a namespace. Raises ToolError."""
    with started(argv, work, doing=doing, lock=lock) as wait:
        wait(timeout, say)


def started(
    argv: Sequence[str], work: Path, *, doing: str, lock: int
) -> AbstractContextManager[Callable[[float, Callable[[str], None]], None]]:
    """Runs `argv` next to a block, as `call` does; what it yields waits for the end (`tools.started`)."""
    around = (*(tools.IN_NAMESPACE if os.geteuid() != 0 else ("unshare",)), *_NAMESPACE)
    if not tools.works((*around, "true")):
        around = tools.IN_NAMESPACE if os.geteuid() != 0 else ()
    return tools.started(
        (*around, "env", f"TMPDIR={work / 'tmp'}", *argv), cwd=work, doing=doing, lock=lock,
        parting=signal.SIGKILL if around else signal.SIGTERM,
    )  # fmt: skip
