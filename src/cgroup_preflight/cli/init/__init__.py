"""`cgroup-preflight init`: a starter config for this folder, or one from existing unit files."""

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from cgroup_preflight.cli import options
from cgroup_preflight.cli.init.programs import SERVICES_MAX, Program, programs, project_name
from cgroup_preflight.cli.init.scan import SourceTree
from cgroup_preflight.cli.init.scan import scan as scan_folder
from cgroup_preflight.cli.init.text import Starter, build_command, write
from cgroup_preflight.config import FILE_NAME
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.report.escape import plain

#: Tools that the terminal names.
_NAMES_MAX = 10
_ABOUT = f"""\
Writes a commented {FILE_NAME} for this folder: the slices api
and worker, and one service for each program that it finds from go.mod files,
`package main` and built programs. Commands that serve nothing and wait for
nothing, and those in folders of tools, examples and tests, become comments. A
port is written only where the source leaves no doubt. It runs no program.

With --from-units, the services, slices and limits are those of existing
.service and .slice files, with their drop-ins. A unit file in the project
becomes the `unit` of its service, and a run tries the service with it.
With --installed, they are those of units that this host has; because `unit`
must be a file of the project, such a service has the program of ExecStart,
and a comment names the file to copy. Nothing is copied. Old names such as
MemoryLimit become those of cgroup v2; a comment names each line that could
not be taken over.

Use it once, at the start. Then edit the limits, and run the preflight.

    cgroup-preflight init
    cgroup-preflight init --output deploy/{FILE_NAME}
    cgroup-preflight init --from-units deploy/systemd
    cgroup-preflight init --installed redis-server.service

Exit status: 0, or 2 if the file exists already (--force overwrites it), or if
a unit file cannot be read.
"""


def main(words: list[str]) -> int:
    """The command. Raises UsageError."""
    args = arguments().parse_args(words)
    folder = options.here()
    if os.path.lexists(args.output) and not args.force:
        remedy = Remedy(title="add --force to overwrite it, or --output FILE for another name")
        raise UsageError("exists already, and was not changed", where=str(args.output), remedy=remedy)
    base = os.path.relpath(folder, args.output.resolve().parent)
    if not base.isprintable():
        remedy = Remedy(title="omit --output, and move the file afterwards")
        raise UsageError(
            "the path from there to this folder cannot be written in TOML", where=str(args.output), remedy=remedy
        )
    found = scan_folder(str(folder))
    project = project_name(found, folder.name)
    if args.from_units or args.installed:
        from cgroup_preflight.cli.init.import_units import find_units, write_config  # most calls have no units

        units = find_units(args.from_units, args.installed, args.output)
        write_config(
            args.output, project, units, [os.path.normpath(os.path.join(base, item)) for item in found.binaries]
        )
        return 0
    some = programs(found)
    options.write_text(args.output, write(Starter(project=project, programs=some, base=base)))
    _tell(args.output, found, some)
    return 0


def arguments() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = options.parser("init", _ABOUT)
    parser.add_argument("--force", action="store_true", help="overwrite the file if it exists")
    parser.add_argument("--output", metavar="FILE", type=Path, default=Path(FILE_NAME),
                        help=f"default: {FILE_NAME}")  # fmt: skip
    units = parser.add_mutually_exclusive_group()
    units.add_argument("--from-units", metavar="PATH", nargs="+", default=[],
                       help=".service and .slice files, or folders with them")  # fmt: skip
    units.add_argument("--installed", metavar="NAME", nargs="+", default=[], help="units of this host")
    return parser


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMES_MAX]) + (", ..." if len(names) > _NAMES_MAX else "")


def _tell(output: Path, found: SourceTree, some: tuple[Program, ...]) -> None:
    """Prints what was found and what comes next to stderr: the file is the result."""
    services = [item for item in some if item.is_service]
    tools = [item.name for item in some if not item.is_service]
    lines = [f"wrote {output}"]
    for item in services[:SERVICES_MAX]:
        state = "built" if item.built else "not built yet"
        source = "no source" if item.source is None else item.source or "."
        lines.append(f"  {item.name:<20} {source} -> {item.binary} ({state}), slice {item.slice}")
    if not services:
        lines.append("  no Go program found here; the file has an example to fill in")
    if len(services) > SERVICES_MAX:
        lines.append(f"  {len(services) - SERVICES_MAX} more programs were left out")
    if tools:
        lines.append(f"  no services, as comments in the file: {_some(tools)}")
    if found.units:
        folders = dict.fromkeys(os.path.dirname(item) or "." for item in found.units)
        call = shlex.join(["cgroup-preflight", "init", "--force", "--from-units", *folders])
        lines.append(f"  unit files: {_some(found.units)}; to test the services with them: {call}")
    if not found.complete:
        lines.append("  this folder is large: only a part of it was searched")
    missing = [build_command(item) for item in services[:SERVICES_MAX] if not item.built]
    config = "" if output == Path(FILE_NAME) else f" --config {shlex.quote(str(output))}"
    last = f"cgroup-preflight run{config}" if services else f"edit {output}"
    lines += ["next:", *(f"  {step}" for step in (*missing, last) if step)]
    options.write_stderr("".join(f"{plain(line)}\n" for line in lines))
