"""A launch as unit files: one call starts any number of them, where each transient unit takes a process. Pure.

systemd.service(5), systemd.exec(5).
"""

from cgroup_preflight.engines.base import Launch
from cgroup_preflight.plan.model import UnitFile
from cgroup_preflight.plan.unit_syntax import fits_unquoted, specifiers, variable_line
from cgroup_preflight.plan.unitfile import DROP_IN, drop_in_text, service_text


def drop_in(launch: Launch) -> UnitFile:
    """The settings of a launch, for a transient unit."""
    lines = (f"{name}={text}" for name, text in launch.settings)
    return UnitFile(path=f"{launch.unit}.d/{DROP_IN}", content=drop_in_text(lines))


def fits(launch: Launch) -> bool:
    """Whether a unit file can name every path of the launch."""
    return fits_unquoted(launch.folder) and fits_unquoted(launch.output) and fits_unquoted(launch.input)


def unit_file_text(launch: Launch) -> str:
    """The text of the file of a launch that `fits`; its gates are left out."""
    lines = (
        *(f"{name}={text}" for name, text in launch.settings),
        *(variable_line(name, value) for name, value in launch.env),
        *(() if "WorkingDirectory" in dict(launch.settings) else (f"WorkingDirectory={specifiers(launch.folder)}",)),
        *((f"StandardInput=file:{specifiers(launch.input)}",) if launch.input else ()),
        f"RuntimeMaxSec={launch.runtime_max:g}s", f"TimeoutStopSec={launch.stop_timeout:g}s",
    )  # fmt: skip
    user = (launch.uid, launch.uid if launch.gid is None else launch.gid) if launch.uid is not None else None
    return service_text(slice_unit=launch.slice, command=launch.command, output=launch.output, user=user, lines=lines)
