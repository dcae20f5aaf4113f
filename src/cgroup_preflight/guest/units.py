"""The units that an image has installed, read before the boot: what the config names wrongly is told at once."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from cgroup_preflight.config.model import Config
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.guest.image import RootImage

if TYPE_CHECKING:
    # At run time only where the config names an installed unit.
    from cgroup_preflight.config.installed_units import NotInstalledError

#: Paths in the archive of an image (`guest.recipe`).
_UNIT = re.compile(
    r"(?:etc|usr/local/lib|usr/lib)/systemd/system/(?:[A-Za-z0-9:_.@\\-]+/)?[A-Za-z0-9:_.@\\-]+", re.ASCII
)
#: A line of `owners`: a file list of dpkg, and a path in it.
_OWNER = re.compile(r"([a-z0-9][a-z0-9+.-]*)(?::[a-z0-9]+)?\.list:.*/([A-Za-z0-9:_.@\\-]+\.service)", re.ASCII)
_SHOWN = 8


def with_units(config: Config, image: RootImage, names: tuple[str, ...], distro: str) -> Config:
    """The config with the text of each unit that `image` has installed, of the services `names` or of all.

    Raises ConfigError with all units that it has not, OSError.
    """
    if image.units is None or not any(item.is_installed for item in config.services):
        return config
    import tempfile

    from cgroup_preflight.config.installed_units import NotInstalledError, UnitFolders, with_installed

    with tempfile.TemporaryDirectory() as folder:
        owners = _extract(image.units, folder)

        def remedy(error: UsageError) -> str:
            if isinstance(error, NotInstalledError):
                return _remedy(error, owners, config.target.packages, distro)
            return "name another unit: this one never starts in the guest"

        return with_installed(config, UnitFolders(root=folder), names, remedy)


def _extract(archive: Path, folder: str) -> dict[str, str]:
    """Unpacks units and their links into `folder`; the package of each unit."""
    import tarfile

    owners: dict[str, str] = {}
    os.makedirs(os.path.join(folder, "usr/lib"))
    os.symlink("usr/lib", os.path.join(folder, "lib"))
    with tarfile.open(archive) as members:
        for member in members:
            data = members.extractfile(member) if member.isreg() else None
            if data is not None and member.name == "owners":
                owners = {found[2]: found[1] for found in _OWNER.finditer(data.read().decode("utf-8", "replace"))}
            elif _UNIT.fullmatch(member.name) and ".." not in member.name.split("/"):
                path = os.path.join(folder, member.name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                if member.issym():
                    os.symlink(member.linkname, path)
                elif data is not None:
                    Path(path).write_bytes(data.read())
    return owners


def _remedy(error: "NotInstalledError", owners: Mapping[str, str], packages: tuple[str, ...], distro: str) -> str:
    """The nearest name, what the packages of the config ship, and what to do where none of them ships the unit."""
    from cgroup_preflight.config.installed_units import nearest_unit

    shipped = sorted(unit for unit, package in owners.items() if package in packages)
    words = nearest_unit(error.unit, shipped or error.names)
    if shipped:
        more = f" and {len(shipped) - _SHOWN} more" if len(shipped) > _SHOWN else ""
        words += f"the packages ship {', '.join(f'{unit} ({owners[unit]})' for unit in shipped[:_SHOWN])}{more}; "
    elif packages:
        words += f"{', '.join(packages[:_SHOWN])} ship no service themselves; "
    return f"{words}name the package of {distro} that ships {error.unit} in packages of [target]"
