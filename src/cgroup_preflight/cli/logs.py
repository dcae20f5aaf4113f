"""`cgroup-preflight logs`: what the services of the plan write, by slice, from the journal or from the files of `up`."""

import argparse
import difflib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing

from cgroup_preflight.cli import common, options
from cgroup_preflight.cli.terminal import use_colour
from cgroup_preflight.core.errors import ExitStatus, HostError, UsageError
from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.reading import Missing, value_or
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.command import LiveRunner
from cgroup_preflight.host.journal import (
    JournalEntry,
    has_entries,
    journal_argv,
    lines_of,
    parse_entry,
    slices_in_journal,
)
from cgroup_preflight.host.log_files import lines_of_files
from cgroup_preflight.host.state import log_folder
from cgroup_preflight.report.escape import plain

if TYPE_CHECKING:
    from cgroup_preflight.plan.model import Plan

_ABOUT = """\
Prints what services write, each line with its time and its service. A slice is
the services in it and in the slices below it; without a name, all of the plan.
The lines come from the journal of the system and of your own user manager.
Where it has none of these services, they come from the files that `up` wrote.

Use it to see what happened in one part of the plan, or to watch it.

    cgroup-preflight logs
    cgroup-preflight logs api --follow
    cgroup-preflight logs user-api worker --since "10 minutes ago"
    cgroup-preflight logs system.slice --json | jq .message
    cgroup-preflight logs --host web1 --host web2 system.slice   (over ssh)

A name is a service or slice of the config, or the unit of another one. Control
characters in the lines are shown as escapes. With --follow, Ctrl-C ends it.

Exit status: 0 the end of the log, 2 a wrong call or config, or an unknown name,
3 no journal can be read and `up` wrote no file, 130 ended by Ctrl-C.
"""
_SUFFIXES = (".slice", ".service", ".scope", ".socket", ".mount", ".timer")
#: Prefixes of services, in turn: cyan, green, yellow, magenta, blue.
_COLOURS = (36, 32, 33, 35, 34)
#: What up to here have names: the longest prefix.
_NAME_MAX = 40
_SINCE_MAX = 100
#: The first word of what journalctl says of entries that the caller may not read.
HINT = "Hint:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is shown: units for the journal, services of the config for files; `project` is empty without a config."""

    units: tuple[str, ...]
    services: tuple[str, ...]
    project: str = ""


def arguments() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = options.parser("logs", _ABOUT)
    parser.add_argument("names", nargs="*", metavar="SLICE|SERVICE", help="whose lines (default: all of the config)")
    options.add_config(parser)
    parser.add_argument("--follow", action="store_true", help="go on with new lines until Ctrl-C")
    parser.add_argument("--since", metavar="TIME", default="",
                        help="from this time on, as journalctl(1) reads it: \"2026-11-29 15:00\", \"1 hour ago\", today")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object for each entry")
    options.add_hosts(parser)
    return parser


def main(words: list[str]) -> int:
    """The command. Raises UsageError, ConfigError, HostError."""
    args = arguments().parse_args(words)
    if len(args.since) > _SINCE_MAX or not args.since.isprintable():
        raise UsageError("it is not a time", where="--since", remedy=Remedy(title='use for example "10 minutes ago"'))
    config = common.try_config(args.config, args.allow_outside)
    plan = None
    if config is not None:
        from cgroup_preflight.plan.build import build_plan

        plan = build_plan(config)
    if args.host:
        from cgroup_preflight.cli.hosts_logs import print_logs

        return print_logs(args, plan)
    runner = LiveRunner()
    slices = slices_in_journal(runner)
    choice = choose(args.names, plan, value_or(slices, frozenset()), lambda unit: has_entries(runner, [unit]))
    show = Shown(json=args.json, colour=not args.json and use_colour(), plan=plan)
    files = _files(choice)
    if files and not has_entries(runner, choice.units):
        return _from_files(files, args, show)
    if isinstance(slices, Missing) or not slices.value:
        why = str(slices) if isinstance(slices, Missing) else "it has no entry that you may read"
        raise HostError(f"no journal can be read ({why}), and `up` wrote no log of these services", where="logs",
                        remedy=Remedy(title="run it where systemd-journald runs, or start the services with `up`"))  # fmt: skip
    return _from_journal(runner, choice, args, show)


def choose(
    names: Sequence[str], plan: "Plan | None", in_journal: frozenset[str], has: Callable[[str], bool]
) -> Choice:  # fmt: skip
    """The units that the names mean, the slices below them included. Raises UsageError for an unknown name.

    `in_journal` are slices with entries, and `has` says whether another unit has some.
    """
    if not names and plan is None:
        raise UsageError("there is no config that names services", where="logs",
                         remedy=Remedy(title="name a slice or service: logs system.slice"))  # fmt: skip
    slices = {item.unit for item in plan.slices} if plan else set()
    by_name = {item.label: item.unit for item in plan.slices} if plan else {}
    by_name |= {name: item.unit for item in plan.services for name in (item.unit, item.label)} if plan else {}
    by_name |= {unit: unit for unit in (*slices, *in_journal)}
    chosen = [_unit(name, by_name, has) for name in names]
    if plan and not names:
        chosen = [*slices, *(item.unit for item in plan.services)]
    units = {unit for name in chosen for unit in (name, *_below(name, {*slices, *in_journal}))}
    services = [item for item in plan.services if units.intersection((item.unit, *item.slices))] if plan else []
    return Choice(
        units=tuple(sorted({*units, *(item.unit for item in services)})), services=tuple(item.label for item in services),
        project=plan.project if plan else "",
    )  # fmt: skip


