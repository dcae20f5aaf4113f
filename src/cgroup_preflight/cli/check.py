"""`cgroup-preflight check`: the verdict on this host."""

from cgroup_preflight.checks.runner import run_checks
from cgroup_preflight.cli import common, options
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.core.verdict import exit_status_of

_ABOUT = """\
Checks whether this host can limit services: cgroup v2 is mounted where they
run, the controllers are available there, and a systemd manager can start
units. With a config, it also checks what the config requires, and whether its
limits can act on this host. It only reads.

Use it first on a new host or CI runner, or when a limit has no effect there.

    cgroup-preflight check
    cgroup-preflight check --require memory,cpu,io --format json
    cgroup-preflight check --root host.json       (a host that `snapshot` saved)

Exit status: 0 pass, 1 a check failed, 2 wrong call or config, 3 a required
check could not run, for example because this job may not read a file.
"""


def main(words: list[str]) -> int:
    """The command. Raises UsageError, ConfigError."""
    started = common.start()
    parser = options.parser("check", _ABOUT)
    options.add_config(parser)
    parser.add_argument("--root", metavar="PATH", type=_path,
                        help="check a recorded host (a file of `snapshot`), or the files of one mounted at this folder;"
                        " systemd cannot be queried there, so files alone are never a pass")  # fmt: skip
    parser.add_argument("--require", metavar="LIST", default="", help="controllers that must be available: memory,cpu")
    options.add_report(parser)
    args = parser.parse_args(words)
    wanted = options.outputs(args.format, args.output)
    required = _controllers(args.require)
    config = common.try_config(args.config, args.allow_outside)
    context = common.context(config, config.engine if config else "auto", required, root=args.root or "")
    findings = (*run_checks(context), *common.plan_findings(context, config))
    report = common.report(started, context, findings)
    options.deliver(report, wanted, verbose=args.verbose)
    return exit_status_of(report.verdict, allow_unverified=args.allow_unverified, exit_zero=args.exit_zero)


def _path(text: str) -> str:
    if not text:
        # An empty path comes from an unset variable; without this, the wrong host would be checked.
        raise UsageError("no path was given", where="--root", remedy=Remedy(title="name a recording or a folder"))
    return text


def _controllers(text: str) -> tuple[str, ...]:
    names = tuple(word.strip() for word in text.split(",") if word.strip())
    if not names:
        return ()
    from cgroup_preflight.config.model import CONTROLLERS

    for name in names:
        if name not in CONTROLLERS:
            raise UsageError(f"{name!r} is not a controller", where="--require",
                             remedy=Remedy(title=f"use some of {','.join(CONTROLLERS)}"))  # fmt: skip
    return names
