"""`cgroup-preflight inspect`: what is in Go binaries, and what their runtime will do under the limits."""

import argparse
import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from cgroup_preflight.checks.go.base import Subject
from cgroup_preflight.checks.go.runner import run_go_checks
from cgroup_preflight.checks.go.subjects import GoTarget, bare_subject, fitted_subject, with_prediction
from cgroup_preflight.cli import common, options
from cgroup_preflight.cli.terminal import use_colour
from cgroup_preflight.config.model import Config
from cgroup_preflight.core.errors import ExitStatus, UsageError
from cgroup_preflight.core.limits import Chain, Level
from cgroup_preflight.core.quantities import QuantityError, parse_quota, parse_size
from cgroup_preflight.core.report import NO_PASS, Finding, Remedy, Status
from cgroup_preflight.golang.modinfo import Module
from cgroup_preflight.golang.program import Binary, read_program
from cgroup_preflight.plan.build import binary_paths, build_plan
from cgroup_preflight.plan.model import Plan

_ABOUT = """\
Reads the build info of Go binaries and predicts what their runtime will choose
under the limits: GOMAXPROCS, the memory limit, whether it follows changes of
the quota, and why. It runs no program and needs no Go.

A binary of the config is checked under the limits of its service, with the
settings that the plan adds; any other one under --cpu and --memory.

--format json has all of the build info: the main package, each module with its
version, checksum (`sum`) and replacement (`replace`), and the build settings.

Use it to choose limits for a Go service, or before an upgrade of Go.

    cgroup-preflight inspect --cpu 1.5 --memory 512M dist/user-api
    cgroup-preflight inspect --format json dist/*
    cgroup-preflight inspect                      (every service of the config)

Exit status: 0 nothing failed (also for a program that is not Go), 1 a check
failed, 2 wrong call or config, 3 a program or its build info is unreadable.
"""


_FORMATS = ("text", "json")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inspected:
    """One binary as the user named it, what it is, and what there is to say."""

    path: str
    subject: Subject
    findings: tuple[Finding, ...]


def main(words: list[str]) -> int:
    """The command. Raises UsageError, ConfigError."""
    args = arguments().parse_args(words)
    wanted = options.outputs(args.format, args.output, quiet=args.quiet)
    if any(item.format not in _FORMATS for item in wanted):
        raise UsageError("inspect writes text and json", where="--format", remedy=Remedy(title="use text or json"))
    config = common.try_config(args.config, args.allow_outside)
    limits = _limits(args)
    target = GoTarget(cpus=_cpus(args.cpus), machine=args.machine or os.uname().machine, swap=_swap())
    seen = _inspect_all(args.binary, None if limits else config, limits, target)
    for item in wanted:
        text = (
            as_json(seen)
            if item.format == "json"
            else _brief(seen)
            if item.quiet
            else _text(seen, verbose=args.verbose)
        )
        if item.file:
            options.write_text(Path(item.file), text)
        else:
            options.write_stdout(text)
    return _status(seen, allow_unverified=args.allow_unverified, exit_zero=args.exit_zero)


def arguments() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = options.parser("inspect", _ABOUT)
    parser.add_argument("binary", nargs="*", metavar="BINARY", help="program files (default: those of the config)")
    options.add_config(parser)
    parser.add_argument("--cpu", metavar="CPUS", help="a quota to judge under: 1.5 or 150%%; instead of the config's")
    parser.add_argument("--memory", metavar="SIZE", help="a memory limit to judge under: 512M; instead of the config's")
    parser.add_argument("--cpus", metavar="N", help="CPUs of the machine it will run on (default: those of this one)")
    parser.add_argument("--machine", metavar="NAME", help="what `uname -m` says there: aarch64 (default: as here)")
    options.add_report(parser, _FORMATS)
    return parser


def _limits(args: argparse.Namespace) -> Chain | None:
    """The limits of the command line, None where there are none. Raises UsageError."""
    if args.cpu is None and args.memory is None:
        return None
    return Chain(
        levels=(
            Level(
                name="the service",
                cpus=None if args.cpu is None else _quota(args.cpu),
                has_cpu_max=args.cpu is not None,
                memory_max=None if args.memory is None else _memory(args.memory),
            ),
        )
    )


def _quota(text: str) -> float:
    """CPUs from `1.5`, or from a percentage of one CPU as CPUQuota= has it."""
    try:
        if not text.endswith("%"):
            if not re.fullmatch(r"\d{1,6}(\.\d{1,4})?", text, re.ASCII) or float(text) <= 0:
                raise QuantityError(f"{text!r} is no number of CPUs", "a number above 0 such as 1.5, or 150%")
            return float(text)
        return parse_quota(text).value / 10000
    except QuantityError as error:
        raise UsageError(str(error), where="--cpu", remedy=Remedy(title=f"use {error.hint}")) from None


def _memory(text: str) -> int:
    try:
        size = parse_size(text).bytes
        if size == 0:
            raise QuantityError("no memory at all", "a size such as 512M")
        return size
    except QuantityError as error:
        raise UsageError(str(error), where="--memory", remedy=Remedy(title=f"use {error.hint}")) from None


