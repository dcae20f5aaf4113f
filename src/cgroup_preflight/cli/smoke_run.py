"""What `smoke` and `run` share: the engine option, binaries looked at, the services tried."""

import argparse
import os
import shlex
import stat
from collections.abc import Sequence
from pathlib import Path

from cgroup_preflight.checks.base import Context
from cgroup_preflight.cli import options
from cgroup_preflight.config.keys import ENGINES
from cgroup_preflight.config.model import Config
from cgroup_preflight.config.rules import TINY
from cgroup_preflight.config.tables import nearest
from cgroup_preflight.core.errors import ConfigError, UsageError
from cgroup_preflight.core.quantities import Permyriad, format_bytes
from cgroup_preflight.core.reading import value_or
from cgroup_preflight.core.report import Finding, Remedy, ServiceResult, Status
from cgroup_preflight.plan.build import only
from cgroup_preflight.plan.expect import HostNumbers, memory_bytes
from cgroup_preflight.plan.model import Plan


def add_engine(to: argparse.ArgumentParser) -> None:
    """`--engine`."""
    to.add_argument("--engine", choices=ENGINES, help="who starts the units (default: the config's, else auto)")


def check_names(config: Config, names: list[str]) -> tuple[str, ...]:
    """The services asked for. Raises UsageError for one that the config does not have."""
    known = [item.name for item in config.services]
    for name in names:
        if name not in known:
            raise UsageError(f"no service {name!r} in the config", where=config.path,
                             remedy=Remedy(title=f"{nearest(name, known)}services: {', '.join(known) or 'none'}"))  # fmt: skip
    if not known:
        raise UsageError("the config has no services to run", where=config.path,
                         remedy=Remedy(title="add [services.NAME] with binary and slice"))  # fmt: skip
    return tuple(names)


def without_run(broken: Sequence[Finding], host: Sequence[Finding]) -> list[Finding]:
    """The findings where programs are `broken`, so that nothing was run: they decide, and come first.

    What was found about the `host` stays as a warning: it is not why nothing ran, and a guest may be to run it.
    """
    from cgroup_preflight.guest.findings import host_findings

    return [*broken, *host_findings(host, "no service was run, for a program cannot run here")]


def try_services(
    config: Config, plan: Plan, context: Context, names: tuple[str, ...], *, inside: bool = False
) -> tuple[list[Finding], tuple[ServiceResult, ...]]:
    """Findings and results of the smoke run. Where no engine works, no service runs, and a finding says so.

    Call `format_findings` first: a program that cannot run here must not be started.

    Raises HostError when the manager does not answer, ConfigError for a percentage that is too little here.
    """
    go = go_findings(plan, context, names)
    if context.engine.name is None:
        return [*go, _not_tried(context)], ()
    from cgroup_preflight.smoke.run import host_numbers, smoke

    if not config.allow_tiny_limits:
        refuse_tiny(config, host_numbers(context.facts))
    result = smoke(config, plan, context.facts, context.engine, names, options.progress, inside=inside)
    return [*go, *result.findings], result.services


def refuse_tiny(config: Config, numbers: HostNumbers) -> None:
    """Raises ConfigError where a percentage of this host's memory is too little to be safe (CGP208)."""
    findings = []
    for setting in config.settings:
        if setting.property not in ("MemoryMax", "MemoryHigh") or not isinstance(setting.value, Permyriad):
            continue
        size = memory_bytes(setting.value, numbers)
        if size is not None and size < TINY:
            message = f"{setting.property}: {setting.text} of this host are {format_bytes(size)}, below 16M"
            remedy = Remedy(title="use at least 16M, or set allow_tiny_limits = true in [smoke]")
            findings.append(Finding(code="CGP208", name="limit-too-small", status=Status.FAIL, location=setting.location,
                                    subject=setting.property, message=message, remedies=(remedy,)))  # fmt: skip
    if findings:
        raise ConfigError(
            f"{len(findings)} limit(s) are too small here", where=config.path, findings=tuple(findings),
            remedy=Remedy(title="correct the lines named above"),
        )  # fmt: skip


def go_findings(plan: Plan, context: Context, names: tuple[str, ...]) -> list[Finding]:
    """What is known about the Go programs before they run (CGP4xx)."""
    from cgroup_preflight.smoke.go_findings import plan_findings, target_of

    return plan_findings(only(plan, names), target_of(context.facts))


def require_binaries(config: Config, names: tuple[str, ...]) -> None:
    """Raises ConfigError where a program is not there, not executable or not a file (CGP211)."""
    findings = []
    for service in config.services:
        wrong = None if names and service.name not in names else _file_problem(config.folder, service.binary)
        if wrong:
            findings.append(
                Finding(code="CGP211", name="binary", status=Status.FAIL, subject=service.name,
                        location=service.location, remedies=(Remedy(title=wrong[1]),),
                        message=f"binary {service.binary!r} of {service.name}: {wrong[0]}")
            )  # fmt: skip
    if findings:
        raise ConfigError(
            f"{len(findings)} service(s) have no program to run", where=config.path, findings=tuple(findings),
            remedy=Remedy(title="build them first, or correct binary in the config"),
        )  # fmt: skip


def format_findings(plan: Plan, context: Context, names: tuple[str, ...]) -> list[Finding]:
    """The programs that this machine cannot run (CGP401): another system or architecture, or no program at all."""
    from cgroup_preflight.golang.executable import fit

    findings = []
    machine = value_or(context.facts.machine, os.uname().machine)
    for service in only(plan, names).services:
        program = service.program
        if program is None or program.executable is None:
            reason = program.why_not if program is not None else ""
        else:
            answer = fit(program.executable, machine)
            reason = answer.why if answer.ok is False else ""
        if reason:
            findings.append(
                Finding(code="CGP401", name="binary-format", status=Status.FAIL, subject=service.label,
                        location=service.location, message=f"binary {service.path!r} cannot run here: {reason}",
                        remedies=(Remedy(title="build it for this machine: GOOS=linux and the right GOARCH"),))
            )  # fmt: skip
    return findings


def _file_problem(folder: str, binary: str) -> tuple[str, str] | None:
    path = Path(folder, binary)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "it is not there", "build it first, or mend the path (relative to the config's folder)"
    except OSError as error:
        return f"it cannot be looked at: {error.strerror}", "mend the path (relative to the config's folder)"
    if stat.S_ISDIR(mode):
        return "it is a folder", "name the program itself"
    if not stat.S_ISREG(mode):
        return "it is not a file", "name a program"
    if not os.access(path, os.X_OK):
        return "it is not executable", f"chmod +x {shlex.quote(binary)}"
    return None


def _not_tried(context: Context) -> Finding:
    return Finding(
        code="CGP500", name="smoke", status=Status.UNVERIFIED, subject="smoke",
        message=f"no service was run, for no engine works here: {context.engine.why_not}",
        remedies=(Remedy(title="run this job on a host with cgroup v2 and systemd as PID 1",
                         commands=(("cgroup-preflight", "check"),)),),
    )  # fmt: skip
