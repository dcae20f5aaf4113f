"""`cgroup-preflight diagnose`: who waits, for what, and because of whom."""

import argparse
import os
import time
from collections.abc import Callable, Sequence

from cgroup_preflight.cli import common, options
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.core.report import Finding, HostSummary, Remedy, Status
from cgroup_preflight.core.verdict import exit_status_of
from cgroup_preflight.metrics.moment import Moment, MomentReader, reader_of_host
from cgroup_preflight.metrics.proposals import unit_of

if TYPE_CHECKING:
    from cgroup_preflight.metrics.go_delays import GoDelays
    from cgroup_preflight.metrics.traces import TraceData, TraceWord
    from cgroup_preflight.metrics.window import Series

_ABOUT = """\
Finds out which slices and units wait for CPU, memory or devices, and because
of what: a quota or limit of their own, one of a slice above, a neighbour, or
the host. It reads the kernel's counters several times and changes nothing.
Use it when a service is slow under its limits, or next to others.

    cgroup-preflight diagnose
    cgroup-preflight diagnose api.slice --seconds 30 --html page.html
    cgroup-preflight diagnose user-api.service --trace http://127.0.0.1:6060
    cgroup-preflight diagnose --record readings.jsonl
    cgroup-preflight diagnose readings.jsonl      (on any machine)
    cgroup-preflight diagnose --watch
    cgroup-preflight diagnose --host web1 --host web2       (over ssh)

Each answer has a code (`explain CGP701`), the numbers it rests on, how sure
it is, and a value for systemd that would have been enough. "No verdict" says
what would be needed for one.

Exit status: 0 no contention, 1 a cause was found, 2 wrong call, 3 something
waits and no rule explains it, or a trace could not be used.
"""
_SECONDS_MAX = 3600.0
#: Readings of one run, at most; at least one a second where the time allows.
_PARTS_MAX = 60
_DEPTH_MAX = 16
#: How much longer than the trace itself the answer of a busy program may take.
_TRACE_GRACE = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Input:
    """The readings to judge and the traces of their time; `cut` says what a recording lacks."""

    moments: Sequence[Moment]
    traces: "Sequence[TraceData]"
    host: HostSummary | None = None
    cut: str = ""


def main(words: list[str]) -> int:
    """The command. Raises UsageError, HostError."""
    started = common.start()
    args = arguments().parse_args(words)
    wanted = options.outputs(args.format, args.output, quiet=args.quiet)
    traces = _checked(args)
    if args.host:
        from cgroup_preflight.cli.hosts_diagnose import diagnose_hosts

        report = diagnose_hosts(started, args)
        options.deliver(report, wanted, verbose=True)
        return exit_status_of(report.verdict, allow_unverified=args.allow_unverified, exit_zero=args.exit_zero)
    if args.watch:
        return _watch(args)
    file = _recording(args.units)
    given = _from_file(file, traces, args.record) if file else _measured(args, traces)
    tops = () if file else _tops(args.units, given.moments[-1])
    series = _series(given.moments, file)
    joined = _joined(series, given, tops)
    delays = tuple(item for item in joined if not isinstance(item, Finding))

    from cgroup_preflight.metrics.contention import judge

    findings = (
        *judge(series, tops, delays).findings, *_cut(file, args.record, given.cut),
        *(item for item in joined if isinstance(item, Finding)),
    )  # fmt: skip
    if args.html:
        _write_page(args.html, series, findings, delays)
    report = common.report(started, None, findings, host=given.host)
    options.deliver(report, wanted, verbose=True)
    return exit_status_of(report.verdict, allow_unverified=args.allow_unverified, exit_zero=args.exit_zero)


