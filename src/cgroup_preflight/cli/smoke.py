"""`cgroup-preflight smoke`: the services under their limits."""

import argparse

from cgroup_preflight.cli import common, guest_run, options, policy
from cgroup_preflight.cli.progress import Progress, add_timings
from cgroup_preflight.cli.smoke_run import (
    add_engine,
    check_names,
    judge_host,
    prepare,
    refuse_packages,
    try_services,
    without_run,
)
from cgroup_preflight.config.binaries import require_binaries
from cgroup_preflight.config.certificates import require_certificates
from cgroup_preflight.config.model import Config
from cgroup_preflight.core.policy import Rules
from cgroup_preflight.core.report import Finding, ServiceResult, Status
from cgroup_preflight.core.verdict import exit_status_of
from cgroup_preflight.plan.build import only

_ABOUT = """\
Only the test run: starts the services of the config (or those named) at the
same time, each in its slice and under its limits; reads every limit back from
the kernel; exceeds each distinct one; stops all. Nothing remains: all units
are below one slice of this run, in /run (with the engine user, in
$XDG_RUNTIME_DIR).

Use it while you change limits or a service. `run` also checks the host in
full, and puts the unit files into the artifacts.

    cgroup-preflight smoke
    cgroup-preflight smoke user-api --engine user
    cgroup-preflight smoke --engine guest --target debian-13
    cgroup-preflight smoke --host web1 --host admin@web2         (over ssh)

Exit status: 0 pass, 1 a check failed, 2 wrong call or config, 3 unverified: a
required check could not run, so this is not a pass.
"""


def arguments() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = options.parser("smoke", _ABOUT)
    parser.add_argument("service", nargs="*", metavar="SERVICE", help="services to run (default: all)")
    options.add_config(parser)
    add_engine(parser)
    guest_run.add_target(parser)
    guest_run.add_inside(parser)
    policy.add_baseline(parser)
    options.add_hosts(parser)
    options.add_report(parser)
    add_timings(parser)
    return parser


def main(words: list[str]) -> int:
    """The command. Raises UsageError, ConfigError, HostError."""
    started = common.start()
    args = arguments().parse_args(words)
    wanted = options.outputs(args.format, args.output, quiet=args.quiet)
    progress = Progress(quiet=args.quiet)
    config = common.load_config(args.config, args.allow_outside)
    rules = policy.rules_of(config, started, args.baseline)
    names = check_names(config, args.service)
    if args.host:
        return _on_hosts(started, args, config, rules, names, progress)
    refuse_packages(config, names)
    require_binaries(config, names)
    require_certificates(config, names)
    engine = args.engine or config.engine
    progress("checking the host")
    prepared = prepare(config, engine, args.target, names, args.cgroup)
    config, plan, context = prepared.config, prepared.plan, prepared.context
    rules = prepared.judging(rules)
    work = guest_run.HostWork(lambda: _problems(judge_host(prepared, wanted)))
    services: tuple[ServiceResult, ...] = ()
    from cgroup_preflight.checks.go.binary_format import unrunnable_programs

    broken = unrunnable_programs(only(plan, names).services, context.facts)
    # A guest has the same architecture: a program that cannot run here cannot run there.
    guests = None if broken else guest_run.run_in_guests(prepared.guests, config, ("smoke",), names, work, progress)
    if broken:
        findings = without_run(broken, work.result())
    elif guests is not None and guests.decides:
        findings, services = list(guests.findings), guests.services
    else:
        findings = [*work.result(), *(guests.findings if guests is not None else ())]
        more, services = try_services(config, plan, context, names, progress, inside=args.inside)
        # Where no service was run, problems of the programs come before those of the host.
        findings = [*findings, *more] if services else [*more, *findings]
    if not args.inside:
        findings = [*policy.judged(findings, rules, services), *policy.thresholds(config)]
    host = guests.host if guests else None
    report = common.report(started, context, findings, services, host=host, project=config.project)
    options.deliver(report, wanted, verbose=args.verbose, inside=args.inside)
    if args.timings:
        options.write_stderr(progress.table(services))
    return exit_status_of(report.verdict, allow_unverified=args.allow_unverified, exit_zero=args.exit_zero)


def _problems(found: list[Finding]) -> list[Finding]:
    """The host's problems explain a limit that is not in force; `check` shows the checks that passed."""
    return [item for item in found if item.status not in (Status.PASS, Status.SKIP)]


def _on_hosts(
    started: common.Started, args: argparse.Namespace, config: Config, rules: Rules, names: tuple[str, ...],
    progress: Progress,
) -> int:  # fmt: skip
    from cgroup_preflight.cli.hosts_run import deliver, test_hosts

    return deliver(started, args, config, test_hosts(args, config, rules, names, "smoke", progress),
                   policy.thresholds(config), progress)  # fmt: skip
