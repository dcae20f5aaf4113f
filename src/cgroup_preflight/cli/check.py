"""`cgroup-preflight check`: the verdict on this host."""

import argparse

from cgroup_preflight.checks.runner import run_checks
from cgroup_preflight.cli import common, options, policy
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.core.verdict import exit_status_of

if TYPE_CHECKING:
    from cgroup_preflight.checks.base import Context
    from cgroup_preflight.config.model import Config
    from cgroup_preflight.core.reading import Reading
    from cgroup_preflight.core.report import Finding
    from cgroup_preflight.host.facts import Facts
    from cgroup_preflight.host.units import ShownUnit

_ABOUT = """\
Checks whether this host can limit services: cgroup v2 is mounted where they
run, the controllers are available there, and a systemd manager can start
units. With a config, it also checks what the config requires, and whether its
limits can act on this host. It only reads. At the end it says where `run` would
start the services here: on this host, and who starts them, or in a guest.

Use it first on a new host or CI runner, or when a limit has no effect there.

    cgroup-preflight check
    cgroup-preflight check --require memory,cpu,io --format json
    cgroup-preflight check --root host.json       (a host that `snapshot` saved)
    cgroup-preflight check --units           (after changes of running units)
    cgroup-preflight check --host web1 --host admin@web2         (over ssh)

Exit status: 0 pass, 1 a check failed, 2 wrong call or config, 3 a required
check could not run, for example because this job may not read a file.
"""


def arguments() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = options.parser("check", _ABOUT)
    options.add_config(parser)
    parser.add_argument("--root", metavar="PATH", type=_path,
                        help="check a recorded host (a file of `snapshot`), or the files of one mounted at this folder;"
                        " systemd cannot be queried there, so files alone are never a pass")  # fmt: skip
    parser.add_argument("--require", metavar="LIST", default="", help="controllers that must be available: memory,cpu")
    parser.add_argument("--units", action="store_true",
                        help="also compare what systemd says of every unit's limits with the files of its cgroup")  # fmt: skip
    options.add_hosts(parser)
    options.add_report(parser)
    return parser


def main(words: list[str]) -> int:
    """The command. Raises UsageError, ConfigError."""
    started = common.start()
    args = arguments().parse_args(words)
    wanted = options.outputs(args.format, args.output, quiet=args.quiet)
    if args.root and args.host:
        raise UsageError("--root judges a recording, and --host a running host", where="--root",
                         remedy=Remedy(title="leave out --root or --host"))  # fmt: skip
    if args.units and args.root:
        raise UsageError("systemd cannot be queried in a recording", where="--units",
                         remedy=Remedy(title="run check --units on the host itself"))  # fmt: skip
    required = _controllers(args.require)
    config = common.try_config(args.config, args.allow_outside)
    if args.host:
        from cgroup_preflight.cli.hosts_check import check_hosts

        report = check_hosts(started, args, config, required)
        options.deliver(report, wanted, verbose=args.verbose)
        return exit_status_of(report.verdict, allow_unverified=args.allow_unverified, exit_zero=args.exit_zero)
    context = common.context(config, config.engine if config else "auto", required, root=args.root or "")
    findings = (*run_checks(context), *common.plan_findings(context, config))
    if args.units:
        findings = (*findings, *_unit_findings(context))
    if config is not None:
        findings = policy.judged(findings, policy.rules_of(config, started))
    report = common.report(started, context, findings, project=config.project if config else None)
    is_read = any(item.format == "text" and not item.quiet for item in wanted)
    note = _where(config, context) if is_read and not args.root else ""
    options.deliver(report, wanted, verbose=args.verbose, note=note)
    return exit_status_of(report.verdict, allow_unverified=args.allow_unverified, exit_zero=args.exit_zero)


def _where(config: "Config | None", context: "Context") -> str:
    from cgroup_preflight.cli.where import where_run_starts

    return where_run_starts(config, context)


def _unit_findings(context: "Context") -> "tuple[Finding, ...]":
    from cgroup_preflight.host.command import LiveRunner
    from cgroup_preflight.host.fs import LiveFs
    from cgroup_preflight.host.units import read_units

    return judged_units(context.facts, read_units(LiveFs(), LiveRunner(), context.facts.mount_point))


def judged_units(facts: "Facts", units: "Reading[tuple[ShownUnit, ...]]") -> "tuple[Finding, ...]":
    """The findings about the units of a host (CGP128)."""
    from cgroup_preflight.checks.units import unit_findings
    from cgroup_preflight.core.reading import value_or

    cpus = len(value_or(facts.online_cpus, frozenset({0})))
    return unit_findings(units, page_size=facts.page_size, systemd=value_or(facts.systemd_version, 0), cpus=cpus)


def _path(text: str) -> str:
    if not text:
        # An empty path comes from an unset variable; without this, the wrong host would be checked.
        raise UsageError("no path was given", where="--root", remedy=Remedy(title="name a recording or a folder"))
    return text


def _controllers(text: str) -> tuple[str, ...]:
    names = tuple(word.strip() for word in text.split(",") if word.strip())
    if not names:
        return ()
    from cgroup_preflight.config.model import CONTROLLERS

    for name in names:
        if name not in CONTROLLERS:
            raise UsageError(f"{name!r} is not a controller", where="--require",
                             remedy=Remedy(title=f"use some of {','.join(CONTROLLERS)}"))  # fmt: skip
    return names
