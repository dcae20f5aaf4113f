"""A rollout of another machine: its journal and its hooks stay on this one, its timer and what that needs are on the other."""

import os
import posixpath
import stat
from collections.abc import Callable, Sequence
from urllib.parse import quote

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.reading import Known, Missing, Reading, value_or
from cgroup_preflight.core.records import TYPE_CHECKING, replace
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.command import LiveRunner
from cgroup_preflight.rollout.session import SYSTEM_FOLDER, Host, host_at

if TYPE_CHECKING:
    from cgroup_preflight.engines.bus import Bus
    from cgroup_preflight.engines.choice import EngineChoice
    from cgroup_preflight.host.door import Door
    from cgroup_preflight.host.facts import Facts

_USABLE = Remedy(title="look at this folder on the host; only the user that the rollout runs as may write to it")


def folder_of(state: str, host: str) -> str:
    """Where the journals of a host are, below the folder of this machine's own; the name of a host can be any text."""
    name = quote(host, safe="@")
    # Percent-encoding leaves dots as they are.
    return os.path.join(state, "hosts", name if name.strip(".") else f"%2E{name[1:]}")


def host_behind(
    door: "Door", facts: "Facts", choice: "EngineChoice", bus: "Bus | None",
    folders: Callable[[str], Reading[Sequence[tuple[str, int]]]],
) -> Host:  # fmt: skip
    """The manager of the machine at a door, with a folder there for what its timer needs. Raises HostError.

    `folders` gives the folders below one with their inode numbers.
    """
    home = _home(door)
    folder = SYSTEM_FOLDER if value_or(facts.uid, -1) == 0 else f"{home}/.local/state/cgroup-preflight/rollout"
    host, mount = host_at(door, facts, choice, bus, home=home), facts.mount_point
    return replace(host, hooks=LiveRunner(), folder=folder, folders=lambda: folders(mount))


def make_folder(host: Host, uid: int) -> None:
    """Makes that folder, before the first change. Raises HostError where another user could write to it."""
    host.door.files.make_folder(host.folder, 0o700)
    found = host.door.files.status(host.folder)
    if isinstance(found, Missing):
        raise HostError(f"cannot use the folder of the timer: {found}", where=host.folder, remedy=_USABLE)
    if found.value.uid != uid or stat.S_IMODE(found.value.mode) & 0o022:
        raise HostError("others may write to the folder of the timer", where=host.folder, remedy=_USABLE)


def _home(door: "Door") -> str:
    """HOME of the user there. Raises HostError."""
    done = door.programs.run(("printenv", "HOME"))
    home = done.value.stdout.strip() if isinstance(done, Known) else ""
    if not home.startswith("/") or posixpath.normpath(home) != home or not home.isprintable():
        said = printable(home)[:80] if isinstance(done, Known) else str(done)
        raise HostError(f"the user has no home: {said!r}", where="HOME", remedy=Remedy(title="give that user a home"))
    return home
