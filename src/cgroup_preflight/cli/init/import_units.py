"""`init --from-units` and `init --installed`: reads the units, writes the config, says what it found."""

import shlex
from collections.abc import Iterable
from pathlib import Path

from cgroup_preflight.cli import options
from cgroup_preflight.cli.init.from_units import write_units
from cgroup_preflight.cli.init.unit_files import FoundUnits, from_host, from_paths
from cgroup_preflight.config import FILE_NAME
from cgroup_preflight.config.load import parse
from cgroup_preflight.report.escape import plain


def write_config(output: Path, project: str, found: FoundUnits, binaries: Iterable[str]) -> None:
    """Writes the config for these units. `binaries` are the programs of the project, relative to the config."""
    folder = str(output.resolve().parent)
    programs: dict[str, str] = {}
    for path in sorted((item for item in binaries if item.isprintable()), key=lambda item: (item.count("/"), item)):
        programs.setdefault(path.rpartition("/")[2], path)
    text = write_units(project, found, programs, lambda text: parse(text.encode(), shown=FILE_NAME, folder=folder))
    options.write_text(output, text)
    lines = [f"wrote {output}"]
    for item in found.services:
        lines.append(f"  {item.source.name:<28} {item.path}")
    for part in found.slices:
        lines.append(f"  {part.name + '.slice':<28} {', '.join(file.path for file in part.files) or 'no file found'}")
    refused = text.count("\n# not taken over: ")
    if refused:
        lines.append(
            f"  {refused} line{'s' if refused > 1 else ''} with the reason of what was not taken over; look for: # not taken over"
        )
    config = "" if output == Path(FILE_NAME) else f" --config {shlex.quote(str(output))}"
    lines += ["next:", f"  cgroup-preflight validate{config}", f"  cgroup-preflight run{config}"]
    options.write_stderr("".join(f"{plain(line)}\n" for line in lines))


def find_units(paths: list[str], names: list[str], output: Path) -> FoundUnits:
    """The units in `paths`, or of the host. Raises UsageError."""
    return from_paths(paths, str(output.resolve().parent)) if paths else from_host(names)
