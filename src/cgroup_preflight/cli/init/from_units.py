"""A config from unit files, as text: their slices and limits, with a comment for what was not taken over. Pure.

The text loads: `loadable` turns every line that the loader refuses into a comment with its reason.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from cgroup_preflight.cli.init.old_names import Settings, Taken, is_limit, settings_of
from cgroup_preflight.cli.init.programs import sanitise, unused
from cgroup_preflight.cli.init.text import REQUIRE, SMOKE, key_line, quote
from cgroup_preflight.cli.init.unit_files import FoundSlice, FoundUnit, FoundUnits, slice_of
from cgroup_preflight.config.keys import parse_slice_name
from cgroup_preflight.config.unit_source import PREFIXES, UnitSource, named_lines, program_of
from cgroup_preflight.core.errors import ConfigError
from cgroup_preflight.core.quantities import QuantityError
from cgroup_preflight.report.escape import plain

_HEAD = """\
# cgroup-preflight: the slices, services and limits of unit files, and how they are proven before the merge.
# Keys and values are spelled as systemd spells them (man systemd.resource-control). Where a unit and this file both
# set a limit, this file wins in a run and in the drop-in that `slices` and `inject` write.
"""
_PORT = re.compile(
    r"--?(?:[\w.-]{0,40}[-.])?(?:listen|bind|addr|address|listen-addr|listen-address|port)[= ]"
    r"(?:\[?[\w.:]{0,60}\]?:)?(\d{2,5})(?!\S)", re.ASCII
)  # fmt: skip
#: What a text has that systemd would expand or unquote (systemd.service(5), "Command lines").
_SPECIAL = re.compile(r"[\"'\\$%;]")
#: A unit's settings that do not change how its program starts.
_PLAIN = frozenset({"ExecStart", "Type", "Slice", "Restart", "RestartSec", "TimeoutStartSec", "TimeoutStopSec"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """One service with the name that it has in the config."""

    name: str
    found: FoundUnit


def write_units(project: str, found: FoundUnits, programs: Mapping[str, str], fits: Callable[[str], object]) -> str:
    """The text of a config that loads. `programs` are built files of the project by name, relative to the config.

    `fits` is the loader, which raises ConfigError.
    """
    taken: set[str] = set()
    services = [_Named(name=unused(_name(item), taken), found=item) for item in found.services]
    slices = [item for item in found.slices if _is_ours(item.name)]
    parts = [_HEAD, f"\n[project]\nname = {quote(project)}\n", REQUIRE, SMOKE]
    parts += [_slice(item) for item in slices]
    parts += [
        f"\n# {plain(item.name)}.slice: not taken over; it belongs to systemd, or its name has escapes\n"
        for item in found.slices if not _is_ours(item.name)
    ]  # fmt: skip
    parts += [_service(item, {part.name for part in slices}, programs) for item in services]
    return loadable("".join(parts), fits)


def _name(item: FoundUnit) -> str:
    return sanitise(item.source.name.removesuffix(".service"), "app")


def _is_ours(name: str) -> bool:
    try:
        return parse_slice_name(name) == name
    except QuantityError:
        return False


def _slice(item: FoundSlice) -> str:
    files = [file.path for file in item.files]
    settings = settings_of(named_lines(item.files, f"{item.name}.slice"), "Slice")
    head = [f"# {plain(', '.join(files))}"] if files else [f"# no file {item.name}.slice was found: add its limits"]
    table = quote(item.name) if "." in item.name else item.name
    return "\n".join(("", *head, f"[slices.{table}]", *_settings(settings), ""))


def _settings(settings: Settings) -> Iterator[str]:
    for item in settings.taken:
        yield _setting(item)
    yield from _notes(settings.notes)


def _setting(item: Taken) -> str:
    lines = item.value.split("\n")
    value = quote(item.value) if len(lines) == 1 else f"[{', '.join(map(quote, lines))}]"
    return key_line(item.name, value, plain(item.comment)) if item.comment else f"{item.name} = {value}"


def _notes(notes: Iterable[str]) -> Iterator[str]:
    for note in notes:
        yield f"# not taken over: {plain(note[:300])}"


def _service(item: _Named, slices: set[str], programs: Mapping[str, str]) -> str:
    source, name = item.found.source, quote(item.name) if "." in item.name else item.name
    lines = ["", f"# {plain(', '.join(file.path for file in source.files))}", f"[services.{name}]"]
    lines += _by_unit(item.found, programs) if item.found.unit else _by_program(item.found)
    lines += _placement(source, slices)
    lines += _settings(settings_of(source.lines, "Service", limits_only=bool(item.found.unit)))
    lines += ["", f"[services.{name}.smoke]"]
    lines += _args(source) if not item.found.unit else []
    lines += [*_ready(item.found), key_line("duration", '"5s"', "how long it runs under its limits")]
    return "\n".join((*lines, ""))


def _by_unit(found: FoundUnit, programs: Mapping[str, str]) -> Iterator[str]:
    yield f"unit = {quote(found.unit)}"
    if found.instance:
        yield key_line("instance", quote(found.instance), "of the template: the one to try")
    path = found.source.program
    built = programs.get(path.rpartition("/")[2])
    if found.source.installed:
        yield "# on a host its copy runs there; in a guest, packages in [target] install the unit"
    elif built:
        yield key_line("binary", quote(built), f"takes the place of {plain(path)[:200]}")
    elif path:
        yield key_line("# binary", '"dist/PROGRAM"', f"the built file that takes the place of {plain(path)[:200]}")


def _by_program(found: FoundUnit) -> Iterator[str]:
    """The unit is outside of the project, and `unit` names files of the project only."""
    source = found.source
    file = found.path.rpartition("/")[2]
    yield f"# To try it with its own unit, copy {plain(found.path)} into the project, and write"
    yield f"# unit = {quote(f'deploy/{file}')} in place of binary and args. Without it, the run starts the program as root."
    if source.program:
        yield f"binary = {quote(source.program)}"
    others = dict.fromkeys(item.key for item in source.lines if item.section == "Service" and item.key not in _PLAIN)
    unproven = [key for key in others if not is_limit(key)]
    if unproven:
        yield f"# its unit also sets {', '.join(map(plain, unproven))[:600]}"


def _placement(source: UnitSource, slices: set[str]) -> Iterator[str]:
    name, written = slice_of(source), source.last("Slice")
    if name in slices:
        yield f"slice = {quote(name)}"
    elif written:
        yield f"# not taken over: Slice={plain(written)[:200]}, which belongs to systemd, or has escapes or specifiers"


def _args(source: UnitSource) -> Iterator[str]:
    commands = source.values("ExecStart")
    if not commands:
        return
    command = commands[0].lstrip(PREFIXES)
    if _SPECIAL.search(command) or len(commands) > 1 or not program_of(command):
        yield f"# args: take them over from ExecStart={plain(commands[0])[:600]}"
    elif words := command.split()[1:]:
        yield f"args = [{', '.join(map(quote, words))}]"


def _ready(found: FoundUnit) -> Iterator[str]:
    """What the unit says about its readiness, and the ports that its options name, as comments."""
    source = found.source
    if found.unit and source.type != "simple":
        yield f"# ready: by Type={plain(source.type)[:40]} of the unit, as long as no line `ready` says otherwise"
    elif source.type in ("notify", "notify-reload"):
        yield key_line("ready", '"notify"', f"Type={source.type} of the unit")
    elif source.type == "oneshot":
        yield key_line("ready", '"exit"', "Type=oneshot of the unit")
    elif source.type == "forking":
        yield "# Type=forking: the unit's program goes to the background; add the option that keeps it in the foreground"
    for command in source.values("ExecStart")[:1]:
        for match in list(_PORT.finditer(command))[:3]:
            yield key_line(
                "# ready", quote(f"tcp://127.0.0.1:{int(match[1])}"), f"if {plain(match[0])} is its own port"
            )


def loadable(text: str, fits: Callable[[str], object]) -> str:
    """The text with a comment in place of each line that the loader refuses."""
    for _ in range(text.count("\n")):
        try:
            fits(text)
        except ConfigError as error:
            wrong = {item.location.line: (item.message, item.remedies) for item in error.findings if item.location}
            lines = text.split("\n")
            for number in sorted((line for line in wrong if line), reverse=True):
                message, remedies = wrong[number]
                words = f"{message}; {remedies[0].title}" if remedies else message
                lines[number - 1 : _end(lines, number - 1)] = _refused(
                    lines[number - 1 : _end(lines, number - 1)], words
                )
            if lines == text.split("\n"):
                raise
            text = "\n".join(lines)
        else:
            return text
    return text


def _end(lines: list[str], start: int) -> int:
    """Behind the line, or behind the table with its sub-tables where the line is a header."""
    if not lines[start].startswith("["):
        return start + 1
    inside = f"{lines[start].rstrip(']')}."
    end = start + 1
    while end < len(lines) and (not lines[end].startswith("[") or lines[end].startswith(inside)):
        end += 1
    return end


def _refused(lines: list[str], words: str) -> list[str]:
    body = [line if line.startswith("#") or not line else f"# {line}" for line in lines]
    return [f"# not taken over: {plain(words)[:300]}", *body]
