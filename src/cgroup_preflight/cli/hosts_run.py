"""`smoke --host` and `run --host`: the services on other hosts, over ssh; one report, and each host with its own verdict.

One host is tested by this process. Of several, each has a process of its own, which is this command for that host: what
bounds a search by a regular expression is a signal, and a process has only one thread for those.
"""

import argparse
import os
import time
from collections.abc import Sequence
from functools import partial
from typing import cast

from cgroup_preflight.checks.base import Context
from cgroup_preflight.cli import common, hosts, options, policy
from cgroup_preflight.cli.progress import Progress
from cgroup_preflight.cli.smoke_run import left_out, test_machine
from cgroup_preflight.config.binaries import require_binaries
from cgroup_preflight.config.certificates import require_certificates
from cgroup_preflight.config.model import Config
from cgroup_preflight.core.errors import HostError, UsageError
from cgroup_preflight.core.policy import Rules
from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.reading import Missing, Reading, Why, value_or
from cgroup_preflight.core.records import dataclass, replace
from cgroup_preflight.core.report import Finding, HostSummary, Remedy, Report, ServiceResult
from cgroup_preflight.core.verdict import exit_status_of
from cgroup_preflight.engines.choice import CGROUPFS, GUEST, EngineChoice
from cgroup_preflight.engines.far_network import FarNetwork
from cgroup_preflight.engines.systemd import bus_environment
from cgroup_preflight.guest.words import INPUT_DIR
from cgroup_preflight.host.door import Door, Files, Status
from cgroup_preflight.host.remote.bridge import BridgedManager
from cgroup_preflight.host.remote.files import RemoteFiles
from cgroup_preflight.host.remote.programs import RemoteClock, RemoteProcesses, RemotePrograms
from cgroup_preflight.plan.model import Plan, ServicePlan
from cgroup_preflight.smoke.apart import Apart
from cgroup_preflight.smoke.elsewhere import ABSOLUTE, Carried

