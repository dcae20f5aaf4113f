"""`cgroup-preflight snapshot -o FILE`: records the facts of this host."""

import argparse
import contextlib
import os
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
    from cgroup_preflight.host.facts import Facts

_ABOUT = """\
Records in one JSON file exactly what `check` reads of this host, and the slices
at the top with their CPU weights, for `plan shares`. With --slices also the
limits, the drop-ins and the memory in use of every slice, for `rollout plan`.

Use it for a bug report, to check the host on another machine, or to see in a
pipeline what a merge would change on it.

    cgroup-preflight snapshot -o host.json
    cgroup-preflight check --root host.json
    cgroup-preflight plan shares --root host.json
    cgroup-preflight snapshot --slices -o host.json
    cgroup-preflight rollout plan --snapshot host.json

The file contains no environment variables and no command lines of processes.
User and host names are replaced, except where one is a part of the name of a
slice. Read the file before you send it.
"""


def arguments() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = options.parser("snapshot", _ABOUT)
    parser.add_argument("-o", "--output", metavar="FILE", default="", help="the file to write (default: stdout)")
    parser.add_argument("--slices", action="store_true", help="also what `rollout plan --snapshot` needs: all slices")
    return parser


def main(words: list[str]) -> int:
    """The command. Raises UsageError if the file cannot be written."""
    args = arguments().parse_args(words)
    fs, runner = RecordingFs(LiveFs()), RecordingRunner(LiveRunner())
    facts = gather(fs, runner)
    read_siblings(fs, facts.mount_point, "")  # for `plan shares --root`
    text = dump(fs, runner, tool=__version__, systemd=value_or(facts.systemd_version, None),
                names=_names(_slices(facts, fs, runner) if args.slices else ()))  # fmt: skip
    if args.output:
        options.write_text(Path(args.output), text)
    else:
        options.write_stdout(text)
    return 0


def _slices(facts: "Facts", fs: RecordingFs, runner: RecordingRunner) -> tuple[str, ...]:
    """Records the slices; their names. Raises HostError where no service manager answers."""
    from cgroup_preflight.engines.choice import choose_engine
    from cgroup_preflight.rollout.recorded import record

    choice = choose_engine(facts, "auto", ())
    if choice.name is None:
        raise HostError(f"no service manager has slices here: {choice.why_not}", where="--slices",
                        remedy=Remedy(title="run on a host with systemd and cgroup v2, or leave out --slices"))  # fmt: skip
    return record(facts, choice, fs, runner)


def _names(slices: tuple[str, ...]) -> dict[str, str]:
    """The replacements of user and host names; one that is a word of a slice stays, because the config names the slice."""
    import pwd
    import socket

    host = socket.gethostname()
    found = {host: "host", host.partition(".")[0]: "host"}
    with contextlib.suppress(KeyError):
        found[pwd.getpwuid(os.geteuid()).pw_name] = "user"
    # With sudo, paths and messages contain the name of the calling user.
    found |= {os.environ[name]: "user" for name in ("SUDO_USER", "LOGNAME", "USER") if os.environ.get(name)}
    return {name: stand_in for name, stand_in in found.items() if not any(name in unit for unit in slices)}
