"""Runs the command once for each of several machines, each in a process of its own, which takes down its own run.

None of them stays when this process is gone, whatever ended it.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from cgroup_preflight.host.command import LiveRunner

#: Runs the command with the words after the folder of this package and the number of the process that starts it. If that one
#: ends first, as by kill -9, Linux sends SIGTERM (prctl(2), PR_SET_PDEATHSIG), and a run is taken down as after Ctrl-C; who
#: comes too late for that has another parent. The folder of the project is no place for modules (-P).
_FOLLOWS = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
if os.getppid() != int(sys.argv.pop(1)):
    sys.exit(1)
sys.path.append(sys.argv.pop(1))
from cgroup_preflight.cli import main
sys.exit(main())
"""
_PACKAGES = str(Path(__file__).parents[2])
#: Longer than any run takes, and what the end of one takes; seconds.
_LONGEST, _END = 4 * 3600.0, 90.0


class Apart:
    """The processes; `environment` is passed on to them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._runner = LiveRunner(environment)
        self._begun: list[subprocess.Popen[bytes]] = []
        self._lock, self._ended = threading.Lock(), False

    def run(self, words: Sequence[str]) -> tuple[bytes, bytes]:
        """What the command with these words prints, and its messages; each empty after a very long time, or after `end`.

        Raises OSError.
        """
        with self._lock:
            if self._ended:
                return b"", b""
            process = self._runner.start((sys.executable, "-P", "-c", _FOLLOWS, str(os.getpid()), _PACKAGES, *words))
            self._begun.append(process)
        try:
            return process.communicate(timeout=_LONGEST)
        except subprocess.TimeoutExpired:
            self._runner.stop(process)
            return b"", b""

    def end(self) -> None:
        """Ends all, as after Ctrl-C: each takes down its own run first. From now on, none begins."""
        with self._lock:
            self._ended = True
        for process in self._begun:
            process.terminate()
        for process in self._begun:
            try:
                process.wait(_END)
            except subprocess.TimeoutExpired:
                self._runner.stop(process)
