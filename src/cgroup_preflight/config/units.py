"""Reads the unit files that a config names, with the drop-ins and the socket unit next to them."""

import os
import stat

from cgroup_preflight.config.places import is_below
from cgroup_preflight.config.unit_source import UnitSource, UnitText
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy

#: The largest unit file that is read, bytes.
SIZE_MAX = 1 << 20


def read_unit(folder: str, unit: str, instance: str) -> UnitSource:
    """The unit at `unit`, relative to `folder`; `instance` is that of a template. Raises UsageError.

    Drop-ins are `NAME.service.d/*.conf` next to it, for a template those of the instance, too (systemd.unit(5)).
    """
    file = os.path.basename(unit)
    name = file.replace("@.", f"@{instance}.") if instance else file
    place = os.path.dirname(unit)
    names = dict.fromkeys((file, name))
    found = [_read(folder, unit), *_drop_ins(folder, [os.path.join(place, f"{item}.d") for item in names])]
    socket = os.path.join(place, f"{file.removesuffix('.service')}.socket")
    sockets: list[UnitText] = []
    if os.path.isfile(os.path.join(folder, socket)):
        sockets = [_read(folder, socket), *_drop_ins(folder, [f"{socket}.d"])]
    return UnitSource(name=name, files=tuple(found), socket=tuple(sockets))


def _drop_ins(folder: str, places: list[str]) -> list[UnitText]:
    """The drop-ins of all folders in the order of their names; of two with one name the more specific one."""
    found: dict[str, str] = {}
    for place in places:
        path = os.path.join(folder, place)
        names = os.listdir(path) if os.path.isdir(path) else []
        found |= {name: os.path.join(place, name) for name in names if name.endswith(".conf")}
    return [_read(folder, found[name]) for name in sorted(found)]


def _read(folder: str, path: str) -> UnitText:
    """One file below the folder of the config, never one that a link leads to outside of it."""
    top = os.path.realpath(folder)
    real = os.path.realpath(os.path.join(top, path))
    if not is_below(real, top):
        raise UsageError(
            "it is a link out of the folder of the config", where=path, remedy=Remedy(title="copy the file into it")
        )
    return read_text(real, path, Remedy(title="correct unit in the config"))


def read_text(real: str, path: str, remedy: Remedy) -> UnitText:
    """The regular file at `real`, which messages name `path`. Raises UsageError with `remedy`."""
    try:
        with os.fdopen(os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsageError("the unit file is not a regular file", where=path, remedy=remedy)
            data = file.read(SIZE_MAX + 1)
    except OSError as error:
        raise UsageError(f"cannot read the unit file: {error.strerror}", where=path, remedy=remedy) from None
    return unit_text(path, data, remedy)


def unit_text(path: str, data: bytes, remedy: Remedy) -> UnitText:
    """The text of a file of which at most SIZE_MAX and one byte were read. Raises UsageError with `remedy`."""
    if len(data) > SIZE_MAX or b"\0" in data:
        raise UsageError("it is no unit file: larger than 1M, or binary", where=path, remedy=remedy)
    return UnitText(path=path, text=data.decode("utf-8", "replace").replace("\r\n", "\n"))
