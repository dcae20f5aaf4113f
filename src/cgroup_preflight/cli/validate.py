"""`cgroup-preflight validate`: the config and its plan, with nothing run."""

import argparse

from cgroup_preflight.checks.plan import plan_findings
from cgroup_preflight.cli import common, options, policy
from cgroup_preflight.core.errors import ConfigError, ExitStatus
from cgroup_preflight.core.verdict import exit_status_of
from cgroup_preflight.plan.build import build_plan

_ABOUT = """\
Reads the config and reports what the plan alone shows: mistakes with their
lines, limits above those of their slice, weights without siblings, values that
the kernel does not take, percentages that are too little or too much on some
machines. It runs nothing, reads nothing of this host, and needs no binary.

Use it in an editor or as a pre-commit check. `check` adds what this host shows,
and `run` proves the limits.

    cgroup-preflight validate
    cgroup-preflight validate --config deploy/cgroup-preflight.toml
    cgroup-preflight validate --format sarif=plan.sarif

Exit status: 0 nothing failed (a warning does not fail), 1 a limit of the plan
cannot be in force, 2 the config is wrong (the report lists its mistakes), 3 the
config sets no limit.
"""


def arguments() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = options.parser("validate", _ABOUT)
    options.add_config(parser)
    options.add_report(parser)
    return parser


def main(words: list[str]) -> int:
    """The command. Raises UsageError."""
    started = common.start()
    args = arguments().parse_args(words)
    wanted = options.outputs(args.format, args.output, quiet=args.quiet)
    try:
        config = common.load_config(args.config, args.allow_outside)
    except ConfigError as error:
        options.deliver(common.report(started, None, error.findings), wanted, verbose=args.verbose)
        return ExitStatus.PASS if args.exit_zero else error.exit_status
    found = plan_findings(build_plan(config), tiny=config.allow_tiny_limits)
    findings = (*policy.judged(found, policy.rules_of(config, started)), *policy.thresholds(config))
    report = common.report(started, None, findings, project=config.project)
    options.deliver(report, wanted, verbose=args.verbose)
    return exit_status_of(report.verdict, allow_unverified=args.allow_unverified, exit_zero=args.exit_zero)
