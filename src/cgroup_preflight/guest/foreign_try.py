"""Boots a root from elsewhere once: whether its systemd answers and sets a limit, and what is in it."""

import re
from collections.abc import Callable

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.engines import bus
from cgroup_preflight.guest import foreign
from cgroup_preflight.guest.bare import BareGuest
from cgroup_preflight.guest.image import RootImage
from cgroup_preflight.guest.spec import GuestSpec
from cgroup_preflight.host.manager_line import MANAGER_SOCKET

#: Without these a limit of memory, CPU time or tasks cannot be in force.
_CONTROLLERS = frozenset({"cpu", "memory", "pids"})
_BRIDGE = ("systemd-stdio-bridge", f"--bus-path=unix:path={MANAGER_SOCKET}")
_LIMIT = 64 << 20
#: Prints the memory limit of its own cgroup.
_READ_LIMIT = 'IFS= read -r line < /proc/self/cgroup; cat "/sys/fs/cgroup${line#0::}/memory.max"'
_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What a boot showed: `version` of systemd as it says it, the release of the kernel, controllers, and seconds."""

    version: str
    kernel: str
    controllers: tuple[str, ...]
    seconds: float


def try_root(item: RootImage, boot: Callable[[GuestSpec, RootImage], BareGuest] = BareGuest) -> Tried:
    """Boots the image with user-mode-linux. Raises HostError where it cannot be used, GuestError where it does not boot."""
    spec = GuestSpec(distro=item.distro, kernel_args=foreign.kernel_args(foreign.found_of(item)), boot_timeout=_SECONDS)
    with boot(spec, item) as guest:
        version = _asked(guest, item)
        controllers = tuple(guest.read_file("/sys/fs/cgroup/cgroup.controllers").decode(errors="replace").split())
        if missing := sorted(_CONTROLLERS - set(controllers)):
            raise _unusable(item, f"cgroup v2 has no {', '.join(missing)} in it")
        argv = ("systemd-run", "--quiet", "--pipe", "--wait", f"--property=MemoryMax={_LIMIT}", "sh", "-c", _READ_LIMIT)
        done = guest.run(argv, timeout=_SECONDS)
        if done.text.strip() != str(_LIMIT):
            said = printable(" / ".join((done.text + done.stderr.decode(errors="replace")).split("\n")))[:200]
            raise _unusable(item, f"a service with MemoryMax={_LIMIT} does not have it: {said}")
        return Tried(version=version, kernel=guest.release, controllers=controllers, seconds=guest.boot_seconds)


def _asked(guest: BareGuest, item: RootImage) -> str:
    """The version of systemd, by its own socket."""
    connection = bus.Connection(lambda: guest.open_line(_BRIDGE))
    try:
        version = connection.of_manager(("Version",)).get("Version", "")
    except bus.BusError as error:
        raise _unusable(
            item, f"its systemd does not answer at {MANAGER_SOCKET}: {printable(str(error))[:200]}"
        ) from None
    finally:
        connection.close()
    number = re.search(r"[0-9]{1,5}", version)
    if number is None or int(number[0]) < foreign.SYSTEMD_LEAST:
        raise _unusable(
            item, f"its systemd is {printable(version)[:60] or 'unknown'}, and {foreign.SYSTEMD_LEAST} is needed"
        )
    return printable(version)[:60]


def _unusable(item: RootImage, why: str) -> HostError:
    return HostError(
        f"{item.distro} boots, but {why}", remedy=Remedy(title="import a root with a systemd that uses cgroup v2")
    )