def _cpus(text: str | None) -> frozenset[int]:
    if text is None:
        return frozenset(os.sched_getaffinity(0))
    if not re.fullmatch(r"[1-9]\d{0,3}", text, re.ASCII):
        raise UsageError(f"{text[:40]!r} is no number of CPUs", where="--cpus", remedy=Remedy(title="use 1 or more"))
    return frozenset(range(int(text)))


def _swap() -> bool | None:
    """Whether this machine has swap; None where /proc/swaps does not tell."""
    try:
        with open("/proc/swaps", encoding="utf-8", errors="replace") as file:
            return len(file.read(1 << 16).splitlines()) > 1
    except OSError:
        return None


def _inspect_all(paths: list[str], config: Config | None, limits: Chain | None, target: GoTarget) -> list[_Inspected]:
    """Each binary once for each service that it is the program of, else on its own. Raises UsageError."""
    services = binary_paths(config) if config else {}
    chosen = paths or list(dict.fromkeys(os.path.relpath(path) for path in services.values()))
    if not chosen:
        raise UsageError(
            "no binary to inspect", where="inspect", remedy=Remedy(title="name one, or a config with services")
        )
    for path in chosen:
        if not os.path.lexists(path):
            raise UsageError("no such file", where=path, remedy=Remedy(title="build it first, or fix the path"))
    found: list[_Inspected] = []
    for path in chosen:
        program = read_program(path)
        if target.machine != os.uname().machine:  # this host does not show which interpreters exist there
            program = replace(program, interpreter_here=True)
        of = {name for name, other in services.items() if os.path.realpath(other) == os.path.realpath(path)}
        plan = build_plan(config, programs=dict.fromkeys(of, program)) if config and of else None
        found += _as_services(path, of, plan, target) if plan else [_alone(path, program, limits, target)]
    return found


def _alone(path: str, program: Binary, limits: Chain | None, target: GoTarget) -> _Inspected:
    subject = with_prediction(
        Subject(
            label=path,
            program=program,
            chain=limits or Chain(levels=()),
            environment={},
            cpus=target.cpus,
            machine=target.machine,
            swap=target.swap,
        )
    )
    return _Inspected(path=path, subject=subject, findings=run_go_checks(subject))


def _as_services(path: str, names: set[str], plan: Plan, target: GoTarget) -> list[_Inspected]:
    found = []
    for service in plan.services:
        if service.label in names:
            bare, fitted = bare_subject(service, plan, target), fitted_subject(service, plan, target)
            findings = run_go_checks(bare, fitted)
            found.append(_Inspected(path=path, subject=replace(fitted or bare, label=service.label), findings=findings))
    return found


def _text(seen: list[_Inspected], *, verbose: bool) -> str:
    from cgroup_preflight.report.build_info import render

    colour = use_colour()
    return "\n".join(
        render(
            item.path if item.subject.label == item.path else f"{item.subject.label} ({item.path})",
            item.subject.program.info,
            item.subject.prediction,
            item.subject.program.why_not,
            item.findings,
            colour=colour,
            verbose=verbose,
        )
        for item in seen
    )


def _brief(seen: list[_Inspected]) -> str:
    """One line for each finding that is no pass."""
    from cgroup_preflight.report.text import finding_line

    failed = (finding for item in seen for finding in item.findings if finding.status in NO_PASS)
    return "".join(f"{line}\n" for finding in failed for line in finding_line(finding, colour=use_colour()))


def as_json(seen: list[_Inspected]) -> str:
    """The JSON of the contract: one entry for each binary, null and empty where it is no Go program."""
    return json.dumps({"binaries": [_entry(item) for item in seen]}, indent=2, ensure_ascii=True) + "\n"


def _entry(item: _Inspected) -> dict[str, object]:
    info, choice = item.subject.program.info, item.subject.prediction
    return {
        "path": item.path,
        "go_version": info.go_version if info else None,
        "main_package": info.path or None if info else None,
        "main": _module(info.main) if info and info.main else None,
        "deps": [_module(dep) for dep in info.deps] if info else [],
        "settings": dict(info.settings) if info else {},
        "runtime": {
            "gomaxprocs": choice.gomaxprocs,
            "gomemlimit_bytes": choice.gomemlimit_bytes,
            "follows_cpu_max": choice.follows_cpu_max,
            "why": list(choice.why),
        }
        if choice
        else None,
        "findings": _findings(item.findings),
    }


def _module(module: Module) -> dict[str, object]:
    """A module as `go version -m -json` has it: `sum` is empty for what is replaced, `replace` is null without one."""
    return {
        "path": module.path,
        "version": module.version,
        "sum": module.sum,
        "replace": _module(module.replace) if module.replace else None,
    }


def _findings(findings: tuple[Finding, ...]) -> object:
    """In the form of the report, which is the only one."""
    from cgroup_preflight.report.codec import document

    return document(common.report(common.start(), None, findings))["findings"]


def _status(seen: list[_Inspected], *, allow_unverified: bool, exit_zero: bool) -> int:
    """Fail for what failed, unverified for what could not be looked into; a program that is not Go is neither."""
    statuses = {finding.status for item in seen for finding in item.findings}
    if exit_zero:
        return ExitStatus.PASS
    if Status.FAIL in statuses:
        return ExitStatus.FAIL
    unreadable = Status.UNVERIFIED in statuses or any(item.subject.program.unreadable for item in seen)
    return ExitStatus.UNVERIFIED if unreadable and not allow_unverified else ExitStatus.PASS
