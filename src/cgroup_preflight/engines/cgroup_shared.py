"""What several runs below one cgroup share: whose turn it is to change that cgroup, which runs live, what they enabled.

A lock is flock(2) of a folder of the cgroup file system: it needs no file and no right to write, and the kernel releases
it when its process ends, also one in another container.
"""

import errno
import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Remedy

if TYPE_CHECKING:
    from cgroup_preflight.host.door import Clock

#: The others have the lock while they make or remove a few cgroups.
_TURN_SECONDS = 30.0
_PAUSE = 0.02
_BOOT = "/proc/sys/kernel/random/boot_id"


class Shared:
    """The cgroup with the folder `base`; `record` is a file for what runs enabled in it."""

    def __init__(self, clock: "Clock", base: str, record: str) -> None:
        self._clock, self._base, self._record = clock, base, record
        self._claim = -1

    @contextmanager
    def turn(self) -> Iterator[None]:
        """No other run changes the cgroup meanwhile. Raises HostError if that is not so in time."""
        try:
            handle = _open(self._base)
        except OSError as error:
            raise HostError(f"cannot open the cgroup: {error.strerror}", where=self._base,
                            remedy=Remedy(title="name another one with --cgroup")) from None  # fmt: skip
        try:
            deadline = self._clock.monotonic() + _TURN_SECONDS
            while not _is_locked(handle):
                if self._clock.monotonic() > deadline:
                    raise HostError(
                        "another run changes this cgroup for too long", where=self._base,
                        remedy=Remedy(title="end the process that has a lock of this folder",
                                      commands=(("lslocks", "--output", "PID,COMMAND,PATH"),)),
                    )  # fmt: skip
                self._clock.sleep(_PAUSE)
            yield
        finally:
            os.close(handle)

    def claim(self, folder: str) -> None:
        """Marks the cgroup of a run as one that lives as long as this process. Raises OSError."""
        self._claim = _open(folder)
        _is_locked(self._claim)

    def release(self) -> None:
        """Ends `claim`."""
        if self._claim >= 0:
            os.close(self._claim)
            self._claim = -1

    def is_claimed(self, folder: str) -> bool:
        """Whether the run of a cgroup lives; also where that cannot be known, because a dead one is killed."""
        try:
            handle = _open(folder)
        except OSError as error:
            return error.errno != errno.ENOENT
        try:
            return not _is_locked(handle)
        finally:
            os.close(handle)

    def note(self, names: Iterable[str]) -> None:
        """Records that a run enabled controllers. Raises OSError."""
        all_names = sorted({*self.noted(), *names})
        with open(self._record, "w", encoding="utf-8") as file:
            file.write("\n".join((self._identity(), *all_names)))

    def noted(self) -> tuple[str, ...]:
        """What the runs enabled; a record of an earlier boot, or of an earlier cgroup of this name, does not count."""
        try:
            with open(self._record, encoding="utf-8") as file:
                identity, *names = file.read().splitlines()
        except (OSError, ValueError):
            return ()
        return tuple(names) if identity and identity == self._identity() else ()

    def forget(self) -> None:
        """Removes the record."""
        with suppress(OSError):
            os.unlink(self._record)

    def _identity(self) -> str:
        boot = ""
        with suppress(OSError), open(_BOOT, encoding="ascii") as file:
            boot = file.read().strip()
        with suppress(OSError):
            return f"{boot} {os.stat(self._base).st_ino}"
        return ""


def _open(folder: str) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _is_locked(handle: int) -> bool:
    """Whether this handle has the lock now."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
