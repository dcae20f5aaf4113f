"""`cgroup-preflight rollout`: changes the limits of running slices in steps, and takes back what does harm."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import closing

from cgroup_preflight.cli import common, options
from cgroup_preflight.cli.rollout_place import Here
from cgroup_preflight.core import codes
from cgroup_preflight.core.errors import ExitStatus, HostError, UsageError
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.core.verdict import exit_status_of
from cgroup_preflight.engines.choice import MANAGERS
from cgroup_preflight.report.escape import plain

if TYPE_CHECKING:
    from cgroup_preflight.checks.base import Context
    from cgroup_preflight.cli.rollout_place import Place
    from cgroup_preflight.config.model import Config
    from cgroup_preflight.rollout.journal import Journal, Read
    from cgroup_preflight.rollout.prepare import Prepared
    from cgroup_preflight.rollout.session import Host

    Done = tuple[Sequence[Finding], Context | None]

_ABOUT = """\
Changes the limits of slices on this running host in steps: sets them through
systemd, reads each one back from the kernel, watches the slice, its neighbours
and the slices that it is compared with, and goes on or takes everything back.
At the end the values are persistent. [rollout] in the config has the steps.
Use it where services must go on while their limits change. With --host, all of
this happens on other hosts, over ssh; their journals are kept here.

    cgroup-preflight rollout plan       what would change; changes nothing
    cgroup-preflight rollout apply      does it, in steps
    cgroup-preflight rollout status     how far it is, and its numbers
    cgroup-preflight rollout abort      takes it back now
    cgroup-preflight rollout resume     goes on after a crash or a reboot
    cgroup-preflight rollout journal    its journal as JSON

If this tool, its session or the network dies, a timer of the service manager
restores the old values after `restore_after` (default: 1min).

Exit status: 0 done (abort: taken back), 1 refused, taken back, or stuck between
old and new (CGP806), 2 wrong call, 3 unfinished, or no service manager can be
used.
`cgroup-preflight rollout ACTION --help` explains one action.
"""
#: Each action in one line, and when to use it.
_ACTIONS = {
    "plan": ("show what would change, in which steps", """
Reads the present values of this host and shows each one that would change,
through which values, and what speaks against it: a drop-in that would win, a
memory limit below what is in use, a slice that does not run. Use it before
each `apply`, and in a pipeline, with recordings of the hosts:
`cgroup-preflight snapshot --slices` makes one.

    cgroup-preflight rollout plan
    cgroup-preflight rollout plan --format json=plan.json
    cgroup-preflight rollout plan --snapshot hosts/
"""),
    "apply": ("change the limits in steps, and take back what does harm", """
Measures what is usual, then sets the values of each step, reads them back and
watches. An OOM kill, a service that fails, a value that does not read back or
memory that stalls takes everything back at once; more throttling or pressure
than [rollout] allows does so after enough samples. Without enough samples it
pauses, and takes back at the deadline. Use it on one host, or from a tool that
deploys to many.

    cgroup-preflight rollout apply
    cgroup-preflight rollout apply --yes --format json=rollout.json
"""),
    "status": ("show the last rollout of this host", """
Shows the journal: each step with its verdict and numbers, and how it ended or
where it is; and each value that is in force now, if it is not what the journal
says. Use it at another terminal, or after the end. It reads only.

    cgroup-preflight rollout status
"""),
    "abort": ("take the rollout back now", """
Restores the old values and reads them back. Use it when you see harm that the
judge does not. A rollout that runs at another terminal is told to do so.

    cgroup-preflight rollout abort --yes
"""),
    "resume": ("go on with a rollout whose tool died", """
Goes on from the last record of the journal. Use it after a crash, a reboot or
a lost session. Where the timer of the service manager or a reboot has brought
the old values back, it says so and ends.

    cgroup-preflight rollout resume
"""),
    "journal": ("print the journal of the last rollout as JSON", """
Prints one object: `path`, `torn` (whether a broken line follows, which was
never acted on) and `records`, one for each act, with its time and numbers.
Use it to keep the journals of many hosts in one place. It reads only.

    cgroup-preflight rollout journal >journal.json
