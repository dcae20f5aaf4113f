"""`cgroup-preflight snapshot -o FILE`: records the facts of this host."""

import contextlib
import os
from pathlib import Path

from cgroup_preflight import __version__
from cgroup_preflight.cli import options
from cgroup_preflight.core.reading import value_or
from cgroup_preflight.host.command import LiveRunner
from cgroup_preflight.host.fs import LiveFs
from cgroup_preflight.host.gather import gather
from cgroup_preflight.host.record import RecordingFs, RecordingRunner, dump
from cgroup_preflight.host.siblings import read_siblings

_ABOUT = """\
Records in one JSON file exactly what `check` reads of this host, and the slices
at the top with their CPU weights, for `plan shares`.

Use it for a bug report, or to check the host on another machine.

    cgroup-preflight snapshot -o host.json
    cgroup-preflight check --root host.json
    cgroup-preflight plan shares --root host.json

The file contains no environment variables and no command lines of processes.
User and host names are replaced. Read the file before you send it.
"""


def main(words: list[str]) -> int:
    """The command. Raises UsageError if the file cannot be written."""
    parser = options.parser("snapshot", _ABOUT)
    parser.add_argument("-o", "--output", metavar="FILE", default="", help="the file to write (default: stdout)")
    args = parser.parse_args(words)
    fs, runner = RecordingFs(LiveFs()), RecordingRunner(LiveRunner())
    facts = gather(fs, runner)
    read_siblings(fs, facts.mount_point, "")  # for `plan shares --root`
    text = dump(fs, runner, tool=__version__, systemd=value_or(facts.systemd_version, None), names=_names())
    if args.output:
        options.write_text(Path(args.output), text)
    else:
        options.write_stdout(text)
    return 0


def _names() -> dict[str, str]:
    """The replacements of user and host names."""
    import pwd
    import socket

    host = socket.gethostname()
    found = {host: "host", host.partition(".")[0]: "host"}
    with contextlib.suppress(KeyError):
        found[pwd.getpwuid(os.geteuid()).pw_name] = "user"
    # With sudo, paths and messages contain the name of the calling user.
    return found | {os.environ[name]: "user" for name in ("SUDO_USER", "LOGNAME", "USER") if os.environ.get(name)}
