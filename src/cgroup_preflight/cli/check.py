"""`cgroup-preflight check`: the verdict on this host."""

from cgroup_preflight.checks.runner import run_checks
from cgroup_preflight.cli import common, options
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.core.verdict import exit_status_of

_ABOUT = """\
Judges this host: is cgroup v2 mounted where services run, are the controllers offered there, is systemd
PID 1, who can start units. Reads only; works without a config, and with one checks what that asks for and
whether its limits can act on this host (`validate` says what the config alone shows).

    cgroup-preflight check
    cgroup-preflight check --require memory,cpu,io --format json
    cgroup-preflight check --root host.json
"""


def main(words: list[str]) -> int:
    """The command. Raises UsageError, ConfigError."""
    started = common.start()
    parser = options.parser("check", _ABOUT)
    options.add_config(parser)
    parser.add_argument("--root", metavar="PATH", type=_path,
                        help="judge a recorded host (a file of `snapshot`), or the files of one mounted at this folder;"
                        " systemd in there cannot be asked, so that these alone are never a pass")  # fmt: skip
    parser.add_argument("--require", metavar="LIST", default="", help="controllers that must be there: memory,cpu")
    options.add_report(parser)
    args = parser.parse_args(words)
    wanted = options.outputs(args.format, args.output)
    required = _controllers(args.require)
    config = common.try_config(args.config)
    context = common.context(config, config.engine if config else "auto", required, root=args.root or "")
    findings = (*run_checks(context), *common.plan_findings(context, config))
    report = common.report(started, context, findings)
    options.deliver(report, wanted, verbose=args.verbose)
    return exit_status_of(report.verdict, allow_unverified=args.allow_unverified, exit_zero=args.exit_zero)


def _path(text: str) -> str:
    if not text:
        # An unset variable of a script: this host would be judged in place of the one meant.
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
