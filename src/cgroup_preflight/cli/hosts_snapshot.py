"""`snapshot --host`: recordings of other hosts, read over ssh."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from cgroup_preflight.cli import hosts, options
from cgroup_preflight.cli.snapshot import recorded
from cgroup_preflight.core.errors import ExitStatus, UsageError
from cgroup_preflight.core.reading import parsed, value_or
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.remote.rounds import AskedFs, AskedRunner
from cgroup_preflight.report.escape import plain


def record_hosts(args: argparse.Namespace) -> ExitStatus:
    """Records each host, one to a file or to stdout, several to a folder; 3 where a host could not be read.

    Raises UsageError.
    """
    asked = hosts.remotes(args.host, args.ssh_config)
    if len(asked) > 1:
        if not args.output:
            raise UsageError("several recordings need a folder", where="--output", remedy=Remedy(title="use -o FOLDER"))
        try:
            os.makedirs(args.output, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make the folder: {error.strerror}", where=args.output,
                             remedy=Remedy(title="name another folder")) from None  # fmt: skip

    def read(fs: AskedFs, runner: AskedRunner) -> str:
        return recorded(fs, runner, slices=args.slices, names=lambda: _names(fs, runner), over="ssh")

    status = ExitStatus.PASS
    for outcome in hosts.each(asked, lambda host: host.rounds.read(read)):
        if outcome.error is not None:
            status = ExitStatus.UNVERIFIED
            hosts.say(outcome.host, outcome.error)
            continue
        file = os.path.join(args.output, f"{outcome.host}.json") if len(asked) > 1 else args.output
        if file:
            options.write_text(Path(file), str(outcome.value))
        else:
            options.write_stdout(str(outcome.value))
        # Not in the recording, in which names of hosts and users are replaced, so that it can be sent to somebody.
        place = f": {file}" if file else ""
        options.write_stderr(
            f"cgroup-preflight: {plain(f'recorded {outcome.host} at {hosts.moment(outcome.at)}{place}')}\n"
        )
    return status


def _names(fs: AskedFs, runner: AskedRunner) -> tuple[str, Sequence[str]]:
    """The name of the host, and of the user there, to be replaced."""
    host = value_or(fs.read("/proc/sys/kernel/hostname"), "").strip()
    user = value_or(parsed(runner.run(("id", "-un")), lambda done: done.stdout.strip()), "")
    return host, [user] if user else []