"""),
}  # fmt: skip


def main(words: list[str]) -> int:
    """The command. Raises UsageError, ConfigError, HostError."""
    args = arguments().parse_args(words)
    if args.action == "journal":
        return _journal(args)
    if args.host and args.action == "plan" and args.snapshot:
        raise UsageError("--snapshot reads recordings, and --host running hosts", where="--snapshot",
                         remedy=Remedy(title="leave out --snapshot or --host"))  # fmt: skip
    started = common.start()
    wanted = options.outputs(args.format, args.output, quiet=args.quiet)
    for item in wanted:
        # Not after minutes of changes, which would end as a wrong call.
        if item.file and not os.path.isdir(os.path.dirname(os.path.abspath(item.file))):
            raise UsageError("the folder of the report does not exist", where=item.file,
                             remedy=Remedy(title="make it, or name another file"))  # fmt: skip
    if args.host:
        from cgroup_preflight.cli.rollout_hosts import on_hosts

        if args.action in ("plan", "apply"):
            # A wrong config is a wrong call, and not the verdict of each host.
            _config(args)
        findings, context = on_hosts(args, _DO[args.action])
    else:
        findings, context = _DO[args.action](args, Here())
    report = common.report(started, context, findings)
    options.deliver(report, wanted, verbose=True)
    return exit_status_of(report.verdict, allow_unverified=args.allow_unverified, exit_zero=args.exit_zero)


def arguments() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = options.parser("rollout", _ABOUT)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, (line, about) in _ACTIONS.items():
        action = actions.add_parser(
            name, help=line, description=about.strip("\n"), formatter_class=options.help_format, allow_abbrev=False
        )
        if name in ("plan", "apply"):
            options.add_config(action)
            action.add_argument("--engine", choices=("auto", *MANAGERS), default="auto",
                                help="whose units: of the system's manager, or of your own (default: auto)")  # fmt: skip
        if name == "plan":
            action.add_argument("--snapshot", metavar="FILE", nargs="+", action="extend", default=[],
                                help="recorded hosts instead of this one: files, or folders of them")  # fmt: skip
        if name in ("apply", "abort"):
            action.add_argument("--yes", action="store_true", help="do not ask")
        if name != "plan":
            action.add_argument("--state", metavar="DIR", default="",
                                help="the folder of the journals (default: /var/lib/cgroup-preflight/rollout, or below "
                                "~/.local/state for an ordinary user)")  # fmt: skip
        if name == "apply":
            action.add_argument("--allow-remote", action="store_true",
                                help="let [rollout.prometheus] name a server on another machine")  # fmt: skip
        options.add_hosts(action)
        if name != "journal":
            options.add_report(action, shows_passed=True)
    return parser


def _plan(args: argparse.Namespace, place: "Place") -> "Done":
    if args.snapshot:
        from cgroup_preflight.cli.rollout_plan import recorded_findings

        return recorded_findings(common.load_config(args.config, args.allow_outside), args.snapshot, args.engine), None
    config = _config(args)
    host, context = place.open(config, args.engine)
    return _prepared(config, host, context).findings, context


def _config(args: argparse.Namespace) -> "Config":
    config = common.load_config(args.config, args.allow_outside)
    if args.action == "apply" and config.rollout:
        _check_server(config.rollout.prometheus.url, allow=args.allow_remote)
    return config


def _prepared(config: "Config", host: "Host", context: "Context") -> "Prepared":
    from cgroup_preflight.checks.numbers import host_numbers
    from cgroup_preflight.core.reading import value_or
    from cgroup_preflight.rollout.go_limits import live_limits
    from cgroup_preflight.rollout.prepare import prepare

    cpus = len(value_or(context.facts.online_cpus, frozenset())) or os.cpu_count() or 1
    return prepare(
        config, host.manager, host_numbers(context.facts), cpus=cpus,
        live=lambda cgroup: live_limits(host.door.files, host.mount, cgroup),
    )  # fmt: skip


def _apply(args: argparse.Namespace, place: "Place") -> "Done":
    from cgroup_preflight.config.model import Rollout
    from cgroup_preflight.rollout import session

    config = _config(args)
    rollout = config.rollout or Rollout()
    host, context = place.open(config, args.engine)
    folder = place.folder(args.state)
    with session.locked(folder):
        busy = _unfinished(folder, host)
        if busy:
            return busy, context
        # What is read during another rollout would be one of its steps.
        prepared = _prepared(config, host, context)
        if prepared.refused or not prepared.stages:
            return prepared.findings, context
        for finding in prepared.findings:
            place.say(f"{finding.subject}: {finding.message}")
        _ask(args, f"change these limits in {len(prepared.stages)} steps?")
        place.begin(host, context)
        with closing(session.begun(prepared, rollout, host, folder, place.say)) as journal:
            return (*prepared.findings, *_run(journal, host, place, lambda runner: runner.run())), context


def _run(
    journal: "Journal", host: "Host", place: "Place", act: "Callable[..., object]", *, wanted: bool = False
) -> Sequence[Finding]:
    """Goes on with a journal, and says what came of it."""
    from cgroup_preflight.rollout import journal as journals
    from cgroup_preflight.rollout.outcome import findings_of, signal_words
    from cgroup_preflight.rollout.session import runner_of, saved_in

    known = journals.Read(records=tuple(journal.records), state=journal.state, size=0, torn=False)
    saved = saved_in(journal.path, known)
    try:
        act(runner_of(saved, journal, host, place.say))
    except Exception:
        raise
    except BaseException as error:  # noqa: BLE001 - every end but an error is a signal
        place.say(signal_words(journal.state, saved.config.restore_after))
        # Not as it came: then "everything that it started was stopped" would follow.
        interrupted = isinstance(error, KeyboardInterrupt)
        raise SystemExit(ExitStatus.INTERRUPTED if interrupted else ExitStatus.TERMINATED) from None
    return findings_of(journal.state, journal.records, wanted=wanted)


def _unfinished(folder: str, host: "Host") -> Sequence[Finding]:
    from cgroup_preflight.rollout.machine import ENDS
    from cgroup_preflight.rollout.outcome import findings_of
    from cgroup_preflight.rollout.session import last

    found = last(folder)
    if found is not None and found[1].state.phase not in ENDS:
        (*_, end) = findings_of(found[1].state, found[1].records)
        return (
            codes.ROLLOUT_UNFINISHED.finding(
                Status.FAIL, end.subject, f"a rollout is not finished: {end.message}", *end.remedies
            ),
        )
    other = host.manager.armed_for()
    if other:
        return (codes.ROLLOUT_UNFINISHED.finding(
            Status.FAIL, plain(other), "another rollout of this service manager is under way",
            Remedy(title="wait for its end, or abort it with its own --state")),)  # fmt: skip
    return ()


def _status(args: argparse.Namespace, place: "Place") -> "Done":
    from cgroup_preflight.rollout import session
    from cgroup_preflight.rollout.outcome import findings_of

    path, found = _last(args, place)
    place.say(f"journal: {plain(path)}")
    try:
        host, context = place.open(None, session.saved_in(path, found).manager)
        return session.present_findings(path, found, host), context
    except HostError as error:
        place.say(f"what is in force now cannot be read: {error.message}")
        return findings_of(found.state, found.records), None


def _journal(args: argparse.Namespace) -> int:
    place: Place = Here()
    if args.host:
        from cgroup_preflight.cli.rollout_hosts import one

        place = one(args)
    path, found = _last(args, place)
    shown = {"path": path, "torn": found.torn, "records": [dict(record) for record in found.records]}
    options.write_stdout(json.dumps(shown, indent=1, ensure_ascii=True) + "\n")
    return ExitStatus.PASS


def _resume(args: argparse.Namespace, place: "Place") -> "Done":
    from cgroup_preflight.rollout import journal as journals
    from cgroup_preflight.rollout import session
    from cgroup_preflight.rollout.machine import ENDS
    from cgroup_preflight.rollout.outcome import findings_of

    path, found = _last(args, place)
    if found.state.phase in ENDS:
        return findings_of(found.state, found.records), None
    host, context = place.open(None, session.saved_in(path, found).manager)
    with session.locked(os.path.dirname(path)), closing(journals.reopen(path)) as journal:
        session.refuse_other(host, journal.records[0]["rollout"])
        return _run(journal, host, place, lambda runner: runner.run()), context


def _abort(args: argparse.Namespace, place: "Place") -> "Done":
    from cgroup_preflight.rollout import journal as journals
    from cgroup_preflight.rollout import session
    from cgroup_preflight.rollout.machine import ENDS

    path, found = _last(args, place)
    if found.state.phase in ENDS:
        raise UsageError(f"the last rollout is over: {found.state.phase.value}", where=path,
                         remedy=Remedy(title="put the old values into the config, and run `rollout apply`"))  # fmt: skip
    saved = session.saved_in(path, found)
    _ask(args, "take the rollout back?")
    host, context = place.open(None, saved.manager)
    with session.taking_over(os.path.dirname(path), saved.rollout), closing(journals.reopen(path)) as journal:
        session.refuse_other(host, saved.rollout)
        return _run(journal, host, place, lambda runner: runner.abort("rollout abort"), wanted=True), context


def _last(args: argparse.Namespace, place: "Place") -> "tuple[str, Read]":
    from cgroup_preflight.rollout import session

    folder = place.folder(args.state)
    found = session.last(folder)
    if found is None:
        raise UsageError(
            "there was no rollout",
            where=folder,
            remedy=Remedy(title="begin one with `rollout apply`, or name its --state"),
        )
    return found


def _check_server(url: str, *, allow: bool) -> None:
    """As for traces: what the config names is not asked on other machines without a word of the caller."""
    import ipaddress
    from urllib.parse import urlsplit

    name = urlsplit(url).hostname or ""
    if not url or allow or name == "localhost":
        return
    try:
        if ipaddress.ip_address(name).is_loopback:
            return
    except ValueError:
        pass
    raise UsageError(f"the server {plain(name)} is another machine", where="[rollout.prometheus] url",
                     remedy=Remedy(title="allow it with --allow-remote"))  # fmt: skip


def _ask(args: argparse.Namespace, question: str) -> None:
    """Raises UsageError where nobody agrees."""
    if args.yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError("nobody can be asked here", where=f"rollout {args.action}", remedy=Remedy(title="add --yes"))
    options.write_stderr(f"{question} [y/N] ")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError(
            "nothing was changed", where=f"rollout {args.action}", remedy=Remedy(title="answer y to go on")
        )


_DO = {"plan": _plan, "apply": _apply, "status": _status, "abort": _abort, "resume": _resume}
