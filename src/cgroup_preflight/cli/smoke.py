"""`cgroup-preflight smoke`: the services under their limits."""

from cgroup_preflight.checks.runner import run_checks
from cgroup_preflight.cli import common, guest_run, options
from cgroup_preflight.cli.smoke_run import (
    add_engine,
    check_names,
    try_services,
    without_run,
)
from cgroup_preflight.config.binaries import require_binaries
from cgroup_preflight.core.report import ServiceResult, Status
from cgroup_preflight.core.verdict import exit_status_of

_ABOUT = """\
Runs the services of the config (or those named) at the same time, each in its slice and under its limits,
through systemd-run; reads every limit back from the kernel; pushes against each distinct one; stops all.
Nothing stays behind: units live below one slice of this run's own, at run time only.

    cgroup-preflight smoke
    cgroup-preflight smoke user-api --engine user
    cgroup-preflight smoke --engine guest --target debian-13
"""


def main(words: list[str]) -> int:
    """The command. Raises UsageError, ConfigError, HostError."""
    started = common.start()
    parser = options.parser("smoke", _ABOUT)
    parser.add_argument("service", nargs="*", help="services to run (default: all)")
    options.add_config(parser)
    add_engine(parser)
    guest_run.add_target(parser)
    guest_run.add_inside(parser)
    options.add_report(parser)
    args = parser.parse_args(words)
    wanted = options.outputs(args.format, args.output)
    config = common.load_config(args.config)
    names = check_names(config, args.service)
    require_binaries(config, names)
    engine = args.engine or config.engine
    context = common.context(config, engine, ())
    # The host's own findings explain a limit that is not in force; what passed there is the business of `check`.
    findings = [item for item in run_checks(context) if item.status not in (Status.PASS, Status.SKIP)]
    services: tuple[ServiceResult, ...] = ()
    from cgroup_preflight.checks.go.binary_format import unrunnable_programs

    broken = unrunnable_programs(config, context.facts, names)
    # A guest is the same kind of machine: a program that cannot run here is not worth the boot.
    guests = (
        None if broken else guest_run.run_in_guests(args.target, engine, config, context, ("smoke",), names, findings)
    )
    if broken:
        findings = without_run(broken, findings)
    elif guests is not None and guests.stands_in:
        findings, services = list(guests.findings), guests.services
    else:
        findings += guests.findings if guests is not None else ()
        more, services = try_services(config, context, names, inside=args.inside)
        # Where nothing was run, what is wrong with the programs comes before what is wrong with the host.
        findings = [*findings, *more] if services else [*more, *findings]
    report = common.report(started, context, findings, services, host=guests.host if guests else None)
    options.deliver(report, wanted, verbose=args.verbose)
    return exit_status_of(report.verdict, allow_unverified=args.allow_unverified, exit_zero=args.exit_zero)
