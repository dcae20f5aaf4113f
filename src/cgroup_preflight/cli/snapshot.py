"""`cgroup-preflight snapshot -o FILE`: records the facts of this host."""

import argparse
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from cgroup_preflight import __version__
from cgroup_preflight.cli import options
from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import value_or
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.command import LiveRunner
from cgroup_preflight.host.fs import LiveFs
from cgroup_preflight.host.gather import gather
from cgroup_preflight.host.record import RecordingFs, RecordingRunner, dump
from cgroup_preflight.host.siblings import read_siblings

if TYPE_CHECKING:
    from collections.abc import Callable

    from cgroup_preflight.host.command import CommandRunner
    from cgroup_preflight.host.facts import Facts
    from cgroup_preflight.host.fs import HostFs

_ABOUT = """\
Records in one JSON file exactly what `check` reads of this host, and the slices
at the top with their CPU weights, for `plan shares`. With --slices also the
limits, the drop-ins and the memory in use of every slice, for `rollout plan`.

Use it for a bug report, to check the host on another machine, or to see in a
pipeline what a merge would change on it.

    cgroup-preflight snapshot -o host.json
    cgroup-preflight check --root host.json
    cgroup-preflight snapshot --host web1 --host web2 -o hosts/   (over ssh)
    cgroup-preflight plan shares --root host.json
    cgroup-preflight snapshot --slices -o host.json
    cgroup-preflight rollout plan --snapshot host.json

The file contains no environment variables and no command lines of processes.
User and host names are replaced, except where one is a part of the name of a
slice. Read the file before you send it.

Exit status: 0 recorded, 2 wrong call, or a file that cannot be written, 3 no
service manager has slices (--slices), or a host that could not be asked.
"""


def arguments() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = options.parser("snapshot", _ABOUT)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        default="",
        help="the file to write (default: stdout); with several hosts a folder",
    )
    parser.add_argument("--slices", action="store_true", help="also what `rollout plan --snapshot` needs: all slices")
    options.add_hosts(parser)
    return parser


def main(words: list[str]) -> int:
    """The command. Raises UsageError if the file cannot be written."""
    args = arguments().parse_args(words)
    if args.host:
        from cgroup_preflight.cli.hosts_snapshot import record_hosts

        return record_hosts(args)
    text = recorded(LiveFs(), LiveRunner(), slices=args.slices, names=_names)
    if args.output:
        options.write_text(Path(args.output), text)
    else:
        options.write_stdout(text)
    return 0


def recorded(
    fs: "HostFs", runner: "CommandRunner", *, slices: bool, names: "Callable[[], tuple[str, Sequence[str]]]",
    over: str = "",
) -> str:  # fmt: skip
    """The recording of a host; `names` says its name, and the names of users to replace. Raises HostError.

    `over` is what the host is read over, empty for this one.
    """
    fs, runner = RecordingFs(fs), RecordingRunner(runner)
    facts = gather(fs, runner)
    read_siblings(fs, facts.mount_point, "")  # for `plan shares --root`
    kept = _slices(facts, fs, runner) if slices else ()
    return dump(
        fs, runner, tool=__version__, systemd=value_or(facts.systemd_version, None), names=_replaced(*names(), kept),
        over=over,
    )  # fmt: skip


def _slices(facts: "Facts", fs: RecordingFs, runner: RecordingRunner) -> tuple[str, ...]:
    """Records the slices; their names. Raises HostError where no service manager answers."""
    from cgroup_preflight.engines.choice import choose_engine
    from cgroup_preflight.rollout.recorded import record

    choice = choose_engine(facts, "auto", ())
    if choice.name is None:
        raise HostError(f"no service manager has slices here: {choice.why_not}", where="--slices",
                        remedy=Remedy(title="run on a host with systemd and cgroup v2, or leave out --slices"))  # fmt: skip
    return record(facts, choice, fs, runner)


def _names() -> tuple[str, Sequence[str]]:
    import pwd
    import socket

    users = []
    with contextlib.suppress(KeyError):
        users.append(pwd.getpwuid(os.geteuid()).pw_name)
    # With sudo, paths and messages contain the name of the calling user.
    users += [os.environ[name] for name in ("SUDO_USER", "LOGNAME", "USER") if os.environ.get(name)]
    return socket.gethostname(), users


def _replaced(host: str, users: "Sequence[str]", slices: tuple[str, ...]) -> dict[str, str]:
    """The replacements of user and host names; one that is a word of a slice stays, because the config names the slice."""
    found = {host: "host", host.partition(".")[0]: "host"} | dict.fromkeys(users, "user")
    return {name: stand_in for name, stand_in in found.items() if not any(name in unit for unit in slices)}
