"""`cgroup-preflight run`: check, plan and smoke in order, one report."""

import argparse
import threading
from collections.abc import Callable, Mapping
from functools import partial

from cgroup_preflight.cli import common, guest_run, options, package_run, policy
from cgroup_preflight.cli.progress import Progress, add_timings
from cgroup_preflight.cli.smoke_run import (
    Prepared,
    add_engine,
    check_names,
    go_findings,
    judge_host,
    left_out,
    prepare,
    try_services,
    without_run,
)
from cgroup_preflight.config.binaries import program_hashes, require_binaries
from cgroup_preflight.config.certificates import require_certificates
from cgroup_preflight.config.model import Config
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.policy import Rules, apply
from cgroup_preflight.core.report import Finding, HostSummary, Remedy, ServiceResult, Verdict
from cgroup_preflight.core.verdict import exit_status_of, verdict_of
from cgroup_preflight.engines.choice import GUEST
from cgroup_preflight.plan.build import only
from cgroup_preflight.plan.model import Plan

_ABOUT = """\
The whole preflight: checks the host, plans the slices, runs every service of
the config under its limits, proves each limit from the kernel's files and by
exceeding it, puts the unit files into the artifacts, and writes one report
with one verdict.

Use it for every commit, before the merge. Where this host cannot start units
(no systemd, no cgroup v2), the services run in a throwaway VM: see `guest`.

    cgroup-preflight run
    cgroup-preflight run user-api worker     (only these; the report says so)
    cgroup-preflight run --format text --format json=report.json
    cgroup-preflight run --target debian-12 --target debian-13
    cgroup-preflight run --host web1 --host admin@web2           (over ssh)
    cgroup-preflight run --package dist/shop_1.3_amd64.deb --previous old.deb

With --package, built packages are installed in a guest: their services start as
installed, limits are read, then they are upgraded, removed and purged.

Exit status: 0 pass, 1 a check failed, 2 wrong call or config, 3 unverified: a
required check could not run, so this is not a pass.
"""


def arguments() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = options.parser("run", _ABOUT)
    parser.add_argument("service", nargs="*", metavar="SERVICE", help="services to run (default: all)")
    options.add_config(parser)
    add_engine(parser)
    guest_run.add_target(parser)
    package_run.add_packages(parser)
    parser.add_argument("--inject", choices=("passed", "always", "never"),
                        help="when to put the unit files into the artifacts of the config (default: after a pass)")  # fmt: skip
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
    engine = args.engine or config.engine
    if args.host:
        return _on_hosts(started, args, config, rules, progress)
    packed = package_run.prepare(args, config, engine)
    whole, config, engine = config, packed.config if packed else config, GUEST if packed and not args.inside else engine
    names = check_names(config, args.service)
    require_binaries(config, names)
    require_certificates(config, names)
    inject = _inject_mode(args, config, tests_all=not names and not packed)
    # Before a guest gets them: which build is tested must be certain.
    hashes = _soon(partial(program_hashes, config)) if inject != "never" else dict
    progress("checking the host")
    prepared = prepare(config, engine, args.target, names, cgroup=args.cgroup)
    # With units that are installed here, there are more programs now.
    programs = hashes() if prepared.config is config or inject == "never" else program_hashes(prepared.config)
    config, plan, context = prepared.config, prepared.plan, prepared.context
    rules = prepared.judging(rules)
    work = guest_run.HostWork(lambda: _judge(prepared, wanted, inject))
    findings, services, host = _tested(prepared, packed, work, rules, progress, inside=args.inside)
    if host is None and services:
        from cgroup_preflight.checks.kernel.rt_group_sched import settled

        findings = settled(findings, services)
    if packed and not args.inside:
        findings += package_run.notes(packed, whole, plan, tested=host is not None)
    if not args.inside and not packed:
        # The verdict of the report, so far: an old exception can fail it, too.
        verdict = verdict_of(policy.judged(findings, rules, services, whole=not names))
        findings += _artifacts(config, plan, programs, verdict, inject, progress)
        findings += left_out(config, names)
    if not args.inside:
        # A guest's report is judged out here, by the config that its programs cannot change.
        findings = [
            *policy.judged(findings, rules, services, whole=not packed and not names),
            *policy.thresholds(config),
        ]
    report = common.report(started, context, findings, services, host=host, project=config.project)
    options.deliver(report, wanted, verbose=args.verbose, inside=args.inside)
    if args.timings:
        options.write_stderr(progress.table(services))
    return exit_status_of(report.verdict, allow_unverified=args.allow_unverified, exit_zero=args.exit_zero)


