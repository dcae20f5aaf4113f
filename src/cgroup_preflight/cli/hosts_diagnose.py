"""`diagnose --host`: who waits on other hosts, by their own counters and their own clocks, read over ssh."""

import argparse
import time
from typing import cast

from cgroup_preflight.cli import common, hosts
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Finding, Remedy, Report
from cgroup_preflight.metrics.asked import moment_of, prompt
from cgroup_preflight.metrics.choice import find
from cgroup_preflight.metrics.contention import judge
from cgroup_preflight.metrics.moment import Moment
from cgroup_preflight.metrics.series import series_of

_PARTS_MAX = 60
#: What all readings of one host take at most, besides the time that is measured: seconds, and bytes of answers.
_SECONDS, _BYTES_MAX = 300.0, 8 << 30


def diagnose_hosts(started: common.Started, args: argparse.Namespace) -> Report:
    """One report about all hosts of `--host`. Raises UsageError."""

    def measured(host: hosts.Remote) -> tuple[Finding, ...]:
        with host.asker.bounded(args.seconds + _SECONDS, _BYTES_MAX):
            moments = _moments(host, args.seconds, args.depth)
        tops = tuple(path for word in args.units for path in find(word, moments[-1].snapshot.samples))
        try:
            series = series_of(moments)
        except ValueError as error:
            raise UsageError(str(error), where=host.name, remedy=Remedy(title="measure longer")) from None
        return judge(series, tops, ()).findings

    found = list[Finding]()
    for outcome in hosts.each(hosts.remotes(args.host, args.ssh_config), measured):
        found += hosts.findings_of(outcome, cast("tuple[Finding, ...]", outcome.value or ()))
    return common.report(started, None, found)


def _moments(host: hosts.Remote, seconds: float, depth: int) -> tuple[Moment, ...]:
    """Readings at equal distances, each in one round where no cgroup came. Raises HostError."""
    parts = max(2, min(int(seconds), _PARTS_MAX))
    # Only from then on is it known what to ask, all of it at once.
    host.rounds.read(lambda fs, _: moment_of(fs, depth))
    moments = [host.rounds.read(lambda fs, _: moment_of(fs, depth))]
    begun = time.monotonic()
    for number in range(1, parts + 1):
        # Where a reading took longer, the next one is not right behind it.
        time.sleep(max(begun + seconds * number / parts - time.monotonic(), seconds / parts / 2))
        moments.append(host.rounds.read(lambda fs, _: moment_of(fs, depth)))
    return prompt(moments, seconds / parts)
