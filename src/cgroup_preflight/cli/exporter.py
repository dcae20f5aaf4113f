"""`cgroup-preflight exporter`: the metrics of all slices and units, for Prometheus."""

import argparse
import asyncio
import signal
from collections.abc import Callable

from cgroup_preflight.cli import options
from cgroup_preflight.core.errors import ExitStatus, UsageError
from cgroup_preflight.core.quantities import QuantityError, parse_span
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.files import write_file
from cgroup_preflight.host.fs import LiveFs
from cgroup_preflight.metrics.exposition import Style
from cgroup_preflight.metrics.readings import Readings
from cgroup_preflight.metrics.rules_files import write_rules
from cgroup_preflight.metrics.server import Server, serve
from cgroup_preflight.metrics.service import DEADLINE_SECONDS, Service
from cgroup_preflight.metrics.setup import cgroup_mount, readings_of, scope_of
from cgroup_preflight.metrics.watch import Watch
from cgroup_preflight.report.escape import plain

_LISTEN = "127.0.0.1:9753"
_ABOUT = f"""\
Serves the metrics of all slices and units at http://{_LISTEN}/metrics: CPU
time and throttling, quotas and limits in force, memory and its events,
pressure, IO, tasks, and OOM kills that stay counted when systemd starts the
unit again. It needs cgroup v2, and no root.

Use it on the hosts where your services run, next to node_exporter. Prometheus
finds it with a scrape job for port 9753; with --textfile, node_exporter serves
the same metrics. docs/exporter.md says what each metric means.

    cgroup-preflight exporter
    cgroup-preflight exporter --slice system.slice --listen 10.0.0.5:9753
    cgroup-preflight exporter --once
    cgroup-preflight exporter --once --host web1 --host web2     (over ssh)
    cgroup-preflight exporter --textfile /var/lib/node_exporter/slices.prom
    cgroup-preflight exporter --write-rules /etc/prometheus/cgroup-preflight

Exit status: 0 after --once and --write-rules, 2 wrong call, or an address or a
file that cannot be used, 3 no cgroup v2, or a host that could not be asked;
143 after SIGTERM, 130 after Ctrl-C.
"""


def main(words: list[str]) -> int:
    """The command; it ends at SIGINT or SIGTERM. Raises UsageError, HostError."""
    args = arguments().parse_args(words)
    if args.write_rules:
        written = write_rules(args.write_rules, force=args.force)
        options.write_stderr("".join(f"wrote {plain(path)}\n" for path in written) or "all files are up to date\n")
        return 0
    interval, depth = _interval(args.interval), _depth(args.depth)
    if args.host:
        from cgroup_preflight.cli.hosts_exporter import print_hosts

        return print_hosts(args, depth)
    host, port = _address(args.listen or _LISTEN)
    fs = LiveFs()
    mount = cgroup_mount(fs)
    scope = scope_of(fs, mount, args.slice, depth)
    readings, watch = readings_of(fs, mount, scope, follow=not args.once)
    try:
        if args.once:
            return _once(readings, args.textfile)
        publish = _publisher(readings, args.textfile) if args.textfile else None
        service = Service(readings, interval, publish)
        listen = (host, port) if args.listen or not args.textfile else None
        return asyncio.run(_work(service, watch, listen))
    finally:
        readings.close()