def _soon(act: Callable[[], Mapping[str, str]]) -> Callable[[], Mapping[str, str]]:
    """Does it in a thread, next to what follows; what is returned waits for the result."""
    found: list[Mapping[str, str]] = []
    thread = threading.Thread(target=lambda: found.append(act()), daemon=True)
    thread.start()

    def result() -> Mapping[str, str]:
        thread.join()
        # Where it has failed, it does so here.
        return found[0] if found else act()

    return result


def _on_hosts(
    started: common.Started, args: argparse.Namespace, config: Config, rules: Rules, progress: Progress
) -> int:  # fmt: skip
    from cgroup_preflight.cli.hosts_run import deliver, test_hosts

    names = check_names(config, args.service)
    inject = _inject_mode(args, config, tests_all=not names)
    programs = {} if inject == "never" else program_hashes(config)
    tested = test_hosts(args, config, rules, names, "run", progress)
    more = _artifacts(config, common.plan_of(config), programs, verdict_of(tested.findings), inject, progress)
    # What each host showed was judged before; what is about no host must be, too.
    more = (*apply((*more, *left_out(config, names)), rules), *policy.thresholds(config))
    return deliver(started, args, config, tested, more, progress)


def _tested(
    prepared: Prepared,
    packed: "package_run.PackageRun | None",
    work: guest_run.HostWork,
    rules: Rules,
    progress: Progress,
    *,
    inside: bool,
) -> tuple[list[Finding], tuple[ServiceResult, ...], HostSummary | None]:
    """All findings, the services' results, and where they ran (None: on this host). `work` is what this host does.

    `packed` are the built packages that are tested, if any. What `rules` ignore does not keep services from running.
    """
    from cgroup_preflight.checks.go.binary_format import unrunnable_programs

    config, plan, context, names = prepared.config, prepared.plan, prepared.context, prepared.names
    if broken := unrunnable_programs(only(plan, names).services, context.facts):
        # A guest has the same architecture: a program that cannot run here cannot run there.
        return without_run(broken, work.result()), (), None
    packages = package_run.guest_packages(packed, plan) if packed and not inside else None
    guests = guest_run.run_in_guests(prepared.guests, config, ("run",), names, work, progress, packages)
    if guests is not None and guests.decides:
        return list(guests.findings), guests.services, guests.host
    host = guests.host if guests else None
    findings = [*work.result(), *(guests.findings if guests is not None else ())]
    if policy.fails(findings, rules):
        return [*go_findings(plan, context, names), *findings], (), host

    def services() -> tuple[list[Finding], tuple[ServiceResult, ...]]:
        return try_services(config, plan, context, names, progress, inside=inside)

    more, results = package_run.try_packages(packed, plan, context, services, progress) if packed else services()
    return [*findings, *more], results, host


def _judge(prepared: Prepared, wanted: tuple[options.Rendering, ...], inject: str) -> list[Finding]:
    found = judge_host(prepared, wanted)
    if inject != "never":
        from cgroup_preflight.artifacts import run  # noqa: F401 - for the end of the run
    return found


# `artifacts` is imported late: it takes a while, and a run inside a guest does not need it.


def _inject_mode(args: argparse.Namespace, config: Config, *, tests_all: bool) -> str:
    """When artifacts get the unit files. Raises UsageError and ConfigError for what this call must not change.

    The files are those of all services, so a run of some proves too little; a package that was tested stays as it is.
    """
    if args.service and not tests_all and args.inject not in (None, "never"):
        raise UsageError("artifacts get the files of all services, and this run tests only some", where="--inject",
                         remedy=Remedy(title="leave out the names of services, or --inject"))  # fmt: skip
    if args.inside or not tests_all:
        return "never"
    mode: str = args.inject or "passed"
    if config.inject and mode != "never":
        from cgroup_preflight.artifacts.request import artifact_paths

        artifact_paths(config)
    return mode


def _artifacts(
    config: Config, plan: Plan, programs: Mapping[str, str], verdict: Verdict, mode: str, progress: Progress
) -> tuple[Finding, ...]:  # fmt: skip
    from cgroup_preflight.artifacts.run import inject_after_run

    return inject_after_run(config, plan, programs, verdict, mode, progress)
