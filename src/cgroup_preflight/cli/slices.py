"""`cgroup-preflight slices`: the generated unit files."""

import argparse
from pathlib import Path

from cgroup_preflight.checks.plan import plan_findings
from cgroup_preflight.cli import common, options
from cgroup_preflight.core.errors import ExitStatus, UsageError
from cgroup_preflight.core.report import PROBLEMS, Remedy, Status
from cgroup_preflight.plan.model import Plan
from cgroup_preflight.plan.unitfile import drop_in_files, slice_files
from cgroup_preflight.report.escape import plain

_ABOUT = """\
Writes one .slice file for each slice and one drop-in for each service, in the
format of systemd. Without --out, it prints the files and writes nothing. The
same config and programs give the same bytes. What the plan alone shows (see
`validate`) goes to stderr; the exit status is 1 if a limit cannot be in force.

Use it to review what the config turns into, or to install the units by hand.
For packages, use `inject`.

    cgroup-preflight slices
    cgroup-preflight slices --out build/units
"""


def arguments() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = options.parser("slices", _ABOUT)
    options.add_config(parser)
    parser.add_argument("--out", metavar="DIR", type=Path, help="the folder to write to")
    return parser


def main(words: list[str]) -> int:
    """The command. Raises UsageError, ConfigError."""
    args = arguments().parse_args(words)
    config = common.load_config(args.config, args.allow_outside)
    plan = common.plan_of(config)
    for service in plan.services:
        if service.program is not None and service.program.unreadable:
            reason = plain(service.program.why_not)
            options.write_stderr(f"{service.label}: no Go settings: its program {reason}\n")
    status = _judge(plan, tiny=config.allow_tiny_limits)
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
    return status


def _judge(plan: Plan, *, tiny: bool) -> ExitStatus:
    """Says what is wrong with the plan; fail where a limit cannot be in force."""
    found = [item for item in plan_findings(plan, tiny=tiny) if item.status in PROBLEMS]
    for finding in found:
        at = f"{finding.location.file}:{finding.location.line}: " if finding.location else ""
        options.write_stderr(plain(f"{at}{finding.status}: {finding.message}") + "\n")
        options.write_stderr(plain(f"  next: {finding.remedies[0].title}") + "\n")
    return ExitStatus.FAIL if any(item.status is Status.FAIL for item in found) else ExitStatus.PASS