def arguments() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = options.parser("diagnose", _ABOUT)
    parser.add_argument("units", nargs="*", metavar="SLICE|UNIT|FILE",
                        help="whose waiting is judged (default: all); or one file that --record wrote")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=10.0, metavar="N",
                        help="how long to measure (default: 10); with --watch, the time that each row covers")  # fmt: skip
    parser.add_argument("--depth", type=int, default=0, metavar="N",
                        help="also judge the cgroups inside a unit, so many levels below it (default: 0)")  # fmt: skip
    parser.add_argument("--trace", action="append", default=[], metavar="[UNIT=]FILE|URL",
                        help="the execution trace of a Go program: a file, or the address of its net/http/pprof; may be repeated")  # fmt: skip
    parser.add_argument("--allow-remote-trace", action="store_true", help="fetch traces from other machines, too")
    parser.add_argument(
        "--record", metavar="FILE", default="", help="write the readings to FILE, to be judged elsewhere"
    )
    parser.add_argument(
        "--html", metavar="FILE", default="", help="write a page with the verdict and a timeline to FILE"
    )
    parser.add_argument("--watch", action="store_true",
                        help="show a table that is updated until q is pressed; without a terminal, one block of lines each time")  # fmt: skip
    options.add_hosts(parser)
    options.add_report(parser, shows_passed=True)
    return parser


def _checked(args: argparse.Namespace) -> "tuple[TraceWord, ...]":
    """The traces, after all that can be refused before anything is measured. Raises UsageError."""
    if not 1 <= args.seconds <= _SECONDS_MAX:
        raise UsageError("it must be from 1 to 3600", where="--seconds", remedy=Remedy(title="use --seconds 10"))
    if not 0 <= args.depth <= _DEPTH_MAX:
        raise UsageError(f"it must be from 0 to {_DEPTH_MAX}", where="--depth", remedy=Remedy(title="use --depth 1"))
    if args.watch and (args.trace or args.record or args.html or args.format or args.output):
        raise UsageError("it shows a table, and writes no file and reads no trace", where="--watch",
                         remedy=Remedy(title="run diagnose again without --watch"))  # fmt: skip
    if args.host and (args.trace or args.record or args.html or args.watch):
        raise UsageError("with --host, diagnose has no trace, no live table, and writes no recording or page", where="--host",
                         remedy=Remedy(title="run diagnose on the host itself for these"))  # fmt: skip
    if not args.trace:
        return ()
    from cgroup_preflight.metrics.traces import parse_word

    return tuple(parse_word(word, allow_remote=args.allow_remote_trace) for word in args.trace)


def _recording(words: Sequence[str]) -> str:
    """The recording that is named, empty where units are. Raises UsageError."""
    files = [
        word for word in words if not unit_of(word) and (os.path.isfile(word) or word.endswith((".jsonl", ".json")))
    ]
    if files and len(words) > 1:
        raise UsageError("a recording is judged alone", where=printable(files[0]),
                         remedy=Remedy(title="name one recording, or units of this host"))  # fmt: skip
    return files[0] if files else ""


def _from_file(path: str, words: "Sequence[TraceWord]", record: str) -> _Input:
    from cgroup_preflight.metrics.recording import load

    for word in words:
        if word.is_address:
            raise UsageError("a recording is of the past: there is nothing to fetch", where="--trace",
                             remedy=Remedy(title="name the file of a trace that was recorded at the same time"))  # fmt: skip
    if record:
        raise UsageError("a recording is judged, and nothing is measured that could be recorded", where="--record",
                         remedy=Remedy(title="copy the recording, or name units instead of a file"))  # fmt: skip
    recording = load(path)
    return _Input(moments=recording.moments, traces=_files(words), cut=recording.cut)


def _files(words: "Sequence[TraceWord]") -> "tuple[TraceData, ...]":
    if not words:
        return ()
    from cgroup_preflight.metrics.traces import Fetches

    return tuple(Fetches(words, 0.0).all())


def _measured(args: argparse.Namespace, words: "Sequence[TraceWord]") -> _Input:
    """Reads this host for the time that was given. Raises HostError, UsageError."""
    reader = reader_of_host(args.depth)
    first = reader.read(threads=True)
    _tops(args.units, first)
    if args.record:
        from cgroup_preflight.metrics.recording import recorded

        with recorded(args.record) as writer:
            moments, traces = _readings(reader, first, args.seconds, words, writer.add)
        problem = f"it could not be written to its end: {writer.problem}" if writer.problem else ""
        return _Input(moments=moments, traces=traces, host=_host(), cut=problem)
    moments, traces = _readings(reader, first, args.seconds, words)
    return _Input(moments=moments, traces=traces, host=_host())


