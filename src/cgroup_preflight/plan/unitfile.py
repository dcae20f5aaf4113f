"""Byte-stable text of every unit file that this tool writes (systemd.slice(5), systemd.unit(5), systemd.service(5)).

For a project: a file for each slice, and for each service a drop-in or a whole unit. For one run: the same slices and
drop-ins, and units of probes and of traces, which one call to the manager starts.
"""

import os
from collections.abc import Iterable, Iterator, Sequence

from cgroup_preflight.core.printable import printable
from cgroup_preflight.plan.model import Plan, ServicePlan, UnitFile
from cgroup_preflight.plan.unit_syntax import (
    command_line,
    comment_lines,
    drop_in_lines,
    setting_lines,
    specifiers,
    variable_line,
)

#: Before the names that `systemctl set-property` and administrators use, so that theirs win: systemd recommends 10 to 40
#: for what packages ship (systemd.unit(5), standard-conf.xml).
DROP_IN = "10-cgroup-preflight.conf"
#: Read after DROP_IN: systemd goes by the names of the files (systemd.unit(5)).
_RUN_DROP_IN = "60-cgroup-preflight-run.conf"
#: The last of all: the gates of a run around the commands of a unit of the project.
GATE_DROP_IN = "zz-cgroup-preflight-gates.conf"


def slice_files(plan: Plan) -> tuple[UnitFile, ...]:
    """One `.slice` file for each slice of the plan."""
    return tuple(
        UnitFile(
            path=item.unit,
            content=_text(
                *_head(plan), "", "[Unit]", f"Description={plan.project}: {item.label or 'run'}",
                "", "[Slice]", *setting_lines(item.settings),
            ),
        )
        for item in plan.slices
    )  # fmt: skip


def drop_in_files(plan: Plan, name: str = DROP_IN) -> tuple[UnitFile, ...]:
    """One drop-in for each service: the slice it belongs to and its own settings. `name` is that of the files."""
    return tuple(
        UnitFile(path=f"{item.unit}.d/{name}", content=_text(*_head(plan), "", "[Service]", *_service_lines(item)))
        for item in plan.services
    )


def slice_drop_in_files(plan: Plan, name: str = DROP_IN) -> tuple[UnitFile, ...]:
    """One drop-in for each slice with settings, for packages: two packages cannot both ship one `.slice` file.

    systemd loads a slice that has drop-ins alone (systemd.slice(5)), and settings of its own file stay in force.
    """
    return tuple(
        UnitFile(
            path=f"{item.unit}.d/{name}", content=_text(*_head(plan), "", "[Slice]", *setting_lines(item.settings))
        )
        for item in plan.slices
        if item.settings
    )


def run_files(plan: Plan) -> tuple[UnitFile, ...]:
    """The files of one run: the slices and the drop-ins of a plan whose names are those of the run.

    The slice of the run is the first. A drop-in sets its variables again, and systemd reads drop-ins after what
    `systemd-run` sets: a second one has the variables to which `smoke.env` gives another value.
    """
    first, *others = slice_files(plan)
    variables = (
        UnitFile(path=f"{item.unit}.d/{_RUN_DROP_IN}", content=drop_in_text(lines))
        for item in plan.services
        if (lines := [variable_line(name, value) for name, value in _other_variables(item)])
    )
    own = [item.run_unit for item in plan.services if item.run_unit is not None]
    units = [
        UnitFile(path=item.unit, content=item.run_unit.text) for item in plan.services if item.run_unit is not None
    ]
    units += [UnitFile(path=item.socket_unit, content=item.socket) for item in own if item.socket_unit]
    # Slices come last: a manager that knows of one has seen the folders of the drop-ins, too.
    return (first, *units, *drop_in_files(plan), *variables, *others)


def _other_variables(service: ServicePlan) -> Iterator[tuple[str, str]]:
    shipped = dict(service.environment)
    if service.go is not None:
        shipped = dict(service.go.environment(service.environment))
    return ((name, value) for name, value in service.smoke.env if shipped.get(name, value) != value)


