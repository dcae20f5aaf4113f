"""A subtree of cgroups that belongs to one run: made, limited, emptied and removed through the kernel's files alone.

Rules of Documentation/admin-guide/cgroup-v2.rst: a controller is enabled level by level, from the top; a cgroup that
enables one for its children has no processes itself ("No Internal Process Constraint"), except the real root; a cgroup
is removed when it has neither processes nor children. Every write is below the base that the run was given.
"""

import errno
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.plan.cgroup_files import Attribute

if TYPE_CHECKING:
    from cgroup_preflight.host.door import Clock

#: The cgroup below the base into which the processes of the base go for the time of a run.
LEAF = "cgpf-job"
_DOCS = "https://docs.kernel.org/admin-guide/cgroup-v2.html"
#: New processes of the job may come while others are moved.
_MOVES_MAX = 20
_PAUSE = 0.01
#: Limits without which a unit runs with less protection only: the proof reads the file and says that it is absent.
_MAY_BE_ABSENT = ("memory.swap.max", "memory.zswap.max", "memory.zswap.writeback", "memory.oom.group", "cpu.idle")


class CgroupFiles:
    """The files of the cgroup file system; nothing is created but folders, and links are not followed."""

    def read(self, path: str) -> str:
        """The text. Raises OSError."""
        with open(path, encoding="utf-8") as file:
            return file.read()

    def write(self, path: str, text: str) -> None:
        """Writes a text with one system call, because the kernel takes each as a whole value. Raises OSError."""
        handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.write(handle, text.encode())
        finally:
            os.close(handle)

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        return os.path.lexists(path)

    def make(self, path: str) -> None:
        """A new cgroup. Raises OSError."""
        os.mkdir(path)

    def remove(self, path: str) -> None:
        """Removes an empty cgroup. Raises OSError."""
        os.rmdir(path)

    def folders(self, path: str) -> Sequence[str]:
        """The names of the cgroups in one; none where it is gone."""
        try:
            with os.scandir(path) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except OSError:
            return ()

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Sends a signal; a process that has ended, or that this user may not signal, takes none."""
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


class Subtree:
    """The cgroups below `base`, a path below the mount such as /user.slice/run.scope; empty for the mount itself."""

    def __init__(self, files: CgroupFiles, clock: "Clock", mount: str, base: str) -> None:
        self._files, self._clock = files, clock
        self._mount = mount.rstrip("/")
        self.base = base.rstrip("/")

    def path(self, cgroup: str, file: str = "") -> str:
        """The path of a cgroup of the subtree, or of a file of it. Raises ValueError for any other cgroup."""
        inside = cgroup == self.base or cgroup.startswith(f"{self.base}/")
        if not inside or {"", ".", ".."}.intersection(cgroup.split("/")[1:]):
            raise ValueError(f"{cgroup} is not below {self.base or 'the mount'}")
        return f"{self._mount}{cgroup}/{file}".rstrip("/")

    # --- the base

    def prepare(self, controllers: Iterable[str]) -> tuple[str, ...]:
        """Enables controllers for the children of the base, whose own processes go into a leaf; those that were not.

        Raises HostError.
        """
        wanted = sorted(controllers)
        offered = self._words(self.base, "cgroup.controllers")
        for name in wanted:
            if name not in offered:
                raise self._lacks(name, self.base)
        before = self._words(self.base, "cgroup.subtree_control")
        if set(wanted) <= set(before):
            return ()
        if self._files.exists(self.path(self.base, "cgroup.type")):
            # Only the real root has no type, and it alone may have processes and enabled controllers at once.
            self._empty_base()
        enabled = tuple(name for name in wanted if name not in before)
        self._enable(self.base, enabled)
        return enabled

    def restore(self, enabled: Sequence[str]) -> tuple[str, ...]:
        """Disables the controllers that runs `enabled` in the base and moves its processes back; what remains."""
        leaf = f"{self.base}/{LEAF}"
        is_there = self._files.exists(self.path(leaf))
        # Without a record: a cgroup that had processes had, but for rare cases, no controllers enabled.
        names = enabled or (self._words(self.base, "cgroup.subtree_control") if is_there else ())
        for name in names:
            with suppress(OSError):
                self._files.write(self.path(self.base, "cgroup.subtree_control"), f"-{name}")
        if not is_there:
            return ()
        for _ in range(_MOVES_MAX):
            with suppress(OSError):
                self._move_all(leaf, self.base)
            with suppress(OSError):
                self._files.remove(self.path(leaf))
                return ()
            self._clock.sleep(_PAUSE)
        return (self.path(leaf),)

    def _empty_base(self) -> None:
        leaf = f"{self.base}/{LEAF}"
        try:
            if not self._files.exists(self.path(leaf)):
                self._files.make(self.path(leaf))
            for _ in range(_MOVES_MAX):
                if not self._move_all(self.base, leaf):
                    return
        except OSError as error:
            raise self._failed(f"cannot move the processes of this job into {LEAF}", self.base, error) from None
        raise HostError(
            "new processes of this job come faster than they can be moved into a leaf", where=self.base,
            remedy=Remedy(title="name an empty cgroup with --cgroup", docs=_DOCS),
        )  # fmt: skip

    def _move_all(self, source: str, target: str) -> int:
        """Moves every process of one cgroup to another; how many there were. Raises OSError."""
        pids = self._files.read(self.path(source, "cgroup.procs")).split()
        for pid in pids:
            if pid == "0":
                # The kernel shows a process of another PID namespace so, and nobody here can name it.
                raise OSError(errno.EPERM, "a process of another PID namespace is in it")
            try:
                self._files.write(self.path(target, "cgroup.procs"), pid)
            except ProcessLookupError:
                continue
        return len(pids)

    # --- cgroups of the run

    def add(self, cgroup: str, values: Iterable[Attribute], controllers: Iterable[str] = ()) -> None:
        """A new cgroup with these limits, which enables `controllers` for its children. Raises HostError."""
        try:
            self._files.make(self.path(cgroup))
        except OSError as error:
            raise self._failed("cannot make the cgroup", cgroup, error) from None
        for item in values:
            self._set(cgroup, item)
        self._enable(cgroup, sorted(controllers))

    def _set(self, cgroup: str, item: Attribute) -> None:
        path = self.path(cgroup, item.file)
        try:
            self._files.write(path, item.text)
        except FileNotFoundError as error:
            if item.share or item.file in _MAY_BE_ABSENT:
                return
            if item.controller and item.controller not in self._words(cgroup, "cgroup.controllers"):
                raise self._lacks(item.controller, cgroup) from None
            raise self._failed(f"{item.file} = {item.text!r} was refused", cgroup, error) from None
        except OSError as error:
            raise self._failed(f"{item.file} = {item.text!r} was refused", cgroup, error) from None

    def _enable(self, cgroup: str, controllers: Sequence[str]) -> None:
        # One write for each: the kernel refuses a whole line for one word, and would not say which.
        for name in controllers:
            try:
                self._files.write(self.path(cgroup, "cgroup.subtree_control"), f"+{name}")
            except OSError as error:
                raise self._failed(f"cannot enable {name} for the cgroups below", cgroup, error) from None

    def processes(self, cgroup: str) -> tuple[int, ...]:
        """Every process in a cgroup and below it."""
        found: list[int] = []
        for one in self.below(cgroup):
            with suppress(OSError):
                found += map(int, self._files.read(self.path(one, "cgroup.procs")).split())
        return tuple(found)

    def signal(self, cgroup: str, number: signal.Signals) -> None:
        """Sends a signal to every process in a cgroup and below it, as far as it has a number here."""
        for pid in self.processes(cgroup):
            # The kernel shows a process of another PID namespace as 0, which kill(2) takes for this tool's own group.
            if pid > 0:
                self._files.signal(pid, number)

    def kill(self, cgroup: str) -> None:
        """Kills every process in a cgroup and below it: at once since kernel 5.14, else one by one."""
        with suppress(OSError):
            self._files.write(self.path(cgroup, "cgroup.kill"), "1")
            return
        self.signal(cgroup, signal.SIGKILL)

    def remove(self, cgroup: str, seconds: float) -> None:
        """Kills what is in a cgroup and removes it with all below; returns when it is gone or the time is over."""
        deadline = self._clock.monotonic() + seconds
        while self._files.exists(self.path(cgroup)):
            self.kill(cgroup)
            for one in reversed(tuple(self.below(cgroup))):
                with suppress(OSError):
                    self._files.remove(self.path(one))
            if self._clock.monotonic() > deadline:
                return
            if self._files.exists(self.path(cgroup)):
                self._clock.sleep(_PAUSE)

    def children(self, cgroup: str) -> Sequence[str]:
        """The names of the cgroups directly below one."""
        return self._files.folders(self.path(cgroup))

    def exists(self, cgroup: str) -> bool:
        """Whether the cgroup exists."""
        return self._files.exists(self.path(cgroup))

    def write(self, cgroup: str, file: str, text: str) -> None:
        """Writes one file; where that is refused, it stays as it is."""
        with suppress(OSError):
            self._files.write(self.path(cgroup, file), text)

    def count(self, cgroup: str, file: str, key: str) -> int:
        """The number of a key in a flat keyed file; 0 where there is none."""
        with suppress(OSError, ValueError):
            pairs = (line.split() for line in self._files.read(self.path(cgroup, file)).splitlines())
            return int(next((pair[1] for pair in pairs if len(pair) == 2 and pair[0] == key), "0"))
        return 0

    def offered(self) -> frozenset[str]:
        """The controllers that the base can enable."""
        return frozenset(self._words(self.base, "cgroup.controllers"))

    def below(self, cgroup: str) -> Iterator[str]:
        """The cgroup itself and all below it, each before its children."""
        yield cgroup
        for name in self.children(cgroup):
            yield from self.below(f"{cgroup}/{name}")

    def _words(self, cgroup: str, file: str) -> list[str]:
        try:
            return self._files.read(self.path(cgroup, file)).split()
        except OSError as error:
            raise self._failed(f"cannot read {file}", cgroup, error) from None

    def _lacks(self, controller: str, cgroup: str) -> HostError:
        return HostError(
            f"{controller} is missing in cgroup.controllers at this level", where=cgroup or "/",
            remedy=Remedy(
                title=f"delegate {controller}: the level above must enable it in its cgroup.subtree_control",
                commands=(("systemd-run", "--user", "--scope", "-p", "Delegate=yes", "cgroup-preflight", "run"),),
                docs=_DOCS,
            ),
        )  # fmt: skip

    def _failed(self, what: str, cgroup: str, error: OSError) -> HostError:
        return HostError(
            f"{what}: {error.strerror or error}", where=cgroup or "/",
            remedy=Remedy(title="look whose cgroup that is, and which processes it has", docs=_DOCS,
                          commands=(("cat", f"{self.path(cgroup)}/cgroup.procs"),)),
        )  # fmt: skip
