"""A launch as unit files: one call starts any number of them, where each transient unit takes a process. Pure.

systemd.service(5), systemd.exec(5).
"""

from collections.abc import Iterable

from cgroup_preflight.engines.base import Launch
from cgroup_preflight.engines.command_lines import own_unit_lines
from cgroup_preflight.plan.model import UnitFile
from cgroup_preflight.plan.unit_syntax import fits_unquoted, specifiers, variable_line
from cgroup_preflight.plan.unitfile import DROP_IN, GATE_DROP_IN, drop_in_text, service_text


def drop_in(launch: Launch) -> UnitFile:
    """The settings of a launch, for a transient unit."""
    lines = (f"{name}={text}" for name, text in launch.settings)
    return UnitFile(path=f"{launch.unit}.d/{DROP_IN}", content=drop_in_text(lines))


def fits(launch: Launch) -> bool:
    """Whether a unit file can name every path of the launch."""
    return fits_unquoted(launch.folder) and fits_unquoted(launch.output) and fits_unquoted(launch.input)


def unit_file(launch: Launch, settings: Iterable[tuple[str, str]], run: Iterable[tuple[str, str]]) -> UnitFile:
    """The file of a launch that `fits`, with these settings; `run` are the properties that the run adds."""
    lines = (
        *(f"{name}={text}" for name, text in settings),
        *(variable_line(name, value) for name, value in launch.env),
        *(() if "WorkingDirectory" in dict(launch.settings) else (f"WorkingDirectory={specifiers(launch.folder)}",)),
        *((f"StandardInput=file:{specifiers(launch.input)}",) if launch.input else ()),
        *(f"{name}={text}" for name, text in run),
    )  # fmt: skip
    user = (launch.uid, launch.uid if launch.gid is None else launch.gid) if launch.uid is not None else None
    text = service_text(
        slice_unit=launch.slice, command=launch.command, output=launch.output, user=user, lines=lines,
        stays=launch.hold_after > 0, kind=launch.type,
    )  # fmt: skip
    return UnitFile(path=launch.unit, content=text)


def gate_drop_in(launch: Launch, *, sleep: str, systemd: int, protect: bool) -> UnitFile:
    """The gates of a unit of the project."""
    assert launch.own is not None
    lines = own_unit_lines(launch, launch.own, sleep=sleep, systemd=systemd, protect=protect)
    return UnitFile(path=f"{launch.unit}.d/{GATE_DROP_IN}", content=drop_in_text(lines))
