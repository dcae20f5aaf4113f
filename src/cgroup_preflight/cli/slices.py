"""`cgroup-preflight slices`: the generated unit files."""

from pathlib import Path

from cgroup_preflight.cli import common, options
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.plan.unitfile import drop_in_files, slice_files
from cgroup_preflight.report.escape import plain

_ABOUT = """\
Writes one .slice file for each slice and one drop-in for each service, in the
format of systemd. Without --out, it prints the files and writes nothing. The
same config and programs give the same bytes.

Use it to review what the config turns into, or to install the units by hand.
For packages, use `inject`.

    cgroup-preflight slices
    cgroup-preflight slices --out build/units
"""


def main(words: list[str]) -> int:
    """The command. Raises UsageError, ConfigError."""
    parser = options.parser("slices", _ABOUT)
    options.add_config(parser)
    parser.add_argument("--out", metavar="DIR", type=Path, help="the folder to write to")
    args = parser.parse_args(words)
    config = common.load_config(args.config)
    plan = common.plan_of(config)
    for service in plan.services:
        if service.program is not None and service.program.unreadable:
            reason = plain(service.program.why_not)
            options.write_stderr(f"{service.label}: no Go settings: its program {reason}\n")
    files = (*slice_files(plan), *drop_in_files(plan))
    for file in files:
        if args.out is None:
            options.write_stdout(f"### {file.path}\n{file.content}\n")
            continue
        path = args.out / file.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot create the folder: {error.strerror}", where=str(path.parent),
                             remedy=Remedy(title="choose another --out")) from None  # fmt: skip
        options.write_text(path, file.content)
    if args.out is not None:
        options.write_stderr(f"wrote {len(files)} files to {args.out}\n")
    return 0