def arguments() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = options.parser("exporter", _ABOUT)
    parser.add_argument("--listen", metavar="ADDRESS:PORT", default="",
                        help=f"where to serve (default: {_LISTEN}; with --textfile: nowhere)")  # fmt: skip
    parser.add_argument("--slice", metavar="NAME", action="append", default=[],
                        help="only this slice and what is in it; may be repeated (default: all)")  # fmt: skip
    parser.add_argument("--depth", metavar="N", default="0",
                        help="also show N levels of cgroups inside a unit (default: 0, the unit as a whole)")  # fmt: skip
    parser.add_argument(
        "--interval", metavar="TIME", default="5s", help="between two snapshots: from 1s to 5min (default: 5s)"
    )
    parser.add_argument("--textfile", metavar="FILE", default="",
                        help="write the metrics to FILE at each interval, for node_exporter's textfile collector")  # fmt: skip
    parser.add_argument(
        "--once", action="store_true", help="print the metrics once, or write them to --textfile, and end"
    )
    options.add_hosts(parser)
    parser.add_argument("--write-rules", metavar="DIR", default="",
                        help="write the alert rules, the dashboard and a unit for the exporter to DIR, and end")  # fmt: skip
    parser.add_argument(
        "--force", action="store_true", help="with --write-rules: overwrite files that were changed in DIR"
    )
    return parser


def _interval(text: str) -> float:
    try:
        seconds = parse_span(text) / 1e6
    except QuantityError as error:
        raise UsageError(str(error), where="--interval", remedy=Remedy(title="use a time such as 5s")) from None
    if not 1.0 <= seconds <= 300.0:
        raise UsageError(f"{text!r} is not between 1s and 5min", where="--interval",
                         remedy=Remedy(title="use a time such as 5s"))  # fmt: skip
    return seconds


def _depth(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 2):
        raise UsageError(f"{text[:40]!r} is not a number of levels", where="--depth",
                         remedy=Remedy(title="use a number from 0 to 99"))  # fmt: skip
    return int(text)


def _address(text: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (separator and host and port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 1 << 16):
        raise UsageError(f"{text[:80]!r} is not ADDRESS:PORT", where="--listen",
                         remedy=Remedy(title=f"use an address of this machine and a port, such as {_LISTEN}"))  # fmt: skip
    return host, int(port)


def _once(readings: Readings, file: str) -> int:
    readings.refresh()
    page = b"".join(readings.render(Style.TEXT, packed=False))
    if file:
        write_file(file, page)
    else:
        options.write_stdout(page)
    return 0


def _publisher(readings: Readings, file: str) -> Callable[[bytes], None]:
    """Writes a page to `file`; the first one at once, so that a file that cannot be written ends the command."""
    _once(readings, file)
    return lambda page: write_file(file, page)


def _say(text: str) -> None:
    options.write_stderr(f"cgroup-preflight: {plain(text)}\n")


async def _work(service: Service, watch: Watch | None, listen: tuple[str, int] | None) -> int:
    """Everything until a signal; its exit status."""
    loop, stop, ended = asyncio.get_running_loop(), asyncio.Event(), list[ExitStatus]()

    def end(status: ExitStatus) -> None:
        ended.append(status)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end, ExitStatus.TERMINATED)
    loop.add_signal_handler(signal.SIGINT, end, ExitStatus.INTERRUPTED)
    tasks = [asyncio.create_task(service.run(_say))]
    if watch is not None:
        tasks.append(asyncio.create_task(service.follow(watch.handle)))
    for task in tasks:
        # A reading that fails for a reason that is none of the host's ends the command with its error.
        task.add_done_callback(lambda _: stop.set())
    try:
        await _serve(service, listen, stop)
    finally:
        for task in tasks:
            task.cancel()
        failed = [
            error for error in await asyncio.gather(*tasks, return_exceptions=True) if isinstance(error, Exception)
        ]
    if failed:
        raise failed[0]
    _say("stopped")
    return ended[0] if ended else ExitStatus.PASS


async def _serve(service: Service, listen: tuple[str, int] | None, stop: asyncio.Event) -> None:
    if listen is None:
        await stop.wait()
        return
    try:
        await serve(Server(service, DEADLINE_SECONDS), *listen, lambda at: _say(f"http://{at}/metrics"), stop)
    except OSError as error:
        raise UsageError(f"cannot listen: {error.strerror or error}", where=f"{listen[0]}:{listen[1]}",
                         remedy=Remedy(title="use --listen with a free port of an address of this machine")) from None  # fmt: skip