def _unit(name: str, by_name: "dict[str, str]", has: Callable[[str], bool]) -> str:
    if name in by_name:
        return by_name[name]
    if name.endswith(_SUFFIXES) and name.isprintable() and has(name):
        return name
    near = difflib.get_close_matches(name[:100], by_name, n=1, cutoff=0.5)
    title = f"did you mean {near[0]}?" if near else "name a service or slice of the config, or a unit with entries"
    raise UsageError("neither the config nor the journal has such a slice or service", where=printable(name[:100]) or "''",
                     remedy=Remedy(title=printable(title)))  # fmt: skip


def _below(name: str, slices: Iterable[str]) -> Iterator[str]:
    """The slices in a slice: their names begin with its own and a dash (systemd.slice(5))."""
    if name.endswith(".slice") and name != "-.slice":
        start = f"{name.removesuffix('.slice')}-"
        yield from (item for item in slices if item.endswith(".slice") and item.startswith(start))
    elif name == "-.slice":
        yield from (item for item in slices if item.endswith(".slice"))


class Shown:
    """How entries are printed: one line for each line of a message, or one JSON object for each entry.

    `host` is the name of another host that they come from.
    """

    def __init__(self, *, json: bool, colour: bool, plan: "Plan | None", host: str = "") -> None:
        self._json, self._colour, self._host = json, colour, host
        self._labels = {item.unit: item.label for item in plan.services} if plan else {}
        self._width = max((len(label) for label in self._labels.values()), default=0)
        self._numbers: dict[str, int] = {}

    def entry(self, entry: JournalEntry) -> str:
        """The text of one entry, with the end of its last line."""
        name = self._labels.get(entry.unit, entry.unit)
        if self._json:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(entry.time_usec // 1_000_000))
            return self._document(
                name, entry.message, time=f"{stamp}.{entry.time_usec % 1_000_000:06}Z" if entry.time_usec else None,
                unit=entry.unit or None, slice=entry.slice or None, pid=entry.pid or None, priority=entry.priority,
            )  # fmt: skip
        stamp = time.strftime("%Y-%m-%d %H:%M:%S ", time.localtime(entry.time_usec // 1_000_000))
        return self._lines(name, entry.message, stamp)

    def line(self, name: str, line: bytes) -> str:
        """The text of one line of a file."""
        message = line.decode("utf-8", "replace").removesuffix("\r")
        if self._json:
            return self._document(name, message, time=None, unit=None, slice=None, pid=None, priority=None)
        return self._lines(name, message, "")

    def _document(self, name: str, message: str, **more: object) -> str:
        service = name if name in self._labels.values() else None
        host = {"host": self._host} if self._host else {}
        return json.dumps({**host, "service": service, **more, "message": message}) + "\n"

    def _lines(self, name: str, message: str, stamp: str) -> str:
        shown = plain(name[:_NAME_MAX]).ljust(self._width)
        shown = f"{self._host} {shown}" if self._host else shown
        if self._colour:
            number = self._numbers.setdefault(name, len(self._numbers))
            shown = f"\x1b[{_COLOURS[number % len(_COLOURS)]}m{shown}\x1b[0m"
        return "".join(f"{stamp}{shown} | {plain(line)}\n" for line in message.split("\n"))


def _files(choice: Choice) -> dict[str, str]:
    """The log files of `up` by service."""
    folder = log_folder(choice.project)
    paths = {name: os.path.join(folder, f"{name}.log") for name in choice.services}
    return {name: path for name, path in paths.items() if os.path.lexists(path)}


def _from_files(files: "dict[str, str]", args: argparse.Namespace, show: Shown) -> int:
    if args.since:
        raise UsageError("the files of `up` have no times", where="--since", remedy=Remedy(title="leave it out"))
    try:
        for name, line in lines_of_files(files, follow=args.follow, sleep=time.sleep):
            if not options.write_stdout(show.line(name, line)):
                break
    except OSError as error:
        raise HostError(f"a log cannot be read: {error.strerror or error}", where=printable(str(error.filename or "logs")),
                        remedy=Remedy(title="read it as the user that runs `up`")) from None  # fmt: skip
    return ExitStatus.PASS


def _from_journal(runner: LiveRunner, choice: Choice, args: argparse.Namespace, show: Shown) -> int:
    complain: list[str] = []
    process = runner.start(journal_argv(choice.units, follow=args.follow, since=args.since))
    with closing(lines_of(process, complain, runner.stop)) as lines:
        count = _print(lines, show.entry, options.write_stdout)
    said = [line for line in complain if not line.startswith(HINT)]
    if process.returncode > 0 and said:
        raise UsageError(f"journalctl: {printable(said[0][:200])}", where="--since" if args.since else "logs",
                         remedy=Remedy(title="journalctl(1) and systemd.time(7) say what it takes"))  # fmt: skip
    if not count:
        options.write_stderr("no entries of these units" + (
            "\n" if os.geteuid() == 0 else "; those of the system need the group systemd-journal, or root\n"))  # fmt: skip
    return ExitStatus.PASS


def _print(lines: Iterable[bytes], text: Callable[[JournalEntry], str], write: Callable[[str], bool]) -> int:
    """Prints the entries in lines while somebody reads, and returns how many; a line that is no entry is left out."""
    count = 0
    for line in lines:
        entry = parse_entry(line)
        if entry is not None:
            count += 1
            if not write(text(entry)):
                break
    return count