def drop_in_name(package: str) -> str:
    """The name of the drop-ins in a package (empty: in what is none), so that each package has files of its own."""
    return f"{DROP_IN.removesuffix('.conf')}-{package}.conf" if package else DROP_IN


def drop_in_text(lines: Iterable[str]) -> str:
    """A drop-in of a service of one run."""
    return _text("[Service]", *lines)


def slice_file(unit: str, settings: Iterable[tuple[str, str]]) -> UnitFile:
    """A slice of one run for a probe, with these settings."""
    lines = (f"{name}={text}" for name, text in settings)
    return UnitFile(path=unit, content=_text("[Unit]", "Description=cgroup-preflight", "", "[Slice]", *lines))


def whole_service(plan: Plan, service: ServicePlan, *, program: str, user: str, target: str) -> str:
    """A whole unit for a service that has none: `program` (an absolute path) with the arguments of its smoke run.

    `smoke.env` is not in it, because it belongs to the run; `Environment` of the service is. `user` is empty for the
    manager's default; `target` is the one that starts it. The config's own Type and User win.
    """
    own = {item.property for item in service.own_settings}
    return _text(
        *_head(plan), "", "[Unit]", f"Description={service.label}", "", "[Service]",
        *(() if "Type" in own else ("Type=exec",)),
        f"ExecStart={command_line((program, *service.smoke.args))}",
        *((f"User={user}",) if user and "User" not in own else ()),
        "Restart=on-failure", *_service_lines(service), "", "[Install]", f"WantedBy={target}",
    )  # fmt: skip


def service_text(
    *, slice_unit: str, command: Sequence[str], output: str, user: tuple[int, int] | None, lines: Iterable[str],
    stays: bool, kind: str = "exec",
) -> str:  # fmt: skip
    """A service of one run: `command` in `slice_unit` as `user` (uid, gid), its output appended to the file `output`.

    Where `output` is empty, it goes to the journal. systemd forgets a unit that failed, unless it `stays`. `lines`
    are its other settings, in order, and `kind` is its Type=.
    """
    return _text(
        "# Generated by cgroup-preflight for one run.", "[Unit]", "Description=cgroup-preflight",
        *(() if stays else ("CollectMode=inactive-or-failed",)), "", "[Service]", f"Type={kind}", f"Slice={slice_unit}",
        f"ExecStart={command_line(command)}", *lines,
        *((f"StandardOutput=append:{specifiers(output)}", f"StandardError=append:{specifiers(output)}") if output else ()),
        *((f"User={user[0]}", f"Group={user[1]}") if user else ()),
    )  # fmt: skip


def _head(plan: Plan) -> tuple[str, ...]:
    return (
        f"# Generated by cgroup-preflight from {printable(os.path.basename(plan.source))}.",
        "# Change the config and generate again instead of editing this file.",
    )


def _service_lines(service: ServicePlan) -> Iterator[str]:
    if service.slices:
        yield f"Slice={service.slices[-1]}"
    yield from drop_in_lines(service.own_settings)
    yield from (variable_line(name, value) for name, value in service.environment)
    yield from _go_lines(service)


def _go_lines(service: ServicePlan) -> Iterator[str]:
    """The settings that a Go program gets, each with its reason as a comment; nothing for other programs."""
    go = service.go
    if go is None:
        return
    yield from ("", f"# For a program built with {go.version}; go_settings = false in the config leaves all this out.")
    environment = dict(go.environment(service.environment))
    for item in go.items:
        names = item.variable or " and ".join(setting.property for setting in item.settings)
        yield from comment_lines(f"{names}: {item.why}")
        yield from setting_lines(item.settings)
        if item.variable:
            yield variable_line(item.variable, environment[item.variable])
    for note in go.notes:
        yield from comment_lines(note)


def _text(*lines: str) -> str:
    return "\n".join((*lines, ""))
