"""Unit tests never touch the machine: no process, no network but loopback, no write to the system's folders.

A test that has to start processes of this tool says so with `@pytest.mark.starts_processes`.
"""

import ipaddress
import os
import sys
from collections.abc import Iterator

import pytest

_PROCESSES = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.forkpty",
    "pty.spawn",
)
_NETWORK = ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname")
_SYSTEM = ("/sys/", "/proc/", "/run/", "/etc/", "/usr/")


class TouchedTheMachine(BaseException):
    """A unit test did what unit tests must not; no `except Exception` of the code under test hides it."""


class _Guard:
    """An audit hook cannot be taken off again, so there is one, and it can be armed."""

    armed = False
    processes_allowed = False

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        if not self.armed:
            return
        if event in _PROCESSES and not self.processes_allowed:
            raise TouchedTheMachine(f"{event} {args[:2]!r}: mark the test with starts_processes")
        if event in _NETWORK and not _is_here(args[0] if event.startswith("socket.get") else args[1]):
            raise TouchedTheMachine(f"{event} {args!r}: only loopback")
        if event == "open" and _writes_system(args):
            raise TouchedTheMachine(f"open {args!r}: only folders of the test may be written")


def _is_here(address: object) -> bool:
    if isinstance(address, (str, bytes)) or address is None:
        host = address.decode() if isinstance(address, bytes) else address
        if not host or host == "localhost" or host.startswith(("/", "\0")):
            return True
    else:
        host = str(address[0]) if isinstance(address, tuple) else str(address)
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _writes_system(args: tuple[object, ...]) -> bool:
    path, mode, flags = args
    writes = isinstance(mode, str) and any(letter in mode for letter in "wax+")
    writes = writes or (mode is None and isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) != 0)
    if writes and isinstance(path, str) and path.startswith("/proc/self/fd/"):
        path = os.path.realpath(path)  # a name in an open folder: see host.beneath
    return writes and isinstance(path, str) and path.startswith(_SYSTEM)


_GUARD = _Guard()
sys.addaudithook(_GUARD)


@pytest.fixture(autouse=True)
def _machine_untouched(request: pytest.FixtureRequest) -> Iterator[None]:
    """Armed for each test; fixtures of wider scope run before it."""
    _GUARD.processes_allowed = request.node.get_closest_marker("starts_processes") is not None
    _GUARD.armed = True
    yield
    _GUARD.armed = False
