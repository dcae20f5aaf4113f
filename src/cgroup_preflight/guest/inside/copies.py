"""Starts this tool in a fork of the agent, which has loaded most of Python already. For one thread only."""

import gc
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import NamedTuple

from cgroup_preflight.guest.inside import bundle, loaded, page_tables

_PACKAGE = "cgroup_preflight"
#: New objects after which Python looks for garbage.
_GARBAGE = 50_000


class Copy:
    """A forked child, with the methods of `subprocess.Popen` that a job needs."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status once the child has ended, negative for a signal."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Signals the child, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


class Child(NamedTuple):
    """The child's descriptors for stdin, stdout and stderr, its folder and its whole environment."""

    streams: tuple[int, int, int]
    folder: str
    environment: Mapping[str, str]


def start(call: Callable[[], int], child: Child, enter: Callable[[], None]) -> Copy:
    """Runs `enter` and then `call` in a child, which exits with the result of `call`. Raises OSError."""
    pid = os.fork()
    if pid:
        return Copy(pid)
    status = 1
    try:
        enter()
        _become(child)
        status = call()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - as the interpreter does at its end
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                status = status or 1
        os._exit(status)


def tool(words: list[str], folders: list[str]) -> int:
    """Runs the command line of the package in `folders`, in place of the agent's package of the same name."""
    if page_tables.faults_are_slow():
        page_tables.have_all_pages()
    # A collection writes to every object, which would copy each page that this process shares with the agent.
    gc.freeze()
    # Nearly all that the tool makes lives to its end: by default each collection would look for garbage in vain.
    gc.set_threshold(_GARBAGE)
    if loaded.use(folders):
        bundle.use(folders, _PACKAGE)
    sys.argv[:] = ["cgroup-preflight", *words]
    # By name, because this file belongs to the agent's package and not to the one in `folders`.
    return int(importlib.import_module(f"{_PACKAGE}.cli").main(words))


def _become(child: Child) -> None:
    os.setsid()
    for number, stream in enumerate(child.streams):
        os.dup2(stream, number)
    # One of them is the channel to the host, which must close when the agent ends.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(child.environment)
    os.chdir(child.folder)
