"""`cgroup-preflight run`: check, plan and smoke in order, one report."""

from cgroup_preflight.artifacts.after_run import after_run
from cgroup_preflight.artifacts.wish import program_hashes
from cgroup_preflight.checks.runner import run_checks
from cgroup_preflight.cli import common, options
from cgroup_preflight.cli.smoke_run import add_engine, check_names, require_binaries, try_services
from cgroup_preflight.report import ServiceResult, Status
from cgroup_preflight.verdict import exit_status_of, verdict_of

_ABOUT = """\
The whole preflight: judges the host, plans the slices, runs every service of the config under its limits,
proves each limit from the kernel's files and by pushing against it, and ends in one report and verdict.

    cgroup-preflight run
    cgroup-preflight run --format json=report.json
"""


def main(words: list[str]) -> int:
    """The command. Raises UsageError, ConfigError, HostError."""
    started = common.start()
    parser = options.parser("run", _ABOUT)
    options.add_config(parser)
    add_engine(parser)
    parser.add_argument("--inject", choices=("passed", "always", "never"), default="passed",
                        help="when the artifacts of the config get the unit files (default: after a pass)")  # fmt: skip
    options.add_report(parser)
    args = parser.parse_args(words)
    wanted = options.outputs(args.format, args.output)
    config = common.load_config(args.config)
    check_names(config, [])
    require_binaries(config, ())
    options.progress("checking the host")
    context = common.context(config, args.engine or config.engine, ())
    findings = list(run_checks(context))
    services: tuple[ServiceResult, ...] = ()
    programs = program_hashes(config)
    if not any(item.status is Status.FAIL for item in findings):
        more, services = try_services(config, context, ())
        findings += more
    findings += after_run(config, programs, verdict_of(findings), args.inject, options.progress)
    report = common.report(started, context, findings, services)
    options.deliver(report, wanted, verbose=args.verbose)
    return exit_status_of(report.verdict, allow_unverified=args.allow_unverified, exit_zero=args.exit_zero)
