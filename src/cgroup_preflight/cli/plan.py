"""`cgroup-preflight plan shares`: the CPU time that each slice and service of the plan receives by its weight."""

import argparse
import difflib
import json
import os
import re
from collections.abc import Iterable, Sequence
from fractions import Fraction

from cgroup_preflight.cli import common, options
from cgroup_preflight.core.errors import ExitStatus, UsageError
from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.reading import Known, Missing, value_or
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.fs import LiveFs
from cgroup_preflight.host.gather import read_mounts
from cgroup_preflight.host.procfs import parse_cpu_list, read_kernel
from cgroup_preflight.host.siblings import read_siblings
from cgroup_preflight.plan.share_table import render_text, share_document
from cgroup_preflight.plan.share_tree import SYSTEM, TOP, Neighbour, share_tree

if TYPE_CHECKING:
    from cgroup_preflight.host.fs import HostFs
    from cgroup_preflight.plan.model import Plan, SlicePlan

_ABOUT = """\
Says what follows from the plan of the config, without running anything.

Use `plan shares` to choose CPUWeight and CPUQuota before the services run.

    cgroup-preflight plan shares
    cgroup-preflight plan shares --cpus 8 --demand worker=0.5

`cgroup-preflight plan shares --help` explains it.
"""
_SHARES = """\
Computes the CPU time that each slice and service of the plan receives when all
want all they can use. At each level the time of a slice is divided by
CPUWeight; what one does not want or may not use goes to its siblings, again by
weight. CPUQuota, AllowedCPUs, TasksMax and the GOMAXPROCS of Go programs count
at each level, and so do the siblings that the plan does not mention: other
slices of this host (or of the one in --root), usually with the weight 100. An
idle unit (CPUWeight = "idle") has about 1/340 of the default weight.

Use it to choose weights before services run, and to see what a busy neighbour
takes away. With --demand, a service wants only that many CPUs; so does a unit
of the host (--demand system.slice=0.2).

    cgroup-preflight plan shares
    cgroup-preflight plan shares --cpus 8 --demand worker=0.5 --demand api=2
    cgroup-preflight plan shares --root host.json    (siblings of that host)
    cgroup-preflight plan shares --format json

Exit status: 0, or 2 for a wrong call or config.
"""
_FORMATS = ("text", "json")
#: What every host with systemd has next to the slices of a plan (systemd.special(7)).
_USUAL = ("system.slice", "user.slice")
#: The service manager itself: it has the default weight and uses next to nothing.
_MANAGER = "init.scope"
_OTHERS = "other services"
_CPUS_MAX = 8192


def arguments() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = options.parser("plan", _ABOUT)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    made = actions.add_parser(
        "shares", help="show the CPU time that weights and limits give to each service", description=_SHARES,
        allow_abbrev=False, formatter_class=options.help_format,
    )  # fmt: skip
    options.add_config(made)
    made.add_argument("--cpus", metavar="N", default="", help="CPUs of the machine (default: those of the host)")
    made.add_argument("--demand", metavar="SERVICE=CPUS", action="append", default=[],
                      help="what a service wants, such as api=1.5; may be repeated (default: all it can use)")  # fmt: skip
    made.add_argument("--root", metavar="SNAPSHOT", default="",
                      help="take the siblings and CPUs of a recorded host (a file of `snapshot`)")  # fmt: skip
    made.add_argument("--format", choices=_FORMATS, default="text", help="text (default) or json, to stdout")
    return parser


def main(words: list[str]) -> int:
    """The command. Raises UsageError, ConfigError."""
    return _shares(arguments().parse_args(words))


def _shares(args: argparse.Namespace) -> int:
    wanted = [_demand(word) for word in args.demand]
    config = common.load_config(args.config, args.allow_outside)
    if not config.services:
        raise UsageError("the config has no service", where=config.path, remedy=Remedy(title="add [services.NAME]"))
    fs = _host(args.root)
    cpus = _cpus(args.cpus, fs)
    plan = common.plan_of(config)
    neighbours, notes = _neighbours(fs, plan, recorded=bool(args.root))
    demands = _by_unit(wanted, plan, neighbours)
    if not any(name == _MANAGER for name, _ in wanted) and any(item.unit == _MANAGER for item in neighbours):
        neighbours = tuple(item for item in neighbours if item.unit != _MANAGER)
    tree = share_tree(plan, cpus, neighbours, demands, notes)
    if args.format == "json":
        options.write_stdout(json.dumps(share_document(tree, plan.project), indent=2) + "\n")
    else:
        options.write_stdout(render_text(tree, plan.project))
    return ExitStatus.PASS


def _host(root: str) -> "HostFs":
    if not root:
        return LiveFs()
    from cgroup_preflight.host import snapshot

    return LiveFs(root) if os.path.isdir(root) else snapshot.load(root)[0]


