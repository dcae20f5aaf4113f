"""`cgroup-preflight run`: check, plan and smoke in order, one report."""

from collections.abc import Mapping

from cgroup_preflight.checks.runner import run_checks
from cgroup_preflight.cli import common, guest_run, options
from cgroup_preflight.cli.smoke_run import (
    add_engine,
    check_names,
    go_findings,
    try_services,
    without_run,
)
from cgroup_preflight.config.binaries import require_binaries
from cgroup_preflight.config.model import Config
from cgroup_preflight.core.report import Finding, ServiceResult, Status, Verdict
from cgroup_preflight.core.verdict import exit_status_of, verdict_of

_ABOUT = """\
The whole preflight: judges the host, plans the slices, runs every service of the config under its limits,
proves each limit from the kernel's files and by pushing against it, and ends in one report and verdict.

    cgroup-preflight run
    cgroup-preflight run --format json=report.json
    cgroup-preflight run --target debian-12 --target debian-13

Where nobody can start units here (no systemd, no cgroup v2), it boots a guest for it: see docs/guest.md.
"""


def main(words: list[str]) -> int:
    """The command. Raises UsageError, ConfigError, HostError."""
    started = common.start()
    parser = options.parser("run", _ABOUT)
    options.add_config(parser)
    add_engine(parser)
    guest_run.add_target(parser)
    parser.add_argument("--inject", choices=("passed", "always", "never"), default="passed",
                        help="when the artifacts of the config get the unit files (default: after a pass)")  # fmt: skip
    guest_run.add_inside(parser)
    options.add_report(parser)
    args = parser.parse_args(words)
    wanted = options.outputs(args.format, args.output)
    config = common.load_config(args.config)
    check_names(config, [])
    require_binaries(config, ())
    options.progress("checking the host")
    engine = args.engine or config.engine
    context = common.context(config, engine, ())
    findings = list(run_checks(context))
    services: tuple[ServiceResult, ...] = ()
    programs = {} if args.inside else _programs(config)
    from cgroup_preflight.checks.go.binary_format import unrunnable_programs

    broken = unrunnable_programs(config, context.facts, ())
    # A guest is the same kind of machine: a program that cannot run here is not worth the boot.
    guests = None if broken else guest_run.run_in_guests(args.target, engine, config, context, ("run",), (), findings)
    if broken:
        findings = without_run(broken, findings)
    elif guests is not None and guests.stands_in:
        findings, services = list(guests.findings), guests.services
    else:
        findings += guests.findings if guests is not None else ()
        if any(item.status is Status.FAIL for item in findings):
            findings = [*go_findings(config, context, ()), *findings]
        else:
            more, services = try_services(config, context, (), inside=args.inside)
            findings += more
    if not args.inside:
        findings += _artifacts(config, programs, verdict_of(findings), args.inject)
    report = common.report(started, context, findings, services, host=guests.host if guests else None)
    options.deliver(report, wanted, verbose=args.verbose)
    return exit_status_of(report.verdict, allow_unverified=args.allow_unverified, exit_zero=args.exit_zero)


# The artifacts' room takes a while to import, and has no business in a guest.


def _programs(config: Config) -> Mapping[str, str]:
    from cgroup_preflight.artifacts.request import program_hashes

    return program_hashes(config)


def _artifacts(config: Config, programs: Mapping[str, str], verdict: Verdict, mode: str) -> tuple[Finding, ...]:
    from cgroup_preflight.artifacts.after_run import after_run

    return after_run(config, programs, verdict, mode, options.progress)
