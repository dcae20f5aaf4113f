"""`cgroup-preflight up`: the services side by side under their limits, while they are developed."""

import argparse
import os
from collections.abc import Callable, Sequence

from cgroup_preflight.cli import common, guest_run, options
from cgroup_preflight.cli.smoke_run import add_engine, check_names
from cgroup_preflight.cli.terminal import use_colour
from cgroup_preflight.config.model import Config
from cgroup_preflight.core.errors import ExitStatus, HostError, UsageError
from cgroup_preflight.core.records import TYPE_CHECKING, replace
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.engines.choice import GUEST
from cgroup_preflight.plan.build import only

if TYPE_CHECKING:
    from cgroup_preflight.checks.base import Context
    from cgroup_preflight.plan.model import Plan
    from cgroup_preflight.up.build import Build

_ABOUT = """\
Builds the services of the config (or those named) that have a `build` command,
and runs them side by side, each in its slice and under its limits, through the
best engine of this host, or else in the built-in VM with their TCP ports
forwarded to loopback. Their logs come as one stream, each line with the name of
its service; Ctrl-C stops all of them, and nothing remains.

Use it while you develop: a service that needs more memory than its limit dies
here as it would on the host, and the line says so, with peak and limit.

    cgroup-preflight up
    cgroup-preflight up user-api gateway --restart --table
    cgroup-preflight up --watch     rebuild and restart when Go sources change
    cgroup-preflight up --check     only show what would be started
    cgroup-preflight up --engine guest

In the config:
    [services.user-api]
    binary = "dist/user-api"
    build = ["go", "build", "-o", "dist/user-api", "./cmd/user-api"]

Variables come from .env next to the config; those of the config win. Logs are
also in $XDG_STATE_HOME/cgroup-preflight/PROJECT/logs/SERVICE.log.

Exit status: 0 stopped by Ctrl-C or all ended well, 1 a service failed or did
not start, 2 wrong call, config or build, 3 no engine works, or the guest ended.
"""
_ENV_FILE, _ENV_MAX = ".env", 1 << 20


def main(words: list[str]) -> int:
    """The command. Raises UsageError, ConfigError, HostError."""
    args = arguments().parse_args(words)
    config = common.load_config(args.config, args.allow_outside)
    names = check_names(config, args.service) or tuple(item.name for item in config.services)
    config = replace(config, services=tuple(item for item in config.services if item.name in names))
    engine = args.engine or config.engine
    _refuse_units(config)
    variables = _variables(config, args.env_file)
    from cgroup_preflight.up.build import builds

    todo = builds(config.folder, config.services)
    if not (args.check or args.inside):
        _build(todo)
    _require_programs(config, built=not args.check)
    plan = only(common.plan_of(config), names)
    context = common.context(config, engine, (), plan=plan, cgroup=args.cgroup)
    in_guest = engine == GUEST or (engine == "auto" and context.engine.name is None)
    if args.check:
        options.write_stdout("".join(f"{line}\n" for line in _shown(config, plan, context, todo, in_guest=in_guest)))
        return ExitStatus.PASS
    if context.engine.name is None and not in_guest:
        raise HostError(
            f"no engine of this host can start services with these limits: {context.engine.why_not}", where="up",
            remedy=Remedy(title="run them in a guest, or see what is missing",
                          commands=(("cgroup-preflight", "up", "--engine", "guest"), ("cgroup-preflight", "check"))),
        )  # fmt: skip
    from cgroup_preflight.up.run import Request, run_up

    request = Request(
        config=config, plan=plan, facts=context.facts, choice=context.engine, variables=variables, builds=todo,
        restart=args.restart, watch=args.watch, table=args.table, colour=use_colour(), inside=args.inside,
    )  # fmt: skip
    output = Output(options.write_stdout)
    try:
        if in_guest:
            from cgroup_preflight.cli.up_guest import run_in_guest

            return run_in_guest(request, output.write)
        failed = run_up(request, output.write, options.progress)
    except KeyboardInterrupt:
        # The usual way to end it: everything was stopped before this line.
        return ExitStatus.PASS
    return ExitStatus.FAIL if failed else ExitStatus.PASS