def _cpus(text: str, fs: "HostFs") -> frozenset[int]:
    """The CPUs of the machine. Raises UsageError."""
    if not text:
        found = value_or(read_kernel(fs, "/sys/devices/system/cpu/online", parse_cpu_list), frozenset())
        if not found:
            raise UsageError("the number of CPUs of this host cannot be read", where="--cpus",
                             remedy=Remedy(title="give it: --cpus 4"))  # fmt: skip
        return found
    if not re.fullmatch(r"[1-9]\d{0,3}", text, re.ASCII) or int(text) > _CPUS_MAX:
        raise UsageError(f"{printable(text[:40])!r} is not a number of CPUs", where="--cpus",
                         remedy=Remedy(title=f"use a whole number from 1 to {_CPUS_MAX}"))  # fmt: skip
    return frozenset(range(int(text)))


def _demand(word: str) -> tuple[str, Fraction]:
    """Name and CPUs of one `SERVICE=CPUS`. Raises UsageError."""
    name, separator, amount = word.rpartition("=")
    shown = printable(word[:80])
    if not separator or not name:
        raise UsageError(
            f"{shown!r} is not SERVICE=CPUS", where="--demand", remedy=Remedy(title="use for example api=1.5")
        )
    if not re.fullmatch(r"\d{1,4}(\.\d{1,6})?", amount, re.ASCII):
        percent = re.fullmatch(r"(\d{1,6})%", amount, re.ASCII)
        hint = f"{int(percent[1]) / 100:g} for {amount}" if percent else "a number such as 0.5 or 2"
        raise UsageError(f"{shown!r} has no number of CPUs", where="--demand", remedy=Remedy(title=f"use {hint}"))
    return name, Fraction(amount)


def _by_unit(
    wanted: Sequence[tuple[str, Fraction]], plan: "Plan", neighbours: Iterable[Neighbour]
) -> dict[str, Fraction]:  # fmt: skip
    """The demands by unit. Raises UsageError for a name that is unknown, doubled, or that of a slice of the plan."""
    units = {item.unit: item.unit for item in neighbours}
    units |= {item.unit: item.unit for item in plan.services} | {item.label: item.unit for item in plan.services}
    slices = {name for item in plan.slices for name in (item.label, item.unit)}
    found: dict[str, Fraction] = {}
    for name, amount in wanted:
        shown = printable(name[:80])
        if name not in units:
            if name in slices:
                raise UsageError(f"{shown} is a slice of the plan, and wants what its services want", where="--demand",
                                 remedy=Remedy(title="give the demand of its services"))  # fmt: skip
            near = difflib.get_close_matches(name[:80], units, n=1, cutoff=0.5)
            title = f"did you mean {near[0]}?" if near else f"one of: {', '.join(list(units)[-20:])}"
            raise UsageError(f"{shown!r} is no service of the config, and no unit next to its slices", where="--demand",
                             remedy=Remedy(title=printable(title)))  # fmt: skip
        if units[name] in found:
            raise UsageError(f"{shown} is given twice", where="--demand", remedy=Remedy(title="give each service once"))
        found[units[name]] = amount
    return found


def _neighbours(fs: "HostFs", plan: "Plan", *, recorded: bool) -> tuple[tuple[Neighbour, ...], tuple[str, ...]]:
    """What is next to the plan's units on the host, and what is not known of it."""
    mount = read_mounts(fs)[1]
    found: list[Neighbour] = []
    notes: list[str] = []
    top = read_siblings(fs, mount.value.point, "") if isinstance(mount, Known) else mount
    if isinstance(top, Known):
        found += _of(top, TOP)
    if not found:
        found += (Neighbour(unit=name) for name in _USUAL)
        why = "this recording" if recorded else "this host"
        notes.append(f"{why} does not show its slices: {' and '.join(_USUAL)} with the weight 100 are assumed")
    inside = {item.unit: _path(plan, item) for item in plan.slices}
    if any(not service.slices for service in plan.services):
        inside[SYSTEM] = f"/{SYSTEM}"
    for unit, path in inside.items():
        reading = read_siblings(fs, mount.value.point, path) if isinstance(mount, Known) else mount
        found += _of(reading, unit)
        if unit == SYSTEM and isinstance(reading, Missing):
            found.append(Neighbour(unit=_OTHERS, parent=SYSTEM))
            notes.append(f"what else runs in {SYSTEM} is not known: it counts as one unit, {_OTHERS!r}")
    return tuple(found), tuple(notes)


def _path(plan: "Plan", item: "SlicePlan") -> str:
    return "".join(f"/{one.unit}" for one in (*reversed(plan.above(item)), item))


def _of(reading: "object", parent: str) -> list[Neighbour]:
    siblings = reading.value if isinstance(reading, Known) else ()
    return [
        Neighbour(
            unit=printable(item.name), parent=parent, weight=item.weight,
            quota=Fraction(*item.quota) if item.quota is not None else None,
        )
        for item in siblings
    ]  # fmt: skip
