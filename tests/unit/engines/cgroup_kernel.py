"""A cgroup file system that is played with real folders, for the kernel's real one needs root or delegation.

It keeps the rules that matter (Documentation/admin-guide/cgroup-v2.rst): controllers level by level, no processes where
controllers are enabled for children, no removal of what is in use. Processes are real ones, or numbers that a test names.
The real kernel is in tests/lab/test_cgroupfs.py.
"""

import contextlib
import errno
import os
import shutil
import signal
from pathlib import Path

from cgroup_preflight.core.reading import Known, Reading
from cgroup_preflight.engines.cgroup_tree import CgroupFiles
from cgroup_preflight.host.local import LocalFiles

#: The files that a controller brings.
OF_CONTROLLER = {
    "cpu": ("cpu.max", "cpu.weight", "cpu.idle"),
    "memory": ("memory.max", "memory.high", "memory.swap.max", "memory.events", "memory.oom.group"),
    "pids": ("pids.max",),
    "cpuset": ("cpuset.cpus",),
}


class PlayedCgroups(CgroupFiles):
    """The cgroup `mount` and all below it; `written` are the writes in order: path below the mount, file, text."""

    def __init__(self, mount: Path, controllers: str = "cpu memory pids", *, root: bool = False) -> None:
        self.mount = str(mount)
        self.written: list[tuple[str, str, str]] = []
        #: Numbers that count as running processes although there are none.
        self.alive: set[int] = set()
        self.signals: list[tuple[int, int]] = []
        self._fill(self.mount, controllers.split())
        if root:
            os.unlink(f"{self.mount}/cgroup.type")

    def _fill(self, folder: str, controllers: list[str]) -> None:
        os.makedirs(folder, exist_ok=True)
        files = {"cgroup.controllers": " ".join(controllers), "cgroup.subtree_control": "", "cgroup.procs": "",
                 "cgroup.type": "domain", "cgroup.kill": "", "cgroup.freeze": "0"}  # fmt: skip
        for name in controllers:
            files |= dict.fromkeys(OF_CONTROLLER.get(name, ()), "max")
        for name, text in files.items():
            Path(folder, name).write_text(f"{text}\n" if text else "")

    def put(self, cgroup: str, *pids: int) -> None:
        """Processes that only have a number."""
        self.alive.update(pids)
        with open(f"{self.mount}{cgroup}/cgroup.procs", "a") as file:
            file.write("".join(f"{pid}\n" for pid in pids))

    def pids(self, cgroup: str) -> list[int]:
        """The processes in exactly one cgroup."""
        return [int(pid) for pid in self.read(f"{self.mount}{cgroup}/cgroup.procs").split()]

    def read(self, path: str) -> str:
        text = super().read(path)
        if path.endswith("/cgroup.procs"):
            return "".join(f"{pid}\n" for pid in text.split() if pid == "0" or self._is_alive(int(pid)))
        return text

    def _is_alive(self, pid: int) -> bool:
        if pid in self.alive:
            return True
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
        except OSError:
            return False

    def write(self, path: str, text: str) -> None:
        folder, _, name = path.rpartition("/")
        if not os.path.exists(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        rule = {"cgroup.procs": self._move, "cgroup.subtree_control": self._enable, "cgroup.kill": self._kill}
        rule.get(name, self._set)(folder, name, text)
        self.written.append((folder.removeprefix(self.mount), name, text))

    def _set(self, folder: str, name: str, text: str) -> None:
        Path(folder, name).write_text(f"{text}\n")

    def _move(self, folder: str, _name: str, text: str) -> None:
        if self._enabled(folder) and os.path.exists(f"{folder}/cgroup.type"):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        if not self._is_alive(int(text)):
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        for top, _, names in os.walk(self.mount):
            if "cgroup.procs" in names:
                left = [pid for pid in Path(top, "cgroup.procs").read_text().split() if pid != text]
                Path(top, "cgroup.procs").write_text("".join(f"{pid}\n" for pid in left))
        with open(f"{folder}/cgroup.procs", "a") as file:
            file.write(f"{text}\n")

    def _enabled(self, folder: str) -> list[str]:
        return Path(folder, "cgroup.subtree_control").read_text().split()

    def _enable(self, folder: str, name: str, text: str) -> None:
        sign, controller = text[0], text[1:]
        enabled = self._enabled(folder)
        is_root = not os.path.exists(f"{folder}/cgroup.type")
        if sign == "-":
            if any(controller in self._enabled(f"{folder}/{child}") for child in self.folders(folder)):
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            self._set(folder, name, " ".join(one for one in enabled if one != controller))
            return
        if controller not in Path(folder, "cgroup.controllers").read_text().split():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if self.read(f"{folder}/cgroup.procs").split() and not is_root:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        self._set(folder, name, " ".join(dict.fromkeys([*enabled, controller])))
        for child in self.folders(folder):
            before = Path(folder, child, "cgroup.controllers").read_text().split()
            Path(folder, child, "cgroup.controllers").write_text(" ".join(dict.fromkeys([*before, controller])))

    def _kill(self, folder: str, _name: str, _text: str) -> None:
        for top, _, names in os.walk(folder):
            if "cgroup.procs" in names:
                for pid in self.read(f"{top}/cgroup.procs").split():
                    self.signal(int(pid), signal.SIGKILL)

    def signal(self, pid: int, number: signal.Signals) -> None:
        # As the first argument of kill(2), 0 is the group of the caller: the tests.
        assert pid > 0
        self.signals.append((pid, number))
        if pid in self.alive:
            self.alive.discard(pid)
            return
        super().signal(pid, number)

    def make(self, path: str) -> None:
        if os.path.exists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        self._fill(path, self._enabled(os.path.dirname(path)))

    def remove(self, path: str) -> None:
        if self.folders(path) or self.read(f"{path}/cgroup.procs").split():
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        shutil.rmtree(path)


class PlayedFs(LocalFiles):
    """The machine's files; a cgroup lists no process that has ended."""

    def __init__(self, cgroups: PlayedCgroups) -> None:
        super().__init__()
        self._cgroups = cgroups

    def read(self, path: str) -> Reading[str]:
        if path.startswith(self._cgroups.mount) and path.endswith("/cgroup.procs"):
            with contextlib.suppress(OSError):
                return Known(value=self._cgroups.read(path), source=path)
        return super().read(path)
