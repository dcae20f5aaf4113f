"""`check --host`: the verdict on other hosts, asked over ssh."""

import argparse
from collections.abc import Sequence
from typing import cast

from cgroup_preflight.checks.base import Context
from cgroup_preflight.checks.runner import run_checks
from cgroup_preflight.cli import common, hosts, policy
from cgroup_preflight.cli.check import judged_units
from cgroup_preflight.config.model import Config
from cgroup_preflight.core.reading import Reading
from cgroup_preflight.core.report import Finding, Report
from cgroup_preflight.host.remote.rounds import AskedFs, AskedRunner
from cgroup_preflight.host.units import ShownUnit, read_units

_Read = tuple[Context, Reading[tuple[ShownUnit, ...]] | None]


def check_hosts(
    started: common.Started, args: argparse.Namespace, config: Config | None, required: Sequence[str]
) -> Report:
    """One report about all hosts of `--host`. Raises UsageError."""
    plan = common.planned(config)
    engine = config.engine if config else "auto"

    def read(fs: AskedFs, runner: AskedRunner) -> _Read:
        context = common.context_on(fs, runner, config, engine, required, plan)
        return context, read_units(fs, runner, context.facts.mount_point) if args.units else None

    asked = hosts.remotes(args.host, args.ssh_config)
    found, contexts = list[Finding](), list[Context]()
    for outcome in hosts.each(asked, lambda host: host.rounds.read(read)):
        own: list[Finding] = []
        if outcome.error is None:
            context, units = cast("_Read", outcome.value)
            contexts.append(context)
            own += (*run_checks(context), *common.plan_findings(context, config))
            own += judged_units(context.facts, units) if units is not None else ()
        judged = (
            own if config is None else policy.judged(own, policy.rules_of(config, started, machines=(outcome.host,)))
        )
        found += hosts.findings_of(outcome, judged)
    project = config.project if config is not None else None
    return common.report(started, contexts[0] if len(asked) == len(contexts) == 1 else None, found, project=project)
