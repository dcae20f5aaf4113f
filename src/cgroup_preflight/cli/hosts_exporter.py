"""`exporter --once --host`: the metrics of other hosts, read over ssh once, each sample with a label `host`."""

import argparse
import re
from collections.abc import Iterable

from cgroup_preflight.cli import hosts, options
from cgroup_preflight.core.errors import ExitStatus, UsageError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.files import write_file
from cgroup_preflight.metrics.asked import page_of
from cgroup_preflight.metrics.exposition import Style

_SAMPLE = re.compile(rb"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{)?")


def print_hosts(args: argparse.Namespace, depth: int) -> ExitStatus:
    """Prints the metrics of all hosts of `--host`, or writes them to `--textfile`; 3 where a host could not be read.

    Raises UsageError.
    """
    if not args.once:
        raise UsageError("with --host, the exporter reads once and serves nothing", where="--host",
                         remedy=Remedy(title="add --once, or run the exporter on each host"))  # fmt: skip

    def page(host: hosts.Remote) -> bytes:
        readings = host.rounds.read(lambda fs, _: page_of(fs, args.slice, depth))
        return b"".join(readings.render(Style.TEXT, packed=False))

    status, pages = ExitStatus.PASS, list[tuple[str, bytes]]()
    for outcome in hosts.each(hosts.remotes(args.host, args.ssh_config), page):
        if outcome.error is not None:
            status = ExitStatus.UNVERIFIED
            hosts.say(outcome.host, outcome.error)
        else:
            assert isinstance(outcome.value, bytes)
            pages.append((outcome.host, outcome.value))
    text = joined(pages)
    if args.textfile:
        write_file(args.textfile, text)
    else:
        options.write_stdout(text)
    return status


def joined(pages: Iterable[tuple[str, bytes]]) -> bytes:
    """One page of several in the text format: the samples of a family stay together, each with the label of its host."""
    heads: dict[bytes, bytes] = {}
    samples: dict[bytes, list[bytes]] = {}
    for host, page in pages:
        family = b""
        # Not splitlines(), which also splits at a carriage return: the name of a cgroup can have one.
        for line in (each + b"\n" for each in page.removesuffix(b"\n").split(b"\n")):
            if line.startswith(b"# HELP "):
                family = line.split(b" ", 3)[2]
                heads.setdefault(family, b"")
            if line.startswith(b"#"):
                if line not in heads[family]:
                    heads[family] += line
            else:
                samples.setdefault(family, []).append(_with_host(line, host))
    return b"".join(head + b"".join(samples.get(family, ())) for family, head in heads.items())


def _with_host(line: bytes, host: str) -> bytes:
    """A sample with the label first; the name of a host has nothing that would need an escape."""
    label = b'host="' + host.encode() + b'"'
    return _SAMPLE.sub(lambda found: found[1] + b"{" + label + (b"," if found[2] else b"}"), line, count=1)