def _readings(
    reader: MomentReader, first: Moment, seconds: float, words: "Sequence[TraceWord]", add: Callable[[Moment], None] | None = None
) -> "tuple[tuple[Moment, ...], tuple[TraceData, ...]]":  # fmt: skip
    """Readings at equal distances, while the traces are fetched."""
    fetches = None
    if words:
        from cgroup_preflight.metrics.traces import Fetches

        fetches = Fetches(words, seconds)
    parts = max(2, min(int(seconds), _PARTS_MAX))
    moments, begun = [first], time.monotonic()
    if add:
        add(first)
    number, latest = 0, seconds + (seconds + _TRACE_GRACE if fetches else 0)
    # A program that is throttled begins its trace late: reading goes on until the trace is complete.
    while number < parts or (fetches and not fetches.done() and time.monotonic() < begun + latest):
        number += 1
        options.progress(f"reading {number} of {parts}")
        # Where a reading took longer, the next one is not right behind it: a part of some milliseconds shows nothing.
        time.sleep(max(begun + seconds * number / parts - time.monotonic(), seconds / parts / 2))
        # Threads come and go: the first reading and the later ones show whose a trace is.
        moments.append(reader.read(threads=number >= parts))
        if add:
            add(moments[-1])
    return tuple(moments), tuple(fetches.all()) if fetches else ()


def _host() -> HostSummary:
    return HostSummary(
        kernel=os.uname().release, systemd=None, hierarchy="unified", mount_point=None, controllers=None,
        machine=os.uname().machine, cpus=os.cpu_count(),
    )  # fmt: skip


def _tops(words: Sequence[str], moment: Moment) -> tuple[str, ...]:
    """The cgroups of the named slices and units. Raises UsageError for one that does not exist, with the nearest name."""
    from cgroup_preflight.metrics.choice import find

    return tuple(path for word in words for path in find(word, moment.snapshot.samples))


def _series(moments: Sequence[Moment], file: str) -> "Series":
    from cgroup_preflight.metrics.series import series_of

    try:
        return series_of(moments)
    except ValueError as error:
        raise UsageError(
            str(error), where=printable(file) or "diagnose", remedy=Remedy(title="measure longer")
        ) from None


def _joined(series: "Series", given: _Input, tops: Sequence[str]) -> "tuple[GoDelays | Finding, ...]":
    if not given.traces:
        return ()
    from cgroup_preflight.host.command import LiveRunner
    from cgroup_preflight.metrics.join import joined

    return tuple(joined(item, series, given.moments, tops, LiveRunner()) for item in given.traces)


def _cut(file: str, record: str, cut: str) -> tuple[Finding, ...]:
    """What a recording lacks: one that was read is judged, one that should be written was wanted."""
    if not cut:
        return ()
    from cgroup_preflight.core import codes

    status, words = (Status.WARN, "what it has was judged") if file else (Status.UNVERIFIED, "the answer is not lost")
    return (codes.CONTENTION_INPUT.finding(
        status, printable(file or record), f"the recording is not whole ({cut}); {words}",
        Remedy(title="record again if the answer matters" if file else "free space, or name another file")),)  # fmt: skip


def _write_page(path: str, series: "Series", findings: Sequence[Finding], delays: "Sequence[GoDelays]") -> None:
    from cgroup_preflight.host.files import write_output
    from cgroup_preflight.metrics.timeline import render

    write_output(path, render(series, findings, delays).encode("utf-8", "backslashreplace"))


def _watch(args: argparse.Namespace) -> int:
    from cgroup_preflight.metrics.live_table import watch

    return watch(reader_of_host(args.depth).read, args.units, args.seconds)