class Output:
    """The stream on stdout; `write` says whether somebody reads it. When nobody does (`| head`), that is as Ctrl-C."""

    def __init__(self, write: Callable[[str], bool]) -> None:
        self._write, self._is_read = write, True

    def write(self, text: str) -> None:
        """Raises KeyboardInterrupt once where nobody reads; what comes later goes nowhere."""
        if self._is_read and not self._write(text):
            self._is_read = False
            raise KeyboardInterrupt


def arguments() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = options.parser("up", _ABOUT)
    parser.add_argument("service", nargs="*", metavar="SERVICE", help="services to run (default: all)")
    options.add_config(parser)
    add_engine(parser)
    parser.add_argument("--env-file", metavar="FILE", help="variables for all services (default: .env, if it exists)")
    parser.add_argument("--restart", action="store_true", help="start a service that failed again, with growing pauses")
    parser.add_argument("--watch", action="store_true",
                        help="rebuild and restart when Go sources change (needs cgroup-preflight[watch])")  # fmt: skip
    parser.add_argument(
        "--table", action="store_true", help="show CPU, throttling and memory of each service every 5 s"
    )
    parser.add_argument("--check", action="store_true", help="show what would be built and started, and exit")
    guest_run.add_inside(parser)
    return parser


def _refuse_units(config: Config) -> None:
    """Raises UsageError for services that are no programs of the project."""
    for item in config.services:
        if item.unit or item.package:
            raise UsageError(
                f"{item.name} has a unit of its own, and up starts programs", where=config.path,
                remedy=Remedy(title="name the other services, or test this one with run", commands=(("cgroup-preflight", "run"),)),
            )  # fmt: skip


def _variables(config: Config, named: str | None) -> dict[str, str]:
    """The variables of .env. Raises UsageError for a broken line, or a named file that cannot be read."""
    path = named if named is not None else os.path.join(config.folder, _ENV_FILE)
    if named is None and not os.path.exists(path):
        return {}
    from cgroup_preflight.up.dotenv import variables

    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_ENV_MAX + 1)
        if len(text) > _ENV_MAX:
            raise UsageError("larger than 1M", where=path, remedy=Remedy(title="give another file with --env-file"))
        return variables(text, path)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"cannot read the variables: {why}", where=path,
                         remedy=Remedy(title="correct the path of --env-file, or remove the file")) from None  # fmt: skip


def _build(todo: Sequence["Build"]) -> None:
    """Raises UsageError where a build fails, after its last lines."""
    from cgroup_preflight.up.build import run_builds

    failures = run_builds(todo, options.progress)
    for failure in failures:
        options.write_stderr("".join(f"  {line}\n" for line in failure.lines))
    if failures:
        first = failures[0]
        raise UsageError(f"the build failed: {first.why}", where=", ".join(first.build.services),
                         remedy=Remedy(title="correct the build", commands=(first.build.command,)))  # fmt: skip


def _require_programs(config: Config, *, built: bool) -> None:
    """Raises ConfigError where a program does not exist; before a build those without `build` alone."""
    from cgroup_preflight.config.binaries import require_binaries
    from cgroup_preflight.config.certificates import require_certificates

    names = tuple(item.name for item in config.services if built or not item.build)
    if names:
        require_binaries(config, names)
    require_certificates(config, tuple(item.name for item in config.services))


def _shown(
    config: Config, plan: "Plan", context: "Context", todo: Sequence["Build"], *, in_guest: bool
) -> list[str]:  # fmt: skip
    """What would be done, in lines."""
    from cgroup_preflight.host.state import log_folder
    from cgroup_preflight.up.ports import place_of

    engine = GUEST if in_guest else context.engine.name or f"none works here: {context.engine.why_not}"
    lines = [f"engine: {engine}", *(f"build {' '.join(one.command)} in {one.folder}" for one in todo)]
    if in_guest:
        from cgroup_preflight.cli.up_guest import heads

        lines += heads(plan.services)
    folder = log_folder(config.project)
    for item in plan.services:
        limits = ", ".join(f"{one.property}={one.text}" for one in item.settings) or "no limits of its own"
        place = place_of(item.smoke.ready)
        lines += [
            f"{item.label}: {item.binary} in {item.slices[-1] if item.slices else 'no slice'}: {limits}"
            + (f"; listens at {place}" if place else ""),
            f"  log: {folder}/{item.label}.log",
        ]
    return lines
