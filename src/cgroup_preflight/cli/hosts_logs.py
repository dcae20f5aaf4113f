"""`logs --host`: what services write on other hosts, from their journals, read over ssh; each line has the name of its host."""

import argparse
import queue
import threading
from contextlib import closing

from cgroup_preflight.cli import hosts, options
from cgroup_preflight.cli.logs import HINT, Shown, choose
from cgroup_preflight.cli.terminal import use_colour
from cgroup_preflight.core.errors import ExitStatus, HostError
from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.reading import Missing
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.journal import has_entries, journal_argv, lines_of, parse_entry, slices_in_journal

if TYPE_CHECKING:
    from cgroup_preflight.plan.model import Plan

#: Lines that wait to be printed: a host that writes more waits itself.
_WAITING_MAX = 1000
#: A line with more characters than this waits while more lines than these do: a host must not fill this machine's memory.
_LONG, _LONG_MAX, _PAUSE = 1 << 16, 8, 0.05
_REMEDY = Remedy(title="log in there and run journalctl")


def print_logs(args: argparse.Namespace, plan: "Plan | None") -> ExitStatus:
    """Prints the lines of all hosts as they come, those of each host in order; 3 where a host could not be read.

    Raises UsageError.
    """
    lines: queue.Queue[str | None] = queue.Queue(_WAITING_MAX)
    ended = threading.Event()
    asked = hosts.remotes(args.host, args.ssh_config)
    outcomes: list[hosts.Outcome] = []
    problems: list[BaseException] = []

    def pass_on(host: hosts.Remote) -> None:
        shown = Shown(json=args.json, colour=not args.json and use_colour(), plan=plan, host=host.name)
        _pass_on(host, args, plan, shown, lines, ended)

    def ask_all() -> None:
        try:
            outcomes.extend(hosts.each(asked, pass_on))
        except Exception as error:  # noqa: BLE001 - raised again by the thread that waits
            problems.append(error)
        finally:
            lines.put(None)

    try:
        # A daemon: a signal ends the command at once.
        threading.Thread(target=ask_all, daemon=True).start()
        while (line := lines.get()) is not None:
            if not options.write_stdout(line):
                break
    finally:
        ended.set()
        for host in asked:
            host.lines.abandon()
    for problem in problems:
        raise problem
    failed = [(outcome.host, outcome.error) for outcome in outcomes if outcome.error is not None]
    for name, error in failed:
        hosts.say(name, error)
    return ExitStatus.UNVERIFIED if failed else ExitStatus.PASS


def _pass_on(
    host: hosts.Remote, args: argparse.Namespace, plan: "Plan | None", shown: Shown, lines: "queue.Queue[str | None]",
    ended: threading.Event,
) -> None:  # fmt: skip
    """Puts the lines of one host into the queue. Raises HostError, UsageError."""
    slices = slices_in_journal(host.programs)
    if isinstance(slices, Missing) or not slices.value:
        why = str(slices) if isinstance(slices, Missing) else "it has no entry that this user may read"
        raise HostError(f"no journal can be read: {why}", remedy=_REMEDY)
    choice = choose(args.names, plan, slices.value, lambda unit: has_entries(host.programs, [unit]))
    complain: list[str] = []
    try:
        process = host.programs.start(journal_argv(choice.units, follow=args.follow, since=args.since))
    except OSError as error:
        raise HostError(f"journalctl does not start there: {error}", remedy=_REMEDY) from None
    with closing(lines_of(process, complain, host.programs.stop)) as entries:
        for line in entries:
            entry = parse_entry(line)
            if ended.is_set():
                return
            if entry is not None:
                _put(lines, shown.entry(entry), ended)
    _require_end(process.poll(), [line for line in complain if not line.startswith(HINT)], follows=args.follow)


def _put(lines: "queue.Queue[str | None]", text: str, ended: threading.Event) -> None:
    while not ended.is_set():
        if len(text) > _LONG and lines.qsize() > _LONG_MAX:
            ended.wait(_PAUSE)
            continue
        try:
            lines.put(text, timeout=1.0)
        except queue.Full:
            continue
        return


def _require_end(status: int | None, said: list[str], *, follows: bool) -> None:
    """A journalctl that ends with success has printed all; one that follows does not end. Raises HostError."""
    if status != 0 or follows:
        reason = printable(said[-1][:200]) if said else f"exit status {status}"
        raise HostError(f"the lines ended too early: {reason}", remedy=_REMEDY)