#: What the answers of a host may take in one run: the seconds after which a run of several hosts is ended, too, and bytes.
_SECONDS, _BYTES_MAX = 4 * 3600.0, 64 << 30
#: What ssh and Python need of the environment, besides what every command gets.
_KEEP = (
    "USER",
    "LOGNAME",
    "SHELL",
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "KRB5CCNAME",
    "PYTHONPATH",
    "PYTHONPYCACHEPREFIX",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """What hosts gave: `host` describes the host where there is one only."""

    findings: tuple[Finding, ...]
    services: tuple[ServiceResult, ...]
    host: HostSummary | None


def _refuse(args: argparse.Namespace, config: Config, names: Sequence[str]) -> None:
    """Raises UsageError for what `--host` cannot do."""
    wanted = [item for item in config.services if not names or item.name in names]
    against = (
        (args.engine == GUEST or bool(args.target), "--target" if args.target else "--engine", "a guest runs on this machine, and not on a host"),
        (args.engine == CGROUPFS or bool(args.cgroup), "--engine", "the engine cgroupfs starts units of this machine only"),
        (args.inside, "--inside", "this is not a guest"),
        (bool(args.baseline), "--baseline", "a baseline is the report of one machine"),
        (bool(getattr(args, "package", ())) or any(item.package for item in wanted), "--host", "a package is installed in a guest only"),
        (any(item.is_installed for item in wanted), "--host", "units that a host has installed are tested on that host only"),
    )  # fmt: skip
    for applies, where, why in against:
        if applies:
            raise UsageError(f"with --host: {why}", where=where,
                             remedy=Remedy(title="leave out one of the two, or run the command on the host itself"))  # fmt: skip


def test_hosts(
    args: argparse.Namespace, config: Config, rules: Rules, names: tuple[str, ...], command: str, progress: Progress
) -> Tested:  # fmt: skip
    """The services `names` (empty: all) on the hosts of `--host`, each judged by `rules`. Raises UsageError, ConfigError."""
    _refuse(args, config, names)
    require_binaries(config, names)
    require_certificates(config, names)
    asked = hosts.remotes(args.host, args.ssh_config)
    if len(asked) == 1:
        return _tested_here(asked[0], args, config, rules, names, command, progress)
    found, services = list[Finding](), list[ServiceResult]()
    # What is about no host is said once, by this process.
    once = {(item.code, item.subject, item.message) for item in (*left_out(config, names), *policy.thresholds(config))}
    progress(f"testing on {len(asked)} hosts")
    for outcome in _tested_apart(asked, args, names, command):
        report = cast("Report | None", outcome.value)
        if report is None:
            found += hosts.findings_of(outcome, ())
        else:
            found += (item for item in report.findings if (item.code, item.subject, item.message) not in once)
            services += report.services
    return Tested(findings=tuple(found), services=tuple(services), host=None)


def deliver(
    started: common.Started, args: argparse.Namespace, config: Config, tested: Tested, more: Sequence[Finding],
    progress: Progress,
) -> int:  # fmt: skip
    """Writes the report of hosts, with `more` findings of this machine; the exit status."""
    report = common.report(started, None, (*tested.findings, *more), tested.services, host=tested.host,
                           project=config.project)  # fmt: skip
    options.deliver(report, options.outputs(args.format, args.output, quiet=args.quiet), verbose=args.verbose)
    if args.timings:
        options.write_stderr(progress.table(tested.services))
    return exit_status_of(report.verdict, allow_unverified=args.allow_unverified, exit_zero=args.exit_zero)


def _tested_here(
    host: hosts.Remote, args: argparse.Namespace, config: Config, rules: Rules, names: tuple[str, ...], command: str,
    progress: Progress,
) -> Tested:  # fmt: skip
    """One host, by this process. Raises ConfigError."""
    at, contexts = time.time(), list[Context]()
    rules = replace(rules, machines=(host.name,))
    try:
        progress(f"checking {host.name}")
        with host.asker.bounded(_SECONDS, _BYTES_MAX):
            value = _on_host(host, args, config, rules, names, command, contexts, progress)
        outcome = hosts.Outcome(host=host.name, at=at, round_trips=host.asker.round_trips, asked_with=host.asked_with)
    except HostError as error:
        value, outcome = ([], ()), hosts.Outcome(host=host.name, at=at, error=error)
    finally:
        host.asker.close()
    findings, services = value
    return Tested(
        findings=hosts.findings_of(outcome, policy.judged(findings, rules, services)),
        services=tuple(
            replace(item, name=f"{host.name}: {item.name}", host=host.name, read_at=hosts.moment(at))
            for item in services
        ),
        host=common.host_summary(contexts[0]) if contexts else None,
    )


def _on_host(
    host: hosts.Remote, args: argparse.Namespace, config: Config, rules: Rules, names: tuple[str, ...], command: str,
    contexts: list[Context], progress: Progress,
) -> tuple[list[Finding], tuple[ServiceResult, ...]]:  # fmt: skip
    """What the host's checks and the run found; its context goes into `contexts`. Raises HostError, ConfigError."""
    plan = common.plan_of(config)
    engine = args.engine or ("auto" if config.engine in (GUEST, CGROUPFS) else config.engine)
    context = host.rounds.read(lambda fs, runner: common.context_on(fs, runner, config, engine, (), plan))
    if context.engine.name in (None, CGROUPFS):
        # Of use only to a tool that runs there.
        reasons = tuple(item for item in context.engine.reasons if item[0] != CGROUPFS)
        context = replace(context, engine=EngineChoice(name=None, reasons=reasons))
    door = _door(host, context)
    context = replace(context, plan=with_interpreters(plan, door.files))
    contexts.append(context)
    return test_machine(config, context, names, command, rules, progress, door=door, carried=carried(config, names))


def with_interpreters(plan: Plan, files: Files) -> Plan:
    """The plan with what the machine of `files` has of its programs' interpreters: this one shows only its own."""
    named = {
        item.program.executable.interpreter
        for item in plan.services
        if item.program is not None and item.program.executable is not None
    }
    absent = {name for name in named if name and _is_absent(files.status(name))}

    def judged(service: ServicePlan) -> ServicePlan:
        program = service.program
        if program is None or program.executable is None:
            return service
        return replace(service, program=replace(program, interpreter_here=program.executable.interpreter not in absent))

    return replace(plan, services=tuple(map(judged, plan.services)))


def _is_absent(reading: Reading[Status]) -> bool:
    return isinstance(reading, Missing) and reading.why is Why.ABSENT


def _door(host: hosts.Remote, context: Context) -> Door:
    """The door to a host for a run, over the lines on which its facts were read."""
    uid = value_or(context.facts.uid, -1)
    files = RemoteFiles(host.asker)
    environment = tuple(bus_environment(context.engine, uid).items())
    bridge = partial(host.asker.opened, host.lines.bridge) if uid == 0 else None
    manager = BridgedManager(bridge, host.asker.count)
    if context.engine.name is not None:
        host.manager = manager
    return Door(
        files=files, processes=RemoteProcesses(host.asker),
        programs=RemotePrograms(host.asker, host.lines.channel, environment), clock=RemoteClock(host.asker),
        network=FarNetwork(files, context.facts.mount_point, host.lines.connection),
        manager=manager, host=host.name,
    )  # fmt: skip


def carried(config: Config, names: tuple[str, ...]) -> Carried:
    """The programs and files of a config that go to another machine. Raises UsageError, ConfigError."""
    from cgroup_preflight.guest.project import project_of

    project = project_of(config, names)
    absolute = {f"{ABSOLUTE}{os.path.normpath(item.binary)}" for item in config.services if os.path.isabs(item.binary)}
    files = {
        name: str(path)
        for name, path in project.inputs.items()
        if name in absolute or not name.startswith(f"{ABSOLUTE}/")
    }
    return Carried(files=files, home=os.path.relpath(project.folder, INPUT_DIR))


def _tested_apart(
    asked: Sequence[hosts.Remote], args: argparse.Namespace, names: tuple[str, ...], command: str
) -> list[hosts.Outcome]:
    """Each host by a process of its own."""
    apart = Apart({name: os.environ[name] for name in _KEEP if name in os.environ})

    def work(host: hosts.Remote) -> Report:
        return _report(host.name, *apart.run(_words(args, host.name, names, command)))

    try:
        return hosts.each(asked, work)
    except BaseException:
        apart.end()
        raise


def _words(args: argparse.Namespace, host: str, names: tuple[str, ...], command: str) -> tuple[str, ...]:
    """The words of this command for one host."""
    more = (
        *(("--config", str(args.config)) if args.config else ()), *(("--engine", args.engine) if args.engine else ()),
        *(("--ssh-config", args.ssh_config) if args.ssh_config else ()),
        *(word for folder in args.allow_outside for word in ("--allow-outside", folder)),
        *(("--inject", "never") if command == "run" else ()),
    )  # fmt: skip
    return (command, *more, "--host", host, "--format", "json", "--exit-zero", *(("--", *names) if names else ()))


def _report(host: str, out: bytes, err: bytes) -> Report:
    """The report of such a process. Raises HostError."""
    from cgroup_preflight.report.read import ReportShapeError, report_of

    try:
        return report_of(out)
    except ReportShapeError:
        lines = [line for line in err.decode("utf-8", "replace").splitlines() if line.strip()]
        said = printable(lines[0].removeprefix("cgroup-preflight: "))[:300] if lines else "it said nothing"
        raise HostError(f"no report: {said}", where=host,
                        remedy=Remedy(title="run the command for this host alone")) from None  # fmt: skip
